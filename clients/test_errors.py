"""What is refused, and in which words: ECR's own, on both faces."""

import base64
import json
import re
import uuid

import pytest
from botocore.exceptions import ClientError

from harness import images, oci
from harness.aws import client

ZEROS = "sha256:" + "0" * 64


def oci_error(answer, status, code, message=None):
    """Checks an OCI error body; `message` may be text or a compiled pattern."""
    answer.expect(*([status] if isinstance(status, int) else status))
    assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0", f"{answer}"
    (error,) = answer.json["errors"]
    assert error["code"] == code, f"{answer}"
    if isinstance(message, re.Pattern):
        assert message.search(error["message"]), f"{message.pattern!r} is not in: {answer}"
    elif message is not None:
        assert error["message"] == message, f"expected {message!r}: {answer}"
    else:
        assert error["message"], f"an error needs words: {answer}"


def api_error(call, code, message=None, **arguments):
    with pytest.raises(ClientError) as raised:
        call(**arguments)
    error = raised.value.response["Error"]
    assert error["Code"] == code, error
    if isinstance(message, re.Pattern):
        assert message.search(error["Message"]), error
    elif message is not None:
        assert error["Message"] == message, error
    else:
        assert error["Message"], error
    return raised.value.response


def no_repository(name, account):
    return f"The repository with name '{name}' does not exist in the registry with id '{account.id}'"


# ---------------------------------------------------------------- OCI: who are you


@pytest.mark.parametrize("path", ["/v2/", "/v2/a/b/manifests/v1", "/v2/_catalog", "/v2/a/b/tags/list"])
def test_without_credentials_every_path_answers_the_same(path, server, account):
    host = f"{account.id}.dkr.ecr.us-east-1.localhost:{server.port}"
    answer = oci.Registry(server.endpoint, host=host).request("GET", path).expect(401)
    challenge = answer.headers["Www-Authenticate"]
    assert re.fullmatch(rf'Basic realm="https?://{re.escape(host)}/",service="ecr.amazonaws.com"', challenge), challenge
    assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.body == b"Not Authorized\n"


@pytest.mark.parametrize(
    "authorization",
    [
        "Basic " + base64.b64encode(b"AWS:wrong").decode(),
        "Basic " + base64.b64encode(b"AWS:").decode(),
        "Basic " + base64.b64encode(b"aws").decode(),
        "Basic ",
        "Basic ====",
        "Bearer junk",
        "Digest x",
        "",
    ],
)
def test_credentials_that_are_none(authorization, server):
    answer = oci.Registry(server.endpoint).request("GET", "/v2/", {"Authorization": authorization})
    assert answer.status == 401 and answer.headers["Www-Authenticate"].startswith("Basic "), f"{answer}"


def test_the_user_name_must_be_aws(server, password):
    assert oci.Registry(server.endpoint, password, username="root").request("GET", "/v2/").status == 401


def test_the_version_check(registry):
    answer = registry.request("GET", "/v2/").expect(200)
    assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
    assert answer.body in (b"", b"{}")


# ---------------------------------------------------------------- OCI: what is not there


def test_an_absent_repository(registry, account):
    words = no_repository("tests/absent", account)
    for method, path in [
        ("GET", "/v2/tests/absent/manifests/v1"),
        ("GET", f"/v2/tests/absent/manifests/{ZEROS}"),
        ("GET", "/v2/tests/absent/tags/list"),
        ("GET", f"/v2/tests/absent/blobs/{ZEROS}"),
        ("POST", "/v2/tests/absent/blobs/uploads/"),
        ("DELETE", f"/v2/tests/absent/manifests/{ZEROS}"),
    ]:
        oci_error(registry.request(method, path), 404, "NAME_UNKNOWN", words)
    oci_error(registry.put_manifest("tests/absent", images.image("absent"), "v1"), 404, "NAME_UNKNOWN", words)


