"""Who may: signatures by botocore in both forms, registry passwords, and the wall between accounts."""

import base64
import re
import uuid
from xml.etree import ElementTree

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from harness import images, oci
from harness.aws import ECR_TARGET, JSON_TYPE, Signed, client, clock_off_by
from harness.http import send
from harness.model import expect_error, expect_success
from harness.process import wait_until
from harness.server import Account

TARGET = {"Content-Type": JSON_TYPE, "X-Amz-Target": f"{ECR_TARGET}.DescribeRegistry"}
UNRECOGNIZED = ("UnrecognizedClientException", "The security token included in the request is invalid.")


def refused(answer, code, message=None):
    body = expect_error(answer, "ecr", "DescribeRegistry", code)
    if isinstance(message, re.Pattern):
        assert message.search(body["message"]), f"{message.pattern!r} is not in {answer}"
    elif message is not None:
        assert body["message"] == message, f"expected {message!r}: {answer}"


# ---------------------------------------------------------------- SigV4 in the header


def test_a_right_signature(signed, account):
    body = expect_success(signed.call("DescribeRegistry"), "ecr", "DescribeRegistry")
    assert body == {"registryId": account.id, "replicationConfiguration": {"rules": []}}


def test_a_wrong_secret(server, account):
    spoiled = Account(account.id, account.access_key_id, account.secret_access_key[::-1])
    refused(
        Signed(server.endpoint, spoiled).call("DescribeRegistry"),
        "InvalidSignatureException",
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access"
        " Key and signing method. Consult the service documentation for details.",
    )


def test_an_unknown_key(server, account):
    nobody = Account(account.id, "AKIAXXXXXXXXXXXXXXXX", account.secret_access_key)
    refused(Signed(server.endpoint, nobody).call("DescribeRegistry"), *UNRECOGNIZED)


def test_a_token_that_was_never_issued(server, account):
    refused(Signed(server.endpoint, account, token="made-up").call("DescribeRegistry"), *UNRECOGNIZED)


def test_a_wrong_service(server, account):
    answer = Signed(server.endpoint, account, service="s3").call("DescribeRegistry")
    refused(answer, "InvalidSignatureException", re.compile("^Credential should be scoped to correct service: 'ecr'"))


@pytest.mark.parametrize("region", ["not a region", "EU-WEST-1", "x"])
def test_a_region_that_is_none(region, server, account):
    answer = Signed(server.endpoint, account, region=region).call("DescribeRegistry")
    refused(answer, ("InvalidSignatureException"), re.compile("Credential should be scoped to a valid region"))


def test_another_region_is_another_registry(server, account, ecr, repository):
    elsewhere = client("ecr", server.endpoint, account, region="eu-west-1")
    with pytest.raises(ClientError) as raised:
        elsewhere.describe_repositories(repositoryNames=[repository])
    assert raised.value.response["Error"]["Code"] == "RepositoryNotFoundException"
    elsewhere.create_repository(repositoryName=repository)
    (found,) = elsewhere.describe_repositories(repositoryNames=[repository])["repositories"]
    assert found["repositoryArn"] == f"arn:aws:ecr:eu-west-1:{account.id}:repository/{repository}"


def test_the_clock_may_differ_by_15_minutes(signed):
    for seconds in (-14 * 60, 14 * 60):
        with clock_off_by(seconds):
            answer = signed.call("DescribeRegistry")
        expect_success(answer, "ecr", "DescribeRegistry")
    with clock_off_by(-20 * 60):
        answer = signed.call("DescribeRegistry")
    refused(answer, "InvalidSignatureException", re.compile(r"^Signature expired: \d{8}T\d{6}Z is now earlier than .*- 15 min"))
    with clock_off_by(20 * 60):
        answer = signed.call("DescribeRegistry")
    words = re.compile(r"^Signature not yet current: \d{8}T\d{6}Z is still later than .*\+ 15 min")
    refused(answer, "InvalidSignatureException", words)


