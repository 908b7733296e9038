"""Every operation of the AWS service model: what is answered fits the model, what the model forbids is refused.

Botocore's model is the judge. Requests are signed by botocore and sent raw, answers are checked in their raw form, so
a timestamp written as text or a null is seen.
"""

import base64
import json
import uuid
from xml.etree import ElementTree

import pytest

from harness import images
from harness.aws import ECR_TARGET, JSON_TYPE, KMS_TARGET, Signed
from harness.http import send
from harness.model import UNBOUNDED_IN_ANSWERS, bad_inputs, expect_error, expect_success, service, smallest_input, validate

# An operation that gets built moves here, and its valid inputs into VALID below.
BUILT = {
    *("CreateRepository", "DescribeRepositories", "DeleteRepository", "GetAuthorizationToken"),
    *("InitiateLayerUpload", "UploadLayerPart", "CompleteLayerUpload"),
    *("BatchCheckLayerAvailability", "GetDownloadUrlForLayer"),
    *("PutImage", "BatchGetImage", "BatchDeleteImage", "ListImages", "DescribeImages", "ListImageReferrers"),
    *("PutImageTagMutability", "TagResource", "UntagResource", "ListTagsForResource"),
    *("DescribeRegistry", "GetAccountSetting", "PutAccountSetting", "ListPullTimeUpdateExclusions"),
    *("RegisterPullTimeUpdateExclusion", "DeregisterPullTimeUpdateExclusion"),
    *("SetRepositoryPolicy", "GetRepositoryPolicy", "DeleteRepositoryPolicy"),
    *("PutRegistryPolicy", "GetRegistryPolicy", "DeleteRegistryPolicy"),
    *("PutLifecyclePolicy", "GetLifecyclePolicy", "DeleteLifecyclePolicy"),
    *("StartLifecyclePolicyPreview", "GetLifecyclePolicyPreview", "UpdateImageStorageClass"),
}
ALL = sorted(service("ecr").operation_names)
NOT_BUILT = sorted(set(ALL) - BUILT)

# Bad entries of these fail one by one, in the answer's `failures`.
ENTRY_BY_ENTRY = {"BatchGetImage", "BatchDeleteImage", "BatchCheckLayerAvailability"}


class Scene:
    """A registry with a little of everything, and ways to make more of it."""

    def __init__(self, account, signed, registry):
        self.account, self.signed, self.registry = account, signed, registry
        self.repository = "model/app"
        self.call("CreateRepository", {"repositoryName": self.repository, "tags": [{"Key": "team", "Value": "a"}]})
        self.image = images.image("model", layers=2)
        self.children = [images.image("model-amd64"), images.image("model-arm64")]
        self.index = images.index(*self.children)
        self.signature = images.artifact(
            "model", "application/vnd.example.signature", subject=self.image, annotations={"org.example.by": "me"}
        )
        registry.push(self.repository, self.image, "v1")
        registry.push(self.repository, self.image, "stable")
        registry.push(self.repository, self.index, "multi")
        registry.push(self.repository, self.signature)

    def call(self, operation, body):
        return expect_success(self.signed.call(operation, body), "ecr", operation)

    def new_repository(self, **more):
        name = f"model/{uuid.uuid4().hex}"
        return self.call("CreateRepository", {"repositoryName": name, **more})["repository"]

    def arn(self, repository=None):
        return f"arn:aws:ecr:us-east-1:{self.account.id}:repository/{repository or self.repository}"

    def upload(self, repository, *parts):
        """An upload with those parts, by the API; answers its id."""
        upload = self.call("InitiateLayerUpload", {"repositoryName": repository})["uploadId"]
        first = 0
        for part in parts:
            self.call("UploadLayerPart", self.part(repository, upload, first, part))
            first += len(part)
        return upload

    @staticmethod
    def part(repository, upload, first, data):
        return {
            "repositoryName": repository,
            "uploadId": upload,
            "partFirstByte": first,
            "partLastByte": first + len(data) - 1,
            "layerPartBlob": base64.b64encode(data).decode(),
        }

    def state(self):
        """Everything a refused call could have changed, as the API describes it."""

        def pages(operation, key, body=None):
            found, token = [], None
            while True:
                page = self.call(operation, {**(body or {}), **({"nextToken": token} if token else {})})
                found += page[key]
                token = page.get("nextToken")
                if token is None:
                    return found

        repositories = pages("DescribeRepositories", "repositories")
        return {
            "repositories": repositories,
            "images": {r["repositoryName"]: self._images(pages, r["repositoryName"]) for r in repositories},
            "tags": {
                r["repositoryName"]: self.call("ListTagsForResource", {"resourceArn": r["repositoryArn"]})["tags"]
                for r in repositories
            },
            "exclusions": pages("ListPullTimeUpdateExclusions", "pullTimeUpdateExclusions"),
            "settings": [
                self.call("GetAccountSetting", {"name": name})
                for name in ("BASIC_SCAN_TYPE_VERSION", "REGISTRY_POLICY_SCOPE", "BLOB_MOUNTING")
            ],
            "registry": self.call("DescribeRegistry", {}),
        }

    @staticmethod
    def _images(pages, repository):
        found = pages("DescribeImages", "imageDetails", {"repositoryName": repository, "filter": {"imageStatus": "ANY"}})
        # A pull is recorded late, and is no change to the image.
        return [{k: v for k, v in one.items() if k != "lastRecordedPullTime"} for one in found]


