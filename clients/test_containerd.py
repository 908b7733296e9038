"""containerd with its own root, state and socket, driven by ctr."""

import json
import shutil
import tempfile
import urllib.parse
from pathlib import Path

import pytest

from harness import images
from harness.process import Daemon, needs, needs_root, refused, remove_tree, run, wait_until


@pytest.fixture(scope="module")
def ctr(password):
    needs_root()
    needs("ctr", "containerd")
    directory = Path(tempfile.mkdtemp(prefix="wharf-ctrd-"))
    config = directory / "config.toml"
    config.write_text(
        f"""version = 2
root = "{directory}/root"
state = "{directory}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
  address = "{directory}/sock"
[ttrpc]
  address = "{directory}/sock.ttrpc"
"""
    )
    daemon = Daemon([needs("containerd", "containerd"), "--config", config], directory / "log")

    def call(*arguments, check=True, **more):
        command = ["ctr", "--address", directory / "sock", "--namespace", "wharf-test", *arguments]
        return (run if check else refused)(*command, **more)

    ready = ["ctr", "--address", directory / "sock", "version"]
    wait_until(
        lambda: run(*ready, check=False).returncode == 0, "containerd to answer", alive=daemon.must_be_alive
    )
    call.user = ["--plain-http", "--user", f"AWS:{password}"]
    yield call
    daemon.stop()
    remove_tree(directory)


def digest_of(ctr, reference):
    for line in ctr("images", "list").stdout.splitlines():
        if line.split()[0] == reference:
            return next(word for word in line.split() if word.startswith("sha256:"))
    raise AssertionError(f"containerd does not list {reference}")


def test_ctr_pulls_what_was_pushed(ctr, server, registry, repository):
    one = images.image("ctr-pull", layers=2)
    registry.push(repository, one, "v1")
    target = f"{server.host}/{repository}:v1"
    ctr("images", "pull", *ctr.user, "--snapshotter", "native", target)
    assert digest_of(ctr, target) == one.digest


def test_ctr_pushes_and_the_digest_stays(ctr, server, ecr, registry, repository, tmp_path):
    several = images.index(images.image("ctr-amd64"), images.image("ctr-arm64"))
    layout = images.write_layout(tmp_path / "layout", {"multi": several})
    shutil.make_archive(str(tmp_path / "layout"), "tar", layout)
    target = f"{server.host}/{repository}:multi"
    ctr(
        *("images", "import", "--all-platforms", "--no-unpack", "--index-name", target),
        *("--snapshotter", "native", tmp_path / "layout.tar"),
    )
    ctr("images", "push", *ctr.user, target)

    manifest = json.loads(registry.manifest(repository, "multi").expect(200).body)
    held = {d["imageDigest"] for d in ecr.describe_images(repositoryName=repository)["imageDetails"]}
    assert {m["digest"] for m in manifest["manifests"]} <= held
    assert {child.digest for child in several.children} <= held


def test_ctr_runs_a_real_image(ctr, server, repository, password, real_images):
    target = f"{server.host}/{repository}:latest"
    run(
        *("skopeo", "copy", "--dest-tls-verify=false", "--dest-creds", f"AWS:{password}"),
        *(f"oci:{real_images / 'debian'}:latest", f"docker://{target}"),
    )
    ctr("images", "pull", *ctr.user, "--snapshotter", "native", target)
    said = ctr("run", "--rm", "--snapshotter", "native", target, "wharf-run", "/bin/cat", "/etc/os-release").stdout
    assert "Debian" in said


def test_ctr_is_told_why_an_immutable_tag_stays(ctr, server, ecr, registry, unique):
    repository = f"tests/ctr-immutable-{unique()}"
    ecr.create_repository(repositoryName=repository, imageTagMutability="IMMUTABLE")
    first, second = images.image("ctr-first"), images.image("ctr-second")
    registry.push(repository, first, "v1")
    registry.push(repository, second, "other")
    other, taken = (f"{server.host}/{repository}:{tag}" for tag in ("other", "v1"))
    ctr("images", "pull", *ctr.user, "--snapshotter", "native", other)
    ctr("images", "tag", other, taken)
    said = ctr("images", "push", *ctr.user, taken, check=False)
    assert "400" in said or "immutable" in said, said
    assert images.sha256(registry.manifest(repository, "v1").expect(200).body) == first.digest


def test_ctr_is_refused_with_a_wrong_password(ctr, server, repository):
    target = f"{server.host}/{repository}:v1"
    said = ctr("images", "pull", "--plain-http", "--user", "AWS:wrong", target, check=False)
    assert "401" in said or "authorization failed" in said.lower() or "unauthorized" in said.lower(), said


def test_ctr_names_are_plain_hosts(server):
    # A guard for the tests above: ctr refuses schemes in names, so the host must be bare.
    assert urllib.parse.urlsplit(f"//{server.host}").port == server.port
