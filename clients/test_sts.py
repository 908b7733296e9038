"""Roles, OIDC providers and temporary credentials, by boto3 and the AWS CLI."""

import base64
import json
from types import SimpleNamespace
from urllib.parse import urlsplit

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from harness import aws as aws_face
from harness import http, images, model, oci
from harness.issuer import Issuer, KeyServer
from harness.process import run

ISSUER, CACHED = "https://idp.example/cluster", "https://ci.example"


def trust(principal, action="sts:AssumeRole", **more):
    statement = {"Effect": "Allow", "Principal": principal, "Action": action} | more
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def allow(action, resource="*"):
    statement = {"Effect": "Allow", "Action": action, "Resource": resource}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def refused(call, *code, **parameters):
    with pytest.raises(ClientError) as error:
        call(**parameters)
    said = error.value.response["Error"]
    assert said["Code"] in code, said
    return said["Message"]


@pytest.fixture(scope="module")
def iam(server, account):
    return aws_face.client("iam", server.endpoint, account)


@pytest.fixture(scope="module")
def sts(server, account):
    return aws_face.client("sts", server.endpoint, account)


@pytest.fixture(scope="module")
def user(server, iam):
    """A user who may do nothing but what trust policies say."""
    made = iam.create_user(UserName="ci")["User"]
    key = iam.create_access_key(UserName="ci")["AccessKey"]
    keys = SimpleNamespace(access_key_id=key["AccessKeyId"], secret_access_key=key["SecretAccessKey"])
    return SimpleNamespace(arn=made["Arn"], id=made["UserId"], keys=keys)


@pytest.fixture(scope="module")
def as_user(server, user):
    return aws_face.client("sts", server.endpoint, user.keys)


@pytest.fixture
def role(iam, user, unique):
    """A role that the user may assume and that may do anything with ECR."""
    name = f"role-{unique()}"
    made = iam.create_role(RoleName=name, Path="/ci/", AssumeRolePolicyDocument=trust({"AWS": user.arn}))["Role"]
    iam.put_role_policy(RoleName=name, PolicyName="ecr", PolicyDocument=allow("ecr:*"))
    return made


def client_of(server, answer, service, **more):
    given = answer["Credentials"]
    keys = SimpleNamespace(access_key_id=given["AccessKeyId"], secret_access_key=given["SecretAccessKey"])
    return aws_face.client(service, server.endpoint, keys, aws_session_token=given["SessionToken"], **more)


def test_a_role_s_life(iam, user, unique):
    name = f"life-{unique()}"
    document = trust({"AWS": user.arn})
    made = iam.create_role(
        RoleName=name, Path="/a/b/", AssumeRolePolicyDocument=document, Description="d", Tags=[{"Key": "k", "Value": "v"}]
    )["Role"]
    assert made["Arn"].endswith(f":role/a/b/{name}") and made["RoleId"].startswith("AROA")
    assert made["AssumeRolePolicyDocument"] == json.loads(document)
    assert (made["MaxSessionDuration"], made["Tags"]) == (3600, [{"Key": "k", "Value": "v"}])
    assert refused(iam.create_role, "EntityAlreadyExists", RoleName=name.upper(), AssumeRolePolicyDocument=document)
    iam.update_role(RoleName=name, Description="e", MaxSessionDuration=7200)
    iam.update_assume_role_policy(RoleName=name, PolicyDocument=trust({"AWS": "*"}))
    found = iam.get_role(RoleName=name)["Role"]
    assert (found["Description"], found["MaxSessionDuration"]) == ("e", 7200)
    assert found["AssumeRolePolicyDocument"]["Statement"][0]["Principal"] == {"AWS": "*"}
    assert [r["RoleName"] for r in iam.list_roles(PathPrefix="/a/")["Roles"]] == [name]
    iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=allow("ecr:*"))
    assert "delete policies first" in refused(iam.delete_role, "DeleteConflict", RoleName=name)
    iam.delete_role_policy(RoleName=name, PolicyName="p")
    iam.delete_role(RoleName=name)
    assert name in refused(iam.get_role, "NoSuchEntity", RoleName=name)


