"""containerd with its own root, state and socket, driven by ctr."""

import json
import shutil
import signal
import subprocess
import urllib.parse

import pytest

from harness import containers, images
from harness.aws import client
from harness.oci import Registry
from harness.process import environment, refused, run, wait_until
from harness.server import program


@pytest.fixture(scope="module")
def ctr(password):
    with containers.containerd() as call:
        call.user = ["--plain-http", "--user", f"AWS:{password}"]
        yield call


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


def lifecycle_keeps_one_tag(server, account, ecr, repository):
    """A policy that keeps the newest image, carried out; answers which tags are left."""
    rule = {
        "rulePriority": 1,
        "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 1},
        "action": {"type": "expire"},
    }
    ecr.put_lifecycle_policy(repositoryName=repository, lifecyclePolicyText=json.dumps({"rules": [rule]}, indent=2))
    server.command("lifecycle", "run", "--repository", repository, "--account", account.id)
    pages = ecr.get_paginator("list_images").paginate(repositoryName=repository)
    return {image["imageTag"] for page in pages for image in page["imageIds"] if "imageTag" in image}


def test_what_containerd_runs_is_reported_and_kept(ctr, make_server, real_images, tmp_path):
    server = make_server("--in-use-protect")
    account = server.root_account()
    ecr = client("ecr", server.endpoint, account)
    repository = "tests/in-use"
    ecr.create_repository(repositoryName=repository)
    password = server.password(account)
    registry = Registry(server.endpoint, password)
    target = f"{server.host}/{repository}:running"
    run(
        *("skopeo", "copy", "--dest-tls-verify=false", "--dest-creds", f"AWS:{password}"),
        *(f"oci:{real_images / 'debian'}:latest", f"docker://{target}"),
    )
    for tag in ("idle", "newest"):
        registry.push(repository, images.image(f"in-use-{tag}"), tag)
    user = ["--plain-http", "--user", f"AWS:{password}"]
    container = f"wharf-in-use-{server.port}"
    ctr("images", "pull", *user, "--snapshotter", "native", target)
    ctr("run", "--detach", "--snapshotter", "native", target, container, "/bin/sleep", "600")
    signed = {
        "AWS_ACCESS_KEY_ID": account.access_key_id,
        "AWS_SECRET_ACCESS_KEY": account.secret_access_key,
        "HOME": str(tmp_path),
    }
    agent = None
    try:
        here = ("--containerd", ctr.socket, "--namespace", "wharf-test", "--endpoint", server.endpoint)
        report = (program(), "in-use", "report", "--holder", "node-1", *here)
        told = json.loads(run(*report, "--json", env=signed).stdout)
        assert (told["images"], told["ignored"]) == (1, 0)
        listed = json.loads(server.command("in-use", "list", "--account", account.id, "--json").stdout)
        assert listed == [{"digest": digest_of(ctr, target), "holders": ["node-1"]}]

        assert lifecycle_keeps_one_tag(server, account, ecr, repository) == {"running", "newest"}
        kept = ecr.batch_delete_image(repositoryName=repository, imageIds=[{"imageTag": "running"}])
        assert [failure["failureCode"] for failure in kept["failures"]] == ["ImageInaccessible"]
        assert "node-1" in kept["failures"][0]["failureReason"]
        denied = registry.request("DELETE", f"/v2/{repository}/manifests/{digest_of(ctr, target)}")
        assert denied.status == 403 and b"DENIED" in denied.body and b"node-1" in denied.body

        # The agent reports by itself and ends at SIGTERM.
        report = (program(), "in-use", "report", "--holder", "node-2", *here)
        agent = subprocess.Popen(
            [str(part) for part in (*report, "--every", "1s", "--json")],
            env=environment(signed),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert "node-2" in agent.stdout.readline()
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(20) == 0
        listed = json.loads(server.command("in-use", "list", "--account", account.id, "--json").stdout)
        assert [image["holders"] for image in listed] == [["node-1", "node-2"]]
        ctr("tasks", "kill", "--signal", "SIGKILL", container)
        wait_until(lambda: "STOPPED" in ctr("tasks", "list").stdout.split(container, 1)[1], "the task to stop")
        told = json.loads(run(*report, "--json", env=signed).stdout)
        assert told["images"] == 0, "what has stopped is not in use"
    finally:
        if agent is not None and agent.poll() is None:
            agent.kill()
        ctr("tasks", "delete", "--force", container)
        ctr("containers", "delete", container)
    place = ("--repository", repository, "--account", account.id)
    refused_without_force = server.command("image", "delete", *place, "running", check=False)
    assert refused_without_force.returncode == 1 and "node-1, node-2" in refused_without_force.stderr
    done = json.loads(server.command("image", "delete", *place, "--force", "running", "--json").stdout)
    assert done["in_use_by"] == ["node-1", "node-2"]


def test_ctr_is_told_why_an_immutable_tag_stays(ctr, server, ecr, registry, unique):
    repository = f"tests/ctr-immutable-{unique()}"
    ecr.create_repository(repositoryName=repository, imageTagMutability="IMMUTABLE")
    first, second = images.image("ctr-first"), images.image("ctr-second")
    registry.push(repository, first, "v1")
    registry.push(repository, second, "other")
    other, taken = (f"{server.host}/{repository}:{tag}" for tag in ("other", "v1"))
    ctr("images", "pull", *ctr.user, "--snapshotter", "native", other)
    ctr("images", "tag", other, taken)
    said = ctr("images", "push", *ctr.user, taken, how=refused)
    assert "400" in said or "immutable" in said, said
    assert images.sha256(registry.manifest(repository, "v1").expect(200).body) == first.digest


def test_ctr_is_refused_with_a_wrong_password(ctr, server, repository):
    target = f"{server.host}/{repository}:v1"
    said = ctr("images", "pull", "--plain-http", "--user", "AWS:wrong", target, how=refused)
    assert "401" in said or "authorization failed" in said.lower() or "unauthorized" in said.lower(), said


def test_ctr_names_are_plain_hosts(server):
    # A guard for the tests above: ctr refuses schemes in names, so the host must be bare.
    assert urllib.parse.urlsplit(f"//{server.host}").port == server.port