def _signed_request(server, account, body=b"{}", path="/"):
    request = AWSRequest("POST", server.endpoint + path, headers=dict(TARGET), data=body)
    credentials = Credentials(account.access_key_id, account.secret_access_key)
    botocore.auth.SigV4Auth(credentials, "ecr", "us-east-1").add_auth(request)
    return dict(request.headers.items())


def test_what_was_signed_cannot_be_changed(server, account):
    headers = _signed_request(server, account)
    expect_success(send(server.endpoint, "POST", "/", headers, b"{}"), "ecr", "DescribeRegistry")
    mismatch = "InvalidSignatureException"
    refused(send(server.endpoint, "POST", "/", headers, b'{"x":1}'), mismatch)
    refused(send(server.endpoint, "POST", "/?a=b", headers, b"{}"), mismatch)
    other = {**headers, "X-Amz-Target": f"{ECR_TARGET}.DescribeRepositories"}
    refused(send(server.endpoint, "POST", "/", other, b"{}"), mismatch)


def test_headers_that_are_cut(server, account):
    headers = _signed_request(server, account)
    whole = headers["Authorization"]
    for part in ("Credential", "SignedHeaders", "Signature"):
        cut = re.sub(rf"{part}=[^,]+,? ?", "", whole)
        answer = send(server.endpoint, "POST", "/", {**headers, "Authorization": cut}, b"{}")
        refused(answer, "IncompleteSignatureException", re.compile(f"requires '{part}' parameter"))
    undated = {name: value for name, value in headers.items() if name.lower() != "x-amz-date"}
    answer = send(server.endpoint, "POST", "/", undated, b"{}")
    refused(answer, "IncompleteSignatureException", re.compile("existence of either a 'X-Amz-Date' or a 'Date' header"))
    refused(send(server.endpoint, "POST", "/", TARGET, b"{}"), "MissingAuthenticationTokenException")
    for junk in ("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 Credential", "AWS4-HMAC-SHA512 " + whole[17:], whole + ", Signature=x"):
        answer = send(server.endpoint, "POST", "/", {**headers, "Authorization": junk}, b"{}")
        refused(answer, ("IncompleteSignatureException"))


# ---------------------------------------------------------------- SigV4 in the query


class PresignedWithBody(botocore.auth.SigV4QueryAuth):
    """Botocore moves a body into the query; here it stays a body and is hashed as such."""

    body = b""

    def payload(self, request):
        import hashlib

        return hashlib.sha256(self.body).hexdigest()


def presign(server, account, service, method, query="", headers=None, body=b"", expires=60):
    url = f"{server.endpoint}/" + (f"?{query}" if query else "")
    request = AWSRequest(method, url, headers=headers or {})
    credentials = Credentials(account.access_key_id, account.secret_access_key)
    signer = PresignedWithBody(credentials, service, "us-east-1", expires=expires)
    signer.body = body
    signer.add_auth(request)
    return request.url[len(server.endpoint) :], dict(request.headers.items())


def test_a_presigned_caller_identity(server, account):
    target, headers = presign(server, account, "sts", "GET", "Action=GetCallerIdentity&Version=2011-06-15")
    answer = send(server.endpoint, "GET", target, headers).expect(200)
    assert account.id in {element.text for element in ElementTree.fromstring(answer.body).iter()}
    spoiled = re.sub(r"(X-Amz-Signature=)(.)", lambda m: m[1] + ("0" if m[2] != "0" else "1"), target)
    answer = send(server.endpoint, "GET", spoiled, headers).expect(403)
    assert b"<Code>SignatureDoesNotMatch</Code>" in answer.body, f"{answer}"


def test_a_presigned_ecr_call(server, account):
    target, headers = presign(server, account, "ecr", "POST", headers=dict(TARGET), body=b"{}")
    expect_success(send(server.endpoint, "POST", target, headers, b"{}"), "ecr", "DescribeRegistry")
    refused(send(server.endpoint, "POST", target, headers, b'{"x":1}'), "InvalidSignatureException")
    with clock_off_by(-3600):
        target, headers = presign(server, account, "ecr", "POST", headers=dict(TARGET), body=b"{}")
    refused(send(server.endpoint, "POST", target, headers, b"{}"), "InvalidSignatureException")