@pytest.mark.parametrize(
    "document, code",
    [
        ("{", "MalformedPolicyDocument"),
        (allow("ecr:*"), "MalformedPolicyDocument"),
        (trust({"AWS": "arn:aws:iam::%ACCOUNT%:user/nobody"}), "MalformedPolicyDocument"),
        (trust({"AWS": "*"}, action="ecr:PutImage"), "MalformedPolicyDocument"),
        (trust({"AWS": ["arn:aws:iam::%012d:root" % n for n in range(60)]}), "LimitExceeded"),
    ],
)
def test_no_role_is_made_with_a_trust_policy_that_is_refused(iam, account, document, code):
    before = iam.list_roles()["Roles"]
    document = document.replace("%ACCOUNT%", account.id)
    refused(iam.create_role, code, RoleName="never", AssumeRolePolicyDocument=document)
    assert iam.list_roles()["Roles"] == before


def test_assume_role(server, iam, as_user, role, user, account):
    answer = as_user.assume_role(RoleArn=role["Arn"], RoleSessionName="one")
    expected = f"arn:aws:sts::{account.id}:assumed-role/{role['RoleName']}/one"
    assert answer["AssumedRoleUser"] == {"AssumedRoleId": f"{role['RoleId']}:one", "Arn": expected}
    assert answer["Credentials"]["AccessKeyId"].startswith("ASIA")
    me = client_of(server, answer, "sts").get_caller_identity()
    assert (me["Arn"], me["UserId"], me["Account"]) == (expected, f"{role['RoleId']}:one", account.id)
    ecr = client_of(server, answer, "ecr")
    ecr.describe_repositories()
    assert ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    assert iam.get_role(RoleName=role["RoleName"])["Role"]["RoleLastUsed"]["Region"] == "us-east-1"
    info = client_of(server, answer, "sts").get_caller_identity()
    assert info["Account"] == account.id
    for name in (role["RoleName"],):
        iam.delete_role_policy(RoleName=name, PolicyName="ecr")
        refused(ecr.describe_repositories, "AccessDeniedException")
        iam.delete_role(RoleName=name)
    refused(ecr.describe_repositories, "UnrecognizedClientException")


def test_a_missing_role_is_refused_like_one_that_does_not_trust(iam, as_user, user, unique, account):
    name = f"closed-{unique()}"
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust({"AWS": "999999999999"}))
    texts = []
    for wanted in (name, "missing"):
        arn = f"arn:aws:iam::{account.id}:role/{wanted}"
        said = refused(as_user.assume_role, "AccessDenied", RoleArn=arn, RoleSessionName="x1")
        assert said == f"User: {user.arn} is not authorized to perform: sts:AssumeRole on resource: {arn}"
        texts.append(said.replace(wanted, "R"))
    assert texts[0] == texts[1]


def test_trust_in_the_account_needs_the_user_s_own_policy_too(iam, as_user, account, unique):
    name = f"account-{unique()}"
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust({"AWS": account.id}))["Role"]["Arn"]
    refused(as_user.assume_role, "AccessDenied", RoleArn=arn, RoleSessionName="x1")
    iam.put_user_policy(UserName="ci", PolicyName=name, PolicyDocument=allow("sts:AssumeRole", arn))
    as_user.assume_role(RoleArn=arn, RoleSessionName="x1")
    iam.update_assume_role_policy(RoleName=name, PolicyDocument=trust({"AWS": "999999999999"}))
    refused(as_user.assume_role, "AccessDenied", RoleArn=arn, RoleSessionName="x1")
    iam.delete_user_policy(UserName="ci", PolicyName=name)


