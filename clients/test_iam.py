"""IAM by its service model, by boto3 and by the AWS CLI: users, groups, access keys, policies."""

import json
import uuid

import pytest
from botocore.exceptions import ClientError

from harness import aws as aws_face
from harness.query import Query, bad_inputs
from harness.server import Account

READ_ONLY = "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryReadOnly"
PULL_ONLY = "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPullOnly"
SERVICE_ROLE = "arn:aws:iam::aws:policy/aws-service-role/ECRReplicationServiceRolePolicy"


def document(action="ecr:*", resource="*"):
    statement = {"Effect": "Allow", "Action": action, "Resource": resource}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]}, indent=2)


def unique(prefix):
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


class Scene:
    """A user with a little of everything, and what calls were answered as the model says."""

    def __init__(self, query, account):
        self.query, self.account, self.answered = query, account, set()
        self.user, self.group, self.policy_name = unique("user"), unique("group"), unique("policy")
        self.call("CreateUser", UserName=self.user, Path="/team/", Tags=[{"Key": "team", "Value": "a"}])
        self.call("CreateGroup", GroupName=self.group)
        self.call("AddUserToGroup", GroupName=self.group, UserName=self.user)
        created = self.call("CreatePolicy", PolicyName=self.policy_name, PolicyDocument=document())
        self.policy = created["Policy"]["Arn"]
        self.key = self.call("CreateAccessKey", UserName=self.user)["AccessKey"]["AccessKeyId"]
        for kind, name in (("User", self.user), ("Group", self.group)):
            named = {f"{kind}Name": name}
            self.call(f"Put{kind}Policy", **named, PolicyName="inline", PolicyDocument=document())
            self.call(f"Attach{kind}Policy", **named, PolicyArn=self.policy)
        self.call("PutUserPermissionsBoundary", UserName=self.user, PermissionsBoundary=READ_ONLY)

    def call(self, operation, **parameters):
        answer = self.query.call(operation, parameters)
        self.answered.add(operation)
        return answer

    def state(self):
        """Everything a refused call could have changed, as the API describes it."""
        user, group, policy = {"UserName": self.user}, {"GroupName": self.group}, {"PolicyArn": self.policy}
        return [
            self.query.call(operation, parameters)
            for operation, parameters in (
                ("ListUsers", {}),
                ("ListGroups", {}),
                ("ListPolicies", {"Scope": "Local"}),
                ("GetUser", user),
                ("GetGroup", group),
                ("ListAccessKeys", user),
                ("ListUserPolicies", user),
                ("ListAttachedUserPolicies", user),
                ("ListGroupPolicies", group),
                ("ListAttachedGroupPolicies", group),
                ("ListPolicyVersions", policy),
                ("ListPolicyTags", policy),
            )
        ]


@pytest.fixture(scope="module")
def query(server, account):
    return Query(server.endpoint, account, "iam")


@pytest.fixture(scope="module")
def scene(query, account):
    return Scene(query, account)


@pytest.fixture(scope="module")
def iam(server, account):
    return aws_face.client("iam", server.endpoint, account)


