"""What is secret stays out of everything the server writes or tells: its log at its most talkative, the audit log,
metrics, and every answer but the one that gives the secret out."""

import base64
import json
import os
import re
from urllib.parse import quote, urlencode, urlsplit

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from harness import aws as aws_face
from harness import oci
from harness.http import send
from harness.images import image
from harness.issuer import Issuer
from harness.server import Account

ISSUER = "https://idp.example/secrets"
FORM = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
# Shorter pieces occur by chance; every secret here has more than this many characters of its own.
SHORTEST = 16


def forms(secret):
    """A secret as it could be written: plain, percent-encoded, in base64 at each alignment, and as hexadecimal."""
    data = secret.encode()
    yield data
    yield quote(secret, safe="").encode()
    yield json.dumps(secret)[1:-1].encode()
    yield data.hex().encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for shift in range(3):
            # The first group holds what comes before the secret, the last one what comes after it.
            yield encode(b"\0" * shift + data)[4 if shift else 0 : -4]


def found(secrets, *texts):
    """The names of secrets that occur in a text in any form."""
    return sorted(
        {
            name
            for name, secret in secrets.items()
            for form in forms(secret)
            if len(form) >= SHORTEST and any(form in text for text in texts)
        }
    )


class Scene:
    """A talkative server, everything secret that was shown to it, and everything it answered."""

    def __init__(self, make_server, tmp_path):
        self.issuer = Issuer(ISSUER)
        (tmp_path / "jwks.json").write_text(json.dumps(self.issuer.jwks))
        self.audit = tmp_path / "audit.log"
        self.root_key = base64.b64encode(os.urandom(32)).decode()
        self.server = make_server(
            "--log-level", "trace", "--audit-log", str(self.audit), "--oidc-jwks", f"{ISSUER}={tmp_path / 'jwks.json'}",
            env={"WHARF_ROOT_KEY": self.root_key},
        )  # fmt: skip
        self.secrets = {"the root key": self.root_key}
        self.answers = []
        self.account = self.server.new_account()
        self.secret("the root user's secret", self.account.secret_access_key)

    def secret(self, name, value):
        assert len(value) >= SHORTEST, name
        self.secrets[name] = value
        return value

    def told(self, answer):
        """Keeps what was answered to a request that must give nothing out."""
        self.answers.append(str(answer.headers).encode() + answer.body)
        return answer

    def written(self):
        """What the server wrote, once it has ended."""
        self.server.stop()
        log = (self.server.data_dir.parent / f"{self.server.data_dir.name}.stderr").read_bytes()
        return {"log": log, "audit log": self.audit.read_bytes(), "standard output": self.server.output().encode()}


