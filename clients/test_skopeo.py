"""skopeo: copy in and out, indexes, mounts, tags, deletion, and refusals in ECR's words."""

import json

import pytest

from harness import images
from harness.images import layout_digest, write_layout
from harness.process import needs, refused, run

pytestmark = pytest.mark.usefixtures("logged_in")


@pytest.fixture(scope="module")
def logged_in(server, password, tmp_path_factory):
    needs("skopeo", "skopeo")
    path = tmp_path_factory.mktemp("skopeo") / "auth.json"
    command = ["skopeo", "login", "--tls-verify=false", "-u", "AWS", "--password-stdin", server.host]
    run(*command, input=password, env={"REGISTRY_AUTH_FILE": str(path)})
    assert server.host in json.loads(path.read_text())["auths"]
    return {"REGISTRY_AUTH_FILE": str(path)}


@pytest.fixture
def skopeo(logged_in):
    return lambda *arguments, **more: run("skopeo", *arguments, env=logged_in, **more)


def push(skopeo, source, target, *options):
    return skopeo("copy", "--dest-tls-verify=false", *options, source, f"docker://{target}")


def pull(skopeo, source, directory, *options):
    skopeo("copy", "--src-tls-verify=false", *options, f"docker://{source}", f"oci:{directory}:back")
    return layout_digest(directory, "back")


def remote_digest(skopeo, target):
    return images.sha256(skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{target}").stdout.encode())


def test_an_image_comes_back_as_it_went(skopeo, server, ecr, repository, layout, tmp_path):
    target = f"{server.host}/{repository}:v1"
    push(skopeo, f"oci:{layout}:v1", target)

    assert remote_digest(skopeo, target) == layout_digest(layout, "v1")
    assert pull(skopeo, target, tmp_path / "back") == layout_digest(layout, "v1")
    described = ecr.describe_images(repositoryName=repository)["imageDetails"]
    assert [(d["imageDigest"], d["imageTags"]) for d in described] == [(layout_digest(layout, "v1"), ["v1"])]


def test_a_docker_image_keeps_its_format(skopeo, server, ecr, repository, layout, tmp_path):
    target = f"{server.host}/{repository}:v1"
    push(skopeo, f"oci:{layout}:v1", target, "--format", "v2s2")

    described = ecr.describe_images(repositoryName=repository)["imageDetails"]
    assert [d["imageManifestMediaType"] for d in described] == [images.DOCKER_MANIFEST]
    skopeo("copy", "--src-tls-verify=false", f"docker://{target}", f"dir:{tmp_path / 'back'}")
    assert images.sha256((tmp_path / "back" / "manifest.json").read_bytes()) == described[0]["imageDigest"]


def test_an_index_goes_and_comes_with_all_its_images(skopeo, server, ecr, repository, tmp_path):
    several = images.index(images.image("skopeo-amd64"), images.image("skopeo-arm64"))
    layout = write_layout(tmp_path / "index", {"multi": several})
    target = f"{server.host}/{repository}:multi"
    push(skopeo, f"oci:{layout}:multi", target, "--all")

    assert pull(skopeo, target, tmp_path / "back", "--all") == several.digest
    held = {d["imageDigest"] for d in ecr.describe_images(repositoryName=repository)["imageDetails"]}
    assert held == {several.digest, *(child.digest for child in several.children)}


def test_tags_are_listed(skopeo, server, repository, layout):
    for tag in ("v1", "v2", "latest"):
        push(skopeo, f"oci:{layout}:v1", f"{server.host}/{repository}:{tag}")
    listed = json.loads(skopeo("list-tags", "--tls-verify=false", f"docker://{server.host}/{repository}").stdout)
    assert sorted(listed["Tags"]) == ["latest", "v1", "v2"]


def test_layers_are_mounted_from_the_other_repository(skopeo, server, ecr, repository, layout, unique):
    other = f"tests/mounted-{unique()}"
    ecr.create_repository(repositoryName=other)
    push(skopeo, f"oci:{layout}:v1", f"{server.host}/{repository}:v1")
    target = f"{server.host}/{other}:v1"
    said = skopeo("--debug", "copy", "--dest-tls-verify=false", f"oci:{layout}:v1", f"docker://{target}").stderr

    assert "mount OK" in said, f"skopeo uploaded the layers again:\n{said}"
    assert remote_digest(skopeo, target) == layout_digest(layout, "v1")


def test_an_image_is_deleted(skopeo, server, ecr, repository, layout):
    target = f"{server.host}/{repository}:v1"
    push(skopeo, f"oci:{layout}:v1", target)
    skopeo("delete", "--tls-verify=false", f"docker://{target}")
    assert ecr.list_images(repositoryName=repository)["imageIds"] == []


def test_an_immutable_tag_is_refused_in_the_words_of_ecr(skopeo, logged_in, server, ecr, unique, tmp_path):
    repository = f"tests/immutable-{unique()}"
    ecr.create_repository(repositoryName=repository, imageTagMutability="IMMUTABLE")
    two = write_layout(tmp_path / "two", {"a": images.image("skopeo-a"), "b": images.image("skopeo-b")})
    target = f"{server.host}/{repository}:v1"
    push(skopeo, f"oci:{two}:a", target)
    push(skopeo, f"oci:{two}:a", target)  # the same image again is no move

    said = refused(
        "skopeo", "copy", "--dest-tls-verify=false", f"oci:{two}:b", f"docker://{target}", env=logged_in
    )
    words = (
        f"The image tag 'v1' already exists in the '{repository}' repository"
        " and cannot be overwritten because the tag is immutable."
    )
    assert words in said, said
    assert remote_digest(skopeo, target) == layout_digest(two, "a")


def test_a_repository_that_is_absent_is_refused_in_the_words_of_ecr(logged_in, server, account, layout):
    words = f"The repository with name 'tests/absent' does not exist in the registry with id '{account.id}'"
    target = f"docker://{server.host}/tests/absent:v1"
    pushed = refused("skopeo", "copy", "--dest-tls-verify=false", f"oci:{layout}:v1", target, env=logged_in)
    assert words in pushed, pushed
    pulled = refused("skopeo", "inspect", "--raw", "--tls-verify=false", target, env=logged_in)
    assert words in pulled, pulled


def test_a_wrong_password_is_refused(server, repository, layout, tmp_path):
    nobody = {"REGISTRY_AUTH_FILE": str(tmp_path / "none.json")}
    command = ["skopeo", "login", "--tls-verify=false", "-u", "AWS", "-p", "not-the-password", server.host]
    assert "invalid username/password" in refused(*command, env=nobody)
    said = refused("skopeo", "inspect", "--tls-verify=false", f"docker://{server.host}/{repository}:v1", env=nobody)
    assert "authentication required" in said.lower() or "unauthorized" in said.lower(), said


@pytest.mark.parametrize(
    "name, tag",
    [
        ("debian", "latest"),
        ("python-app-multiarch", "1.0.0"),
        ("python-app-zstd", "1.0.0-zstd"),
        ("many-layers", "latest"),
        ("artifact", "v1"),
        ("demo-chart", "0.1.0"),
    ],
)
def test_real_images_come_back_as_they_went(name, tag, skopeo, server, repository, real_images, tmp_path):
    target = f"{server.host}/{repository}:{tag}"
    push(skopeo, f"oci:{real_images / name}:{tag}", target, "--all", "--preserve-digests")
    assert pull(skopeo, target, tmp_path / "back", "--all", "--preserve-digests") == layout_digest(real_images / name, tag)
