"""The tour of the README, command by command, as a newcomer types it: on the bare host, and through ECR's host name."""

import json
import subprocess

import pytest

from harness import images
from harness.containers import resolving
from harness.images import layout_digest, write_layout
from harness.process import environment, needs

TOUR = """
set -euo pipefail
aws ecr create-repository --repository-name team/app
aws ecr get-login-password | skopeo login --tls-verify=false -u AWS --password-stdin {registry}
skopeo copy --dest-tls-verify=false oci:images/debian:latest docker://{registry}/team/app:v1
aws ecr describe-images --repository-name team/app > described.json
skopeo copy --src-tls-verify=false docker://{registry}/team/app:v1 oci:back:v1
aws ecr batch-delete-image --repository-name team/app --image-ids imageTag=v1 > deleted.json
aws ecr list-images --repository-name team/app > left.json
"""


@pytest.fixture
def tour(make_server, tmp_path):
    """Takes the tour in an empty directory, with nothing but what the first start printed."""
    needs("aws", "none: PyPI's awscli")
    needs("skopeo", "skopeo")
    server = make_server()
    root = server.root_account()
    exported = {
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_ACCESS_KEY_ID": root.access_key_id,
        "AWS_SECRET_ACCESS_KEY": root.secret_access_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "REGISTRY_AUTH_FILE": str(tmp_path / "auth.json"),
    }

    def take(registry, layout, wrapper=()):
        (tmp_path / "images").mkdir()
        (tmp_path / "images" / "debian").symlink_to(layout)
        done = subprocess.run(
            [*wrapper, "bash", "-c", TOUR.format(registry=registry)],
            cwd=tmp_path,
            env=environment(exported),
            text=True,
            capture_output=True,
            timeout=300,
        )
        assert done.returncode == 0, f"the tour ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return server, done.stdout

    return take


def check(tmp_path, layout, created, registry_uri):
    digest = layout_digest(layout, "latest")
    assert layout_digest(tmp_path / "back", "v1") == digest, "the image came back with another digest"
    (described,) = json.loads((tmp_path / "described.json").read_text())["imageDetails"]
    assert described["imageDigest"] == digest and described["imageTags"] == ["v1"]
    deleted = json.loads((tmp_path / "deleted.json").read_text())
    assert deleted == {"imageIds": [{"imageDigest": digest, "imageTag": "v1"}], "failures": []}
    assert json.loads((tmp_path / "left.json").read_text()) == {"imageIds": []}
    repository = json.JSONDecoder().raw_decode(created)[0]["repository"]
    assert repository["repositoryUri"] == f"{registry_uri}/team/app"


def test_the_tour_with_a_real_image(tour, real_images, tmp_path):
    server, said = tour_on_bare_host(tour, real_images / "debian")
    check(tmp_path, real_images / "debian", said, server.host)


def test_the_tour_with_a_small_image(tour, tmp_path):
    layout = write_layout(tmp_path / "layout", {"latest": images.image("tour", layers=3)})
    server, said = tour_on_bare_host(tour, layout)
    check(tmp_path, layout, said, server.host)


def tour_on_bare_host(tour, layout):
    # The registry's name is the endpoint's: the server is told its port by the fixture, so ask it.
    return tour("${AWS_ENDPOINT_URL#http://}", layout)


def test_the_tour_through_the_host_name_of_ecr(tour, tmp_path):
    name = "123456789012.dkr.ecr.us-east-1.localhost"
    layout = write_layout(tmp_path / "layout", {"latest": images.image("tour-by-name", layers=2)})
    server, said = tour(f"{name}:${{AWS_ENDPOINT_URL##*:}}", layout, wrapper=resolving(name, tmp_path))
    check(tmp_path, layout, said, server.host)
