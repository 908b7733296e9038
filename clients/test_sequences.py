"""Both faces are one registry: what one does, the other shows at once, and neither gets around a rule of the other."""

import base64
import hashlib
import json
import urllib.parse

import pytest
from botocore.exceptions import ClientError

from harness import http, images
from harness.images import OCI_INDEX, OCI_MANIFEST


def push_by_api(ecr, repository, image, tag=None):
    """The three-step upload of each blob, then PutImage: what a client without docker does."""
    for digest, data in image.blobs.items():
        check = ecr.batch_check_layer_availability(repositoryName=repository, layerDigests=[digest])
        if check["layers"][0]["layerAvailability"] == "AVAILABLE":
            continue
        upload = {"repositoryName": repository, "uploadId": ecr.initiate_layer_upload(repositoryName=repository)["uploadId"]}
        ecr.upload_layer_part(partFirstByte=0, partLastByte=len(data) - 1, layerPartBlob=data, **upload)
        ecr.complete_layer_upload(layerDigests=[digest], **upload)
    more = {"imageTag": tag} if tag else {}
    return ecr.put_image(repositoryName=repository, imageManifest=image.manifest.decode(), **more)["image"]


def described(ecr, repository, **more):
    return {d["imageDigest"]: d for d in ecr.describe_images(repositoryName=repository, **more)["imageDetails"]}


def listed(ecr, repository, **more):
    return {(i["imageDigest"], i.get("imageTag")) for i in ecr.list_images(repositoryName=repository, **more)["imageIds"]}


# ---------------------------------------------------------------- one face writes, the other reads


def test_pushed_by_docker_seen_by_api(ecr, registry, repository, account):
    one = images.image("by-docker", layers=3)
    registry.push(repository, one, "v1")
    (detail,) = ecr.describe_images(repositoryName=repository)["imageDetails"]
    assert detail["registryId"] == account.id and detail["repositoryName"] == repository
    assert detail["imageDigest"] == one.digest and detail["imageTags"] == ["v1"]
    assert detail["imageSizeInBytes"] == one.size_in_bytes
    assert detail["imageManifestMediaType"] == OCI_MANIFEST
    assert detail["artifactMediaType"] == images.OCI_CONFIG
    assert detail["imageStatus"] == "ACTIVE"
    (got,) = ecr.batch_get_image(repositoryName=repository, imageIds=[{"imageTag": "v1"}])["images"]
    assert got["imageManifest"].encode() == one.manifest, "bytes in, same bytes out"
    assert got["imageId"] == {"imageDigest": one.digest, "imageTag": "v1"}


def test_put_by_api_pulled_by_docker(ecr, registry, repository):
    one = images.image("by-api", layers=2)
    answer = push_by_api(ecr, repository, one, "v1")
    assert answer["imageId"] == {"imageDigest": one.digest, "imageTag": "v1"}
    for reference in ("v1", one.digest):
        got = registry.manifest(repository, reference).expect(200)
        assert got.body == one.manifest and got.headers["Docker-Content-Digest"] == one.digest
        assert got.headers["Content-Type"] == one.media_type
    for digest, data in one.blobs.items():
        assert registry.blob(repository, digest).expect(200).body == data
    assert registry.tags(repository).expect(200).json == {"name": repository, "tags": ["v1"]}


def test_an_api_upload_in_parts(ecr, registry, repository):
    data = images.noise("parts", (5 << 20) + 12345)
    upload = {"repositoryName": repository, "uploadId": ecr.initiate_layer_upload(repositoryName=repository)["uploadId"]}
    first = data[: 5 << 20]
    ecr.upload_layer_part(partFirstByte=0, partLastByte=len(first) - 1, layerPartBlob=first, **upload)
    ecr.upload_layer_part(
        partFirstByte=len(first), partLastByte=len(data) - 1, layerPartBlob=data[len(first) :], **upload
    )
    ecr.complete_layer_upload(layerDigests=[images.sha256(data)], **upload)
    assert registry.blob(repository, images.sha256(data)).expect(200).body == data


