"""Blobs and the archive in a bucket of a real S3 server: pushes, pulls, ranges, resumed uploads, collection, scrubbing."""

import threading
import time
from pathlib import Path

import pytest

from harness import aws, images, oci
from harness.bucket import NAME, Bucket
from harness.images import layout_digest, write_layout
from harness.process import needs, run

MIB = 1 << 20


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    running = Bucket(tmp_path_factory.mktemp("bucket") / "server")
    yield running
    running.close()


@pytest.fixture
def hosted(make_server, bucket, request):
    """A server with its blobs in the bucket, below a prefix of the test's own, and a registry of its root account."""

    def make(*arguments, name="data"):
        prefix = f"{request.node.originalname}/{name}"
        server = make_server("--blobs", bucket.url(prefix), *arguments, name=name, env=bucket.environment)
        account = server.root_account()
        registry = oci.Registry(server.endpoint, server.password(account))
        ecr = aws.client("ecr", server.endpoint, account)
        ecr.create_repository(repositoryName="team/app")
        return server, registry, ecr, prefix

    return make


def wait_for(holds, what):
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.02)


def patch(registry, location, data, start):
    headers = {"Content-Range": f"{start}-{start + len(data) - 1}", "Content-Type": "application/octet-stream"}
    return registry.request("PATCH", location, headers, data).expect(202).headers["Location"]


def finish(registry, location, content):
    joint = "&" if "?" in location else "?"
    registry.request("PUT", f"{location}{joint}digest={images.sha256(content)}").expect(201)


def test_skopeo_pushes_and_pulls(hosted, bucket, layout, tmp_path):
    needs("skopeo", "skopeo")
    server, _, _, prefix = hosted()
    auth = {"REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")}
    login = ["skopeo", "login", "--tls-verify=false", "-u", "AWS", "--password-stdin", server.host]
    run(*login, input=server.password(server.root_account()), env=auth)
    large = write_layout(tmp_path / "large", {"v1": images.image("large", layers=2, layer_size=9 * MIB)})
    for source in (layout, large):
        target = f"docker://{server.host}/team/app:v1"
        run("skopeo", "copy", "--dest-tls-verify=false", f"oci:{source}:v1", target, env=auth)
        back = tmp_path / f"back-{source.name}"
        run("skopeo", "copy", "--src-tls-verify=false", target, f"oci:{back}:v1", env=auth)
        assert layout_digest(back, "v1") == layout_digest(source, "v1")
    assert len(bucket.keys(f"{prefix}/objects/")) == 2
    wait_for(lambda: not bucket.keys(f"{prefix}/writing/"), "the end of what uploads left")
    assert not (server.data_dir / "objects").exists()


def test_uploads_are_resumed_and_read_by_range(hosted, bucket):
    server, registry, _, prefix = hosted()
    content = images.noise("chunks", 21 * MIB)
    location = registry.start_upload("team/app").expect(202).headers["Location"]
    at = 0
    for stop in (100_000, 3 * MIB, 12 * MIB, 20 * MIB):
        location = patch(registry, location, content[at:stop], at)
        at = stop
        if stop == 12 * MIB:
            server.kill()
            server.start(server.host)
            wait_for(lambda: registry.request("GET", "/v2/").status == 200, "the server")
    location = patch(registry, location, content[at:], at)
    finish(registry, location, content)
    digest = images.sha256(content)
    assert registry.blob("team/app", digest).expect(200).body == content
    for first, last in ((0, 0), (65_535, 65_536), (9 * MIB - 5, 17 * MIB), (21 * MIB - 1, 21 * MIB - 1)):
        answer = registry.blob("team/app", digest, {"Range": f"bytes={first}-{last}"}).expect(206)
        assert answer.body == content[first : last + 1], (first, last)
    assert len(bucket.keys(f"{prefix}/objects/")) == 1
    wait_for(lambda: not bucket.keys(f"{prefix}/writing/"), "the end of what the upload left")


