"""deploy/: the systemd units, and the image of wharf itself, which wharf keeps and which runs."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from harness import oci
from harness.aws import client
from harness.containers import tool
from harness.http import send
from harness.process import needs, needs_root, run, wait_until
from harness.server import REPOSITORY_ROOT, Account, program

DEPLOY = REPOSITORY_ROOT / "deploy"


# ---------------------------------------------------------------- systemd


@pytest.fixture
def units(tmp_path):
    """The units with the tested program in the place of the installed one: systemd looks whether it is there."""
    made = []
    for unit in sorted((DEPLOY / "systemd").glob("wharf*.*")):
        text = unit.read_text().replace("/usr/local/bin/wharf", str(program()))
        (tmp_path / unit.name).write_text(text)
        made.append(tmp_path / unit.name)
    assert len(made) == 3, made
    return made


def test_systemd_takes_the_units(units):
    analyze = needs("systemd-analyze", "systemd")
    done = run(analyze, "verify", "--man=no", "--recursive-errors=no", *units, check=False)
    # It also looks at the machine's own units; what it says about ours counts.
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "wharf" in line]
    assert ours == [], "\n".join(ours)


def test_the_unit_is_confined(units):
    analyze = needs("systemd-analyze", "systemd")
    (unit,) = (unit for unit in units if unit.name == "wharf.service")
    # The exposure is a number from 0 (confined) to 10 (not at all), times ten as a threshold.
    done = run(analyze, "security", "--offline=true", "--threshold=25", "--no-pager", unit, check=False)
    if "Unknown" in done.stderr or "unrecognized option" in done.stderr:
        pytest.skip(f"this systemd judges no files: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr


def test_the_unit_gives_a_drain_its_time():
    unit = (DEPLOY / "systemd" / "wharf.service").read_text()
    settings = json.loads(run(program(), "config", "--json").stdout)
    drain = settings["limits.drain"]["value"] if isinstance(settings, dict) else None
    assert drain == "30s", f"limits.drain is {drain}: look at TimeoutStopSec and terminationGracePeriodSeconds"
    assert int(re.search(r"^TimeoutStopSec=(\d+)s$", unit, re.MULTILINE)[1]) > 30


# ---------------------------------------------------------------- the image


def build(directory, of, tag="test", epoch="1735689600"):
    script = DEPLOY / "image" / "build-image.py"
    env = {"SOURCE_DATE_EPOCH": epoch, "PYTHONDONTWRITEBYTECODE": "1"}
    done = run(sys.executable, script, "--program", of, "--output", directory, "--tag", tag, env=env)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def image_layout(tmp_path_factory):
    directory = tmp_path_factory.mktemp("image") / "layout"
    return directory, build(directory, program())


def blob(layout, descriptor):
    return (layout / "blobs" / "sha256" / descriptor["digest"].removeprefix("sha256:")).read_bytes()


def described(layout):
    index = json.loads((layout / "index.json").read_text())
    (descriptor,) = index["manifests"]
    manifest = json.loads(blob(layout, descriptor))
    return descriptor, manifest, json.loads(blob(layout, manifest["config"]))


def test_the_same_input_makes_the_same_image(tmp_path):
    small = shutil.which("true")
    digest = build(tmp_path / "once", small)
    descriptor, _, config = described(tmp_path / "once")
    assert descriptor["digest"] == digest
    assert config["created"] == "2025-01-01T00:00:00Z"
    assert build(tmp_path / "again", small) == digest
    assert build(tmp_path / "later", small, epoch="1735689601") != digest
    assert build(tmp_path / "another", shutil.which("false")) != digest


def test_the_image_holds_the_program_for_nobody_s_user(image_layout):
    layout, _ = image_layout
    _, manifest, config = described(layout)
    assert config["config"]["User"] == "65532:65532"
    assert config["config"]["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    (layer,) = manifest["layers"]
    path = layout / "blobs" / "sha256" / layer["digest"].removeprefix("sha256:")
    with tarfile.open(path) as tar:
        entries = {entry.name: entry for entry in tar}
    assert entries["data"].uid == 65532 and entries["data"].mode == 0o700
    assert entries["usr/bin/wharf"].uid == 0 and entries["usr/bin/wharf"].mode == 0o755
    shells = [name for name in entries if Path(name).name in ("sh", "bash", "busybox", "apt", "dpkg")]
    assert shells == [] and len(entries) < 40, sorted(entries)


@pytest.fixture(scope="module")
def kept(image_layout, server, account, password):
    """The image, pushed to the wharf that it is made of."""
    needs("skopeo", "skopeo")
    layout, digest = image_layout
    client("ecr", server.endpoint, account).create_repository(repositoryName="wharf")
    name = f"{server.host}/wharf:test"
    to = ("--dest-tls-verify=false", "--dest-creds", f"AWS:{password}", "--preserve-digests")
    run("skopeo", "copy", *to, f"oci:{layout}:test", f"docker://{name}", timeout=300)
    assert oci.Registry(server.endpoint, password).manifest("wharf", "test").expect(200).headers["Docker-Content-Digest"] == digest
    return name


def test_wharf_keeps_its_own_image_and_podman_runs_it(kept, server, password, tmp_path):
    with tool("podman") as podman:
        podman("login", "--tls-verify=false", "-u", "AWS", "-p", password, server.host)
        podman("pull", "--quiet", "--tls-verify=false", kept)
        options = ("--rm", "--network=none", "--ulimit=host", "--read-only", "--tmpfs=/data")
        done = podman("run", *options, kept, "version", check=False)
        if done.returncode != 0 and "OCI" in done.stderr:
            pytest.skip(f"no container can be run here: {done.stderr.strip()[-300:]}")
        assert done.returncode == 0 and done.stdout.startswith("wharf "), done.stderr


def test_the_root_file_system_serves(kept, server, password, tmp_path):
    """What was pulled, unpacked; its program in a chroot, as the image's user, with nothing of this machine's."""
    needs_root()
    needs("umoci", "umoci")
    creds = ("--src-tls-verify=false", "--src-creds", f"AWS:{password}")
    run("skopeo", "copy", *creds, f"docker://{kept}", f"oci:{tmp_path / 'pulled'}:test", timeout=300)
    run("umoci", "unpack", "--image", f"{tmp_path / 'pulled'}:test", tmp_path / "bundle")
    root = tmp_path / "bundle" / "rootfs"
    config = json.loads((tmp_path / "bundle" / "config.json").read_text())
    assert (config["process"]["user"]["uid"], config["process"]["user"]["gid"]) == (65532, 65532)
    variables = dict(pair.split("=", 1) for pair in config["process"]["env"])
    assert variables["WHARF_DATA_DIR"] == "/data"

    # As it is, it wants to be told how it is spoken to: other machines reach it.
    refusal = in_root(root, config, variables)
    _, said = refusal.communicate(timeout=60)
    assert refusal.returncode != 0 and "insecure-plain-http" in said, said

    served = in_root(root, config, variables | {"WHARF_LISTEN": "127.0.0.1:0"})
    try:
        line = served.stdout.readline()
        assert line.startswith("listening on http://127.0.0.1:"), line + served.stderr.read()
        endpoint = line.split()[2]
        send(endpoint, "GET", "/readyz").expect(200)
        credentials = root / "data" / "root-credentials.json"
        wait_until(credentials.exists, "the first account")
        assert credentials.stat().st_uid == 65532
        made = json.loads(credentials.read_text())
        ecr = client("ecr", endpoint, Account(made["account_id"], made["access_key_id"], made["secret_access_key"]))
        ecr.create_repository(repositoryName="team/app")
    finally:
        served.send_signal(signal.SIGTERM)
        served.communicate(timeout=60)
    assert served.returncode == 0


def in_root(root, config, variables):
    user = config["process"]["user"]
    chroot = shutil.which("chroot", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    return subprocess.Popen(
        [chroot, f"--userspec={user['uid']}:{user['gid']}", root, *config["process"]["args"]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=variables,
    )
