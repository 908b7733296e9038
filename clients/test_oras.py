"""oras (the Python library): artifacts of any media type, and referrers."""

import pytest

from harness import images

oras_client = pytest.importorskip("oras.client", reason="oras is not installed; ./test installs it")


@pytest.fixture(scope="module")
def oras(server, password):
    client = oras_client.OrasClient(hostname=server.host, insecure=True, auth_backend="basic")
    client.auth.set_basic_auth("AWS", password)
    return client


def test_an_artifact_comes_back_as_it_went(oras, server, ecr, repository, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report.json").write_text('{"answer": 42}')
    target = f"{server.host}/{repository}:report"
    pushed = oras.push(target=target, files=["report.json:application/json"])
    assert pushed.status_code == 201, pushed.text

    pulled = oras.pull(target=target, outdir=str(tmp_path / "out"))
    assert [open(path).read() for path in pulled] == ['{"answer": 42}']
    described = ecr.describe_images(repositoryName=repository)["imageDetails"]
    assert [d["imageTags"] for d in described] == [["report"]]
    assert pushed.headers["Docker-Content-Digest"] == described[0]["imageDigest"]


def test_tags_are_listed(oras, server, registry, repository):
    for tag in ("a", "b", "c"):
        registry.push(repository, images.artifact("oras"), tag)
    assert sorted(oras.get_tags(f"{server.host}/{repository}")) == ["a", "b", "c"]


def test_a_manifest_is_fetched_by_tag_and_digest(oras, server, registry, repository):
    one = images.artifact("oras-manifest", annotations={"org.example.note": "kept"})
    registry.push(repository, one, "v1")
    for reference in (":v1", f"@{one.digest}"):
        manifest = oras.get_manifest(f"{server.host}/{repository}{reference}")
        assert manifest["annotations"] == {"org.example.note": "kept"}


def test_a_tag_is_deleted(oras, server, ecr, registry, repository):
    registry.push(repository, images.artifact("oras-delete"), "v1")
    assert oras.delete_tags(f"{server.host}/{repository}", tags=["v1"])
    assert ecr.list_images(repositoryName=repository)["imageIds"] == []