@pytest.fixture(scope="module")
def scene(account, signed, registry):
    return Scene(account, signed, registry)


# ---------------------------------------------------------------- valid inputs

EXCLUSIONS = [{"filterType": "WILDCARD", "filter": "dev-*"}, {"filterType": "WILDCARD", "filter": "latest"}]


def _create_repository(scene):
    name = lambda: f"model/{uuid.uuid4().hex}"  # noqa: E731
    yield {"repositoryName": name()}
    yield {"repositoryName": name(), "registryId": scene.account.id}
    yield {"repositoryName": name(), "tags": [{"Key": "a", "Value": ""}, {"Key": "b", "Value": "c d"}]}
    for mutability in ("MUTABLE", "IMMUTABLE"):
        yield {"repositoryName": name(), "imageTagMutability": mutability}
    for mutability in ("IMMUTABLE_WITH_EXCLUSION", "MUTABLE_WITH_EXCLUSION"):
        yield {
            "repositoryName": name(),
            "imageTagMutability": mutability,
            "imageTagMutabilityExclusionFilters": EXCLUSIONS,
        }
    yield {"repositoryName": name(), "imageScanningConfiguration": {"scanOnPush": True}}
    for kind in ("AES256", "KMS", "KMS_DSSE"):
        yield {"repositoryName": name(), "encryptionConfiguration": {"encryptionType": kind}}
    yield {"repositoryName": name(), "noSuchMember": {"is": ["ignored"]}}


def _complete_layer_upload(scene):
    repository = scene.new_repository()["repositoryName"]
    data = images.noise("complete", 5000)
    yield {
        "repositoryName": repository,
        "uploadId": scene.upload(repository, data),
        "layerDigests": [images.sha256(data)],
    }


def _upload_layer_part(scene):
    repository = scene.new_repository()["repositoryName"]
    upload = scene.upload(repository)
    yield scene.part(repository, upload, 0, b"x" * 10)
    yield scene.part(repository, upload, 10, b"y" * 7)


def _put_image(scene):
    repository = scene.new_repository()["repositoryName"]
    one = images.image("put-image")
    scene.registry.push_content(repository, one)
    manifest = {"repositoryName": repository, "imageManifest": one.manifest.decode()}
    yield {**manifest, "imageTag": "v1"}
    yield {**manifest, "imageTag": "v2", "imageManifestMediaType": one.media_type, "imageDigest": one.digest}


def _batch_get_image(scene):
    ids = [
        {"imageTag": "v1"},
        {"imageDigest": scene.index.digest},
        {"imageTag": "v1", "imageDigest": scene.image.digest},
        {"imageTag": "absent"},
        {"imageTag": "v1", "imageDigest": scene.index.digest},
        {"imageDigest": "not a digest"},
        {},
    ]
    yield {"repositoryName": scene.repository, "imageIds": ids}
    yield {
        "repositoryName": scene.repository,
        "imageIds": [{"imageTag": "v1"}],
        "acceptedMediaTypes": [images.DOCKER_MANIFEST],
    }