def test_a_role_of_another_account(server, iam, account, stranger, unique):
    theirs = aws_face.client("iam", server.endpoint, stranger)
    name = f"cross-{unique()}"
    condition = {"StringEquals": {"sts:ExternalId": "secret-42"}}
    document = trust({"AWS": account.id}, Condition=condition)
    arn = theirs.create_role(RoleName=name, AssumeRolePolicyDocument=document)["Role"]["Arn"]
    mine = aws_face.client("sts", server.endpoint, account)
    refused(mine.assume_role, "AccessDenied", RoleArn=arn, RoleSessionName="x1")
    refused(mine.assume_role, "AccessDenied", RoleArn=arn, RoleSessionName="x1", ExternalId="other")
    answer = mine.assume_role(RoleArn=arn, RoleSessionName="x1", ExternalId="secret-42")
    assert client_of(server, answer, "sts").get_caller_identity()["Account"] == stranger.id


def test_a_session_policy_cuts(server, as_user, role):
    answer = as_user.assume_role(
        RoleArn=role["Arn"], RoleSessionName="cut", Policy=allow("ecr:DescribeRepositories")
    )
    assert answer["PackedPolicySize"] > 0
    ecr = client_of(server, answer, "ecr")
    ecr.describe_repositories()
    said = refused(ecr.create_repository, "AccessDeniedException", repositoryName="no")
    assert "because no session policy allows" in said
    read_only = "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryReadOnly"
    answer = as_user.assume_role(RoleArn=role["Arn"], RoleSessionName="cut", PolicyArns=[{"arn": read_only}])
    client_of(server, answer, "ecr").describe_repositories()
    refused(client_of(server, answer, "ecr").create_repository, "AccessDeniedException", repositoryName="no")


@pytest.mark.parametrize(
    "parameters, code",
    [
        ({"Policy": "{"}, "MalformedPolicyDocument"),
        ({"Policy": trust({"AWS": "*"})}, "MalformedPolicyDocument"),
        ({"Policy": allow(["ecr:Action%04d" % n for n in range(200)])}, "PackedPolicyTooLarge"),
        ({"PolicyArns": [{"arn": "arn:aws:iam::aws:policy/NoSuchPolicy"}]}, "MalformedPolicyDocument"),
        ({"DurationSeconds": 7200}, "ValidationError"),
        ({"TransitiveTagKeys": ["team"]}, "ValidationError"),
        ({"Tags": [{"Key": "a", "Value": "1"}, {"Key": "A", "Value": "2"}]}, "ValidationError"),
        ({"Tags": [{"Key": "a", "Value": "1"}]}, "AccessDenied"),
        ({"SourceIdentity": "alice"}, "AccessDenied"),
        ({"SerialNumber": "arn:aws:iam::1:mfa/x", "TokenCode": "123456"}, "AccessDenied"),
    ],
)
def test_what_a_session_cannot_be(as_user, role, parameters, code):
    refused(as_user.assume_role, code, RoleArn=role["Arn"], RoleSessionName="bad", **parameters)


def test_chained_roles_keep_transitive_tags_and_source_identity(server, iam, as_user, user, unique, account):
    first, second = f"first-{unique()}", f"second-{unique()}"
    actions = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]
    first_arn = iam.create_role(
        RoleName=first, MaxSessionDuration=7200, AssumeRolePolicyDocument=trust({"AWS": user.arn}, actions)
    )["Role"]["Arn"]
    document = trust({"AWS": first_arn}, actions, Condition={"StringEquals": {"aws:PrincipalTag/team": "blue"}})
    second_arn = iam.create_role(RoleName=second, MaxSessionDuration=7200, AssumeRolePolicyDocument=document)["Role"][
        "Arn"
    ]
    iam.put_role_policy(
        RoleName=second,
        PolicyName="tagged",
        PolicyDocument=json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": {
                    "Effect": "Allow",
                    "Action": "ecr:*",
                    "Resource": "*",
                    "Condition": {"StringEquals": {"aws:PrincipalTag/team": "blue", "aws:SourceIdentity": "alice"}},
                },
            }
        ),
    )
    tags = [{"Key": "team", "Value": "blue"}, {"Key": "own", "Value": "x"}]
    answer = as_user.assume_role(
        RoleArn=first_arn,
        RoleSessionName="one",
        Tags=tags,
        TransitiveTagKeys=["team"],
        SourceIdentity="alice",
        DurationSeconds=7200,
    )
    assert answer["SourceIdentity"] == "alice"
    one = client_of(server, answer, "sts")
    refused(one.assume_role, "ValidationError", RoleArn=second_arn, RoleSessionName="two", DurationSeconds=3601)
    refused(one.assume_role, "AccessDenied", RoleArn=second_arn, RoleSessionName="two", SourceIdentity="bob")
    override = [{"Key": "Team", "Value": "red"}]
    refused(one.assume_role, "ValidationError", RoleArn=second_arn, RoleSessionName="two", Tags=override)
    two = one.assume_role(RoleArn=second_arn, RoleSessionName="two")
    assert two["SourceIdentity"] == "alice"
    client_of(server, two, "ecr").describe_repositories()
    refused(one.get_session_token, "AccessDenied")
    refused(one.get_federation_token, "AccessDenied", Name="fed")