def test_absent_content(registry, repository):
    for reference in ("absent", ZEROS):
        oci_error(registry.manifest(repository, reference), 404, "MANIFEST_UNKNOWN", "Requested image not found")
        assert registry.manifest(repository, reference, "HEAD").status == 404
    oci_error(registry.blob(repository, ZEROS), 404, "BLOB_UNKNOWN")
    oci_error(registry.request("DELETE", f"/v2/{repository}/manifests/absent"), 404, "MANIFEST_UNKNOWN")
    upload = f"/v2/{repository}/blobs/uploads/{uuid.uuid4()}"
    for method in ("GET", "PATCH", "DELETE"):
        oci_error(registry.request(method, upload), 404, "BLOB_UPLOAD_UNKNOWN")
    oci_error(registry.request("PUT", f"{upload}?digest={ZEROS}"), 404, "BLOB_UPLOAD_UNKNOWN")


# ---------------------------------------------------------------- OCI: what is refused


def test_an_immutable_tag(ecr, registry, unique):
    repository = f"tests/errors-immutable-{unique()}"
    ecr.create_repository(repositoryName=repository, imageTagMutability="IMMUTABLE")
    first, second = images.image("errors-1"), images.image("errors-2")
    registry.push(repository, first, "v1")
    registry.put_manifest(repository, first, "v1").expect(201)
    registry.push_content(repository, second)
    words = (
        f"The image tag 'v1' already exists in the '{repository}' repository"
        " and cannot be overwritten because the tag is immutable."
    )
    oci_error(registry.put_manifest(repository, second, "v1"), 400, "TAG_INVALID", words)
    api_error(
        ecr.put_image,
        "ImageTagAlreadyExistsException",
        words,
        repositoryName=repository,
        imageManifest=second.manifest.decode(),
        imageTag="v1",
    )


def test_missing_layers_and_children(ecr, registry, repository, account):
    one, several = images.image("errors-missing"), images.index(images.image("errors-child"))
    tail = (
        f" required for pushing image into repository with name '{repository}'"
        f" in the registry with id '{account.id}' do not exist"
    )
    put = {"repositoryName": repository}
    layers = re.compile(rf"^Layers with digests '\[sha256:[0-9a-f]{{64}}, sha256:[0-9a-f]{{64}}\]'{re.escape(tail)}$")
    oci_error(registry.put_manifest(repository, one, "v1"), (400, 404), "MANIFEST_BLOB_UNKNOWN", layers)
    api_error(ecr.put_image, "LayersNotFoundException", layers, **put, imageManifest=one.manifest.decode())

    child = f"Images with digests '[{several.children[0].digest}]'{tail}"
    oci_error(registry.put_manifest(repository, several, "v1"), (400, 404), "MANIFEST_BLOB_UNKNOWN", child)
    api_error(
        ecr.put_image, "ReferencedImagesNotFoundException", child, **put, imageManifest=several.manifest.decode()
    )


def test_a_child_of_an_index_is_kept(ecr, registry, repository):
    several = images.index(images.image("errors-kept"))
    registry.push(repository, several, "multi")
    child = several.children[0].digest
    words = f"Requested image referenced by manifest list: [{several.digest}]"
    oci_error(registry.request("DELETE", f"/v2/{repository}/manifests/{child}"), 405, "UNSUPPORTED", words)
    answer = ecr.batch_delete_image(repositoryName=repository, imageIds=[{"imageDigest": child}])
    assert answer["failures"] == [
        {
            "imageId": {"imageDigest": child},
            "failureCode": "ImageReferencedByManifestList",
            "failureReason": words,
        }
    ]
    registry.manifest(repository, child).expect(200)


def test_a_digest_that_is_not_the_content(registry, repository):
    one = images.image("errors-digest")
    registry.push_content(repository, one)
    oci_error(registry.put_manifest(repository, one, ZEROS), 400, "DIGEST_INVALID")
    location = registry.start_upload(repository).expect(202).headers["Location"]
    oci_error(registry.request("PUT", f"{location}?digest={ZEROS}", body=b"other"), 400, "DIGEST_INVALID")
    assert registry.blob(repository, ZEROS).status == 404
    location = registry.start_upload(repository).expect(202).headers["Location"]
    for digest in ("junk", "sha256:12", "md5:" + "0" * 32, ""):
        oci_error(registry.request("PUT", f"{location}?digest={digest}", body=b"x"), 400, "DIGEST_INVALID")