def test_every_answer_fits_the_model(scene):
    user, group, policy = {"UserName": scene.user}, {"GroupName": scene.group}, {"PolicyArn": scene.policy}
    shown = scene.call("GetUser", **user)["User"]
    assert shown["Arn"] == f"arn:aws:iam::{scene.account.id}:user/team/{scene.user}"
    assert shown["Tags"] == [{"Key": "team", "Value": "a"}]
    assert shown["PermissionsBoundary"]["PermissionsBoundaryArn"] == READ_ONLY
    assert scene.user in [one["UserName"] for one in scene.call("ListUsers", PathPrefix="/team/")["Users"]]
    scene.call("UpdateUser", **user, NewPath="/crew/")
    assert scene.call("ListGroupsForUser", **user)["Groups"][0]["GroupName"] == scene.group
    assert scene.call("GetGroup", **group)["Users"][0]["UserName"] == scene.user
    assert scene.call("ListGroups")["IsTruncated"] is False
    scene.call("UpdateGroup", **group, NewPath="/crew/")

    keys = scene.call("ListAccessKeys", **user)["AccessKeyMetadata"]
    assert [key["AccessKeyId"] for key in keys] == [scene.key]
    scene.call("UpdateAccessKey", **user, AccessKeyId=scene.key, Status="Inactive")
    assert scene.call("ListAccessKeys", **user)["AccessKeyMetadata"][0]["Status"] == "Inactive"
    assert scene.call("GetAccessKeyLastUsed", AccessKeyId=scene.key)["UserName"] == scene.user

    for kind, named in (("User", user), ("Group", group)):
        inline = {**named, "PolicyName": "inline"}
        assert "%22Version%22" in scene.call(f"Get{kind}Policy", **inline)["PolicyDocument"]
        assert scene.call(f"List{kind}Policies", **named)["PolicyNames"] == ["inline"]
        attached = scene.call(f"ListAttached{kind}Policies", **named)["AttachedPolicies"]
        assert attached == [{"PolicyName": scene.policy_name, "PolicyArn": scene.policy}]
    tag = [{"Key": "Team", "Value": "b"}, {"Key": "note", "Value": "é = 1"}]
    scene.call("TagUser", **user, Tags=tag)
    assert scene.call("ListUserTags", **user)["Tags"] == sorted(tag, key=lambda one: one["Key"].lower())
    scene.call("UntagUser", **user, TagKeys=["NOTE", "absent"])
    assert scene.call("ListUserTags", **user)["Tags"] == tag[:1]

    shown = scene.call("GetPolicy", **policy)["Policy"]
    assert (shown["AttachmentCount"], shown["IsAttachable"], shown["DefaultVersionId"]) == (2, True, "v1")
    scene.call("TagPolicy", **policy, Tags=tag)
    scene.call("UntagPolicy", **policy, TagKeys=["note"])
    assert scene.call("ListPolicyTags", **policy)["Tags"] == tag[:1]
    using = scene.call("ListEntitiesForPolicy", **policy)
    assert (len(using["PolicyUsers"]), len(using["PolicyGroups"]), using["PolicyRoles"]) == (1, 1, [])
    bounded = scene.call("ListEntitiesForPolicy", PolicyArn=READ_ONLY, PolicyUsageFilter="PermissionsBoundary")
    assert [one["UserName"] for one in bounded["PolicyUsers"]] == [scene.user]
    version = scene.call("CreatePolicyVersion", **policy, PolicyDocument=document("ecr:Get*"), SetAsDefault=True)
    assert version["PolicyVersion"]["VersionId"] == "v2" and "Document" not in version["PolicyVersion"]
    versions = scene.call("ListPolicyVersions", **policy)["Versions"]
    assert [(one["VersionId"], one["IsDefaultVersion"]) for one in versions] == [("v2", True), ("v1", False)]
    scene.call("SetDefaultPolicyVersion", **policy, VersionId="v1")
    assert "ecr%3AGet%2A" in scene.call("GetPolicyVersion", **policy, VersionId="v2")["PolicyVersion"]["Document"]
    scene.call("DeletePolicyVersion", **policy, VersionId="v2")
    for scope, wanted in (("AWS", READ_ONLY), ("Local", scene.policy), ("All", READ_ONLY)):
        assert wanted in [one["Arn"] for one in scene.call("ListPolicies", Scope=scope, MaxItems=1000)["Policies"]]
    attached = scene.call("ListPolicies", OnlyAttached=True)["Policies"]
    assert [one["Arn"] for one in attached] == [scene.policy]

    # A user and a group of their own, taken apart again.
    other, others, one = unique("other"), unique("others"), unique("one")
    scene.call("CreateUser", UserName=other, PermissionsBoundary=PULL_ONLY)
    scene.call("CreateGroup", GroupName=others, Path="/o/")
    arn = scene.call("CreatePolicy", PolicyName=one, Path="/o/", PolicyDocument=document(), Description="d", Tags=tag)
    arn = arn["Policy"]["Arn"]
    scene.call("AddUserToGroup", GroupName=others, UserName=other)
    scene.call("RemoveUserFromGroup", GroupName=others, UserName=other)
    for kind, named in (("User", {"UserName": other}), ("Group", {"GroupName": others})):
        scene.call(f"Put{kind}Policy", **named, PolicyName="p", PolicyDocument=document())
        scene.call(f"Delete{kind}Policy", **named, PolicyName="p")
        scene.call(f"Attach{kind}Policy", **named, PolicyArn=arn)
        scene.call(f"Attach{kind}Policy", **named, PolicyArn=arn)
        scene.call(f"Detach{kind}Policy", **named, PolicyArn=arn)
    scene.call("DeleteUserPermissionsBoundary", UserName=other)
    key = scene.call("CreateAccessKey", UserName=other)["AccessKey"]["AccessKeyId"]
    scene.call("DeleteAccessKey", UserName=other, AccessKeyId=key)
    scene.call("DeleteUser", UserName=other)
    scene.call("DeleteGroup", GroupName=others)
    scene.call("DeletePolicy", PolicyArn=arn)

    assert set(BAD_INPUT_BASES) <= scene.answered, set(BAD_INPUT_BASES) - scene.answered