def test_the_download_url_works_by_itself(ecr, registry, repository):
    one = images.image("download")
    registry.push(repository, one, "v1")
    answer = ecr.get_download_url_for_layer(repositoryName=repository, layerDigest=one.layer_digests[0])
    url = urllib.parse.urlsplit(answer["downloadUrl"])
    endpoint, target = f"{url.scheme}://{url.netloc}", url.path + (f"?{url.query}" if url.query else "")
    data = one.blobs[one.layer_digests[0]]
    assert http.send(endpoint, "GET", target).expect(200).body == data
    part = http.send(endpoint, "GET", target, {"Range": "bytes=10-19"}).expect(206)
    assert part.body == data[10:20]
    middle = len(url.path) // 2
    other = "A" if target[middle] != "A" else "B"
    for wrong in (target[:middle] + other + target[middle + 1 :], url.path[:-4], url.path.rsplit("/", 1)[0]):
        assert http.send(endpoint, "GET", wrong).status in (400, 401, 403, 404), wrong


def test_a_tag_moves_and_the_old_image_stays(ecr, registry, repository):
    old, new = images.image("moves-old"), images.image("moves-new")
    registry.push(repository, old, "v1")
    push_by_api(ecr, repository, new, "v1")
    assert listed(ecr, repository) == {(old.digest, None), (new.digest, "v1")}
    assert registry.manifest(repository, "v1").expect(200).body == new.manifest
    assert registry.manifest(repository, old.digest).expect(200).body == old.manifest


def test_one_image_with_many_tags(ecr, registry, repository):
    one = images.image("many-tags")
    for tag in ("a", "b"):
        registry.push(repository, one, tag)
    ecr.put_image(repositoryName=repository, imageManifest=one.manifest.decode(), imageTag="c")
    assert sorted(described(ecr, repository)[one.digest]["imageTags"]) == ["a", "b", "c"]
    assert sorted(registry.tags(repository).json["tags"]) == ["a", "b", "c"]
    assert listed(ecr, repository) == {(one.digest, tag) for tag in "abc"}


# ---------------------------------------------------------------- deletion


def test_deleted_by_api_gone_for_docker(ecr, registry, repository):
    one = images.image("api-deletes")
    for tag in ("a", "b"):
        registry.push(repository, one, tag)
    ecr.batch_delete_image(repositoryName=repository, imageIds=[{"imageTag": "a"}])
    assert registry.manifest(repository, "a").status == 404
    registry.manifest(repository, "b").expect(200)
    answer = ecr.batch_delete_image(repositoryName=repository, imageIds=[{"imageTag": "b"}])
    assert answer["imageIds"] == [{"imageDigest": one.digest, "imageTag": "b"}]
    for reference in ("b", one.digest):
        assert registry.manifest(repository, reference).status == 404, "the last tag takes the image with it"


def test_deleted_by_digest_takes_all_tags(ecr, registry, repository):
    one, two = images.image("digest-deletes-1"), images.image("digest-deletes-2")
    for tag in ("a", "b"):
        registry.push(repository, one, tag)
    registry.push(repository, two)
    answer = ecr.batch_delete_image(
        repositoryName=repository, imageIds=[{"imageDigest": one.digest}, {"imageDigest": two.digest}]
    )
    got = {(i["imageDigest"], i.get("imageTag")) for i in answer["imageIds"]}
    assert got == {(one.digest, "a"), (one.digest, "b"), (two.digest, None)}
    assert listed(ecr, repository) == set()


def test_deleted_by_docker_gone_for_the_api(ecr, registry, repository):
    one = images.image("docker-deletes")
    for tag in ("a", "b"):
        registry.push(repository, one, tag)
    registry.request("DELETE", f"/v2/{repository}/manifests/a").expect(202)
    assert listed(ecr, repository) == {(one.digest, "b")}
    registry.request("DELETE", f"/v2/{repository}/manifests/{one.digest}").expect(202)
    assert listed(ecr, repository) == set()