def _batch_delete_image(scene):
    repository = scene.new_repository()["repositoryName"]
    one, two = images.image("delete-1"), images.index(images.image("delete-2"))
    for tag in ("a", "b", "c"):
        scene.registry.push(repository, one, tag)
    scene.registry.push(repository, two, "index")
    yield {"repositoryName": repository, "imageIds": [{"imageTag": "a"}, {"imageTag": "absent"}, {}]}
    yield {"repositoryName": repository, "imageIds": [{"imageDigest": two.children[0].digest}]}
    yield {"repositoryName": repository, "imageIds": [{"imageDigest": one.digest}, {"imageDigest": "junk"}]}
    yield {"repositoryName": repository, "imageIds": [{"imageTag": "index", "imageDigest": one.digest}]}
    yield {"repositoryName": repository, "imageIds": [{"imageTag": "index"}]}


def _describe_images(scene):
    repository = {"repositoryName": scene.repository}
    yield repository
    yield {**repository, "imageIds": [{"imageTag": "v1"}, {"imageDigest": scene.index.digest}]}
    for tagged in ("TAGGED", "UNTAGGED", "ANY"):
        yield {**repository, "filter": {"tagStatus": tagged}}
    for status in ("ACTIVE", "ARCHIVED", "ACTIVATING", "ANY"):
        yield {**repository, "filter": {"imageStatus": status}}
    first = {**repository, "maxResults": 1}
    yield first
    token = scene.call("DescribeImages", first)["nextToken"]
    yield {**first, "nextToken": token}
    yield {"repositoryName": scene.new_repository()["repositoryName"]}


def _list_images(scene):
    repository = {"repositoryName": scene.repository}
    yield repository
    yield {"repositoryName": scene.new_repository()["repositoryName"]}
    for tagged in ("TAGGED", "UNTAGGED", "ANY"):
        yield {**repository, "filter": {"tagStatus": tagged, "imageStatus": "ANY"}}
    first = {**repository, "maxResults": 2}
    yield first
    yield {**first, "nextToken": scene.call("ListImages", first)["nextToken"]}


def _list_image_referrers(scene):
    subject = {"repositoryName": scene.repository, "subjectId": {"imageDigest": scene.image.digest}}
    yield subject
    yield {**subject, "filter": {"artifactTypes": ["application/vnd.example.signature"], "artifactStatus": "ACTIVE"}}
    yield {**subject, "filter": {"artifactTypes": ["application/x"]}, "maxResults": 50}
    yield {"repositoryName": scene.repository, "subjectId": {"imageDigest": "sha256:" + "0" * 64}}


def _put_image_tag_mutability(scene):
    repository = {"repositoryName": scene.new_repository()["repositoryName"]}
    for mutability in ("IMMUTABLE", "MUTABLE"):
        yield {**repository, "imageTagMutability": mutability}
    for mutability in ("IMMUTABLE_WITH_EXCLUSION", "MUTABLE_WITH_EXCLUSION"):
        yield {
            **repository,
            "imageTagMutability": mutability,
            "imageTagMutabilityExclusionFilters": EXCLUSIONS,
        }


def _delete_repository(scene):
    yield {"repositoryName": scene.new_repository()["repositoryName"]}
    full = scene.new_repository(imageTagMutability="IMMUTABLE")["repositoryName"]
    scene.registry.push(full, images.image("delete-repository"), "v1")
    yield {"repositoryName": full, "force": True, "registryId": scene.account.id}


def _deregister(scene):
    arn = f"arn:aws:iam::{scene.account.id}:role/{uuid.uuid4().hex}"
    scene.call("RegisterPullTimeUpdateExclusion", {"principalArn": arn})
    yield {"principalArn": arn}


LIFECYCLE = json.dumps(
    {
        "rules": [
            {
                "rulePriority": 1,
                "description": "nothing is that old",
                "selection": {
                    "tagStatus": "any",
                    "countType": "sinceImagePushed",
                    "countUnit": "days",
                    "countNumber": 3650,
                },
                "action": {"type": "expire"},
            }
        ]
    }
)