@pytest.mark.parametrize(
    "body",
    [b"", b"junk", b"[]", b"{}", b'{"schemaVersion":2}', b'{"schemaVersion":"2"}', b"\xff\xfe", b"[" * 50_000],
)
def test_a_manifest_that_is_none(body, registry, repository):
    answer = registry.request(
        "PUT", f"/v2/{repository}/manifests/v1", {"Content-Type": images.OCI_MANIFEST}, body
    )
    oci_error(answer, 400, "MANIFEST_INVALID")
    assert registry.tags(repository).expect(200).json["tags"] in ([], None)


def test_schema_1_is_refused_in_clear_words(registry, repository):
    body = json.dumps({"schemaVersion": 1, "name": repository, "tag": "v1", "fsLayers": [], "history": []}).encode()
    for media_type in ("v1+json", "v1+prettyjws"):
        headers = {"Content-Type": f"application/vnd.docker.distribution.manifest.{media_type}"}
        answer = registry.request("PUT", f"/v2/{repository}/manifests/v1", headers, body)
        oci_error(answer, 400, "MANIFEST_INVALID", re.compile("schema ?(version )?1", re.I))


def test_a_manifest_beyond_4_mib(registry, repository):
    one = images.image("errors-large", annotations={"x": "a" * (4 << 20)})
    registry.push_content(repository, one)
    answer = registry.put_manifest(repository, one, "v1")
    assert answer.status in (400, 413), f"{answer}"
    assert answer.json["errors"][0]["code"] in ("SIZE_INVALID", "MANIFEST_INVALID"), f"{answer}"
    assert registry.manifest(repository, "v1").status == 404


@pytest.mark.parametrize("name", ["Upper/case", "a//b", "-a", "a_", "a" * 300, "a/%2e%2e/b", "x"])
def test_a_repository_name_that_is_none(name, registry):
    answer = registry.start_upload(name)
    assert answer.status in (400, 404), f"{answer}"
    assert answer.json["errors"][0]["code"] in ("NAME_INVALID", "NAME_UNKNOWN"), f"{answer}"


@pytest.mark.parametrize("tag", ["-x", "a" * 200, "a%20b", ".hidden"])
def test_a_tag_that_is_none(tag, registry, repository):
    one = images.image("errors-tag")
    registry.push_content(repository, one)
    answer = registry.put_manifest(repository, one, tag)
    assert answer.status == 400, f"{answer}"
    assert answer.json["errors"][0]["code"] in ("TAG_INVALID", "MANIFEST_INVALID", "DIGEST_INVALID"), f"{answer}"


def test_a_chunk_out_of_order(registry, repository):
    location = registry.start_upload(repository).expect(202).headers["Location"]
    chunk = {"Content-Type": "application/octet-stream", "Content-Range": "0-4"}
    location = registry.request("PATCH", location, chunk, b"hello").expect(202).headers["Location"]
    for wrong in ("0-4", "6-10", "4-8"):
        answer = registry.request("PATCH", location, {**chunk, "Content-Range": wrong}, b"world").expect(416)
        assert answer.headers["Range"] == "0-4", f"{answer}"
    answer = registry.request("PATCH", location, {**chunk, "Content-Range": "5-9"}, b"world").expect(202)
    assert answer.headers["Range"] == "0-9", f"{answer}"
    digest = images.sha256(b"helloworld")
    registry.request("PUT", f"{answer.headers['Location']}?digest={digest}").expect(201)
    assert registry.blob(repository, digest).expect(200).body == b"helloworld"


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT", "DELETE", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/v2/", "/v2/_catalog", "/v2/a/b/tags/list", "/v2/a/b/nonsense/x", "/v3/x"])
def test_verbs_and_paths_that_mean_nothing(method, path, registry):
    assert 400 <= registry.request(method, path).status < 500


