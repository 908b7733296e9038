"""IAM's simulations: what policies would decide, judged by the service model, boto3's paginators and the AWS CLI."""

import json
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError

from harness import aws as aws_face
from harness.query import Query, bad_inputs

READ_ONLY = "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryReadOnly"
PULL_ONLY = "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPullOnly"


def document(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def statement(effect, action, resource="*", **more):
    return {"Effect": effect, "Action": action, "Resource": resource} | more


@pytest.fixture(scope="module")
def query(server, account):
    return Query(server.endpoint, account, "iam")


@pytest.fixture(scope="module")
def iam(server, account):
    return aws_face.client("iam", server.endpoint, account)


@pytest.fixture(scope="module")
def scene(iam, account):
    """A bounded user in a group, with policies of every source."""
    iam.create_user(UserName="sim", Path="/team/", Tags=[{"Key": "team", "Value": "api"}], PermissionsBoundary=READ_ONLY)
    iam.create_group(GroupName="sims")
    iam.add_user_to_group(GroupName="sims", UserName="sim")
    own = iam.create_policy(PolicyName="own", PolicyDocument=document(statement("Allow", "ecr:ListImages")))
    iam.attach_user_policy(UserName="sim", PolicyArn=own["Policy"]["Arn"])
    iam.attach_group_policy(GroupName="sims", PolicyArn=PULL_ONLY)
    repository = f"arn:aws:ecr:us-east-1:{account.id}:repository/${{aws:PrincipalTag/team}}/*"
    iam.put_user_policy(
        UserName="sim",
        PolicyName="push",
        PolicyDocument=document(statement("Allow", ["ecr:PutImage", "ecr:DescribeImages"], repository)),
    )
    held = statement("Deny", "ecr:*", Condition={"StringNotEquals": {"ecr:ResourceTag/open": "yes"}, "Bool": {"aws:SecureTransport": "false"}})
    iam.put_group_policy(GroupName="sims", PolicyName="hold", PolicyDocument=document(statement("Allow", "sts:*"), held))
    return SimpleNamespace(
        user=f"arn:aws:iam::{account.id}:user/team/sim",
        group=f"arn:aws:iam::{account.id}:group/sims",
        own=own["Policy"]["Arn"],
        repository=f"arn:aws:ecr:us-east-1:{account.id}:repository/api/web",
        other=f"arn:aws:ecr:us-east-1:{account.id}:repository/web",
    )


def decisions(answer):
    return {(one["EvalActionName"], one["EvalResourceName"]): one["EvalDecision"] for one in answer["EvaluationResults"]}


def matched(result):
    return [(one["SourcePolicyType"], one["SourcePolicyId"]) for one in result["MatchedStatements"]]


def test_a_user_is_simulated_with_all_its_policies(query, scene):
    answer = query.call(
        "SimulatePrincipalPolicy",
        {
            "PolicySourceArn": scene.user,
            "ActionNames": ["ecr:DescribeImages", "ecr:PutImage", "ecr:GetAuthorizationToken", "ecr:DeleteRepository"],
            "ResourceArns": [scene.repository, scene.other],
        },
    )
    assert answer["IsTruncated"] is False
    allowed, denied = "allowed", "implicitDeny"
    assert decisions(answer) == {
        ("ecr:DescribeImages", scene.repository): allowed,
        ("ecr:DescribeImages", scene.other): denied,
        ("ecr:PutImage", scene.repository): denied,
        ("ecr:PutImage", scene.other): denied,
        ("ecr:GetAuthorizationToken", "*"): allowed,
        ("ecr:DeleteRepository", scene.repository): denied,
        ("ecr:DeleteRepository", scene.other): denied,
    }
    describe, _, push, *_ = answer["EvaluationResults"]
    assert matched(describe) == [("user", "user_sim_push")]
    text = document(statement("Allow", ["ecr:PutImage", "ecr:DescribeImages"], "x"))
    start = describe["MatchedStatements"][0]["StartPosition"]
    assert start == {"Line": 1, "Column": text.index("{", 1) + 1}
    assert describe["MatchedStatements"][0]["EndPosition"]["Column"] > start["Column"]
    assert describe["PermissionsBoundaryDecisionDetail"] == {"AllowedByPermissionsBoundary": True}
    assert push["PermissionsBoundaryDecisionDetail"] == {"AllowedByPermissionsBoundary": False}
    assert describe["MissingContextValues"] == ["aws:SecureTransport", "ecr:ResourceTag/open"]
    (specific,) = describe["ResourceSpecificResults"]
    assert (specific["EvalResourceName"], specific["EvalResourceDecision"]) == (scene.repository, allowed)
    assert "EvalDecisionDetails" not in describe
    token = next(one for one in answer["EvaluationResults"] if one["EvalActionName"] == "ecr:GetAuthorizationToken")
    assert matched(token) == [("aws-managed", "AmazonEC2ContainerRegistryPullOnly")]


def test_what_is_added_changed_and_left_out(query, scene):
    def decide(action="ecr:PutImage", resource=scene.repository, **more):
        ask = {"PolicySourceArn": scene.user, "ActionNames": [action], "ResourceArns": [resource]} | more
        return query.call("SimulatePrincipalPolicy", ask)["EvaluationResults"][0]

    anything = document(statement("Allow", "*"))
    assert decide()["EvalDecision"] == "implicitDeny"
    assert decide(PermissionsBoundaryPolicyInputList=[anything])["EvalDecision"] == "allowed"
    unbounded = decide(PolicyExclusionList=[{"PolicyType": "permission-boundary"}])
    assert unbounded["EvalDecision"] == "allowed" and "PermissionsBoundaryDecisionDetail" not in unbounded
    assert decide("ecr:ListImages")["EvalDecision"] == "allowed"
    assert decide("ecr:ListImages", PolicyExclusionList=[{"PolicyArn": scene.own}])["EvalDecision"] == "implicitDeny"
    inline = {"PolicyName": "push", "AttachmentType": "user", "AttachmentName": "sim"}
    without = decide("ecr:DescribeImages", PolicyExclusionList=[{"InlinePolicyIdentifier": inline}])
    assert without["EvalDecision"] == "implicitDeny"
    more = decide("ecr:DescribeImages", scene.other, PolicyInputList=[document(), anything][1:])
    assert more["EvalDecision"] == "allowed" and matched(more) == [("none", "PolicyInputList.1")]
    # The context decides: the group's policy denies what is not tagged and comes without TLS.
    entries = [{"ContextKeyName": "aws:SecureTransport", "ContextKeyType": "boolean", "ContextKeyValues": ["false"]}]
    denied = decide("ecr:DescribeImages", ContextEntries=entries)
    assert (denied["EvalDecision"], matched(denied)) == ("explicitDeny", [("group", "group_sims_hold")])
    assert denied["MissingContextValues"] == ["ecr:ResourceTag/open"]
    entries.append({"ContextKeyName": "ecr:resourcetag/OPEN", "ContextKeyType": "string", "ContextKeyValues": ["yes"]})
    assert decide("ecr:DescribeImages", ContextEntries=entries)["EvalDecision"] == "allowed"
    # A tag that the question gives hides the user's own.
    tag = [{"ContextKeyName": "aws:PrincipalTag/team", "ContextKeyType": "string", "ContextKeyValues": ["web"]}]
    assert decide("ecr:DescribeImages", ContextEntries=tag)["EvalDecision"] == "implicitDeny"


def test_groups_and_roles_are_simulated_too(iam, query, scene, account):
    group = {"PolicySourceArn": scene.group, "ActionNames": ["ecr:BatchGetImage", "ecr:ListImages"]}
    assert decisions(query.call("SimulatePrincipalPolicy", group)) == {
        ("ecr:BatchGetImage", "*"): "allowed",
        ("ecr:ListImages", "*"): "implicitDeny",
    }
    trust = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Principal": {"AWS": account.id}, "Action": "sts:AssumeRole"}}
    role = iam.create_role(RoleName="sim", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    iam.put_role_policy(RoleName="sim", PolicyName="p", PolicyDocument=document(statement("Allow", "ecr:List*")))
    answer = query.call("SimulatePrincipalPolicy", {"PolicySourceArn": role, "ActionNames": ["ecr:ListImages"]})
    assert matched(answer["EvaluationResults"][0]) == [("role", "role_sim_p")]


def test_across_accounts_both_sides_must_allow(query, scene, stranger):
    foreign = f"arn:aws:ecr:us-east-1:{stranger.id}:repository/shared"
    open_to_user = {"Effect": "Allow", "Principal": {"AWS": scene.user}, "Action": "ecr:*", "Resource": foreign}
    ask = {
        "PolicyInputList": [document(statement("Allow", "ecr:PutImage"))],
        "ActionNames": ["ecr:PutImage", "ecr:BatchGetImage"],
        "ResourceArns": [foreign],
        "ResourcePolicy": document(open_to_user),
        "CallerArn": scene.user,
    }
    push, pull = query.call("SimulateCustomPolicy", ask)["EvaluationResults"]
    assert (push["EvalDecision"], pull["EvalDecision"]) == ("allowed", "implicitDeny")
    assert push["EvalDecisionDetails"] == {"IAM Policy": "allowed", "Resource Policy": "allowed"}
    assert pull["EvalDecisionDetails"] == {"IAM Policy": "implicitDeny", "Resource Policy": "allowed"}
    assert matched(push) == [("none", "PolicyInputList.1"), ("resource", "ResourcePolicy")]
    # In one account the resource's policy is enough, and an ARN without account is its owner's.
    bucket = {**ask, "ResourceArns": ["arn:aws:s3:::bucket"], "ActionNames": ["s3:ListBucket"]}
    bucket["ResourcePolicy"] = document({**open_to_user, "Action": "s3:*", "Resource": "arn:aws:s3:::bucket"})
    for owner, expected in ((scene.user.split(":")[4], "allowed"), (stranger.id, "implicitDeny")):
        for name in (owner, f"arn:aws:iam::{owner}:root"):
            answer = query.call("SimulateCustomPolicy", {**bucket, "ResourceOwner": name})
            assert answer["EvaluationResults"][0]["EvalDecision"] == expected


def test_pages_hold_every_combination_once(iam, query, scene):
    actions = [f"ecr:Action{n}" for n in range(7)]
    resources = [f"{scene.repository}{n}" for n in range(5)]
    paginator = iam.get_paginator("simulate_custom_policy")
    policies = [document(statement("Allow", "ecr:Action3"))]
    pages = list(
        paginator.paginate(
            PolicyInputList=policies, ActionNames=actions, ResourceArns=resources, PaginationConfig={"PageSize": 4}
        )
    )
    assert [len(page["EvaluationResults"]) for page in pages] == [4] * 8 + [3]
    results = [one for page in pages for one in page["EvaluationResults"]]
    asked = [(one["EvalActionName"], one["EvalResourceName"]) for one in results]
    assert asked == [(action, resource) for action in actions for resource in resources]
    assert {one["EvalActionName"] for one in results if one["EvalDecision"] == "allowed"} == {"ecr:Action3"}
    paginator = iam.get_paginator("simulate_principal_policy")
    found = paginator.paginate(PolicySourceArn=scene.user, ActionNames=actions, PaginationConfig={"PageSize": 3})
    assert [len(page["EvaluationResults"]) for page in found] == [3, 3, 1]
    # A marker belongs to its question.
    first = iam.simulate_custom_policy(PolicyInputList=policies, ActionNames=actions, MaxItems=2)
    other = {"PolicyInputList": policies, "ActionNames": actions[1:], "MaxItems": 2, "Marker": first["Marker"]}
    query.refused("SimulateCustomPolicy", other, "ValidationError")


def test_context_keys(query, scene):
    first = document(statement("Allow", "ecr:*", "arn:aws:ecr:*:*:repository/${aws:username}", Condition={"Bool": {"AWS:SecureTransport": "true"}}))
    second = document(statement("Deny", "ecr:*", Condition={"StringLike": {"aws:securetransport": "${aws:PrincipalTag/a}"}}))
    answer = query.call("GetContextKeysForCustomPolicy", {"PolicyInputList": [first, second]})
    assert answer["ContextKeyNames"] == ["AWS:SecureTransport", "aws:PrincipalTag/a", "aws:username"]
    answer = query.call("GetContextKeysForPrincipalPolicy", {"PolicySourceArn": scene.user, "PolicyInputList": [first]})
    assert answer["ContextKeyNames"] == ["aws:PrincipalTag/team", "aws:SecureTransport", "aws:username", "ecr:ResourceTag/open"]
    answer = query.call("GetContextKeysForPrincipalPolicy", {"PolicySourceArn": scene.group})
    assert answer["ContextKeyNames"] == ["aws:SecureTransport", "ecr:ResourceTag/open"]


def test_what_is_no_simulation_is_refused(query, scene, account, stranger):
    good = {"PolicySourceArn": scene.user, "ActionNames": ["ecr:PutImage"]}
    custom = {"PolicyInputList": [document(statement("Allow", "*"))], "ActionNames": ["ecr:PutImage"]}
    for operation, ask in (("SimulatePrincipalPolicy", good), ("SimulateCustomPolicy", custom)):
        for wrong in (
            {"ActionNames": ["PutImage"]},
            {"ActionNames": ["ecr:*"]},
            {"ResourceArns": ["bucket"]},
            {"PolicyInputList": ["{}"]},
            {"PolicyInputList": [document({"Effect": "Allow", "Action": "ecr:*"})]},
            {"PermissionsBoundaryPolicyInputList": custom["PolicyInputList"] * 2},
            {"CallerArn": f"arn:aws:sts::{account.id}:assumed-role/r/s"},
            {"CallerArn": f"arn:aws:iam::{account.id}:root"},
            {"ResourceOwner": "nobody"},
            {"ResourcePolicy": document(statement("Allow", "ecr:*")), "CallerArn": scene.user},
            {"ContextEntries": [{"ContextKeyName": "aws:x", "ContextKeyType": "string", "ContextKeyValues": ["a", "b"]}]},
        ):
            query.refused(operation, {**ask, **wrong}, "InvalidInput")
        for what, wrong in bad_inputs(query.model, operation, ask):
            answer = query.send(operation, wrong)
            assert 400 <= answer.status < 500, f"{what}: {answer}"
            query.refused(operation, wrong)
    without_caller = {**custom, "ResourcePolicy": document({"Effect": "Allow", "Principal": "*", "Action": "ecr:*"})}
    assert "CallerArn" in query.refused("SimulateCustomPolicy", without_caller, "InvalidInput")
    organization = {**custom, "OrderedOrganizationPolicyInputList": [{"ServiceControlPolicyInputList": ["{}"]}]}
    query.refused("SimulateCustomPolicy", organization, "ValidationError")
    for operation in ("SimulatePrincipalPolicy", "GetContextKeysForPrincipalPolicy"):
        ask = good if operation.startswith("Simulate") else {"PolicySourceArn": scene.user}
        for name in ("user/sim", "user/team/nobody", "role/nobody", "group/nobody"):
            arn = f"arn:aws:iam::{account.id}:{name}"
            query.refused(operation, {**ask, "PolicySourceArn": arn}, "NoSuchEntity")
        query.refused(operation, {**ask, "PolicySourceArn": f"arn:aws:iam::{account.id}:root"}, "InvalidInput")
        foreign = scene.user.replace(account.id, stranger.id)
        query.refused(operation, {**ask, "PolicySourceArn": foreign}, "AccessDenied")


def test_simulating_needs_permission(server, iam, scene, account):
    iam.create_user(UserName="asker")
    key = iam.create_access_key(UserName="asker")["AccessKey"]
    keys = SimpleNamespace(access_key_id=key["AccessKeyId"], secret_access_key=key["SecretAccessKey"])
    asker = aws_face.client("iam", server.endpoint, keys)
    ask = {"PolicySourceArn": scene.user, "ActionNames": ["ecr:PutImage"]}
    with pytest.raises(ClientError) as refused:
        asker.simulate_principal_policy(**ask)
    said = refused.value.response["Error"]
    assert said["Code"] == "AccessDenied" and f"iam:SimulatePrincipalPolicy on resource: {scene.user}" in said["Message"]
    allowed = document(statement("Allow", "iam:SimulatePrincipalPolicy", scene.user))
    iam.put_user_policy(UserName="asker", PolicyName="p", PolicyDocument=allowed)
    assert asker.simulate_principal_policy(**ask)["EvaluationResults"]


def test_the_cli_simulates(aws, scene, tmp_path):
    asked = ["--policy-source-arn", scene.user, "--action-names", "ecr:DescribeImages", "ecr:PutImage"]
    answer = json.loads(aws("iam", "simulate-principal-policy", *asked, "--resource-arns", scene.repository).stdout)
    assert [one["EvalDecision"] for one in answer["EvaluationResults"]] == ["allowed", "implicitDeny"]
    policy = tmp_path / "policy.json"
    held = statement("Allow", "ecr:PutImage", Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}})
    policy.write_text(json.dumps([json.dumps({"Version": "2012-10-17", "Statement": held}, indent=2)]))
    asked = ["--policy-input-list", f"file://{policy}", "--action-names", "ecr:PutImage"]
    (missing,) = json.loads(aws("iam", "simulate-custom-policy", *asked).stdout)["EvaluationResults"]
    assert (missing["EvalDecision"], missing["MissingContextValues"]) == ("implicitDeny", ["aws:SourceIp"])
    entry = "ContextKeyName=aws:SourceIp,ContextKeyType=ip,ContextKeyValues=10.1.2.3"
    (given,) = json.loads(aws("iam", "simulate-custom-policy", *asked, "--context-entries", entry).stdout)["EvaluationResults"]
    (by,) = given["MatchedStatements"]
    assert (given["EvalDecision"], by["StartPosition"]["Line"]) == ("allowed", 3)
    keys = json.loads(aws("iam", "get-context-keys-for-custom-policy", *asked[:2]).stdout)
    assert keys["ContextKeyNames"] == ["aws:SourceIp"]
    keys = json.loads(aws("iam", "get-context-keys-for-principal-policy", "--policy-source-arn", scene.user).stdout)
    assert "aws:PrincipalTag/team" in keys["ContextKeyNames"]