def _policy(scene, registry=False):
    statement = {
        "Sid": "model",
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{scene.account.id}:root"},
        "Action": ["ecr:BatchImportUpstreamImage"] if registry else ["ecr:BatchGetImage"],
    }
    if registry:
        statement["Resource"] = f"arn:aws:ecr:us-east-1:{scene.account.id}:repository/*"
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def _with_repository_policy(scene):
    repository = scene.new_repository()["repositoryName"]
    scene.call("SetRepositoryPolicy", {"repositoryName": repository, "policyText": _policy(scene)})
    return [{"repositoryName": repository}]


def _with_registry_policy(scene):
    scene.call("PutRegistryPolicy", {"policyText": _policy(scene, registry=True)})
    return [{}]


def _with_lifecycle_policy(scene):
    repository = scene.new_repository()["repositoryName"]
    scene.call("PutLifecyclePolicy", {"repositoryName": repository, "lifecyclePolicyText": LIFECYCLE})
    return [{"repositoryName": repository}]


def _lifecycle_preview(scene):
    repository = {"repositoryName": scene.new_repository()["repositoryName"]}
    scene.call("StartLifecyclePolicyPreview", {**repository, "lifecyclePolicyText": LIFECYCLE})
    yield repository
    yield {**repository, "filter": {"tagStatus": "TAGGED"}, "maxResults": 5}
    yield {**repository, "imageIds": [{"imageTag": "v1"}]}


def _update_image_storage_class(scene):
    repository = scene.new_repository()["repositoryName"]
    scene.registry.push(repository, images.image("storage-class"), "v1")
    image = {"repositoryName": repository, "imageId": {"imageTag": "v1"}}
    yield {**image, "targetStorageClass": "ARCHIVE"}
    yield {**image, "targetStorageClass": "STANDARD"}


VALID = {
    "SetRepositoryPolicy": lambda s: [
        {"repositoryName": s.new_repository()["repositoryName"], "policyText": _policy(s), "force": True}
    ],
    "GetRepositoryPolicy": _with_repository_policy,
    "DeleteRepositoryPolicy": _with_repository_policy,
    "PutRegistryPolicy": lambda s: [{"policyText": _policy(s, registry=True)}],
    "GetRegistryPolicy": _with_registry_policy,
    "DeleteRegistryPolicy": _with_registry_policy,
    "PutLifecyclePolicy": lambda s: [
        {"repositoryName": s.new_repository()["repositoryName"], "lifecyclePolicyText": LIFECYCLE}
    ],
    "GetLifecyclePolicy": _with_lifecycle_policy,
    "DeleteLifecyclePolicy": _with_lifecycle_policy,
    "StartLifecyclePolicyPreview": lambda s: [
        {"repositoryName": s.new_repository()["repositoryName"], "lifecyclePolicyText": LIFECYCLE}
    ],
    "GetLifecyclePolicyPreview": _lifecycle_preview,
    "UpdateImageStorageClass": _update_image_storage_class,
    "CreateRepository": _create_repository,
    "DescribeRepositories": lambda s: [
        {},
        {"maxResults": 1},
        {"maxResults": 1, "nextToken": _second_page_of_repositories(s)},
        {"repositoryNames": [s.repository], "registryId": s.account.id},
    ],
    "DeleteRepository": _delete_repository,
    "GetAuthorizationToken": lambda s: [{}, {"registryIds": [s.account.id]}],
    "InitiateLayerUpload": lambda s: [{"repositoryName": s.repository}],
    "UploadLayerPart": _upload_layer_part,
    "CompleteLayerUpload": _complete_layer_upload,
    "BatchCheckLayerAvailability": lambda s: [
        {
            "repositoryName": s.repository,
            "layerDigests": [*s.image.layer_digests, s.image.config_digest, "sha256:" + "0" * 64, "junk", ""],
        }
    ],
    "GetDownloadUrlForLayer": lambda s: [{"repositoryName": s.repository, "layerDigest": s.image.layer_digests[0]}],
    "PutImage": _put_image,
    "BatchGetImage": _batch_get_image,
    "BatchDeleteImage": _batch_delete_image,
    "DescribeImages": _describe_images,
    "ListImages": _list_images,
    "ListImageReferrers": _list_image_referrers,
    "PutImageTagMutability": _put_image_tag_mutability,
    "TagResource": lambda s: [
        {"resourceArn": s.new_repository()["repositoryArn"], "tags": [{"Key": "k", "Value": "v"}]},
        {"resourceArn": s.new_repository()["repositoryArn"], "tags": []},
    ],
    "UntagResource": lambda s: [
        {
            "resourceArn": s.new_repository(tags=[{"Key": "k", "Value": "v"}])["repositoryArn"],
            "tagKeys": ["k", "absent"],
        }
    ],
    "ListTagsForResource": lambda s: [{"resourceArn": s.arn()}, {"resourceArn": s.new_repository()["repositoryArn"]}],
    "DescribeRegistry": lambda s: [{}],
    "GetAccountSetting": lambda s: [
        {"name": name} for name in ("BASIC_SCAN_TYPE_VERSION", "REGISTRY_POLICY_SCOPE", "BLOB_MOUNTING")
    ],
    "PutAccountSetting": lambda s: [
        {"name": "BASIC_SCAN_TYPE_VERSION", "value": "AWS_NATIVE"},
        {"name": "REGISTRY_POLICY_SCOPE", "value": "V2"},
        {"name": "BLOB_MOUNTING", "value": "DISABLED"},
        {"name": "BLOB_MOUNTING", "value": "ENABLED"},
    ],
    "RegisterPullTimeUpdateExclusion": lambda s: [
        {"principalArn": f"arn:aws:iam::{s.account.id}:{kind}/path/{uuid.uuid4().hex}"} for kind in ("role", "user")
    ],
    "DeregisterPullTimeUpdateExclusion": _deregister,
    "ListPullTimeUpdateExclusions": lambda s: [{}, {"maxResults": 1000}],
}


