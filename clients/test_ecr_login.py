"""Amazon's own credential helper, unchanged, on AWS's own host names: in a mount and network namespace of its own, where
port 443, the hosts file and the trusted certificates are the test's. Nothing of it is seen outside."""

import json
import os
import subprocess

import pytest

from harness.document import examples
from harness.images import layout_digest
from harness.process import environment, needs, needs_root
from harness.server import program

REGISTRY = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
API = "api.ecr.us-east-1.amazonaws.com"

INSIDE = r"""
set -euo pipefail
ip link set lo up
mount --bind hosts /etc/hosts
"$WHARF" serve --data-dir data --listen 127.0.0.1:443 --tls files --tls-cert server.pem --tls-key server.key \
    >said 2>errors &
server=$!
trap 'kill $server 2>/dev/null; wait $server || { cat errors >&2; exit 1; }' EXIT
until grep -q '^listening on https://' said; do
    kill -0 $server || { cat errors >&2; exit 1; }
    read -r -t 0.05 <> <(:) || true
done
export AWS_ACCESS_KEY_ID=$(jq -r .access_key_id data/root-credentials.json)
export AWS_SECRET_ACCESS_KEY=$(jq -r .secret_access_key data/root-credentials.json)
aws ecr create-repository --repository-name team/app >created.json
skopeo copy "oci:$LAYOUT:v1" "docker://$REGISTRY/team/app:v1"
skopeo copy "docker://$REGISTRY/team/app:v1" oci:back:v1
docker-credential-ecr-login list >listed.json
export AWS_SECRET_ACCESS_KEY=wrong HOME=$PWD/other
if skopeo inspect "docker://$REGISTRY/team/app:v1" >refused 2>&1; then exit 1; fi
"""


def can_have_namespaces():
    made = subprocess.run(["unshare", "--mount", "--net", "true"], capture_output=True, text=True)
    return made.returncode == 0


def certificate(directory):
    """An authority, and a certificate of it for both of AWS's names."""
    names = directory / "names"
    names.write_text(f"subjectAltName=DNS:{REGISTRY},DNS:{API}\n")
    for command in (
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test-authority -keyout ca.key -out ca.pem",
        "req -newkey rsa:2048 -nodes -subj /CN=test-server -keyout server.key -out server.csr",
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem",
    ):
        subprocess.run(["openssl", *command.split()], cwd=directory, check=True, capture_output=True)


def test_amazons_helper_logs_skopeo_in(layout, tmp_path):
    for command, package in [
        ("docker-credential-ecr-login", "amazon-ecr-credential-helper"),
        ("unshare", "util-linux"),
        ("openssl", "openssl"),
        ("skopeo", "skopeo"),
        ("ip", "iproute2"),
        ("jq", "jq"),
        ("aws", "none: PyPI's awscli"),
    ]:
        needs(command, package)
    needs_root()
    if not can_have_namespaces():
        pytest.skip("mount and network namespaces are not permitted here, and the test will not touch this machine's own")
    certificate(tmp_path)
    (tmp_path / "hosts").write_text(f"127.0.0.1 localhost {REGISTRY} {API}\n")
    auth = examples("logging-in.md")["ecr-login"]
    assert json.loads(auth) == {"credHelpers": {REGISTRY: "ecr-login"}}
    (tmp_path / "auth.json").write_text(auth)
    (tmp_path / "other").mkdir()
    inside = {
        "WHARF": str(program()),
        "REGISTRY": REGISTRY,
        "LAYOUT": str(layout),
        "HOME": str(tmp_path),
        "REGISTRY_AUTH_FILE": str(tmp_path / "auth.json"),
        "SSL_CERT_FILE": str(tmp_path / "ca.pem"),
        "AWS_CA_BUNDLE": str(tmp_path / "ca.pem"),
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin",
    }
    # Neither an endpoint nor anything else of AWS's settings: names alone lead to wharf.
    names = [name for name in os.environ if name.startswith("AWS_")]
    clean = {name: value for name, value in environment().items() if name not in names and name != "WHARF"}
    done = subprocess.run(
        ["unshare", "--mount", "--net", "bash", "-c", INSIDE],
        cwd=tmp_path,
        env=clean | inside,
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert "refused" in os.listdir(tmp_path), f"{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert layout_digest(tmp_path / "back", "v1") == layout_digest(layout, "v1")
    created = json.loads((tmp_path / "created.json").read_text())["repository"]
    assert created["repositoryUri"] == f"{REGISTRY}/team/app"
    assert list(json.loads((tmp_path / "listed.json").read_text())) == [f"https://{REGISTRY}"]
    assert "unauthorized" in (tmp_path / "refused").read_text().lower() or "credentials" in (tmp_path / "refused").read_text()