def test_children_go_after_their_index(ecr, registry, repository):
    several = images.index(images.image("children-1"), images.image("children-2"))
    registry.push(repository, several, "multi")
    children = [{"imageDigest": child.digest} for child in several.children]
    failures = ecr.batch_delete_image(repositoryName=repository, imageIds=children)["failures"]
    assert [f["failureCode"] for f in failures] == ["ImageReferencedByManifestList"] * 2
    ecr.batch_delete_image(repositoryName=repository, imageIds=[{"imageDigest": several.digest}])
    assert listed(ecr, repository) == {(child.digest, None) for child in several.children}
    assert ecr.batch_delete_image(repositoryName=repository, imageIds=children)["failures"] == []
    assert listed(ecr, repository) == set()


def test_a_repository_is_emptied_by_force(ecr, registry, repository):
    one = images.image("force")
    registry.push(repository, one, "v1")
    ecr.delete_repository(repositoryName=repository, force=True)
    assert registry.manifest(repository, "v1").status == 404
    ecr.create_repository(repositoryName=repository)
    assert listed(ecr, repository) == set()
    assert registry.blob(repository, one.config_digest).status == 404, "a new repository holds no old layers"
    registry.push(repository, one, "v1")
    assert registry.manifest(repository, "v1").expect(200).body == one.manifest


# ---------------------------------------------------------------- immutability

MODES = {  # mode: (may `dev-1` move, may `v1` move), with the filter dev-*
    "MUTABLE": (True, True),
    "IMMUTABLE": (False, False),
    "IMMUTABLE_WITH_EXCLUSION": (True, False),
    "MUTABLE_WITH_EXCLUSION": (False, True),
}


@pytest.mark.parametrize("mode", MODES)
def test_immutability_holds_on_both_faces(mode, ecr, registry, repository):
    first, second = images.image("immutable-1"), images.image("immutable-2")
    filters = [{"filterType": "WILDCARD", "filter": "dev-*"}]
    more = {"imageTagMutabilityExclusionFilters": filters} if mode.endswith("EXCLUSION") else {}
    for tag in ("dev-1", "v1"):
        registry.push(repository, first, tag)
    registry.push_content(repository, second)
    ecr.put_image_tag_mutability(repositoryName=repository, imageTagMutability=mode, **more)

    for tag, movable in zip(("dev-1", "v1"), MODES[mode], strict=True):
        registry.put_manifest(repository, first, tag).expect(201)  # the same image again is no move
        by_docker = registry.put_manifest(repository, second, tag).status
        assert by_docker == (201 if movable else 400), f"{mode} {tag} by docker: {by_docker}"
        try:
            ecr.put_image(repositoryName=repository, imageManifest=second.manifest.decode(), imageTag=tag)
            by_api = "moved"
        except ClientError as error:
            by_api = error.response["Error"]["Code"]
        assert by_api == ("ImageAlreadyExistsException" if movable else "ImageTagAlreadyExistsException"), (mode, tag)
        ecr.batch_delete_image(repositoryName=repository, imageIds=[{"imageTag": tag}])
        registry.push(repository, second, tag)  # deletion and a new start are always allowed


# ---------------------------------------------------------------- filters, referrers, pull times


def test_tag_filters(ecr, registry, repository):
    tagged, untagged = images.image("filter-1"), images.image("filter-2")
    registry.push(repository, tagged, "v1")
    registry.push(repository, untagged)
    for status, expected in [
        ("TAGGED", {tagged.digest}),
        ("UNTAGGED", {untagged.digest}),
        ("ANY", {tagged.digest, untagged.digest}),
    ]:
        chosen = {"filter": {"tagStatus": status}}
        assert set(described(ecr, repository, **chosen)) == expected, status
        assert {digest for digest, _ in listed(ecr, repository, **chosen)} == expected, status
    assert described(ecr, repository, filter={"imageStatus": "ARCHIVED"}) == {}
    assert "imageTags" not in described(ecr, repository)[untagged.digest]