def _second_page_of_repositories(scene):
    scene.new_repository()
    return scene.call("DescribeRepositories", {"maxResults": 1})["nextToken"]


def test_the_tables_here_cover_the_whole_model():
    assert len(ALL) == 62, f"the model has {len(ALL)} operations now: {ALL}"
    assert BUILT <= set(ALL)
    assert set(VALID) == BUILT


@pytest.mark.parametrize("operation", ALL)
def test_the_bad_inputs_are_bad_and_the_good_ones_good(operation):
    shape = service("ecr").operation_model(operation).input_shape
    good = smallest_input(shape)
    assert validate(shape, good) == []
    exempt = {name for name, member in shape.members.items() if member.name in UNBOUNDED_IN_ANSWERS}
    for what, body in bad_inputs(shape, good):
        judged = not any(what.startswith(f"input.{name} ") for name in exempt) and "64 bits" not in what
        assert not judged or validate(shape, body), f"{operation} allows it: {what}"


@pytest.mark.parametrize("operation", sorted(BUILT))
def test_answers_fit_the_model(operation, scene):
    answered = 0
    for body in VALID[operation](scene):
        scene.call(operation, body)
        answered += 1
    assert answered, f"no valid input for {operation}"


@pytest.mark.parametrize("operation", NOT_BUILT)
def test_an_operation_not_built_yet_says_so(operation, scene):
    body = smallest_input(service("ecr").operation_model(operation).input_shape)
    expect_error(scene.signed.call(operation, body), "ecr", operation, "NotImplementedException")


# ---------------------------------------------------------------- invalid inputs


def _base_for_bad_inputs(operation, scene):
    """A good input to spoil; it names things that exist, so that only the spoiled part can be the reason."""
    if operation not in BUILT:
        return smallest_input(service("ecr").operation_model(operation).input_shape)
    fixed = {
        "CreateRepository": {
            "repositoryName": "model/never",
            "tags": [{"Key": "k", "Value": "v"}],
            "imageTagMutability": "MUTABLE_WITH_EXCLUSION",
            "imageTagMutabilityExclusionFilters": EXCLUSIONS[:1],
        },
        "DeleteRepository": {"repositoryName": scene.repository, "force": True},
        "BatchDeleteImage": {"repositoryName": scene.repository, "imageIds": [{"imageTag": "absent"}]},
        "BatchGetImage": {"repositoryName": scene.repository, "imageIds": [{"imageTag": "absent"}]},
        "PutImage": {
            "repositoryName": scene.repository,
            "imageManifest": scene.signature.manifest.decode(),
            "imageTag": "moved",
        },
        "TagResource": {"resourceArn": scene.arn(), "tags": [{"Key": "spoiled", "Value": "v"}]},
        "UntagResource": {"resourceArn": scene.arn(), "tagKeys": ["team"]},
        "PutImageTagMutability": {
            "repositoryName": scene.repository,
            "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION",
            "imageTagMutabilityExclusionFilters": EXCLUSIONS[:1],
        },
        "PutAccountSetting": {"name": "BLOB_MOUNTING", "value": "DISABLED"},
        "RegisterPullTimeUpdateExclusion": {"principalArn": f"arn:aws:iam::{scene.account.id}:role/never"},
    }
    return fixed.get(operation) or list(VALID[operation](scene))[0]


