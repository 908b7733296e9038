"""The archive: UpdateImageStorageClass by a stock client, a second store, and pulls that restore."""

import pytest
from botocore.exceptions import ClientError

from harness import aws, containers, images, oci
from harness.http import send
from harness.process import needs, run

LARGE = 200_000


def statuses(ecr, repository):
    found = ecr.describe_images(repositoryName=repository, filter={"imageStatus": "ANY"})["imageDetails"]
    return {detail["imageDigest"]: detail["imageStatus"] for detail in found}


def wait_for(holds, what, turns=2000):
    """Asks the server until it is so; each turn is a call, and the job runs beside them."""
    for _ in range(turns):
        if holds():
            return
    raise AssertionError(f"{what} did not come")


def files(directory):
    return [path for path in directory.rglob("*") if path.is_file() and len(path.name) == 32]


def move(ecr, repository, target, **image_id):
    return ecr.update_image_storage_class(repositoryName=repository, imageId=image_id, targetStorageClass=target)


def test_to_the_archive_and_back(ecr, registry, repository):
    one, other = images.image("cold"), images.image("warm")
    registry.push(repository, one, "cold")
    registry.push(repository, other, "warm")
    answer = move(ecr, repository, "ARCHIVE", imageTag="cold")
    assert answer["imageStatus"] == "ARCHIVED" and answer["imageId"] == {"imageDigest": one.digest, "imageTag": "cold"}
    for reference in ("cold", one.digest):
        assert registry.manifest(repository, reference).status == 404
    registry.manifest(repository, "warm").expect(200)
    assert registry.blob(repository, one.layer_digests[0]).status == 404
    assert registry.tags(repository).json["tags"] == ["warm"]
    assert [i["imageTag"] for i in ecr.list_images(repositoryName=repository)["imageIds"]] == ["warm"]
    assert statuses(ecr, repository) == {one.digest: "ARCHIVED", other.digest: "ACTIVE"}
    check = ecr.batch_check_layer_availability(repositoryName=repository, layerDigests=[one.layer_digests[0]])
    assert check["layers"][0]["layerAvailability"] == "ARCHIVED"
    (failure,) = ecr.batch_get_image(repositoryName=repository, imageIds=[{"imageTag": "cold"}])["failures"]
    assert failure["failureCode"] == "ImageInaccessible"
    with pytest.raises(ecr.exceptions.LayerInaccessibleException):
        ecr.get_download_url_for_layer(repositoryName=repository, layerDigest=one.layer_digests[0])
    with pytest.raises(ecr.exceptions.ImageStorageClassUpdateNotSupportedException):
        move(ecr, repository, "ARCHIVE", imageDigest=one.digest)

    assert move(ecr, repository, "STANDARD", imageDigest=one.digest)["imageStatus"] == "ACTIVATING"
    wait_for(lambda: statuses(ecr, repository)[one.digest] == "ACTIVE", "ACTIVE")
    (detail,) = ecr.describe_images(repositoryName=repository, imageIds=[{"imageTag": "cold"}])["imageDetails"]
    assert detail["lastActivatedAt"] >= detail["lastArchivedAt"]
    assert registry.manifest(repository, "cold").expect(200).body == one.manifest
    for digest, data in one.blobs.items():
        assert registry.blob(repository, digest).expect(200).body == data


def test_a_push_of_an_archived_image_makes_it_active(ecr, registry, repository):
    one = images.image("pushed-again")
    registry.push(repository, one, "v1")
    move(ecr, repository, "ARCHIVE", imageTag="v1")
    registry.push(repository, one, "v1")
    assert statuses(ecr, repository) == {one.digest: "ACTIVE"}
    assert registry.manifest(repository, "v1").expect(200).body == one.manifest


def test_content_goes_to_the_second_store_and_pulls_bring_it_back(make_server, tmp_path):
    cold = tmp_path / "cold"
    server = make_server("--archive", str(cold), "--archive-restore-on-pull")
    account = server.root_account()
    ecr = aws.client("ecr", server.endpoint, account)
    registry = oci.Registry(server.endpoint, server.password(account))
    ecr.create_repository(repositoryName="team/app")
    one = images.image("restored", layer_size=LARGE)
    registry.push("team/app", one, "v1")
    move(ecr, "team/app", "ARCHIVE", imageTag="v1")
    wait_for(lambda: statuses(ecr, "team/app") and len(files(cold)) == 1, "the content")
    server.restart()
    ecr = aws.client("ecr", server.endpoint, account)
    registry = oci.Registry(server.endpoint, server.password(account))
    refused = registry.manifest("team/app", "v1").expect(429)
    assert refused.json["errors"][0]["code"] == "TOOMANYREQUESTS" and int(refused.headers["Retry-After"]) > 0
    wait_for(lambda: registry.manifest("team/app", "v1").status == 200, "the image")
    assert registry.blob("team/app", one.layer_digests[0]).expect(200).body == one.blobs[one.layer_digests[0]]
    with pytest.raises(ClientError):
        move(ecr, "team/app", "STANDARD", imageTag="v1")


@pytest.fixture
def archived(make_server, tmp_path):
    """A server that restores what is pulled, with one image whose content is in the second store."""
    cold = tmp_path / "cold"
    server = make_server("--archive", str(cold), "--archive-restore-on-pull")
    account = server.root_account()
    server.password_of_root = server.password(account)
    ecr = aws.client("ecr", server.endpoint, account)
    registry = oci.Registry(server.endpoint, server.password_of_root)
    ecr.create_repository(repositoryName="team/app")
    one = images.image("restored-by-a-client", layer_size=LARGE)
    registry.push("team/app", one, "v1")
    move(ecr, "team/app", "ARCHIVE", imageTag="v1")
    wait_for(lambda: len(files(cold)) == 1, "the content")
    yield server, one
    metrics = send(server.endpoint, "GET", "/metrics").expect(200).body.decode()
    assert 'status="429"' in metrics, "the client was told to come again"
    assert statuses(ecr, "team/app") == {one.digest: "ACTIVE"}


def test_skopeo_waits_for_what_it_has_restored(archived, tmp_path):
    needs("skopeo", "skopeo")
    server, one = archived
    source = f"docker://{server.host}/team/app:v1"
    creds = ("--src-tls-verify=false", "--src-creds", f"AWS:{server.password_of_root}")
    run("skopeo", "copy", *creds, source, f"oci:{tmp_path / 'back'}:v1")
    assert images.layout_digest(tmp_path / "back", "v1") == one.digest


def test_podman_waits_for_what_it_has_restored(archived):
    server, one = archived
    target = f"{server.host}/team/app:v1"
    with containers.tool("podman") as podman:
        podman("pull", "--tls-verify=false", "--creds", f"AWS:{server.password_of_root}", target)
        assert one.digest in podman("image", "inspect", target).stdout


def test_docker_gets_what_it_has_restored(archived):
    server, one = archived
    target = f"{server.host}/team/app:v1"
    with containers.dockerd(server.host) as docker:
        docker("login", "-u", "AWS", "--password-stdin", server.host, input=server.password_of_root)
        wait_for(lambda: docker("pull", target, check=False).returncode == 0, "the image", turns=20)
        assert one.digest in docker("image", "inspect", target).stdout