def test_sts_errors_are_xml(server, account):
    spoiled = Account(account.id, account.access_key_id, "x" * 40)
    form = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    answer = Signed(server.endpoint, spoiled, service="sts").post(b"Action=GetCallerIdentity&Version=2011-06-15", form)
    answer.expect(403)
    root = ElementTree.fromstring(answer.body)
    texts = {element.tag.rsplit("}", 1)[-1]: element.text for element in root.iter()}
    assert texts["Code"] == "SignatureDoesNotMatch" and texts["Type"] == "Sender" and texts["RequestId"], f"{answer}"


# ---------------------------------------------------------------- the wall between accounts


def test_accounts_do_not_see_each_other(server, account, stranger, ecr, registry, repository):
    one = images.image("wall")
    registry.push(repository, one, "v1")
    theirs = client("ecr", server.endpoint, stranger)
    assert repository not in [r["repositoryName"] for r in theirs.describe_repositories()["repositories"]]
    elsewhere = oci.Registry(server.endpoint, server.password(stranger))
    assert elsewhere.manifest(repository, "v1").status == 404, "on a bare host the registry is the caller's own"


def test_a_stranger_is_refused_by_the_api(server, account, stranger, repository):
    theirs = client("ecr", server.endpoint, stranger)
    arn = f"arn:aws:ecr:us-east-1:{account.id}:repository/"
    mine = {"registryId": account.id}
    calls = [
        (theirs.describe_images, "DescribeImages", {"repositoryName": repository}),
        (theirs.list_images, "ListImages", {"repositoryName": repository}),
        (theirs.batch_get_image, "BatchGetImage", {"repositoryName": repository, "imageIds": [{"imageTag": "v1"}]}),
        (theirs.delete_repository, "DeleteRepository", {"repositoryName": repository, "force": True}),
        (theirs.create_repository, "CreateRepository", {"repositoryName": "tests/planted"}),
        (theirs.initiate_layer_upload, "InitiateLayerUpload", {"repositoryName": repository}),
    ]
    for call, action, arguments in calls:
        absent = {**arguments, "repositoryName": "tests/absent"} if action != "CreateRepository" else arguments
        for given in (arguments, absent):
            with pytest.raises(ClientError) as raised:
                call(**mine, **given)
            error = raised.value.response["Error"]
            assert error["Code"] == "AccessDeniedException", (action, error)
            head = (
                f"User: arn:aws:iam::{stranger.id}:root is not authorized to perform: ecr:{action}"
                f" on resource: {arn}{given['repositoryName']} because no "
            )
            assert error["Message"].startswith(head), f"expected {head!r}, got {error['Message']!r}"


def test_a_stranger_is_refused_by_docker(server, account, stranger, registry, repository):
    one = images.image("wall-docker")
    registry.push(repository, one, "v1")
    host = f"{account.id}.dkr.ecr.us-east-1.localhost:{server.port}"
    owner = oci.Registry(server.endpoint, server.password(account), host=host)
    owner.manifest(repository, "v1").expect(200)
    theirs = oci.Registry(server.endpoint, server.password(stranger), host=host)
    for name in (repository, "tests/absent"):
        for method, path in [
            ("GET", "manifests/v1"),
            ("HEAD", "manifests/v1"),
            ("GET", "tags/list"),
            ("GET", f"blobs/{one.config_digest}"),
            ("POST", "blobs/uploads/"),
            ("PUT", "manifests/v1"),
            ("DELETE", f"manifests/{one.digest}"),
        ]:
            answer = theirs.request(method, f"/v2/{name}/{path}", {"Content-Type": one.media_type}, b"")
            answer.expect(403)
            if method != "HEAD":
                (error,) = answer.json["errors"]
                assert error["code"] == "DENIED", f"{answer}"
                head = rf"^User: arn:aws:iam::{stranger.id}:root is not authorized to perform: ecr:\w+ on resource: arn:"
                assert re.search(head, error["message"]), f"{answer}"
    registry.manifest(repository, "v1").expect(200)


