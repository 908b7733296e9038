"""wharf import from a registry of other people's: Debian's docker-registry behind a password, filled by hand and skopeo."""

import base64
import json
import socket
import subprocess

import pytest

from harness import images, oci
from harness.process import environment, needs, run, wait_until
from harness.server import program

# `secret`, as htpasswd -B writes it.
HTPASSWD = "mover:$2b$04$/btl4J/r2TAlgQdeCVQyCu6Z3JPYKDurThqFs/XqytVR/PT8MRUZ2\n"

CONFIGURATION = """
version: 0.1
log: {{level: error}}
storage:
  filesystem: {{rootdirectory: {directory}/data}}
http: {{addr: "{address}"}}
auth:
  htpasswd: {{realm: old, path: {directory}/htpasswd}}
"""


@pytest.fixture
def old(tmp_path):
    """docker-registry on a free port, as an OCI client of it."""
    command = needs("docker-registry", "docker-registry")
    directory = tmp_path / "old"
    directory.mkdir()
    (directory / "htpasswd").write_text(HTPASSWD)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    (directory / "config.yml").write_text(CONFIGURATION.format(directory=directory, address=address))
    with open(directory / "log", "wb") as log:
        process = subprocess.Popen(
            [command, "serve", str(directory / "config.yml")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment({"OTEL_TRACES_EXPORTER": "none"}),
        )

    def answers():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", int(address.split(":")[1]))) == 0

    def alive():
        assert process.poll() is None, (directory / "log").read_text()

    wait_until(answers, "docker-registry to listen", alive=alive)
    yield oci.Registry(f"http://{address}", "secret", username="mover")
    process.terminate()
    process.wait(30)


@pytest.fixture
def wharf_import(server, account, tmp_path):
    """Imports into the server's registry of this module's account; answers exit code and report."""
    key = tmp_path / "key.json"
    key.write_text(
        json.dumps({"access_key_id": account.access_key_id, "secret_access_key": account.secret_access_key})
    )

    def command(source, *arguments, **kwargs):
        arguments = ["--to", server.endpoint, "--to-credentials", key, "--json", *arguments]
        env = {"HOME": str(tmp_path), "DOCKER_CONFIG": str(tmp_path / "docker")}
        done = run(program(), "import", source, *arguments, env=env, check=False, **kwargs)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    return command


def log_in(old, tmp_path):
    login = base64.b64encode(b"mover:secret").decode()
    (tmp_path / "docker").mkdir()
    config = {"auths": {old.endpoint.split("://")[1]: {"auth": login}}}
    (tmp_path / "docker" / "config.json").write_text(json.dumps(config))


def test_everything_moves_with_signatures_and_bytes(old, wharf_import, server, account, password, ecr, tmp_path):
    docker = images.image("docker", layers=2, docker=True)
    one, two = images.image("one"), images.image("two", architecture="arm64")
    both, listed = images.index(one, two), images.index(docker, docker=True)
    signature = images.artifact("signature", subject=both)
    fallback = images.index(signature)
    by_tag = images.artifact("by tag")
    old.push("team/app", docker, "docker")
    old.push("team/app", both, "multi")
    old.push("team/app", listed, "list")
    # As clients leave signatures where there is no API for them.
    old.push("team/app", fallback, both.digest.replace(":", "-"))
    old.push("team/app", by_tag, both.digest.replace(":", "-") + ".sig")
    old.push("other", one, "v1")
    log_in(old, tmp_path)

    host = old.endpoint.split("://")[1]
    code, report = wharf_import(f"oci://{host}", "--prefix", "moved")

    assert (code, report["identical"]) == (0, True), json.dumps(report, indent=2)
    assert [each["repository"] for each in report["repositories"]] == ["moved/other", "moved/team/app"]
    assert report["total"]["blobs_mounted"] == 2, "configuration and layer of an image in both"
    new = oci.Registry(server.endpoint, password)
    for image in (docker, one, two, both, listed, signature, fallback, by_tag):
        answer = new.manifest("moved/team/app", image.digest).expect(200)
        assert (answer.body, answer.headers["Content-Type"]) == (image.manifest, image.media_type)
        for digest, data in image.blobs.items():
            assert new.blob("moved/team/app", digest).expect(200).body == data
    referrers = new.request("GET", f"/v2/moved/team/app/referrers/{both.digest}").expect(200).json
    assert [each["digest"] for each in referrers["manifests"]] == [signature.digest]
    tags = new.tags("moved/team/app").json["tags"]
    assert tags == sorted(old.tags("team/app").json["tags"])

    code, report = wharf_import(f"oci://{host}", "--prefix", "moved")
    assert code == 0 and report["total"]["blobs_copied"] == report["total"]["manifests_copied"] == 0
    old.push("other", two, "v1")
    code, report = wharf_import(f"oci://{host}/other", "--prefix", "moved", "--dry-run")
    assert code == 1
    assert f"tag `v1` is {one.digest} instead of {two.digest}" in report["repositories"][0]["differences"]
    code, report = wharf_import(f"oci://{host}/other", "--prefix", "moved")
    assert (code, report["total"]["tags_set"]) == (0, 1)


def test_many_tags_come_page_by_page(old, wharf_import, ecr):
    image = images.image("many")
    old.push("many", image, "t0")
    for number in range(1, 120):
        old.put_manifest("many", image, f"t{number}").expect(201)

    host = old.endpoint.split("://")[1]
    code, report = wharf_import(f"oci://{host}/many", "--username", "mover", input="secret\n")

    assert code == 0, json.dumps(report, indent=2)
    assert (report["total"]["tags_set"], report["total"]["manifests_copied"]) == (120, 1)
    listed = ecr.list_images(repositoryName="many", maxResults=1000)["imageIds"]
    assert {each["imageTag"] for each in listed} == {f"t{number}" for number in range(120)}


def test_what_is_damaged_at_the_source_stays_there(old, wharf_import, ecr, tmp_path):
    good, bad = images.image("good"), images.image("bad", layers=2)
    old.push("damaged", good, "good")
    old.push("damaged", bad, "bad")
    digest = bad.layer_digests[1].split(":")[1]
    blob = tmp_path / "old" / "data/docker/registry/v2/blobs/sha256" / digest[:2] / digest / "data"
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    log_in(old, tmp_path)

    code, report = wharf_import(f"oci://{old.endpoint.split('://')[1]}/damaged")

    assert (code, report["identical"]) == (1, False)
    assert f"blob {bad.layer_digests[1]} is damaged" in str(report["repositories"][0]["failures"])
    assert "tag `bad` is missing" in report["repositories"][0]["differences"]
    assert ecr.list_images(repositoryName="damaged")["imageIds"] == [
        {"imageDigest": good.digest, "imageTag": "good"}
    ]
