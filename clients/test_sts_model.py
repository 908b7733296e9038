"""Every operation of STS that is built, its answers read by the service model alone, and what the model forbids."""

import json
from types import SimpleNamespace
from urllib.parse import quote, urlencode

import pytest

from harness import aws as aws_face
from harness.http import send
from harness.issuer import Issuer
from harness.model import service
from harness.query import FORM_TYPE, Query, bad_inputs, form
from harness.server import Server

ISSUER = "https://idp.example/model"
READ_ONLY = "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryReadOnly"


def allow(action):
    return json.dumps({"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": action, "Resource": "*"}})


class Unsigned(Query):
    """STS as a bearer of an identity token calls it."""

    def __init__(self, endpoint):
        self.endpoint, self.name, self.model = endpoint, "sts", service("sts")
        self.namespace = "{https://sts.amazonaws.com/doc/2011-06-15/}"

    def send(self, operation, parameters=None):
        pairs = [("Action", operation), ("Version", self.model.api_version), *form(parameters or {})]
        body = urlencode(pairs, quote_via=quote).encode()
        return send(self.endpoint, "POST", "/", {"Content-Type": FORM_TYPE}, body)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A server with a user who may assume a role, and a role for an issuer's tokens."""
    directory, issuer = tmp_path_factory.mktemp("sts-model"), Issuer(ISSUER)
    (directory / "jwks.json").write_text(json.dumps(issuer.jwks))
    server = Server(directory / "data", "--oidc-jwks", f"{ISSUER}={directory / 'jwks.json'}").start()
    account = server.new_account()
    iam = aws_face.client("iam", server.endpoint, account)
    iam.create_user(UserName="ann")
    iam.put_user_policy(UserName="ann", PolicyName="all", PolicyDocument=allow("*"))
    key = iam.create_access_key(UserName="ann")["AccessKey"]
    keys = SimpleNamespace(access_key_id=key["AccessKeyId"], secret_access_key=key["SecretAccessKey"])
    provider = iam.create_open_id_connect_provider(Url=ISSUER, ClientIDList=["sts.amazonaws.com"])
    federated = {"Federated": provider["OpenIDConnectProviderArn"]}
    roles = {}
    for name, principal, action in (
        ("signed", {"AWS": account.id}, ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]),
        ("web", federated, "sts:AssumeRoleWithWebIdentity"),
    ):
        trust = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Principal": principal, "Action": action}}
        roles[name] = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    yield SimpleNamespace(
        server=server,
        account=account,
        issuer=issuer,
        keys=keys,
        role=roles["signed"],
        web_role=roles["web"],
        query=Query(server.endpoint, keys, "sts"),
        unsigned=Unsigned(server.endpoint),
    )
    server.stop()


def good_inputs(scene):
    """Of each operation inputs that must succeed: the least, and everything at once."""
    tags = [{"Key": "team", "Value": "a"}, {"Key": "stage", "Value": ""}]
    limits = {"Policy": allow("ecr:*"), "PolicyArns": [{"arn": READ_ONLY}], "DurationSeconds": 900}
    assume = {"RoleArn": scene.role, "RoleSessionName": "model"}
    more = {"Tags": tags, "TransitiveTagKeys": ["team"], "ExternalId": "e:1/2", "SourceIdentity": "ann"}
    web = {"RoleArn": scene.web_role, "RoleSessionName": "web", "WebIdentityToken": scene.issuer.token("repo:org/app")}
    return {
        "GetCallerIdentity": [{}],
        "GetAccessKeyInfo": [{"AccessKeyId": scene.keys.access_key_id}],
        "GetSessionToken": [{}, {"DurationSeconds": 900}],
        "GetFederationToken": [{"Name": "fred"}, {"Name": "fred", **limits, "Tags": tags}],
        "AssumeRole": [assume, {**assume, **limits, **more}],
        "AssumeRoleWithWebIdentity": [web, {**web, **limits}],
    }


def test_every_answer_fits_the_model(scene):
    built = good_inputs(scene)
    for operation, inputs in built.items():
        query = scene.unsigned if operation == "AssumeRoleWithWebIdentity" else scene.query
        for parameters in inputs:
            answer = query.call(operation, parameters)
            given = answer.get("Credentials")
            if given:
                keys = SimpleNamespace(access_key_id=given["AccessKeyId"], secret_access_key=given["SecretAccessKey"])
                session = Query(scene.server.endpoint, keys, "sts", token=given["SessionToken"])
                assert session.call("GetCallerIdentity")["Account"] == scene.account.id
            assert ("PackedPolicySize" in answer) == ("Policy" in parameters)
    whole = scene.query.call("AssumeRole", built["AssumeRole"][1])
    assert whole["SourceIdentity"] == "ann" and 0 < whole["PackedPolicySize"] <= 100
    web = scene.unsigned.call("AssumeRoleWithWebIdentity", built["AssumeRoleWithWebIdentity"][1])
    assert (web["SubjectFromWebIdentityToken"], web["Audience"]) == ("repo:org/app", "sts.amazonaws.com")


def test_what_the_model_forbids_is_refused_as_it_says(scene):
    refusals = 0
    for operation, (good, *_) in good_inputs(scene).items():
        query = scene.unsigned if operation == "AssumeRoleWithWebIdentity" else scene.query
        for what, wrong in bad_inputs(query.model, operation, good):
            if what.startswith("MinimumSessionTokenSize "):
                continue  # Not built: members that nobody asks for are ignored.
            status = query.send(operation, wrong).status
            assert 400 <= status < 500, f"{operation}: {what} is answered {status}"
            query.refused(operation, wrong)
            refusals += 1
    assert refusals > 60, refusals


def test_operations_that_are_not_built_say_so(scene):
    built = set(good_inputs(scene))
    others = [name for name in scene.query.model.operation_names if name not in built]
    assert len(others) >= 3
    for name in others:
        answer = scene.query.send(name, {})
        assert answer.status == 400 and b"<Code>InvalidAction</Code>" in answer.body, f"{name}: {answer}"