# ---------------------------------------------------------------- OCI: the ecr dialect


@pytest.fixture(scope="module")
def as_ecr(tmp_path_factory):
    """A server with oci.dialect = "ecr", and a repository in it."""
    from harness.server import Server

    server = Server(tmp_path_factory.mktemp("ecr-dialect") / "data", "--oci-dialect", "ecr").start()
    account = server.root_account()
    ecr = client("ecr", server.endpoint, account)
    ecr.create_repository(repositoryName="team/app")
    yield ecr, oci.Registry(server.endpoint, server.password(account))
    server.stop()


def test_as_ecr_blobs_are_not_deleted(as_ecr):
    _, registry = as_ecr
    one = images.image("as-ecr-blob")
    registry.push("team/app", one, "blob")
    oci_error(registry.request("DELETE", f"/v2/team/app/blobs/{one.config_digest}"), 405, "UNSUPPORTED")
    registry.blob("team/app", one.config_digest).expect(200)


def test_as_ecr_pages_have_a_limit(as_ecr):
    _, registry = as_ecr
    words = (
        "Invalid parameter at 'maxResults' failed to satisfy constraint:"
        " 'Member must have value less than or equal to 1000'"
    )
    oci_error(registry.tags("team/app", "?n=1001"), 405, "UNSUPPORTED", words)
    registry.tags("team/app", "?n=1000").expect(200)


def test_as_ecr_one_post_is_a_session(as_ecr):
    _, registry = as_ecr
    data = b"one post"
    answer = registry.request("POST", f"/v2/team/app/blobs/uploads/?digest={images.sha256(data)}", body=data)
    answer.expect(202)
    assert registry.blob("team/app", images.sha256(data)).status == 404


def test_as_ecr_mounting_is_off_until_switched_on(as_ecr):
    ecr, registry = as_ecr
    ecr.create_repository(repositoryName="team/other")
    one = images.image("as-ecr-mount")
    registry.push("team/app", one, "mount")
    mount = f"?mount={one.config_digest}&from=team/app"
    assert ecr.get_account_setting(name="BLOB_MOUNTING")["value"] == "DISABLED"
    registry.start_upload("team/other", mount).expect(202)
    ecr.put_account_setting(name="BLOB_MOUNTING", value="ENABLED")
    registry.start_upload("team/other", mount).expect(201)


def test_as_ecr_a_pull_by_tag_is_converted(as_ecr):
    _, registry = as_ecr
    one = images.image("as-ecr-convert")
    registry.push("team/app", one, "convert")
    accept = {"Accept": images.DOCKER_MANIFEST}
    answer = registry.manifest("team/app", "convert", headers=accept).expect(200)
    assert answer.headers["Content-Type"] == images.DOCKER_MANIFEST
    assert answer.headers["Docker-Content-Digest"] == images.sha256(answer.body) != one.digest
    assert answer.json["mediaType"] == images.DOCKER_MANIFEST
    by_digest = registry.manifest("team/app", one.digest, headers=accept).expect(200)
    assert by_digest.body == one.manifest, "by digest nothing is converted"


# ---------------------------------------------------------------- the JSON API


def test_repositories(ecr, registry, repository, account):
    api_error(
        ecr.create_repository,
        "RepositoryAlreadyExistsException",
        f"The repository with name '{repository}' already exists in the registry with id '{account.id}'",
        repositoryName=repository,
    )
    absent = no_repository("tests/absent", account)
    for call in (ecr.delete_repository, ecr.describe_images, ecr.list_images, ecr.initiate_layer_upload):
        api_error(call, "RepositoryNotFoundException", absent, repositoryName="tests/absent")
    names = {"repositoryNames": [repository, "tests/absent"]}
    api_error(ecr.describe_repositories, "RepositoryNotFoundException", absent, **names)
    registry.push(repository, images.image("errors-not-empty"))
    api_error(
        ecr.delete_repository,
        "RepositoryNotEmptyException",
        f"The repository with name '{repository}' in registry with id '{account.id}' cannot be deleted"
        " because it still contains images",
        repositoryName=repository,
    )