def test_referrers_are_the_same_on_both_faces(ecr, registry, repository):
    one = images.image("subject")
    registry.push(repository, one, "v1")
    sbom = images.artifact("sbom", "application/vnd.example.sbom", subject=one, annotations={"a": "b"})
    signature = images.artifact("signature", "application/vnd.example.signature", subject=one)
    answer = registry.push(repository, sbom)
    assert answer.headers["OCI-Subject"] == one.digest
    push_by_api(ecr, repository, signature)

    by_docker = registry.request("GET", f"/v2/{repository}/referrers/{one.digest}").expect(200)
    assert by_docker.headers["Content-Type"] == OCI_INDEX
    by_api = ecr.list_image_referrers(repositoryName=repository, subjectId={"imageDigest": one.digest})["referrers"]
    wanted = {sbom.digest: "application/vnd.example.sbom", signature.digest: "application/vnd.example.signature"}
    assert {d["digest"]: d["artifactType"] for d in by_docker.json["manifests"]} == wanted
    assert {r["digest"]: r["artifactType"] for r in by_api} == wanted
    for found in (next(d for d in by_docker.json["manifests"] if d["digest"] == sbom.digest),
                  next(r for r in by_api if r["digest"] == sbom.digest)):
        assert found["annotations"] == {"a": "b"} and found["size"] == len(sbom.manifest)

    only = "application/vnd.example.sbom"
    filtered = registry.request("GET", f"/v2/{repository}/referrers/{one.digest}?artifactType={only}").expect(200)
    assert filtered.headers["OCI-Filters-Applied"] == "artifactType"
    assert [d["digest"] for d in filtered.json["manifests"]] == [sbom.digest]
    chosen = {"filter": {"artifactTypes": [only]}}
    by_api = ecr.list_image_referrers(repositoryName=repository, subjectId={"imageDigest": one.digest}, **chosen)
    assert [r["digest"] for r in by_api["referrers"]] == [sbom.digest]
    detail = described(ecr, repository)[sbom.digest]
    assert detail["subjectManifestDigest"] == one.digest and detail["artifactMediaType"] == only


def test_a_pull_is_recorded_unless_excluded(ecr, registry, repository, account):
    from harness.process import wait_until

    one = images.image("pull-time")
    registry.push(repository, one, "v1")
    assert "lastRecordedPullTime" not in described(ecr, repository)[one.digest]
    registry.manifest(repository, "v1").expect(200)
    wait_until(lambda: "lastRecordedPullTime" in described(ecr, repository)[one.digest], "the recorded pull time")


def test_index_sizes(ecr, registry, repository):
    small, large = images.image("index-small"), images.image("index-large", layers=4)
    several = images.index(small, large)
    registry.push(repository, several, "multi")
    detail = described(ecr, repository)[several.digest]
    assert detail["imageSizeInBytes"] == max(small.size_in_bytes, large.size_in_bytes)
    assert detail["imageManifestMediaType"] == OCI_INDEX


def test_accepted_media_types_convert_by_tag_only(ecr, registry, repository):
    one = images.image("convert", layers=2)
    registry.push(repository, one, "v1")
    accepted = {"acceptedMediaTypes": [images.DOCKER_MANIFEST]}
    (by_tag,) = ecr.batch_get_image(repositoryName=repository, imageIds=[{"imageTag": "v1"}], **accepted)["images"]
    assert by_tag["imageManifestMediaType"] == images.DOCKER_MANIFEST
    converted = json.loads(by_tag["imageManifest"])
    assert [layer["digest"] for layer in converted["layers"]] == one.layer_digests
    assert {layer["mediaType"] for layer in converted["layers"]} == {images.DOCKER_LAYER}
    ids = [{"imageDigest": one.digest}]
    (by_digest,) = ecr.batch_get_image(repositoryName=repository, imageIds=ids, **accepted)["images"]
    assert by_digest["imageManifest"].encode() == one.manifest


# ---------------------------------------------------------------- the OCI face by itself


