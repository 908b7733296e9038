"""buildah builds and pushes, podman pulls and runs; both with storage of their own."""

from pathlib import Path

import pytest

from harness import containers, images
from harness.images import write_layout
from harness.process import run

RUN_HERE = ["--runtime", "runc", "--network=host", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"]


def logged_in(tool, server, password):
    tool("login", "--tls-verify=false", "-u", "AWS", "--password-stdin", server.host, input=password)
    return tool


@pytest.fixture(scope="module")
def buildah(server, password):
    with containers.tool("buildah") as tool:
        yield logged_in(tool, server, password)


@pytest.fixture(scope="module")
def podman(server, password):
    with containers.tool("podman") as tool:
        yield logged_in(tool, server, password)


@pytest.mark.parametrize("format", ["oci", "docker"])
def test_buildah_builds_pushes_and_pulls(format, buildah, server, ecr, repository, tmp_path):
    (tmp_path / "Containerfile").write_text('FROM scratch\nCOPY greeting /greeting\nCMD ["/greeting"]\n')
    (tmp_path / "greeting").write_text("hello\n")
    target = f"{server.host}/{repository}:{format}"
    buildah("bud", "--isolation", "chroot", "--format", format, "-t", target, tmp_path)
    buildah("push", "--tls-verify=false", "--digestfile", tmp_path / "digest", target)
    buildah("rmi", target)
    buildah("pull", "--tls-verify=false", target)

    described = ecr.describe_images(repositoryName=repository, imageIds=[{"imageTag": format}])["imageDetails"][0]
    assert described["imageDigest"] == (tmp_path / "digest").read_text().strip()
    expected = images.OCI_MANIFEST if format == "oci" else images.DOCKER_MANIFEST
    assert described["imageManifestMediaType"] == expected
    container = buildah("from", "--pull-never", target).stdout.strip()
    mounted = Path(buildah("mount", container).stdout.strip())
    assert (mounted / "greeting").read_text() == "hello\n"
    buildah("rm", container)


def test_buildah_pushes_a_manifest_list(buildah, server, ecr, repository, tmp_path):
    several = images.index(images.image("buildah-amd64"), images.image("buildah-arm64"))
    layout = write_layout(tmp_path / "layout", {"multi": several})
    name = f"list-{repository.rsplit('-', 1)[1]}"
    buildah("manifest", "create", name, f"oci:{layout}:multi", "--all")
    target = f"docker://{server.host}/{repository}:multi"
    buildah("manifest", "push", "--all", "--format", "oci", "--tls-verify=false", name, target)

    held = ecr.describe_images(repositoryName=repository)["imageDetails"]
    tagged = [d for d in held if d.get("imageTags") == ["multi"]]
    assert [d["imageManifestMediaType"] for d in tagged] == [images.OCI_INDEX]
    assert {child.digest for child in several.children} <= {d["imageDigest"] for d in held}


def test_buildah_names_the_reason_of_a_refusal(buildah, server, ecr, unique, tmp_path):
    repository = f"tests/buildah-immutable-{unique()}"
    ecr.create_repository(repositoryName=repository, imageTagMutability="IMMUTABLE")
    two = write_layout(tmp_path / "two", {"a": images.image("buildah-a"), "b": images.image("buildah-b")})
    target = f"docker://{server.host}/{repository}:v1"
    for tag in ("a", "b"):
        buildah("pull", f"oci:{two}:{tag}")
    ids = {tag: buildah("pull", "-q", f"oci:{two}:{tag}").stdout.strip() for tag in ("a", "b")}
    buildah("push", "--tls-verify=false", ids["a"], target)
    said = buildah.refused("push", "--tls-verify=false", ids["b"], target)
    assert f"The image tag 'v1' already exists in the '{repository}' repository" in said, said


def test_podman_pulls_and_runs_a_real_image(podman, server, repository, real_images):
    target = f"{server.host}/{repository}:latest"
    run(
        *("skopeo", "copy", "--dest-tls-verify=false", "--dest-authfile", podman.env["REGISTRY_AUTH_FILE"]),
        *(f"oci:{real_images / 'debian'}:latest", f"docker://{target}"),
    )
    podman("pull", "--tls-verify=false", target)
    said = podman("run", "--rm", *RUN_HERE, target, "cat", "/etc/os-release").stdout
    assert "Debian" in said


def test_podman_pushes_what_it_pulled_under_another_tag(podman, server, ecr, registry, repository):
    one = images.image("podman", layers=3)
    registry.push(repository, one, "v1")
    source, target = (f"{server.host}/{repository}:{tag}" for tag in ("v1", "v2"))
    podman("pull", "--tls-verify=false", source)
    podman("tag", source, target)
    podman("push", "--tls-verify=false", target)

    described = ecr.describe_images(repositoryName=repository)["imageDetails"]
    config = {d["imageDigest"] for d in described if {"v1", "v2"} & set(d["imageTags"])}
    assert len(described) in (1, 2) and one.digest in config, described


def test_podman_pulls_the_image_of_this_machine_out_of_an_index(podman, server, registry, repository):
    several = images.index(images.image("podman-amd64"), images.image("podman-arm64", architecture="arm64"))
    registry.push(repository, several, "multi")
    target = f"{server.host}/{repository}:multi"
    podman("pull", "--tls-verify=false", "--arch", "arm64", target)
    assert podman("image", "inspect", "--format", "{{.Architecture}}", target).stdout.strip() == "arm64"