@pytest.mark.parametrize("operation", ALL)
def test_inputs_the_model_forbids_are_refused_and_change_nothing(operation, scene):
    shape = service("ecr").operation_model(operation).input_shape
    base = _base_for_bad_inputs(operation, scene)
    before = scene.state()
    complaints, sent = [], 0
    for what, body in bad_inputs(shape, base):
        sent += 1
        answer = scene.signed.call(operation, body)
        try:
            if answer.status == 200 and operation in ENTRY_BY_ENTRY:
                assert expect_success(answer, "ecr", operation).get("failures"), f"accepted: {answer}"
            else:
                expect_error(answer, "ecr", operation)
        except AssertionError as complaint:
            complaints.append(f"* {what}: {str(complaint)[:700]}")
    assert not complaints, f"{len(complaints)} of {sent} bad inputs:\n" + "\n".join(complaints)
    assert scene.state() == before, f"a refused {operation} changed something"
    assert sent or not shape.members, f"nothing to spoil in {operation}"


NOT_A_REQUEST = {
    "an empty body": b"",
    "cut JSON": b'{"repositoryName": "model/ne',
    "no JSON at all": b"repositoryName=model/never",
    "a list": b"[]",
    "a string": b'"model/never"',
    "a number": b"7",
    "null": b"null",
    "two documents": b'{"repositoryName":"model/never"} {}',
    "a trailing comma": b'{"repositoryName":"model/never",}',
    "bytes that are not UTF-8": b'{"repositoryName":"model/\xff\xfe"}',
    "a lone surrogate": b'{"repositoryName":"model/\\ud800"}',
    "a NUL": b'{"repositoryName":"model/\\u0000"}',
    "100,000 open lists": b'{"repositoryName":' + b"[" * 100_000,
    "100,000 nested objects in an unknown member": b'{"x":' * 100_000 + b"1" + b"}" * 100_000,
    "a UTF-16 body": '{"repositoryName":"model/never"}'.encode("utf-16"),
}


@pytest.mark.parametrize("what", NOT_A_REQUEST)
@pytest.mark.parametrize("operation", ["CreateRepository", "PutLifecyclePolicy"])
def test_a_body_that_is_no_request_is_refused(operation, what, scene):
    before = scene.state()
    expect_error(scene.signed.call(operation, NOT_A_REQUEST[what]), "ecr", operation)
    assert scene.state() == before


@pytest.mark.parametrize("operation", ["NoSuchOperation", "", "createrepository", "CreateRepository.x"])
def test_an_operation_no_model_knows(operation, scene):
    expect_error(scene.signed.call(operation, {}), "ecr", operation, "UnknownOperationException")


@pytest.mark.parametrize(
    "target",
    [
        "NoSuchService_V1.CreateRepository",
        "CreateRepository",
        "AmazonEC2ContainerRegistry_V20150920.CreateRepository",
        ".",
        "a" * 3000,
    ],
)
def test_a_target_no_service_has(target, scene):
    before = scene.state()
    answer = scene.signed.post(b'{"repositoryName":"model/never"}', {"Content-Type": JSON_TYPE, "X-Amz-Target": target})
    assert 400 <= answer.status < 500, f"{answer}"
    assert answer.json.get("__type"), f"an error needs a __type: {answer}"
    assert scene.state() == before