def test_range_and_conditional_requests(registry, repository):
    one = images.image("ranges", layer_size=200_000)
    registry.push(repository, one, "v1")
    digest = one.layer_digests[0]
    data = one.blobs[digest]
    for spec, expected in [("0-0", data[:1]), ("65530-65550", data[65530:65551]), ("100000-", data[100000:]), ("-7", data[-7:])]:
        answer = registry.blob(repository, digest, {"Range": f"bytes={spec}"}).expect(206)
        assert answer.body == expected, spec
        assert answer.headers["Content-Range"].endswith(f"/{len(data)}")
    registry.blob(repository, digest, {"Range": f"bytes={len(data)}-"}).expect(416)
    head = registry.request("HEAD", f"/v2/{repository}/blobs/{digest}").expect(200)
    assert head.headers["Content-Length"] == str(len(data)) and head.headers["Docker-Content-Digest"] == digest
    for path in (f"manifests/{one.digest}", "manifests/v1", f"blobs/{digest}"):
        etag = registry.request("GET", f"/v2/{repository}/{path}").expect(200).headers["ETag"]
        unchanged = registry.request("GET", f"/v2/{repository}/{path}", {"If-None-Match": etag}).expect(304)
        assert unchanged.body == b""


def test_sha512_digests(ecr, registry, repository):
    data = b"counted with sha512"
    digest = "sha512:" + hashlib.sha512(data).hexdigest()
    registry.push_blob(repository, data, digest)
    answer = registry.blob(repository, digest).expect(200)
    assert answer.body == data and answer.headers["Docker-Content-Digest"] == digest
    spoiled = "sha512:" + hashlib.sha512(b"other").hexdigest()
    location = registry.start_upload(repository).expect(202).headers["Location"]
    assert registry.request("PUT", f"{location}?digest={spoiled}", body=data).status == 400


def test_whole_blob_in_one_post(registry, repository):
    data = b"in one post"
    answer = registry.request("POST", f"/v2/{repository}/blobs/uploads/?digest={images.sha256(data)}", body=data)
    assert answer.expect(201).headers["Docker-Content-Digest"] == images.sha256(data)
    assert registry.blob(repository, images.sha256(data)).expect(200).body == data


def test_an_upload_is_cancelled(registry, repository):
    location = registry.start_upload(repository).expect(202).headers["Location"]
    registry.request("GET", location).expect(204)
    registry.request("DELETE", location).expect(204)
    registry.request("GET", location).expect(404)


def test_a_blob_is_deleted(registry, repository):
    data = b"to be deleted"
    registry.push_blob(repository, data)
    registry.request("DELETE", f"/v2/{repository}/blobs/{images.sha256(data)}").expect(202)
    registry.blob(repository, images.sha256(data)).expect(404)
    registry.push_blob(repository, data)
    registry.blob(repository, images.sha256(data)).expect(200)


def test_mounting_follows_the_account_setting(ecr, registry, repository, unique):
    other = f"tests/mount-target-{unique()}"
    ecr.create_repository(repositoryName=other)
    one = images.image("mount")
    registry.push(repository, one, "v1")
    mount = f"?mount={one.config_digest}&from={repository}"
    try:
        ecr.put_account_setting(name="BLOB_MOUNTING", value="DISABLED")
        registry.start_upload(other, mount).expect(202)
    finally:
        ecr.put_account_setting(name="BLOB_MOUNTING", value="ENABLED")
    answer = registry.start_upload(other, mount).expect(201)
    assert answer.headers["Docker-Content-Digest"] == one.config_digest
    assert registry.blob(other, one.config_digest).expect(200).body == one.blobs[one.config_digest]
    registry.start_upload(other, f"?mount={one.layer_digests[0]}&from=tests/absent").expect(202)


# ---------------------------------------------------------------- pages


