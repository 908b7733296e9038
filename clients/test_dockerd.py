"""Docker's own daemon with its own data root and socket: login, push, pull, mount, refusals."""

import json
import shutil
import tempfile
from pathlib import Path

import pytest

from harness import images
from harness.process import Daemon, needs, needs_root, refused, remove_tree, run, wait_until

CLI = "/usr/bin/docker"  # Debian's, of the daemon's version; another docker may come first on the PATH


@pytest.fixture(scope="module")
def docker(server, password):
    needs_root()
    dockerd = needs("dockerd", "docker.io")
    needs(CLI, "docker.io")
    directory = Path(tempfile.mkdtemp(prefix="wharf-dockerd-"))
    socket = f"unix://{directory}/sock"
    daemon = Daemon(
        [
            *(dockerd, "--data-root", directory / "data", "--exec-root", directory / "exec"),
            *("--pidfile", directory / "pid", "--host", socket, "--group", "root"),
            *("--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver", "vfs"),
            *("--insecure-registry", server.host),
        ],
        directory / "log",
    )
    env = {"DOCKER_CONFIG": str(directory / "config"), "DOCKER_HOST": socket, "DOCKER_CONTEXT": ""}

    def call(*arguments, check=True, **more):
        return (run if check else refused)(CLI, *arguments, env=env, **more)

    wait_until(
        lambda: run(CLI, "version", env=env, check=False).returncode == 0,
        "dockerd to answer",
        timeout=60,
        alive=daemon.must_be_alive,
    )
    call("login", "-u", "AWS", "--password-stdin", server.host, input=password)
    yield call
    daemon.stop()
    remove_tree(directory)


def imported(docker, tmp_path, seed):
    """An image made in the daemon from a tarball; answers its id."""
    tree = tmp_path / f"tree-{seed}"
    tree.mkdir()
    (tree / "seed").write_bytes(images.noise(seed, 3000))
    archive = shutil.make_archive(str(tmp_path / f"tree-{seed}"), "tar", tree)
    return docker("import", archive).stdout.strip()


def repository_digest(docker, target):
    found = json.loads(docker("image", "inspect", "--format", "{{json .RepoDigests}}", target).stdout)
    return found[0].split("@")[1]


def test_docker_pushes_and_pulls(docker, server, ecr, repository, tmp_path):
    target = f"{server.host}/{repository}:v1"
    identity = imported(docker, tmp_path, "push")
    docker("tag", identity, target)
    docker("push", target)

    described = ecr.describe_images(repositoryName=repository)["imageDetails"]
    assert [d["imageManifestMediaType"] for d in described] == [images.DOCKER_MANIFEST]
    assert repository_digest(docker, target) == described[0]["imageDigest"]
    docker("image", "rm", "-f", identity)
    docker("pull", target)
    assert docker("image", "inspect", "--format", "{{.Id}}", target).stdout.strip() == identity
    docker("pull", f"{server.host}/{repository}@{described[0]['imageDigest']}")


def test_docker_pulls_oci_images_and_indexes(docker, server, registry, repository):
    one = images.image("docker-oci", layers=3)
    several = images.index(one, images.image("docker-arm64", architecture="arm64"))
    registry.push(repository, several, "multi")
    registry.push(repository, one, "single")
    for tag in ("multi", "single"):
        target = f"{server.host}/{repository}:{tag}"
        docker("pull", target)
        assert docker("image", "inspect", "--format", "{{.Id}}", target).stdout.strip() == one.config_digest


def test_docker_mounts_layers_it_pushed_elsewhere(docker, server, ecr, repository, unique, tmp_path):
    other = f"tests/docker-mounted-{unique()}"
    ecr.create_repository(repositoryName=other)
    identity = imported(docker, tmp_path, "mount")
    first, second = f"{server.host}/{repository}:v1", f"{server.host}/{other}:v1"
    docker("tag", identity, first)
    docker("push", first)
    docker("tag", identity, second)
    said = docker("push", second).stdout
    assert f"Mounted from {repository}" in said, said


def test_docker_is_told_why_an_immutable_tag_stays(docker, server, ecr, unique, tmp_path):
    repository = f"tests/docker-immutable-{unique()}"
    ecr.create_repository(repositoryName=repository, imageTagMutability="IMMUTABLE")
    target = f"{server.host}/{repository}:v1"
    docker("tag", imported(docker, tmp_path, "first"), target)
    docker("push", target)
    docker("tag", imported(docker, tmp_path, "second"), target)
    said = docker("push", target, check=False)
    words = (
        f"The image tag 'v1' already exists in the '{repository}' repository"
        " and cannot be overwritten because the tag is immutable."
    )
    assert words in said, said


def test_docker_is_told_that_the_repository_is_absent(docker, server, account, tmp_path):
    target = f"{server.host}/tests/absent:v1"
    docker("tag", imported(docker, tmp_path, "absent"), target)
    words = f"The repository with name 'tests/absent' does not exist in the registry with id '{account.id}'"
    assert words in docker("push", target, check=False)
    assert words in docker("pull", target, check=False)


def test_docker_login_is_refused_with_a_wrong_password(docker, server):
    said = docker("login", "-u", "AWS", "--password-stdin", server.host, input="wrong", check=False)
    assert "unauthorized" in said.lower() or "401" in said, said


def test_docker_pulls_and_runs_a_real_image(docker, server, repository, password, real_images):
    target = f"{server.host}/{repository}:latest"
    run(
        *("skopeo", "copy", "--dest-tls-verify=false", "--dest-creds", f"AWS:{password}"),
        *(f"oci:{real_images / 'debian'}:latest", f"docker://{target}"),
    )
    docker("pull", target)
    said = docker("run", "--rm", "--network", "host", target, "cat", "/etc/os-release").stdout
    assert "Debian" in said