# Good inputs to spoil: they name things that exist, so that only the spoiled part can be the reason.
BAD_INPUT_BASES = {
    "CreateUser": lambda s: {"UserName": unique("never")},
    "GetUser": lambda s: {"UserName": s.user},
    "ListUsers": lambda s: {},
    "UpdateUser": lambda s: {"UserName": s.user, "NewUserName": s.user},
    "CreateAccessKey": lambda s: {"UserName": s.user},
    "ListAccessKeys": lambda s: {"UserName": s.user},
    "UpdateAccessKey": lambda s: {"UserName": s.user, "AccessKeyId": s.key, "Status": "Inactive"},
    "DeleteAccessKey": lambda s: {"UserName": s.user, "AccessKeyId": s.key},
    "GetAccessKeyLastUsed": lambda s: {"AccessKeyId": s.key},
    "PutUserPolicy": lambda s: {"UserName": s.user, "PolicyName": "x", "PolicyDocument": document()},
    "GetUserPolicy": lambda s: {"UserName": s.user, "PolicyName": "inline"},
    "ListUserPolicies": lambda s: {"UserName": s.user},
    "DeleteUserPolicy": lambda s: {"UserName": s.user, "PolicyName": "inline"},
    "AttachUserPolicy": lambda s: {"UserName": s.user, "PolicyArn": PULL_ONLY},
    "DetachUserPolicy": lambda s: {"UserName": s.user, "PolicyArn": s.policy},
    "ListAttachedUserPolicies": lambda s: {"UserName": s.user},
    "PutUserPermissionsBoundary": lambda s: {"UserName": s.user, "PermissionsBoundary": READ_ONLY},
    "TagUser": lambda s: {"UserName": s.user, "Tags": [{"Key": "x", "Value": "y"}]},
    "UntagUser": lambda s: {"UserName": s.user, "TagKeys": ["team"]},
    "ListUserTags": lambda s: {"UserName": s.user},
    "CreateGroup": lambda s: {"GroupName": unique("never")},
    "GetGroup": lambda s: {"GroupName": s.group},
    "ListGroups": lambda s: {},
    "UpdateGroup": lambda s: {"GroupName": s.group},
    "AddUserToGroup": lambda s: {"GroupName": s.group, "UserName": s.user},
    "RemoveUserFromGroup": lambda s: {"GroupName": s.group, "UserName": s.user},
    "ListGroupsForUser": lambda s: {"UserName": s.user},
    "PutGroupPolicy": lambda s: {"GroupName": s.group, "PolicyName": "x", "PolicyDocument": document()},
    "AttachGroupPolicy": lambda s: {"GroupName": s.group, "PolicyArn": PULL_ONLY},
    "CreatePolicy": lambda s: {"PolicyName": unique("never"), "PolicyDocument": document()},
    "GetPolicy": lambda s: {"PolicyArn": s.policy},
    "ListPolicies": lambda s: {},
    "DeletePolicy": lambda s: {"PolicyArn": s.policy},
    "ListEntitiesForPolicy": lambda s: {"PolicyArn": s.policy},
    "CreatePolicyVersion": lambda s: {"PolicyArn": s.policy, "PolicyDocument": document()},
    "GetPolicyVersion": lambda s: {"PolicyArn": s.policy, "VersionId": "v1"},
    "ListPolicyVersions": lambda s: {"PolicyArn": s.policy},
    "SetDefaultPolicyVersion": lambda s: {"PolicyArn": s.policy, "VersionId": "v1"},
    "TagPolicy": lambda s: {"PolicyArn": s.policy, "Tags": [{"Key": "x", "Value": "y"}]},
    "UntagPolicy": lambda s: {"PolicyArn": s.policy, "TagKeys": ["x"]},
    "ListPolicyTags": lambda s: {"PolicyArn": s.policy},
}