@pytest.mark.parametrize(
    "content_type", ["application/x-www-form-urlencoded", "text/plain", "application/json", "application/x-amz-json-1.0"]
)
def test_another_content_type_is_never_a_server_fault(content_type, scene):
    answer = scene.signed.call("DescribeRegistry", {}, content_type=content_type)
    assert answer.status < 500, f"{answer}"
    if answer.status == 200:
        expect_success(answer, "ecr", "DescribeRegistry")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_another_method_is_never_a_server_fault(method, server, scene):
    before = scene.state()
    headers = {"Content-Type": JSON_TYPE, "X-Amz-Target": f"{ECR_TARGET}.CreateRepository"}
    answer = send(server.endpoint, method, "/", headers, b'{"repositoryName":"model/never"}')
    assert answer.status < 500, f"{answer}"
    assert scene.state() == before


def test_a_body_beyond_the_limit_is_refused(scene):
    before = scene.state()
    body = b'{"repositoryName":"model/never","x":"' + b"a" * (40 << 20) + b'"}'
    answer = scene.signed.call("CreateRepository", body)
    assert answer.status in (400, 413), f"{answer}"
    assert scene.state() == before


def test_without_a_signature_nothing_is_parsed(server):
    headers = {"Content-Type": JSON_TYPE, "X-Amz-Target": f"{ECR_TARGET}.CreateRepository"}
    for body in (b"{}", b"junk", b'{"repositoryName":"model/never"}'):
        answer = send(server.endpoint, "POST", "/", headers, body)
        expect_error(answer, "ecr", "CreateRepository", "MissingAuthenticationTokenException")


# ---------------------------------------------------------------- KMS, the smallest part


class Keys:
    def __init__(self, server, account):
        self.signed = Signed(server.endpoint, account, service="kms")

    def raw(self, operation, body):
        return self.signed.call(operation, body, target=KMS_TARGET)

    def call(self, operation, body=None):
        return expect_success(self.raw(operation, body or {}), "kms", operation)

    def new(self):
        return self.call("CreateKey", {"Description": "for tests"})["KeyMetadata"]


@pytest.fixture(scope="module")
def keys(server, account):
    return Keys(server, account)


def _alias():
    return f"alias/{uuid.uuid4().hex}"


def _existing_alias(keys):
    name = _alias()
    keys.call("CreateAlias", {"AliasName": name, "TargetKeyId": keys.new()["KeyId"]})
    return name


def _scheduled(keys):
    key = keys.new()["KeyId"]
    keys.call("ScheduleKeyDeletion", {"KeyId": key, "PendingWindowInDays": 7})
    return key


def _disabled(keys):
    key = keys.new()["KeyId"]
    keys.call("DisableKey", {"KeyId": key})
    return key


KMS_VALID = {
    "CreateKey": lambda k: [{}, {"Description": "d", "Tags": [{"TagKey": "a", "TagValue": "b"}]}],
    "DescribeKey": lambda k: [{"KeyId": k.new()["KeyId"]}, {"KeyId": k.new()["Arn"]}, {"KeyId": _existing_alias(k)}],
    "ListKeys": lambda k: [{}, {"Limit": 1}],
    "CreateAlias": lambda k: [{"AliasName": _alias(), "TargetKeyId": k.new()["KeyId"]}],
    "DeleteAlias": lambda k: [{"AliasName": _existing_alias(k)}],
    "ListAliases": lambda k: [{}, {"KeyId": k.new()["KeyId"]}],
    "EnableKey": lambda k: [{"KeyId": _disabled(k)}],
    "DisableKey": lambda k: [{"KeyId": k.new()["KeyId"]}],
    "ScheduleKeyDeletion": lambda k: [{"KeyId": k.new()["KeyId"], "PendingWindowInDays": 7}, {"KeyId": k.new()["Arn"]}],
    "CancelKeyDeletion": lambda k: [{"KeyId": _scheduled(k)}],
    "GetKeyPolicy": lambda k: [{"KeyId": k.new()["KeyId"], "PolicyName": "default"}, {"KeyId": k.new()["KeyId"]}],
    "GetKeyRotationStatus": lambda k: [{"KeyId": k.new()["KeyId"]}],
    "ListResourceTags": lambda k: [{"KeyId": k.new()["KeyId"]}],
}


@pytest.mark.parametrize("operation", sorted(KMS_VALID))
def test_kms_answers_fit_the_model(operation, keys):
    for body in KMS_VALID[operation](keys):
        keys.call(operation, body)