def test_images(ecr, registry, repository, account):
    one, other = images.image("errors-images"), images.image("errors-other")
    registry.push(repository, one, "v1")
    tail = f" does not exist within the repository with name '{repository}' in the registry with id '{account.id}'"
    for image_id, words in [
        ({"imageTag": "absent"}, "{imageDigest:'null', imageTag:'absent'}"),
        ({"imageDigest": ZEROS}, f"{{imageDigest:'{ZEROS}', imageTag:'null'}}"),
    ]:
        message = f"The image with imageId {words}{tail}"
        arguments = {"repositoryName": repository, "imageIds": [image_id]}
        api_error(ecr.describe_images, "ImageNotFoundException", message, **arguments)

    put = {"repositoryName": repository, "imageManifest": one.manifest.decode()}
    api_error(
        ecr.put_image,
        "ImageAlreadyExistsException",
        f"Image with digest '{one.digest}' and tag 'v1' already exists in the repository with name '{repository}'"
        f" in registry with id '{account.id}'",
        imageTag="v1",
        **put,
    )
    api_error(ecr.put_image, "ImageDigestDoesNotMatchException", imageDigest=other.digest, **put)
    for wrong in (" ", "a b", "-x", "a" * 129):
        api_error(ecr.put_image, "InvalidParameterException", imageTag=wrong, **put)


def test_failures_of_a_batch(ecr, registry, repository):
    one, other = images.image("errors-batch"), images.image("errors-batch-other")
    registry.push(repository, one, "v1")
    registry.push(repository, other, "v2")
    expected = [
        ({"imageTag": "absent"}, "ImageNotFound", "Requested image not found"),
        ({"imageDigest": ZEROS}, "ImageNotFound", "Requested image not found"),
        ({}, "MissingDigestAndTag", "Invalid request parameters: both tag and digest cannot be null"),
        (
            {"imageDigest": "junk"},
            "InvalidImageDigest",
            "Invalid request parameters: image digest should satisfy the regex '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'",
        ),
        ({"imageTag": "v1", "imageDigest": other.digest}, "ImageTagDoesNotMatchDigest", None),
    ]
    for call in (ecr.batch_get_image, ecr.batch_delete_image):
        answer = call(repositoryName=repository, imageIds=[image_id for image_id, _, _ in expected])
        got = {json.dumps(f["imageId"], sort_keys=True): f for f in answer["failures"]}
        for image_id, code, reason in expected:
            failure = got.get(json.dumps(image_id, sort_keys=True))
            assert failure, f"{call.__name__}: no failure for {image_id} in {answer['failures']}"
            assert failure["failureCode"] == code, failure
            assert reason is None or failure["failureReason"] == reason, failure
    held = {d["imageDigest"] for d in ecr.describe_images(repositoryName=repository)["imageDetails"]}
    assert held == {one.digest, other.digest}, "a failed deletion deleted"


def test_layers(ecr, registry, repository, account):
    arguments = {"repositoryName": repository}
    loose = b"no image names me"
    registry.push_blob(repository, loose)
    api_error(
        ecr.get_download_url_for_layer, "LayerInaccessibleException", layerDigest=images.sha256(loose), **arguments
    )
    api_error(ecr.get_download_url_for_layer, "LayersNotFoundException", layerDigest=ZEROS, **arguments)
    answer = ecr.batch_check_layer_availability(layerDigests=[images.sha256(loose), ZEROS, "junk", ""], **arguments)
    assert [(x["layerDigest"], x["layerAvailability"]) for x in answer["layers"]] == [
        (images.sha256(loose), "AVAILABLE"),
        (ZEROS, "UNAVAILABLE"),
    ]
    assert {f["failureCode"] for f in answer["failures"]} == {"InvalidLayerDigest", "MissingLayerDigest"}