def follow(registry, path, key):
    """Pages by Link header to the end."""
    found, pages = [], 0
    while path:
        answer = registry.request("GET", path).expect(200)
        found += answer.json[key]
        pages += 1
        link = answer.headers.get("Link")
        if link is None:
            return found, pages
        assert link.endswith('; rel="next"'), link
        path = link[1 : link.index(">")]


def test_docker_pages(ecr, registry, repository):
    one = images.image("pages")
    tags = [f"t{i:02}" for i in range(7)]
    for tag in tags:
        registry.push(repository, one, tag)
    found, pages = follow(registry, f"/v2/{repository}/tags/list?n=3", "tags")
    assert sorted(found) == tags and len(found) == len(tags) and pages == 3
    everything, _ = follow(registry, "/v2/_catalog?n=2", "repositories")
    assert repository in everything and len(everything) == len(set(everything))


def test_boto3_paginators(ecr, registry, repository, account, unique):
    subject = images.image("paginate")
    registry.push(repository, subject, "t0")
    for i in range(1, 5):
        registry.push(repository, images.image(f"paginate-{i}"), f"t{i}")
        registry.push(repository, images.artifact(f"paginate-{i}", subject=subject))
        ecr.create_repository(repositoryName=f"tests/paginate-{unique()}")
        ecr.register_pull_time_update_exclusion(principalArn=f"arn:aws:iam::{account.id}:role/paginate-{unique()}")

    def collect(operation, key, size, **arguments):
        pages = list(ecr.get_paginator(operation).paginate(PaginationConfig={"PageSize": size}, **arguments))
        assert all(len(page[key]) <= size for page in pages)
        assert len(pages) >= 2, f"{operation} gave one page of {len(pages[0][key])}"
        return [json.dumps(item, default=str, sort_keys=True) for page in pages for item in page[key]]

    in_repository = {"repositoryName": repository}
    for operation, key, expected, arguments in [
        ("describe_repositories", "repositories", None, {}),
        ("list_images", "imageIds", 9, in_repository),
        ("describe_images", "imageDetails", 9, in_repository),
    ]:
        for size in (1, 2):
            found = collect(operation, key, size, **arguments)
            assert len(found) == len(set(found)), f"{operation} repeats itself"
            assert expected is None or len(found) == expected, f"{operation}: {len(found)} of {expected}"

    def by_hand(call, key, **arguments):
        found, token = [], {}
        while True:
            page = call(maxResults=2, **arguments, **token)
            found += page[key]
            if "nextToken" not in page:
                return found
            token = {"nextToken": page["nextToken"]}

    referrers = by_hand(ecr.list_image_referrers, "referrers", subjectId={"imageDigest": subject.digest}, **in_repository)
    assert len({r["digest"] for r in referrers}) == len(referrers) == 4
    exclusions = by_hand(ecr.list_pull_time_update_exclusions, "pullTimeUpdateExclusions")
    assert len(set(exclusions)) == len(exclusions) >= 4


def test_a_page_survives_what_happens_meanwhile(ecr, registry, repository):
    one = images.image("meanwhile")
    for tag in "abcdef":
        registry.push(repository, one, tag)
    first = ecr.list_images(repositoryName=repository, maxResults=2)
    seen = [i["imageTag"] for i in first["imageIds"]]
    ecr.batch_delete_image(repositoryName=repository, imageIds=[{"imageTag": seen[-1]}])
    token = first["nextToken"]
    while token:
        page = ecr.list_images(repositoryName=repository, maxResults=2, nextToken=token)
        seen += [i["imageTag"] for i in page["imageIds"]]
        token = page.get("nextToken")
    assert sorted(seen) == list("abcdef"), "what was there all along is listed once"


def test_get_authorization_token_is_the_basic_header(ecr, server, account):
    (data,) = ecr.get_authorization_token()["authorizationData"]
    assert base64.b64decode(data["authorizationToken"]).startswith(b"AWS:")
    basic = {"Authorization": f"Basic {data['authorizationToken']}"}
    http.send(server.endpoint, "GET", "/v2/", basic).expect(200)
    assert data["proxyEndpoint"].startswith("http")