def test_another_regions_host_refuses_the_password(server, account, password):
    host = f"{account.id}.dkr.ecr.eu-west-1.localhost:{server.port}"
    assert oci.Registry(server.endpoint, password, host=host).request("GET", "/v2/").status == 401


@pytest.mark.parametrize(
    "name",
    [
        "{}.dkr.ecr.us-east-1.localhost",
        "{}.dkr.ecr.us-east-1.amazonaws.com",
        "{}.dkr-ecr.us-east-1.on.aws",
        "{}.dkr.ecr-fips.us-east-1.amazonaws.com",
        "{}.DKR.ECR.us-east-1.localhost",
    ],
)
def test_every_name_of_the_registry(name, server, account, password, ecr, registry, repository):
    registry.push(repository, images.image("names"), "v1")
    named = oci.Registry(server.endpoint, password, host=name.format(account.id))
    named.manifest(repository, "v1").expect(200)


# ---------------------------------------------------------------- passwords and keys that end


def test_a_password_expires(server, account):
    short = oci.Registry(server.endpoint, server.password(account, "--ttl", "1s"))
    answer = wait_until(
        lambda: (lambda a: a if a.status != 200 else None)(short.request("GET", "/v2/")), "the password to expire"
    )
    answer.expect(401, 403)
    assert answer.json == {
        "errors": [
            {"code": "DENIED", "message": "Your authorization token has expired. Reauthenticate and try again."}
        ]
    }, f"{answer}"


def test_a_disabled_key_stops_its_password_at_once(server):
    account = server.new_account()
    ecr = client("ecr", server.endpoint, account)
    (data,) = ecr.get_authorization_token()["authorizationData"]
    password = base64.b64decode(data["authorizationToken"]).decode().split(":", 1)[1]
    registry = oci.Registry(server.endpoint, password)
    registry.request("GET", "/v2/").expect(200)

    server.command("key", "disable", account.access_key_id)
    assert registry.request("GET", "/v2/").status in (401, 403)
    refused(Signed(server.endpoint, account).call("DescribeRegistry"), *UNRECOGNIZED)
    server.command("key", "enable", account.access_key_id)
    registry.request("GET", "/v2/").expect(200)
    server.command("key", "delete", account.access_key_id)
    assert registry.request("GET", "/v2/").status in (401, 403)
    refused(Signed(server.endpoint, account).call("DescribeRegistry"), *UNRECOGNIZED)


def test_a_second_key_of_an_account(server, account):
    import json

    made = json.loads(server.command("key", "create", "--account", account.id, "--json").stdout)
    second = Account(account.id, made["access_key_id"], made["secret_access_key"])
    expect_success(Signed(server.endpoint, second).call("DescribeRegistry"), "ecr", "DescribeRegistry")
    server.command("key", "delete", second.access_key_id)
    refused(Signed(server.endpoint, second).call("DescribeRegistry"), *UNRECOGNIZED)
    expect_success(Signed(server.endpoint, account).call("DescribeRegistry"), "ecr", "DescribeRegistry")


def test_boto3_and_the_cli_know_who_they_are(server, account, aws):
    import json

    expected = {"UserId": account.id, "Account": account.id, "Arn": f"arn:aws:iam::{account.id}:root"}
    said = client("sts", server.endpoint, account).get_caller_identity()
    assert {key: said[key] for key in expected} == expected
    assert json.loads(aws("sts", "get-caller-identity").stdout) == expected


def test_a_chosen_account_id(server):
    import json

    wanted = f"{uuid.uuid4().int % 10**12:012}"
    made = Account.from_json(server.command("account", "create", "--id", wanted, "--json").stdout)
    assert made.id == wanted
    assert wanted in server.command("account", "list").stdout
    again = server.command("account", "create", "--id", wanted, "--json", check=False)
    assert again.returncode == 1 and wanted in again.stderr, again
    assert json.loads(server.command("account", "list", "--json").stdout)