def test_session_tokens_of_users(server, as_user, iam, user, account):
    answer = as_user.get_session_token(DurationSeconds=900)
    again = client_of(server, answer, "sts")
    assert again.get_caller_identity()["Arn"] == user.arn
    refused(again.get_session_token, "AccessDenied")
    refused(again.get_access_key_info, "AccessDenied", AccessKeyId=user.keys.access_key_id)
    refused(client_of(server, answer, "iam").list_users, "InvalidClientTokenId")
    mine = aws_face.client("sts", server.endpoint, account)
    for key in (user.keys.access_key_id, answer["Credentials"]["AccessKeyId"]):
        assert mine.get_access_key_info(AccessKeyId=key)["Account"] == account.id
    refused(mine.get_access_key_info, "ValidationError", AccessKeyId="AKIAAAAAAAAAAAAAAAAA")


def test_federated_users(server, sts, as_user, iam, user, account):
    refused(as_user.get_federation_token, "AccessDenied", Name="fred")
    answer = sts.get_federation_token(Name="fred", Policy=allow("ecr:DescribeRepositories"))
    arn = f"arn:aws:sts::{account.id}:federated-user/fred"
    assert answer["FederatedUser"] == {"FederatedUserId": f"{account.id}:fred", "Arn": arn}
    assert client_of(server, answer, "sts").get_caller_identity()["Arn"] == arn
    ecr = client_of(server, answer, "ecr")
    ecr.describe_repositories()
    refused(ecr.create_repository, "AccessDeniedException", repositoryName="no")
    refused(client_of(server, answer, "iam").list_users, "InvalidClientTokenId")
    without = sts.get_federation_token(Name="none")
    refused(client_of(server, without, "ecr").describe_repositories, "AccessDeniedException")