def test_layer_uploads(ecr, repository, account):
    arguments = {"repositoryName": repository}
    nowhere = {**arguments, "uploadId": str(uuid.uuid4())}
    part = {"partFirstByte": 0, "partLastByte": 4, "layerPartBlob": b"hello"}
    api_error(ecr.upload_layer_part, "UploadNotFoundException", **nowhere, **part)
    api_error(ecr.complete_layer_upload, "UploadNotFoundException", **nowhere, layerDigests=[ZEROS])

    upload = {**arguments, "uploadId": ecr.initiate_layer_upload(**arguments)["uploadId"]}
    api_error(ecr.complete_layer_upload, "EmptyUploadException", **upload, layerDigests=[ZEROS])
    for first, last in ((1, 5), (0, 5), (0, 3), (5, 1)):
        spoiled = {**part, "partFirstByte": first, "partLastByte": last}
        response = api_error(ecr.upload_layer_part, "InvalidLayerPartException", **upload, **spoiled)
        assert (response["registryId"], response["repositoryName"], response["uploadId"]) == (
            account.id,
            repository,
            upload["uploadId"],
        )
    assert ecr.upload_layer_part(**upload, **part)["lastByteReceived"] == 4
    response = api_error(ecr.upload_layer_part, "InvalidLayerPartException", **upload, **part)
    assert response["lastValidByteReceived"] == 4
    api_error(ecr.complete_layer_upload, "InvalidLayerException", **upload, layerDigests=[ZEROS])

    again = {**arguments, "uploadId": ecr.initiate_layer_upload(**arguments)["uploadId"]}
    for first in (0, 5):
        ecr.upload_layer_part(**again, **{**part, "partFirstByte": first, "partLastByte": first + 4})
    api_error(
        ecr.complete_layer_upload,
        "LayerPartTooSmallException",
        "All layer parts except the last part should be at least 5MB",
        **again,
        layerDigests=[images.sha256(b"hellohello")],
    )

    for expected in (None, "LayerAlreadyExistsException"):
        whole = {**arguments, "uploadId": ecr.initiate_layer_upload(**arguments)["uploadId"]}
        ecr.upload_layer_part(**whole, **part)
        complete = {**whole, "layerDigests": [images.sha256(b"hello")]}
        if expected is None:
            assert ecr.complete_layer_upload(**complete)["layerDigest"] == images.sha256(b"hello")
        else:
            api_error(ecr.complete_layer_upload, expected, **complete)


def test_resource_tags(ecr, repository, account):
    arn = f"arn:aws:ecr:us-east-1:{account.id}:repository/{repository}"
    tags = lambda *keys: [{"Key": key, "Value": "v"} for key in keys]  # noqa: E731
    many = tags(*(f"k{i}" for i in range(50)))
    api_error(ecr.tag_resource, "TooManyTagsException", resourceArn=arn, tags=[*many, *tags("more")])
    for wrong in (tags("twice", "twice"), tags("aws:reserved"), tags(""), tags("k" * 129), [{"Key": "k", "Value": "v" * 257}]):
        api_error(ecr.tag_resource, "InvalidTagParameterException", resourceArn=arn, tags=wrong)
    ecr.tag_resource(resourceArn=arn, tags=many)
    api_error(ecr.tag_resource, "TooManyTagsException", resourceArn=arn, tags=tags("one-more"))
    assert len(ecr.list_tags_for_resource(resourceArn=arn)["tags"]) == 50
    words = "Invalid parameter at 'resourceArn' failed to satisfy constraint: 'Invalid ARN'"
    for wrong in ("junk", "arn:aws:s3:::bucket", f"arn:aws:ecr:us-east-1:{account.id}:repository/"):
        api_error(ecr.list_tags_for_resource, "InvalidParameterException", words, resourceArn=wrong)
    absent = f"arn:aws:ecr:us-east-1:{account.id}:repository/tests/absent"
    api_error(ecr.list_tags_for_resource, "RepositoryNotFoundException", resourceArn=absent)