@pytest.mark.parametrize("operation", sorted(BAD_INPUT_BASES))
def test_what_the_model_forbids_is_refused_and_changes_nothing(operation, scene):
    before, tried = scene.state(), 0
    for what, parameters in bad_inputs(scene.query.model, operation, BAD_INPUT_BASES[operation](scene)):
        try:
            scene.query.refused(operation, parameters, "ValidationError", "MalformedInput", "InvalidInput")
        except AssertionError as error:
            raise AssertionError(f"{operation}: {what}: {error}") from error
        tried += 1
    assert tried, f"nothing tried for {operation}"
    assert scene.state() == before


def test_quotas_and_conflicts(scene, query):
    name = unique("full")
    scene.call("CreateUser", UserName=name)
    for _ in range(2):
        scene.call("CreateAccessKey", UserName=name)
    refused = query.refused("CreateAccessKey", {"UserName": name}, "LimitExceeded")
    assert refused == "Cannot exceed quota for AccessKeysPerUser: 2"
    arns = []
    for i in range(11):
        made = scene.call("CreatePolicy", PolicyName=f"{name}-{i}", PolicyDocument=document())
        arns.append(made["Policy"]["Arn"])
    for arn in arns[:10]:
        scene.call("AttachUserPolicy", UserName=name, PolicyArn=arn)
    refused = query.refused("AttachUserPolicy", {"UserName": name, "PolicyArn": arns[10]}, "LimitExceeded")
    assert refused == "Cannot exceed quota for PoliciesPerUser: 10"
    assert query.refused("DeletePolicy", {"PolicyArn": arns[0]}, "DeleteConflict").startswith("Cannot delete a policy")
    for _ in range(4):
        scene.call("CreatePolicyVersion", PolicyArn=arns[10], PolicyDocument=document())
    more = {"PolicyArn": arns[10], "PolicyDocument": document()}
    assert query.refused("CreatePolicyVersion", more, "LimitExceeded").startswith("A managed policy can have up to 5")
    query.refused("DeletePolicy", {"PolicyArn": arns[10]}, "DeleteConflict")
    scene.call("DeletePolicyVersion", PolicyArn=arns[10], VersionId="v5")
    made = scene.call("CreatePolicyVersion", PolicyArn=arns[10], PolicyDocument=document())
    assert made["PolicyVersion"]["VersionId"] == "v6", "numbers are never used twice"
    query.refused("AttachUserPolicy", {"UserName": name, "PolicyArn": SERVICE_ROLE}, "PolicyNotAttachable")
    tags = [{"Key": f"k{i}", "Value": ""} for i in range(50)]
    scene.call("TagUser", UserName=name, Tags=tags)
    query.refused("TagUser", {"UserName": name, "Tags": [{"Key": "one-more", "Value": ""}]}, "LimitExceeded")
    scene.call("TagUser", UserName=name, Tags=[{"Key": "K7", "Value": "new"}])
    assert query.refused("DeleteUser", {"UserName": name}, "DeleteConflict").endswith("must delete access keys first.")