def test_a_role_s_session_logs_docker_in_until_the_role_goes(server, iam, ecr, registry, repository, as_user, role):
    image = images.image("session")
    registry.push(repository, image, "v1")
    digest = image.layer_digests[0]
    answer = as_user.assume_role(RoleArn=role["Arn"], RoleSessionName="docker")
    api = client_of(server, answer, "ecr")
    given = api.get_authorization_token()["authorizationData"][0]
    assert given["expiresAt"].replace(microsecond=0) <= answer["Credentials"]["Expiration"], "no password outlives its session"
    password = base64.b64decode(given["authorizationToken"]).decode().removeprefix("AWS:")
    session = oci.Registry(server.endpoint, password)
    url = urlsplit(api.get_download_url_for_layer(repositoryName=repository, layerDigest=digest)["downloadUrl"])
    target = url.path + (f"?{url.query}" if url.query else "")

    def outcomes():
        """Whether the session may still: pull, push, use the download URL, call the API."""
        try:
            api.describe_images(repositoryName=repository)
            called = 200
        except ClientError as error:
            called = error.response["Error"]["Code"]
        return [
            session.manifest(repository, "v1").status,
            session.blob(repository, digest).status,
            session.start_upload(repository).status,
            http.send(server.endpoint, "GET", target).status,
            called,
        ]

    assert outcomes() == [200, 200, 202, 200, 200]
    # What it may changes with the very next request, without a new password or URL.
    policy = allow(["ecr:DescribeImages", "ecr:BatchGetImage"])
    iam.put_role_policy(RoleName=role["RoleName"], PolicyName="ecr", PolicyDocument=policy)
    assert outcomes() == [200, 403, 403, 403, 200]
    iam.put_role_policy(RoleName=role["RoleName"], PolicyName="ecr", PolicyDocument=allow("ecr:*"))
    assert outcomes() == [200, 200, 202, 200, 200]
    iam.delete_role_policy(RoleName=role["RoleName"], PolicyName="ecr")
    iam.delete_role(RoleName=role["RoleName"])
    assert outcomes() == [401, 401, 401, 403, "UnrecognizedClientException"]
    # A role made anew under the name is another one.
    iam.create_role(RoleName=role["RoleName"], Path="/ci/", AssumeRolePolicyDocument=trust({"AWS": "*"}))
    iam.put_role_policy(RoleName=role["RoleName"], PolicyName="ecr", PolicyDocument=allow("ecr:*"))
    assert outcomes() == [401, 401, 401, 403, "UnrecognizedClientException"]


def test_skopeo_pulls_with_a_role_s_session_until_the_role_goes(server, iam, registry, repository, as_user, role, tmp_path):
    registry.push(repository, images.image("skopeo-session"), "v1")
    answer = as_user.assume_role(RoleArn=role["Arn"], RoleSessionName="skopeo")
    token = client_of(server, answer, "ecr").get_authorization_token()["authorizationData"][0]["authorizationToken"]
    password = base64.b64decode(token).decode().removeprefix("AWS:")

    def pull(check=True):
        source = f"docker://{server.host}/{repository}:v1"
        command = ["skopeo", "copy", "--src-tls-verify=false", "--src-creds", f"AWS:{password}", source]
        return run(*command, f"dir:{tmp_path / 'image'}", check=check)

    pull()
    iam.delete_role_policy(RoleName=role["RoleName"], PolicyName="ecr")
    assert "403" in pull(check=False).stderr or "denied" in pull(check=False).stderr
    iam.delete_role(RoleName=role["RoleName"])
    refused = pull(check=False)
    assert refused.returncode != 0 and "authentication" in refused.stderr, refused.stderr


def test_a_token_of_another_key_is_no_token(server, as_user, role):
    one = as_user.assume_role(RoleArn=role["Arn"], RoleSessionName="one")
    two = as_user.assume_role(RoleArn=role["Arn"], RoleSessionName="two")
    mixed = {"Credentials": one["Credentials"] | {"SessionToken": two["Credentials"]["SessionToken"]}}
    refused(client_of(server, mixed, "sts").get_caller_identity, "InvalidClientTokenId")
    changed = {"Credentials": one["Credentials"] | {"SessionToken": one["Credentials"]["SessionToken"][:-1] + "!"}}
    refused(client_of(server, changed, "ecr").describe_repositories, "UnrecognizedClientException")


def test_the_cli_assumes_a_role_by_its_profile(server, role, user, tmp_path, account):
    (tmp_path / "config").write_text(
        f"[profile base]\nregion = us-east-1\n[profile deploy]\nregion = us-east-1\nsource_profile = base\n"
        f"role_arn = {role['Arn']}\nrole_session_name = cli\nendpoint_url = {server.endpoint}\n"
    )
    (tmp_path / "credentials").write_text(
        f"[base]\naws_access_key_id = {user.keys.access_key_id}\naws_secret_access_key = {user.keys.secret_access_key}\n"
    )
    environment = {
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_PAGER": "",
        "HOME": str(tmp_path),
    }
    said = run("aws", "--profile", "deploy", "sts", "get-caller-identity", env=environment).stdout
    assert json.loads(said)["Arn"].endswith(f":assumed-role/{role['RoleName']}/cli")
    run("aws", "--profile", "deploy", "ecr", "describe-repositories", env=environment)