def test_parameters(ecr, signed, repository):
    name = {"repositoryName": repository}
    filters = [{"filterType": "WILDCARD", "filter": "dev-*"}]
    invalid = "InvalidParameterException"
    for mutability in ("MUTABLE_WITH_EXCLUSION", "IMMUTABLE_WITH_EXCLUSION"):
        api_error(ecr.put_image_tag_mutability, invalid, imageTagMutability=mutability, **name)
    for mutability in ("MUTABLE", "IMMUTABLE"):
        api_error(
            ecr.put_image_tag_mutability,
            invalid,
            imageTagMutability=mutability,
            imageTagMutabilityExclusionFilters=filters,
            **name,
        )
    answer = signed.call("PutImageTagMutability", {**name, "imageTagMutability": "x"}).expect(400).json
    head = "Invalid parameter at 'imageTagMutability' failed to satisfy constraint: 'Member must satisfy enum value set: ["
    assert answer["message"].startswith(head), answer
    answer = signed.call("ListImages", {**name, "maxResults": 1001}).expect(400).json
    assert answer["message"] == (
        "Invalid parameter at 'maxResults' failed to satisfy constraint:"
        " 'Member must have value less than or equal to 1000'"
    ), answer
    api_error(ecr.describe_repositories, invalid, repositoryNames=[repository], maxResults=5)
    api_error(ecr.describe_images, invalid, imageIds=[{"imageTag": "a"}], maxResults=5, **name)
    for call in (ecr.describe_images, ecr.list_images):
        api_error(call, invalid, nextToken="junk", **name)
    for wrong in ("NO_SUCH_SETTING", "blob_mounting"):
        with pytest.raises(ClientError) as raised:
            ecr.get_account_setting(name=wrong)
        assert raised.value.response["Error"]["Code"] in ("ValidationException", invalid)
    with pytest.raises(ClientError) as raised:
        ecr.put_account_setting(name="BLOB_MOUNTING", value="SOMETIMES")
    assert raised.value.response["Error"]["Code"] in ("ValidationException", invalid)


def test_a_page_token_belongs_to_its_query(ecr, registry, repository):
    for tag in "abc":
        registry.push(repository, images.image(f"errors-token-{tag}"), tag)
    token = ecr.list_images(repositoryName=repository, maxResults=1)["nextToken"]
    invalid = "InvalidParameterException"
    api_error(ecr.describe_images, invalid, repositoryName=repository, nextToken=token)
    api_error(ecr.describe_repositories, invalid, nextToken=token)
    other = {"repositoryName": repository, "nextToken": token, "filter": {"tagStatus": "TAGGED"}}
    api_error(ecr.list_images, invalid, **other)


def test_pull_time_exclusions(ecr, account):
    arn = f"arn:aws:iam::{account.id}:role/errors"
    api_error(ecr.deregister_pull_time_update_exclusion, "ExclusionNotFoundException", principalArn=arn)
    ecr.register_pull_time_update_exclusion(principalArn=arn)
    api_error(ecr.register_pull_time_update_exclusion, "ExclusionAlreadyExistsException", principalArn=arn)
    ecr.deregister_pull_time_update_exclusion(principalArn=arn)


def test_a_repository_needs_a_key_that_exists(ecr, account):
    for key in (str(uuid.uuid4()), "alias/absent", f"arn:aws:kms:us-east-1:{account.id}:key/{uuid.uuid4()}"):
        response = api_error(
            ecr.create_repository,
            "KmsException",
            repositoryName="tests/no-key",
            encryptionConfiguration={"encryptionType": "KMS", "kmsKey": key},
        )
        assert response["kmsError"] == "NotFoundException", response
    api_error(ecr.describe_repositories, "RepositoryNotFoundException", repositoryNames=["tests/no-key"])