def sign_in_every_way(scene):
    """Long-term keys, sessions, presigned requests: good ones, and each spoiled."""
    server, account = scene.server, scene.account
    iam = aws_face.client("iam", server.endpoint, account)
    iam.create_user(UserName="ann")
    key = iam.create_access_key(UserName="ann")["AccessKey"]
    ann = Account(account.id, key["AccessKeyId"], scene.secret("a user's secret", key["SecretAccessKey"]))
    trust = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{account.id}:user/ann"}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": trust})
    role = iam.create_role(RoleName="deploy", AssumeRolePolicyDocument=document)["Role"]["Arn"]
    allow = {"Effect": "Allow", "Action": "ecr:*", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": allow})
    iam.put_role_policy(RoleName="deploy", PolicyName="all", PolicyDocument=document)
    sts = aws_face.client("sts", server.endpoint, ann)
    assumed = sts.assume_role(RoleArn=role, RoleSessionName="deploying")["Credentials"]
    own = sts.get_session_token()["Credentials"]
    sessions = []
    for name, given in (("a role session's", assumed), ("a user session's", own)):
        scene.secret(f"{name} secret", given["SecretAccessKey"])
        token = scene.secret(f"{name} token", given["SessionToken"])
        sessions.append((Account(account.id, given["AccessKeyId"], given["SecretAccessKey"]), token))
    for who, token in [(account, None), (ann, None), *sessions]:
        spoiled = Account(who.id, who.access_key_id, who.secret_access_key[:-2] + "zz")
        unknown = Account(who.id, "AKIAXXXXXXXXXXXXXXXX", who.secret_access_key)
        for one, one_token in ((who, token), (spoiled, token), (unknown, token), (who, f"{(token or 'x' * 40)[:-3]}AAA")):
            signed = aws_face.Signed(server.endpoint, one, token=one_token)
            scene.told(signed.call("DescribeRegistry"))
            scene.told(signed.call("NoSuchOperation"))
            scene.told(signed.call("DescribeRegistry", b"{"))
            at_sts = aws_face.Signed(server.endpoint, one, service="sts", token=one_token)
            query = "Action=GetCallerIdentity&Version=2011-06-15"
            scene.told(at_sts.presigned(query=query))
            scene.told(at_sts.presigned(query=query, expires=0))
            scene.told(at_sts.post(b"Action=GetCallerIdentity&Version=1999-01-01", FORM))
        # A secret that is sent where none belongs is nobody's to repeat.
        for misplaced in (who.secret_access_key, token):
            if misplaced:
                body = urlencode({"Action": "GetAccessKeyInfo", "Version": "2011-06-15", "AccessKeyId": "AKIA", "Policy": misplaced})
                scene.told(aws_face.Signed(server.endpoint, who, service="sts", token=token).post(body.encode(), FORM))
    return ann, sessions


def web_identities(scene):
    iam = aws_face.client("iam", scene.server.endpoint, scene.account)
    arn = iam.create_open_id_connect_provider(Url=ISSUER, ClientIDList=["sts.amazonaws.com"])["OpenIDConnectProviderArn"]
    trust = {"Effect": "Allow", "Principal": {"Federated": arn}, "Action": "sts:AssumeRoleWithWebIdentity"}
    document = json.dumps({"Version": "2012-10-17", "Statement": trust})
    role = iam.create_role(RoleName="web", AssumeRolePolicyDocument=document)["Role"]["Arn"]
    good = scene.issuer.token("repo:org/app")
    anonymous = boto3.client(
        "sts",
        endpoint_url=scene.server.endpoint,
        region_name="us-east-1",
        config=Config(signature_version=UNSIGNED, retries={"total_max_attempts": 1}),
    )
    ask = {"RoleArn": role, "RoleSessionName": "web"}
    given = anonymous.assume_role_with_web_identity(**ask, WebIdentityToken=good)["Credentials"]
    scene.secret("a web session's secret", given["SecretAccessKey"])
    scene.secret("a web session's token", given["SessionToken"])
    expired = scene.issuer.token("repo:org/app", lifetime=-600)
    tokens = {
        "good": good,
        "expired": expired,
        "forged": good.rsplit(".", 1)[0] + "." + expired.rsplit(".", 1)[1][::-1],
        "of another audience": scene.issuer.token("repo:org/app", audience="elsewhere"),
        "cut": good[:-10],
    }
    for name, token in tokens.items():
        # What a bearer could use is the signature; the claims are the client's own words about itself.
        scene.secret(f"the signature of a token that is {name}", token.rsplit(".", 1)[1])
        for role_arn in (role, role.replace("web", "missing")):
            body = {"Action": "AssumeRoleWithWebIdentity", "Version": "2011-06-15", "RoleSessionName": "web"}
            body |= {"RoleArn": role_arn, "WebIdentityToken": token, "DurationSeconds": "1" if name == "good" else "900"}
            scene.told(send(scene.server.endpoint, "POST", "/", FORM, urlencode(body).encode()))


def container_clients(scene, sessions):
    """Registry passwords by Basic and Bearer, and download URLs."""
    ecr = aws_face.client("ecr", scene.server.endpoint, scene.account)
    ecr.create_repository(repositoryName="team/app")
    passwords = {"root's": scene.server.password(scene.account)}
    (account, token), _ = sessions
    as_role = aws_face.client("ecr", scene.server.endpoint, account, aws_session_token=token)
    basic = as_role.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    passwords["a role's"] = base64.b64decode(basic).decode().removeprefix("AWS:")
    for name, password in passwords.items():
        scene.secret(f"{name} password", password)
        for shown in (password, password[:-4] + "AAAA"):
            registry = oci.Registry(scene.server.endpoint, shown)
            for method, target in (
                ("GET", "/v2/"),
                ("GET", "/v2/team/app/tags/list"),
                ("GET", "/v2/team/app/manifests/none"),
                ("PUT", "/v2/team/app/manifests/bad"),
            ):
                scene.told(registry.request(method, target, body=b"{}" if method == "PUT" else b""))
            for authorization in (f"Bearer {shown}", f"Basic {shown}", f"Digest {shown}", oci.basic("someone", shown)):
                scene.told(send(scene.server.endpoint, "GET", "/v2/team/app/tags/list", {"Authorization": authorization}))
            scene.told(send(scene.server.endpoint, "GET", "/token?service=x", {"Authorization": oci.basic("AWS", shown)}))
    with pytest.raises(ClientError):
        ecr.set_repository_policy(repositoryName="team/app", policyText="{}")  # The log says why, where it is talkative.
    made = image("secrets")
    oci.Registry(scene.server.endpoint, passwords["root's"]).push("team/app", made, "v1")
    for name, client in (("root's", ecr), ("a role's", as_role)):
        answer = client.get_download_url_for_layer(repositoryName="team/app", layerDigest=made.layer_digests[0])
        url = urlsplit(answer["downloadUrl"])
        scene.secret(f"{name} download token", max(re.split("[/?=&]", f"{url.path}?{url.query}"), key=len))
        target = url.path + (f"?{url.query}" if url.query else "")
        assert send(scene.server.endpoint, "GET", target).status == 200
        scene.told(send(scene.server.endpoint, "GET", target[:-4] + "AAAA"))
        scene.told(send(scene.server.endpoint, "PUT", target))


def test_secrets_are_neither_written_nor_told(make_server, tmp_path):
    scene = Scene(make_server, tmp_path)
    ann, sessions = sign_in_every_way(scene)
    web_identities(scene)
    container_clients(scene, sessions)
    metrics = send(scene.server.endpoint, "GET", "/metrics").expect(200).body

    assert len(scene.secrets) >= 14, sorted(scene.secrets)
    assert found(scene.secrets, *scene.answers) == [], "told in an answer"
    assert found(scene.secrets, metrics) == [], "shown by /metrics"
    written = scene.written()
    for where, text in written.items():
        assert found(scene.secrets, text) == [], f"written to the {where}"

    # What was searched is what the server says of these requests: it cannot be empty, or of something else.
    assert b"DEBUG" in written["log"] and b"a policy was refused" in written["log"], written["log"]
    assert written["audit log"].count(b"AssumeRoleWithWebIdentity") >= 8
    assert ann.access_key_id.encode() in written["audit log"]


def test_the_search_finds_what_it_looks_for():
    secret = "Xk3+w/9Qz0aR7vT2uLm5pB8nC1dE4fG6hJ"
    header = base64.b64encode(f"AWS:{secret}".encode())
    for text in (
        secret.encode(),
        quote(secret, safe="").encode(),
        b"authorization: Basic " + header,
        base64.b64encode(f"x:{secret}".encode()),
        base64.urlsafe_b64encode(f"xyz{secret}".encode()),
        secret.encode().hex().encode(),
    ):
        assert found({"it": secret}, b"before " + text + b" after") == ["it"], text
    assert found({"it": secret}, secret[:-1].encode(), header[:20]) == []
