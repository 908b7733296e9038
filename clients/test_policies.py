"""Policies through stock clients: every denial in the same words to boto3 and on the docker API."""

import base64
import json
from types import SimpleNamespace

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from harness import aws as aws_face
from harness import containers, images, oci
from harness.images import layout_digest
from harness.issuer import Issuer
from harness.process import refused, run

PULL = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability"]
ISSUER = "https://idp.example/cluster"
BAD_TEXT = "Invalid parameter at 'PolicyText' failed to satisfy constraint: '{}'"


def document(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def allow(action, resource="*", **more):
    return {"Effect": "Allow", "Action": action, "Resource": resource} | more


def grant(principal, action, effect="Allow", **more):
    """A repository policy of one statement."""
    return document({"Effect": effect, "Principal": principal, "Action": action} | more)


class Caller:
    """Somebody with credentials for the API and a docker password that was issued when the test began."""

    def __init__(self, server, registry_id, arn, credentials, session_token=None):
        self.server, self.registry_id, self.arn = server, registry_id, arn
        self.keys = SimpleNamespace(
            access_key_id=credentials["AccessKeyId"], secret_access_key=credentials["SecretAccessKey"]
        )
        self.ecr = aws_face.client("ecr", server.endpoint, self.keys, aws_session_token=session_token)
        token = self.ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
        self.password = base64.b64decode(token).decode().removeprefix("AWS:")
        self.host = f"{registry_id}.dkr.ecr.us-east-1.localhost:{server.port}"
        self.docker = oci.Registry(server.endpoint, self.password, host=self.host)

    def api(self, action, repository):
        """One action by the API."""
        named = {"registryId": self.registry_id, "repositoryName": repository}
        if action in ("BatchGetImage", "BatchDeleteImage"):
            named["imageIds"] = [{"imageTag": "v1"}]
        method = "".join("_" + c.lower() if c.isupper() else c for c in action).lstrip("_")
        return getattr(self.ecr, method)(**named)

    def by_docker(self, action, repository):
        """The same action by the docker API."""
        method, path = {
            "BatchGetImage": ("GET", "manifests/v1"),
            "BatchDeleteImage": ("DELETE", "manifests/v1"),
            "InitiateLayerUpload": ("POST", "blobs/uploads/"),
            "ListImages": ("GET", "tags/list"),
        }[action]
        return self.docker.request(method, f"/v2/{repository}/{path}")

    def can(self, repository, *actions):
        for action in actions:
            self.api(action, repository)
            self.by_docker(action, repository).expect(200, 202)

    def cannot(self, repository, action, reason):
        """Denied, in exactly the same words on both faces."""
        if reason.startswith("no "):
            reason = f"because {reason} allows the ecr:{action} action"
        resource = f"arn:aws:ecr:us-east-1:{self.registry_id}:repository/{repository}"
        text = f"User: {self.arn} is not authorized to perform: ecr:{action} on resource: {resource} {reason}"
        with pytest.raises(ClientError) as error:
            self.api(action, repository)
        said = error.value.response["Error"]
        assert (said["Code"], said["Message"]) == ("AccessDeniedException", text)
        answer = self.by_docker(action, repository).expect(403)
        assert answer.json == {"errors": [{"code": "DENIED", "message": text}]}, f"{answer}"

    def is_nobody(self, repository):
        """Neither the credentials nor the password are known any more."""
        with pytest.raises(ClientError) as error:
            self.api("BatchGetImage", repository)
        assert error.value.response["Error"]["Code"] == "UnrecognizedClientException"
        self.by_docker("BatchGetImage", repository).expect(401)
        self.docker.request("GET", "/v2/").expect(401)


@pytest.fixture(scope="module")
def iam(server, account):
    return aws_face.client("iam", server.endpoint, account)


@pytest.fixture
def stocked(registry, repository):
    """A repository with one image, v1."""
    registry.push(repository, images.image("policies", layers=2), "v1")
    return repository


@pytest.fixture
def new_user(server, iam, account, unique):
    """Makes users of the account with an inline policy of the given statements."""

    def make(*statements, tags=()):
        name = f"user-{unique()}"
        arn = iam.create_user(UserName=name, Tags=list(tags))["User"]["Arn"]
        every = (allow("ecr:GetAuthorizationToken"), *statements)
        iam.put_user_policy(UserName=name, PolicyName="own", PolicyDocument=document(*every))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        caller = Caller(server, account.id, arn, key)
        caller.name, caller.key_id = name, key["AccessKeyId"]
        return caller

    return make


@pytest.fixture
def guest(server, account, stranger):
    """The other account's root user, at this account's registry."""
    keys = {"AccessKeyId": stranger.access_key_id, "SecretAccessKey": stranger.secret_access_key}
    return Caller(server, account.id, f"arn:aws:iam::{stranger.id}:root", keys)


def skopeo_pull(source, creds, directory, prefix=()):
    command = ["skopeo", "copy", "--src-tls-verify=false", "--src-creds", creds]
    run(*prefix, *command, f"docker://{source}", f"oci:{directory}:back")
    return layout_digest(directory, "back")


def skopeo_push(layout, target, creds, prefix=(), how=run):
    command = ["skopeo", "copy", "--dest-tls-verify=false", "--dest-creds", creds]
    return how(*prefix, *command, f"oci:{layout}:v1", f"docker://{target}")


# ---------------------------------------------------------------- across accounts


def test_another_account_pulls_by_policy_and_cannot_push(server, ecr, stocked, guest, stranger, aws, tmp_path, layout):
    guest.cannot(stocked, "BatchGetImage", "no resource-based policy")
    guest.cannot("tests/absent", "BatchGetImage", "no resource-based policy")
    ecr.set_repository_policy(repositoryName=stocked, policyText=grant({"AWS": stranger.id}, PULL))
    guest.can(stocked, "BatchGetImage")
    for action in ("InitiateLayerUpload", "ListImages", "BatchDeleteImage"):
        guest.cannot(stocked, action, "no resource-based policy")

    # The login that names the other registry, and what it prints, with clients that resolve the name.
    said = aws(
        *("ecr", "get-login", "--no-include-email", "--registry-ids", guest.registry_id), as_account=stranger
    ).stdout.split()
    password, host = said[said.index("-p") + 1], said[-1].split("://")[1]
    assert host == guest.host
    prefix = containers.resolving(host.split(":")[0], tmp_path)
    target, creds = f"{host}/{stocked}", f"AWS:{password}"
    (held,) = ecr.describe_images(repositoryName=stocked)["imageDetails"]
    assert skopeo_pull(f"{target}:v1", creds, tmp_path / "back", prefix) == held["imageDigest"]
    words = f"User: {guest.arn} is not authorized to perform: ecr:InitiateLayerUpload on resource: "
    assert words in skopeo_push(layout, f"{target}:v2", creds, prefix, how=refused)
    for name in ("podman", "buildah"):
        with containers.tool(name) as tool:
            options = ["--tls-verify=false", "--creds", creds]
            tool("pull", *options, f"{target}:v1", prefix=prefix)
            tool("tag", f"{target}:v1", f"{target}:v2")
            said = tool.refused("push", *options, f"{target}:v2", prefix=prefix)
            assert "is not authorized to perform: ecr:" in said, said
    assert ecr.list_images(repositoryName=stocked)["imageIds"] == [{"imageDigest": held["imageDigest"], "imageTag": "v1"}]

    ecr.delete_repository_policy(repositoryName=stocked)
    guest.cannot(stocked, "BatchGetImage", "no resource-based policy")


def test_a_user_of_another_account_needs_both_accounts(server, ecr, stocked, account, stranger):
    theirs = aws_face.client("iam", server.endpoint, stranger)
    arn = theirs.create_user(UserName="visitor")["User"]["Arn"]
    own = {"UserName": "visitor", "PolicyName": "own"}
    theirs.put_user_policy(**own, PolicyDocument=document(allow("ecr:GetAuthorizationToken")))
    key = theirs.create_access_key(UserName="visitor")["AccessKey"]
    visitor = Caller(server, account.id, arn, key)
    ecr.set_repository_policy(repositoryName=stocked, policyText=grant({"AWS": arn}, PULL))
    visitor.cannot(stocked, "BatchGetImage", "no identity-based policy")
    theirs.put_user_policy(**own, PolicyDocument=document(allow("ecr:*")))
    visitor.can(stocked, "BatchGetImage")
    visitor.cannot(stocked, "InitiateLayerUpload", "no resource-based policy")


# ---------------------------------------------------------------- roles


def test_a_role_of_web_identity_pushes_below_one_prefix(make_server, layout, tmp_path):
    issuer = Issuer(ISSUER)
    (tmp_path / "jwks.json").write_text(json.dumps(issuer.jwks))
    server = make_server("--oidc-jwks", f"{ISSUER}={tmp_path / 'jwks.json'}")
    account = server.new_account()
    iam = aws_face.client("iam", server.endpoint, account)
    ecr = aws_face.client("ecr", server.endpoint, account)
    for name in ("org/app", "elsewhere/app"):
        ecr.create_repository(repositoryName=name)
    provider = iam.create_open_id_connect_provider(Url=ISSUER, ClientIDList=["sts.amazonaws.com"])
    trust = {
        "Effect": "Allow",
        "Principal": {"Federated": provider["OpenIDConnectProviderArn"]},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringEquals": {f"{ISSUER.removeprefix('https://')}:sub": "repo:org/app"}},
    }
    role = iam.create_role(RoleName="pusher", Path="/ci/", AssumeRolePolicyDocument=document(trust))["Role"]
    below = f"arn:aws:ecr:us-east-1:{account.id}:repository/org/*"
    policy = document(allow("ecr:GetAuthorizationToken"), allow("ecr:*", below))
    iam.put_role_policy(RoleName="pusher", PolicyName="push", PolicyDocument=policy)

    (tmp_path / "token").write_text(issuer.token("repo:org/app"))
    pod = {
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
        "AWS_ROLE_ARN": role["Arn"],
        "AWS_ROLE_SESSION_NAME": "pod",
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "HOME": str(tmp_path),
    }
    creds = "AWS:" + run("aws", "ecr", "get-login-password", env=pod).stdout.strip()
    skopeo_push(layout, f"{server.host}/org/app:v1", creds)
    assert skopeo_pull(f"{server.host}/org/app:v1", creds, tmp_path / "back") == layout_digest(layout, "v1")
    assert "403 (Forbidden)" in skopeo_push(layout, f"{server.host}/elsewhere/app:v1", creds, how=refused)
    assert ecr.list_images(repositoryName="elsewhere/app")["imageIds"] == []

    config = Config(signature_version=UNSIGNED, retries={"total_max_attempts": 1})
    sts = boto3.client("sts", endpoint_url=server.endpoint, region_name="us-east-1", config=config)
    answer = sts.assume_role_with_web_identity(
        RoleArn=role["Arn"], RoleSessionName="job", WebIdentityToken=issuer.token("repo:org/app")
    )
    given = answer["Credentials"]
    job = Caller(server, account.id, answer["AssumedRoleUser"]["Arn"], given, given["SessionToken"])
    assert job.arn == f"arn:aws:sts::{account.id}:assumed-role/pusher/job"
    job.can("org/app", "BatchGetImage", "InitiateLayerUpload", "ListImages")
    job.cannot("elsewhere/app", "InitiateLayerUpload", "no identity-based policy")
    iam.delete_role_policy(RoleName="pusher", PolicyName="push")
    job.cannot("org/app", "BatchGetImage", "no identity-based policy")
    iam.delete_role(RoleName="pusher")
    job.is_nobody("org/app")
    assert "unauthorized" in skopeo_push(layout, f"{server.host}/org/app:v2", creds, how=refused).lower()


# ---------------------------------------------------------------- what cuts, and what stops passwords already issued


def test_boundary_session_policy_and_explicit_deny(server, iam, ecr, account, stocked, new_user, unique):
    user = new_user(allow(["ecr:*", "sts:GetFederationToken"]))
    user.can(stocked, "BatchGetImage", "InitiateLayerUpload", "ListImages")
    boundary = document(allow(["ecr:GetAuthorizationToken", "ecr:BatchGetImage", "ecr:ListImages", "sts:*"]))
    arn = iam.create_policy(PolicyName=f"boundary-{unique()}", PolicyDocument=boundary)["Policy"]["Arn"]
    iam.put_user_permissions_boundary(UserName=user.name, PermissionsBoundary=arn)
    user.cannot(stocked, "InitiateLayerUpload", "no permissions boundary")
    user.can(stocked, "BatchGetImage", "ListImages")

    sts = aws_face.client("sts", server.endpoint, user.keys)
    narrow = document(allow(["ecr:GetAuthorizationToken", "ecr:BatchGetImage", "ecr:InitiateLayerUpload"]))
    answer = sts.get_federation_token(Name="fred", Policy=narrow)
    given = answer["Credentials"]
    session = Caller(server, account.id, answer["FederatedUser"]["Arn"], given, given["SessionToken"])
    assert session.arn == f"arn:aws:sts::{account.id}:federated-user/fred"
    session.can(stocked, "BatchGetImage")
    session.cannot(stocked, "ListImages", "no session policy")
    session.cannot(stocked, "InitiateLayerUpload", "no permissions boundary")

    # An allow for this very user is not cut by its boundary, nor does it reach the session it made.
    named = {"repositoryName": stocked}
    ecr.set_repository_policy(**named, policyText=grant({"AWS": user.arn}, "ecr:InitiateLayerUpload"))
    user.can(stocked, "InitiateLayerUpload")
    session.cannot(stocked, "InitiateLayerUpload", "no permissions boundary")

    both = json.loads(grant({"AWS": user.arn}, "ecr:*"))
    both["Statement"] += json.loads(grant("*", "ecr:BatchGetImage", "Deny"))["Statement"]
    ecr.set_repository_policy(**named, policyText=json.dumps(both))
    for caller in (user, session):
        caller.cannot(stocked, "BatchGetImage", "with an explicit deny in a resource-based policy")
    ecr.delete_repository_policy(**named)
    for caller in (user, session):
        caller.can(stocked, "BatchGetImage")


def test_what_is_taken_away_is_gone_at_once(iam, account, stocked, new_user, unique):
    user = new_user()
    user.cannot(stocked, "BatchGetImage", "no identity-based policy")
    managed = document(allow(["ecr:BatchGetImage", "ecr:ListImages"]))
    arn = iam.create_policy(PolicyName=f"managed-{unique()}", PolicyDocument=managed)["Policy"]["Arn"]
    attached = {"UserName": user.name, "PolicyArn": arn}
    iam.attach_user_policy(**attached)
    user.can(stocked, "BatchGetImage", "ListImages")
    iam.create_policy_version(
        PolicyArn=arn, SetAsDefault=True, PolicyDocument=document(allow("ecr:ListImages"), {
            "Effect": "Deny", "Action": "ecr:BatchGetImage", "Resource": "*"})
    )
    user.cannot(stocked, "BatchGetImage", "with an explicit deny in an identity-based policy")
    user.can(stocked, "ListImages")
    iam.detach_user_policy(**attached)
    user.cannot(stocked, "ListImages", "no identity-based policy")

    group = f"group-{unique()}"
    iam.create_group(GroupName=group)
    iam.attach_group_policy(GroupName=group, PolicyArn=arn)
    iam.add_user_to_group(GroupName=group, UserName=user.name)
    user.can(stocked, "ListImages")
    iam.remove_user_from_group(GroupName=group, UserName=user.name)
    user.cannot(stocked, "ListImages", "no identity-based policy")

    iam.attach_user_policy(**attached)
    key = {"UserName": user.name, "AccessKeyId": user.key_id}
    iam.update_access_key(**key, Status="Inactive")
    user.is_nobody(stocked)
    iam.update_access_key(**key, Status="Active")
    user.can(stocked, "ListImages")
    iam.delete_access_key(**key)
    user.is_nobody(stocked)


# ---------------------------------------------------------------- setting policies


def test_bad_policies_change_nothing(ecr, aws, account, stranger, repository):
    with pytest.raises(ecr.exceptions.RepositoryPolicyNotFoundException) as error:
        ecr.get_repository_policy(repositoryName=repository)
    assert error.value.response["Error"]["Message"] == (
        f"Repository policy does not exist for the repository with name '{repository}' in the registry with id"
        f" '{account.id}'"
    )
    good = grant({"AWS": f"arn:aws:iam::{stranger.id}:root"}, PULL, Sid="open it")
    ecr.set_repository_policy(repositoryName=repository, policyText=good)
    user = f"arn:aws:iam::{account.id}:user/"
    invalid = "Invalid repository policy provided"
    for text, constraint in [
        ("{", invalid),
        ("{}", invalid),
        (grant({"AWS": user + "*"}, PULL), invalid),
        (grant({"AWS": "arn:aws:iam::*:root"}, PULL), invalid),
        (grant("*", PULL, Resource="*"), invalid),
        (grant("*", "s3:GetObject"), invalid),
        (grant("*", PULL, NotPrincipal={"AWS": user + "x"}), invalid),
        (grant({"AWS": user + "nobody"}, PULL), "Principal not found"),
        (grant({"AWS": f"arn:aws:iam::{stranger.id}:role/none"}, PULL), "Principal not found"),
        (good + " " * (10_241 - len(good)), "Member must have length less than or equal to 10240"),
    ]:
        # With force as well: it is about locking oneself out, and about nothing else.
        for force in ([], ["--force"]):
            command = ["set-repository-policy", "--repository-name", repository, "--policy-text", text, *force]
            said = aws("ecr", *command, check=False)
            head = "An error occurred (InvalidParameterException) when calling the SetRepositoryPolicy operation: "
            assert head + BAD_TEXT.format(constraint) in said.stderr, (text[:200], said.stderr)
        held = json.loads(ecr.get_repository_policy(repositoryName=repository)["policyText"])
        assert held == json.loads(good)
    ecr.set_repository_policy(repositoryName=repository, policyText=good + " " * (10_240 - len(good)))


def test_locking_oneself_out_needs_force(ecr, aws, new_user, account, repository, unique):
    admin = new_user(allow("ecr:*"))
    first = grant({"AWS": account.id}, "ecr:*")
    named = ["--repository-name", repository]

    def put(text, *more, check=True):
        return aws("ecr", "set-repository-policy", *named, "--policy-text", text, *more, as_account=admin.keys, check=check)

    put(first)
    lock = grant("*", "ecr:SetRepositoryPolicy", "Deny")
    words = "Repository policy would prevent the caller from setting another policy; use force"
    assert BAD_TEXT.format(words) in put(lock, check=False).stderr
    assert BAD_TEXT.format(words) in put(lock, "--no-force", check=False).stderr
    assert json.loads(ecr.get_repository_policy(repositoryName=repository)["policyText"]) == json.loads(first)
    # It is the caller who must not lock itself out, not somebody else.
    spared = grant("*", "ecr:SetRepositoryPolicy", "Deny", Condition={"ArnNotEquals": {"aws:PrincipalArn": admin.arn}})
    put(spared)
    put(lock, "--force")
    resource = f"arn:aws:ecr:us-east-1:{account.id}:repository/{repository}"
    assert (
        "An error occurred (AccessDeniedException) when calling the SetRepositoryPolicy operation: "
        f"User: {admin.arn} is not authorized to perform: ecr:SetRepositoryPolicy on resource: {resource}"
        " with an explicit deny in a resource-based policy"
    ) in put(first, "--force", check=False).stderr
    gone = aws("ecr", "delete-repository-policy", *named, as_account=admin.keys).stdout
    assert json.loads(json.loads(gone)["policyText"]) == json.loads(lock)
    put(first)


def test_a_registry_policy(server, guest, ecr, account, stranger, stocked):
    with pytest.raises(ecr.exceptions.RegistryPolicyNotFoundException) as error:
        ecr.get_registry_policy()
    assert account.id in error.value.response["Error"]["Message"]
    for text in ("{", grant({"AWS": stranger.id}, PULL), document(allow(PULL))):
        with pytest.raises(ecr.exceptions.InvalidParameterException) as error:
            ecr.put_registry_policy(policyText=text)
        message = error.value.response["Error"]["Message"]
        assert message == BAD_TEXT.format("Invalid registry policy provided"), text
    with pytest.raises(ecr.exceptions.RegistryPolicyNotFoundException):
        ecr.get_registry_policy()

    below = f"arn:aws:ecr:us-east-1:{account.id}:repository/{stocked}"
    text = grant({"AWS": f"arn:aws:iam::{stranger.id}:root"}, PULL, Sid="pull", Resource=below)
    assert json.loads(ecr.put_registry_policy(policyText=text)["policyText"]) == json.loads(text)
    assert ecr.get_registry_policy()["registryId"] == account.id
    guest.can(stocked, "BatchGetImage")
    guest.cannot("tests/other", "BatchGetImage", "no resource-based policy")
    # A deny in the repository's policy is final.
    ecr.set_repository_policy(repositoryName=stocked, policyText=grant("*", "ecr:BatchGetImage", "Deny"))
    guest.cannot(stocked, "BatchGetImage", "with an explicit deny in a resource-based policy")
    ecr.delete_repository_policy(repositoryName=stocked)
    assert json.loads(ecr.delete_registry_policy()["policyText"]) == json.loads(text)
    guest.cannot(stocked, "BatchGetImage", "no resource-based policy")
    with pytest.raises(ecr.exceptions.RegistryPolicyNotFoundException):
        ecr.delete_registry_policy()


# ---------------------------------------------------------------- tags, and logging in


def test_tags_decide(iam, ecr, account, registry, stocked, new_user, unique):
    own = "${aws:PrincipalTag/team}"
    user = new_user(
        allow("ecr:*", Condition={"StringEquals": {"aws:ResourceTag/team": own}}),
        allow(["ecr:CreateRepository", "ecr:TagResource"], Condition={"StringEquals": {"aws:RequestTag/team": own}}),
        tags=[{"Key": "team", "Value": "red"}],
    )
    arn = f"arn:aws:ecr:us-east-1:{account.id}:repository/{stocked}"
    user.cannot(stocked, "BatchGetImage", "no identity-based policy")
    ecr.tag_resource(resourceArn=arn, tags=[{"Key": "team", "Value": "blue"}])
    user.cannot(stocked, "BatchGetImage", "no identity-based policy")
    ecr.tag_resource(resourceArn=arn, tags=[{"Key": "team", "Value": "red"}])
    user.can(stocked, "BatchGetImage", "InitiateLayerUpload", "ListImages")
    iam.tag_user(UserName=user.name, Tags=[{"Key": "team", "Value": "green"}])
    user.cannot(stocked, "BatchGetImage", "no identity-based policy")
    iam.untag_user(UserName=user.name, TagKeys=["team"])
    user.cannot(stocked, "BatchGetImage", "no identity-based policy")
    iam.tag_user(UserName=user.name, Tags=[{"Key": "team", "Value": "red"}])

    name = f"tests/tagged-{unique()}"
    for tags in ([], [{"Key": "team", "Value": "blue"}], [{"Key": "other", "Value": "red"}]):
        with pytest.raises(ClientError) as error:
            user.ecr.create_repository(repositoryName=name, tags=tags)
        said = error.value.response["Error"]
        resource = f"arn:aws:ecr:us-east-1:{account.id}:repository/{name}"
        assert (said["Code"], said["Message"]) == (
            "AccessDeniedException",
            f"User: {user.arn} is not authorized to perform: ecr:CreateRepository on resource: {resource}"
            " because no identity-based policy allows the ecr:CreateRepository action",
        )
    user.ecr.create_repository(repositoryName=name, tags=[{"Key": "team", "Value": "red"}])
    registry.push(name, images.image("tagged"), "v1")
    user.can(name, "BatchGetImage", "ListImages")


def test_a_user_who_may_not_log_in(iam, aws, account, unique):
    name = f"shut-{unique()}"
    arn = iam.create_user(UserName=name)["User"]["Arn"]
    iam.put_user_policy(UserName=name, PolicyName="own", PolicyDocument=document(allow("ecr:BatchGetImage")))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    keys = SimpleNamespace(access_key_id=key["AccessKeyId"], secret_access_key=key["SecretAccessKey"])
    said = aws("ecr", "get-login-password", as_account=keys, check=False)
    assert said.returncode != 0 and said.stdout == ""
    assert said.stderr.strip().endswith(
        "An error occurred (AccessDeniedException) when calling the GetAuthorizationToken operation: "
        f"User: {arn} is not authorized to perform: ecr:GetAuthorizationToken on resource: *"
        " because no identity-based policy allows the ecr:GetAuthorizationToken action"
    ), said.stderr
    iam.put_user_policy(UserName=name, PolicyName="own", PolicyDocument=document(allow("ecr:GetAuthorizationToken")))
    assert aws("ecr", "get-login-password", as_account=keys).stdout.strip()
