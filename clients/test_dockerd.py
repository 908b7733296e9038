"""Docker's own daemon with its own data root and socket: login, push, pull, mount, refusals."""

import json
import os

import pytest

from harness import containers, images
from harness.process import refused, run
from harness.server import program


@pytest.fixture(scope="module")
def docker(server, password):
    with containers.dockerd(server.host) as call:
        call("login", "-u", "AWS", "--password-stdin", server.host, input=password)
        yield call


def imported(docker, tmp_path, seed):
    """An image made in the daemon from a tarball; answers its id."""
    return docker("import", containers.tarball(tmp_path, seed, images.noise(seed, 3000))).stdout.strip()


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
    said = docker("push", target, how=refused)
    words = (
        f"The image tag 'v1' already exists in the '{repository}' repository"
        " and cannot be overwritten because the tag is immutable."
    )
    assert words in said, said


def test_docker_is_told_that_the_repository_is_absent(docker, server, account, tmp_path):
    target = f"{server.host}/tests/absent:v1"
    docker("tag", imported(docker, tmp_path, "absent"), target)
    words = f"The repository with name 'tests/absent' does not exist in the registry with id '{account.id}'"
    assert words in docker("push", target, how=refused)
    assert words in docker("pull", target, how=refused)


def test_docker_login_is_refused_with_a_wrong_password(docker, server):
    said = docker("login", "-u", "AWS", "--password-stdin", server.host, input="wrong", how=refused)
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


def test_docker_logs_in_by_the_helper(docker, server, account, registry, repository, tmp_path):
    """The credential helper gives dockerd's client a password at every pull, for as long as its keys are good."""
    helpers, config = tmp_path / "bin", tmp_path / "config"
    for directory in (helpers, config):
        directory.mkdir()
    (helpers / "docker-credential-wharf").symlink_to(program())
    (config / "config.json").write_text(json.dumps({"credHelpers": {server.host: "wharf"}}))
    keys = {"AWS_ACCESS_KEY_ID": account.access_key_id, "AWS_SECRET_ACCESS_KEY": account.secret_access_key}
    variables = keys | {
        "AWS_REGION": "us-east-1",
        "DOCKER_CONFIG": str(config),
        "HOME": str(tmp_path),
        "PATH": f"{helpers}:{os.environ['PATH']}",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    target = f"{server.host}/{repository}:v1"
    registry.push(repository, images.image("docker-helper"), "v1")
    docker("pull", target, with_env=variables)
    identity = imported(docker, tmp_path, "helper")
    docker("tag", identity, f"{server.host}/{repository}:v2")
    docker("push", f"{server.host}/{repository}:v2", with_env=variables)
    assert registry.manifest(repository, "v2").status == 200
    docker("image", "rm", "-f", target)
    wrong = variables | {"AWS_SECRET_ACCESS_KEY": "wrong", "XDG_CACHE_HOME": str(tmp_path / "empty")}
    said = docker("pull", target, with_env=wrong, how=refused)
    assert "credential" in said.lower(), said