def test_what_is_deleted_leaves_the_bucket(hosted, bucket):
    server, registry, ecr, prefix = hosted("--storage-trash-window", "0s", "--storage-unreferenced-grace", "0s")
    one = images.image("deleted", layers=2, layer_size=200_000)
    registry.push("team/app", one, "v1")
    cancelled = registry.start_upload("team/app").expect(202).headers["Location"]
    cancelled = patch(registry, cancelled, images.noise("cancelled", 9 * MIB), 0)
    assert len(bucket.keys(f"{prefix}/objects/")) == 2 and bucket.keys(f"{prefix}/writing/")
    registry.request("DELETE", cancelled).expect(204)

    def swept():
        server.command("gc")
        return not bucket.keys(f"{prefix}/writing/")

    wait_for(swept, "the end of the cancelled upload")
    assert len(bucket.keys(f"{prefix}/objects/")) == 2
    server.command("scrub")
    ecr.batch_delete_image(repositoryName="team/app", imageIds=[{"imageTag": "v1"}])

    def collected():
        server.command("gc")
        return not bucket.keys(f"{prefix}/objects/")

    wait_for(collected, "an empty bucket")
    assert not [upload for upload in bucket.open_uploads() if upload["Key"].startswith(prefix)]


def test_a_damaged_object_is_found_and_never_served(hosted, bucket):
    server, registry, _, prefix = hosted()
    content = images.noise("damaged", 300_000)
    registry.push_blob("team/app", content)
    (key,) = bucket.keys(f"{prefix}/objects/")
    stored = bytearray(bucket.s3.get_object(Bucket=NAME, Key=key)["Body"].read())
    assert content[:64] not in bytes(stored), "what is in the bucket is encrypted"
    stored[-5] ^= 1
    bucket.s3.put_object(Bucket=NAME, Key=key, Body=bytes(stored))
    assert server.command("scrub", check=False).returncode == 1
    assert registry.blob("team/app", images.sha256(content)).status >= 400
    registry.push_blob("team/app", content)
    wait_for(lambda: registry.blob("team/app", images.sha256(content)).body == content, "the new copy")


def test_the_archive_may_be_a_bucket(make_server, bucket):
    server = make_server("--archive", bucket.url("cold"), env=bucket.environment)
    account = server.root_account()
    ecr = aws.client("ecr", server.endpoint, account)
    registry = oci.Registry(server.endpoint, server.password(account))
    ecr.create_repository(repositoryName="team/app")
    one = images.image("cold", layer_size=200_000)
    registry.push("team/app", one, "v1")

    def move(target):
        image_id = {"imageTag": "v1"}
        ecr.update_image_storage_class(repositoryName="team/app", imageId=image_id, targetStorageClass=target)

    move("ARCHIVE")
    wait_for(lambda: len(bucket.keys("cold/objects/")) == 1, "the content in the bucket")
    move("STANDARD")
    wait_for(lambda: registry.manifest("team/app", "v1").status == 200, "the image")
    assert registry.blob("team/app", one.layer_digests[0]).expect(200).body == one.blobs[one.layer_digests[0]]


def memory(server, line):
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return next(int(text.split()[1]) * 1024 for text in status.splitlines() if text.startswith(line + ":"))


def test_pushes_take_memory_by_their_number_not_by_their_size(hosted):
    server, registry, _, _ = hosted()
    registry.push_blob("team/app", images.noise("first", 9 * MIB))
    before = memory(server, "VmHWM")
    contents = [images.noise(("memory", number), 64 * MIB) for number in range(4)]
    pushes = [threading.Thread(target=registry.push_blob, args=("team/app", content)) for content in contents]
    for push in pushes:
        push.start()
    for push in pushes:
        push.join()
    taken = memory(server, "VmHWM") - before
    assert registry.blob("team/app", images.sha256(contents[0])).expect(200).body == contents[0]
    # Two parts of 8 MiB for each, and what is on its way through sockets and the allocator.
    assert taken < (4 * 16 + 64) * MIB, f"{taken / MIB:.0f} MiB for 256 MiB in 4 pushes"


def test_a_bucket_that_cannot_be_used_stops_the_start(bucket, tmp_path):
    from harness.server import program

    data = tmp_path / "data"
    for url, word in (
        (f"s3://not-there?endpoint={bucket.endpoint}", "bucket"),
        ("s3://b?endpoint=http://store.example", "allow_http"),
        ("s3://b?secret_access_key=verysecret", "secret_access_key"),
    ):
        command = [program(), "serve", "--data-dir", data, "--listen", "127.0.0.1:0", "--blobs", url]
        done = run(*command, env=bucket.environment, check=False)
        assert done.returncode != 0 and word in done.stderr, done.stderr
        assert "verysecret" not in done.stdout + done.stderr