# ---------------------------------------------------------------- web identity


@pytest.fixture(scope="module")
def issuers():
    return SimpleNamespace(file=Issuer(ISSUER), url=Issuer(CACHED), forger=Issuer(ISSUER))


@pytest.fixture
def trusting(make_server, issuers, tmp_path):
    """A server that takes one issuer's keys from a file and another's from a URL, and an account that trusts both."""
    (tmp_path / "jwks.json").write_text(json.dumps(issuers.file.jwks))
    keys = KeyServer(issuers.url.jwks)
    named = f"{ISSUER}={tmp_path / 'jwks.json'},{CACHED}={keys.url}"
    server = make_server("--oidc-jwks", named)
    account = server.new_account()
    iam = aws_face.client("iam", server.endpoint, account)
    roles = {}
    for issuer in (ISSUER, CACHED):
        arn = iam.create_open_id_connect_provider(Url=issuer, ClientIDList=["sts.amazonaws.com"])[
            "OpenIDConnectProviderArn"
        ]
        url = issuer.removeprefix("https://")
        document = trust(
            {"Federated": arn},
            "sts:AssumeRoleWithWebIdentity",
            Condition={"StringEquals": {f"{url}:aud": "sts.amazonaws.com"}, "StringLike": {f"{url}:sub": "repo:org/*"}},
        )
        name = f"web-{len(roles)}"
        roles[issuer] = iam.create_role(RoleName=name, AssumeRolePolicyDocument=document)["Role"]["Arn"]
        iam.put_role_policy(
            RoleName=name,
            PolicyName="push",
            PolicyDocument=allow("ecr:*", f"arn:aws:ecr:us-east-1:{account.id}:repository/org/*"),
        )
    sts = boto3.client(
        "sts",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        config=Config(signature_version=UNSIGNED, retries={"total_max_attempts": 1}),
    )
    yield SimpleNamespace(server=server, account=account, iam=iam, roles=roles, sts=sts, keys=keys)
    keys.stop()


@pytest.mark.parametrize("issuer", [ISSUER, CACHED])
def test_an_identity_token_assumes_a_role(trusting, issuers, issuer):
    signer = issuers.file if issuer == ISSUER else issuers.url
    answer = trusting.sts.assume_role_with_web_identity(
        RoleArn=trusting.roles[issuer], RoleSessionName="web", WebIdentityToken=signer.token("repo:org/app")
    )
    assert answer["SubjectFromWebIdentityToken"] == "repo:org/app"
    assert (answer["Audience"], answer["Provider"].split("/", 1)[1]) == (
        "sts.amazonaws.com",
        issuer.removeprefix("https://"),
    )
    ecr = client_of(trusting.server, answer, "ecr")
    ecr.create_repository(repositoryName="org/app")
    refused(ecr.create_repository, "AccessDeniedException", repositoryName="elsewhere/app")


def test_identity_tokens_that_are_refused(trusting, issuers):
    def refuse(token, code, role=trusting.roles[ISSUER]):
        call = trusting.sts.assume_role_with_web_identity
        return refused(call, code, RoleArn=role, RoleSessionName="web", WebIdentityToken=token)

    good = issuers.file.token
    assert "Token expired" in refuse(good("repo:org/app", lifetime=-120), "ExpiredTokenException")
    assert refuse(good("repo:org/app", audience="other"), "InvalidIdentityToken") == "Incorrect token audience"
    refuse(issuers.forger.token("repo:org/app"), "InvalidIdentityToken")
    refuse("not.a.token", "InvalidIdentityToken")
    assert "Not authorized" in refuse(good("repo:other/app"), "AccessDenied")
    missing = trusting.roles[ISSUER].replace("web-0", "missing")
    assert refuse(good("repo:org/app"), "AccessDenied", missing) == refuse(good("repo:x/y"), "AccessDenied")
    stranger = Issuer.__new__(Issuer)
    stranger.__dict__.update(issuers.forger.__dict__ | {"url": "https://nobody.example"})
    said = refuse(stranger.token("repo:org/app"), "InvalidIdentityToken")
    assert said == "No OpenIDConnect provider found in your account for https://nobody.example"
    refuse(issuers.url.token("repo:org/app"), "AccessDenied")