@pytest.mark.parametrize("operation", sorted(KMS_VALID))
def test_kms_refuses_what_the_model_forbids(operation, keys):
    shape = service("kms").operation_model(operation).input_shape
    base = {k: v for k, v in KMS_VALID[operation](keys)[0].items() if k in shape.required_members}
    complaints, sent = [], 0
    for what, body in bad_inputs(shape, base):
        # Only what this small service reads: the members every caller must give.
        if not any(what.startswith(f"input.{name}") for name in shape.required_members):
            continue
        sent += 1
        try:
            expect_error(keys.raw(operation, body), "kms", operation)
        except AssertionError as complaint:
            complaints.append(f"* {what}: {str(complaint)[:500]}")
    assert not complaints, "\n".join(complaints)
    assert sent or not shape.required_members, f"nothing to spoil in {operation}"


@pytest.mark.parametrize("operation", ["DescribeKey", "DisableKey", "EnableKey", "GetKeyPolicy", "ListResourceTags"])
def test_kms_does_not_find_an_absent_key(operation, keys):
    answer = keys.raw(operation, {"KeyId": str(uuid.uuid4())})
    expect_error(answer, "kms", operation, "NotFoundException")


def test_a_kms_operation_beyond_the_small_part_is_refused(keys):
    answer = keys.raw("Encrypt", {"KeyId": str(uuid.uuid4()), "Plaintext": "eA=="})
    assert answer.status == 400, f"{answer}"
    assert answer.json["__type"].split("#")[-1] in ("NotImplementedException", "UnknownOperationException"), f"{answer}"


# ---------------------------------------------------------------- STS: form in, XML out

STS = "{https://sts.amazonaws.com/doc/2011-06-15/}"
FORM = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}


@pytest.fixture(scope="module")
def sts(server, account):
    return Signed(server.endpoint, account, service="sts")


def test_sts_get_caller_identity_fits_the_model(sts, account):
    answer = sts.post(b"Action=GetCallerIdentity&Version=2011-06-15", FORM).expect(200)
    assert answer.headers["Content-Type"].startswith("text/xml"), f"{answer}"
    root = ElementTree.fromstring(answer.body)
    assert root.tag == f"{STS}GetCallerIdentityResponse", f"{answer}"
    result = root.find(f"{STS}GetCallerIdentityResult")
    members = {child.tag.removeprefix(STS): child.text for child in result}
    expected = set(service("sts").operation_model("GetCallerIdentity").output_shape.members)
    assert set(members) == expected, f"{answer}"
    assert members["Account"] == account.id
    assert members["Arn"] == f"arn:aws:iam::{account.id}:root"
    assert members["UserId"] == account.id, "the root user's id is the account's"
    assert root.findtext(f"{STS}ResponseMetadata/{STS}RequestId"), f"no request id: {answer}"


@pytest.mark.parametrize(
    "body, code",
    [
        (b"Action=NoSuchAction&Version=2011-06-15", "InvalidAction"),
        (b"Action=GetCallerIdentity&Version=1999-01-01", "InvalidAction"),
        (b"Version=2011-06-15", "MissingAction"),
        (b"Action=AssumeRoleWithSAML&Version=2011-06-15", None),
        (b"%zz=%&&&==", None),
        (b"", None),
        (b"\xff\xfe\x00", None),
    ],
)
def test_sts_refuses_in_xml(sts, body, code):
    answer = sts.post(body, FORM)
    assert 400 <= answer.status < 500, f"{answer}"
    if code and answer.body.lstrip().startswith(b"<"):
        root = ElementTree.fromstring(answer.body)
        found = next((e.text for e in root.iter() if e.tag.endswith("Code")), None)
        assert found in (code, "InvalidAction"), f"{answer}"


def test_errors_of_the_whole_are_json_with_a_message(scene):
    answer = scene.signed.call("DescribeImages", {"repositoryName": "model/absent"})
    body = expect_error(answer, "ecr", "DescribeImages", "RepositoryNotFoundException")
    assert body["message"] == (
        f"The repository with name 'model/absent' does not exist in the registry with id '{scene.account.id}'"
    )
    assert json.loads(answer.body) == body