def test_boto3_pages_and_waits(iam, account):
    # The root user's id is the account's, which is shorter than the model says; AWS answers it so, too.
    assert iam.get_user()["User"]["UserId"] == account.id
    names = sorted(unique("paged") for _ in range(5))
    for name in names:
        iam.create_user(UserName=name, Path="/paged/")
    iam.get_waiter("user_exists").wait(UserName=names[0], WaiterConfig={"Delay": 0, "MaxAttempts": 1})
    pages = iam.get_paginator("list_users").paginate(PathPrefix="/paged/", PaginationConfig={"PageSize": 2})
    assert [[user["UserName"] for user in page["Users"]] for page in pages] == [names[:2], names[2:4], names[4:]]
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "ecr:Put*", "Resource": "*"}]}
    iam.put_user_policy(UserName=names[0], PolicyName="p", PolicyDocument=json.dumps(policy))
    assert iam.get_user_policy(UserName=names[0], PolicyName="p")["PolicyDocument"] == policy
    with pytest.raises(iam.exceptions.NoSuchEntityException):
        iam.get_user_policy(UserName=names[0], PolicyName="q")
    with pytest.raises(iam.exceptions.DeleteConflictException):
        iam.delete_user(UserName=names[0])
    with pytest.raises(ClientError) as refused:
        iam.list_users(Marker="junk")
    assert refused.value.response["Error"]["Code"] == "ValidationError"


def test_a_user_s_key_signs_and_forgets(server, iam, account):
    name = unique("signer")
    iam.create_user(UserName=name)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    user = Account(account.id, key["AccessKeyId"], key["SecretAccessKey"])
    sts = aws_face.client("sts", server.endpoint, user)
    assert sts.get_caller_identity()["Arn"] == f"arn:aws:iam::{account.id}:user/{name}"
    used = iam.get_access_key_last_used(AccessKeyId=key["AccessKeyId"])
    assert used["AccessKeyLastUsed"]["ServiceName"] == "sts" and used["UserName"] == name
    with pytest.raises(ClientError) as refused:
        aws_face.client("iam", server.endpoint, user).list_users()
    assert refused.value.response["Error"]["Code"] == "AccessDenied"
    iam.update_access_key(UserName=name, AccessKeyId=key["AccessKeyId"], Status="Inactive")
    with pytest.raises(ClientError):
        sts.get_caller_identity()


def test_the_cli_manages_users(aws, account, tmp_path):
    name = unique("cli")
    made = json.loads(aws("iam", "create-user", "--user-name", name, "--tags", "Key=team,Value=a").stdout)
    assert made["User"]["UserId"].startswith("AIDA")
    policy = tmp_path / "policy.json"
    policy.write_text(document("ecr:BatchGetImage"))
    from_file = f"file://{policy}"
    created = json.loads(
        aws("iam", "create-policy", "--policy-name", name, "--policy-document", from_file).stdout
    )
    arn = created["Policy"]["Arn"]
    aws("iam", "attach-user-policy", "--user-name", name, "--policy-arn", arn)
    aws("iam", "put-user-policy", "--user-name", name, "--policy-name", "in", "--policy-document", from_file)
    attached = json.loads(aws("iam", "list-attached-user-policies", "--user-name", name).stdout)
    assert attached["AttachedPolicies"] == [{"PolicyName": name, "PolicyArn": arn}]
    shown = json.loads(aws("iam", "get-policy-version", "--policy-arn", arn, "--version-id", "v1").stdout)
    assert shown["PolicyVersion"]["Document"] == json.loads(policy.read_text())
    inline = json.loads(aws("iam", "get-user-policy", "--user-name", name, "--policy-name", "in").stdout)
    assert inline["PolicyDocument"] == json.loads(policy.read_text())
    refused = aws("iam", "delete-user", "--user-name", name, check=False)
    assert refused.returncode != 0 and "DeleteConflict" in refused.stderr
    aws("iam", "detach-user-policy", "--user-name", name, "--policy-arn", arn)
    aws("iam", "delete-user-policy", "--user-name", name, "--policy-name", "in")
    aws("iam", "delete-policy", "--policy-arn", arn)
    aws("iam", "delete-user", "--user-name", name)
    gone = aws("iam", "get-user", "--user-name", name, check=False)
    assert "NoSuchEntity" in gone.stderr and "cannot be found" in gone.stderr