def test_keys_from_a_url_are_kept_when_the_issuer_goes_away(trusting, issuers):
    def assume(token):
        return trusting.sts.assume_role_with_web_identity(
            RoleArn=trusting.roles[CACHED], RoleSessionName="web", WebIdentityToken=token
        )

    for _ in range(3):
        assume(issuers.url.token("repo:org/app"))
    assert trusting.keys.asked == 1
    trusting.keys.stop()
    assume(issuers.url.token("repo:org/app"))


def test_a_pod_with_a_projected_token_uses_the_cli(trusting, issuers, tmp_path):
    (tmp_path / "token").write_text(issuers.file.token("repo:org/app"))
    environment = {
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
        "AWS_ROLE_ARN": trusting.roles[ISSUER],
        "AWS_ROLE_SESSION_NAME": "pod",
        "AWS_ENDPOINT_URL": trusting.server.endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_PAGER": "",
        "HOME": str(tmp_path),
    }
    said = run("aws", "sts", "get-caller-identity", env=environment).stdout
    assert json.loads(said)["Arn"].endswith(":assumed-role/web-0/pod")
    run("aws", "ecr", "create-repository", "--repository-name", "org/from-pod", env=environment)


def test_an_oidc_provider_s_life(iam, account, unique):
    url = f"https://idp-{unique()}.example/path"
    arn = iam.create_open_id_connect_provider(Url=url, ClientIDList=["a"], ThumbprintList=["0" * 40])[
        "OpenIDConnectProviderArn"
    ]
    assert arn == f"arn:aws:iam::{account.id}:oidc-provider/{url.removeprefix('https://')}"
    refused(iam.create_open_id_connect_provider, "EntityAlreadyExists", Url=url)
    for bad in ("http://idp.example", "https://", "https://idp.example?x=1", "idp.example"):
        refused(iam.create_open_id_connect_provider, "ValidationError", Url=bad)
    iam.add_client_id_to_open_id_connect_provider(OpenIDConnectProviderArn=arn, ClientID="b")
    iam.remove_client_id_from_open_id_connect_provider(OpenIDConnectProviderArn=arn, ClientID="a")
    iam.tag_open_id_connect_provider(OpenIDConnectProviderArn=arn, Tags=[{"Key": "k", "Value": "v"}])
    found = iam.get_open_id_connect_provider(OpenIDConnectProviderArn=arn)
    assert (found["Url"], found["ClientIDList"]) == (url.removeprefix("https://"), ["b"])
    assert iam.list_open_id_connect_provider_tags(OpenIDConnectProviderArn=arn)["Tags"] == found["Tags"]
    assert arn in [p["Arn"] for p in iam.list_open_id_connect_providers()["OpenIDConnectProviderList"]]
    iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=arn)
    refused(iam.get_open_id_connect_provider, "NoSuchEntity", OpenIDConnectProviderArn=arn)


def test_account_aliases_and_the_summary(iam, unique):
    alias = f"team-{unique()}"
    iam.create_account_alias(AccountAlias=alias)
    assert iam.list_account_aliases()["AccountAliases"] == [alias]
    refused(iam.create_account_alias, "EntityAlreadyExists", AccountAlias=alias)
    refused(iam.create_account_alias, "ValidationError", AccountAlias="No--Good")
    refused(iam.delete_account_alias, "NoSuchEntity", AccountAlias="other")
    iam.delete_account_alias(AccountAlias=alias)
    assert iam.list_account_aliases()["AccountAliases"] == []
    summary = iam.get_account_summary()["SummaryMap"]
    keys = model.service("iam").operation_model("GetAccountSummary").output_shape.members["SummaryMap"].key.enum
    assert set(summary) <= set(keys) and summary["RolesQuota"] == 1000
