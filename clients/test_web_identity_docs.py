"""docs/ci.md and docs/kubernetes.md, run: what they print makes a provider and roles, logs jobs in and answers kubelets."""

import json
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import yaml

from harness.document import examples
from harness.images import layout_digest
from harness.issuer import Issuer
from harness.process import environment, needs, refused, run
from harness.server import program

GITHUB, GITLAB = "https://token.actions.githubusercontent.com", "https://gitlab.com"
CLUSTER = "https://kubernetes.default.svc.cluster.local"


@pytest.fixture(scope="module")
def issuers():
    return {url: Issuer(url) for url in (GITHUB, GITLAB, CLUSTER)}


@pytest.fixture
def server(make_server, issuers, tmp_path):
    """A server of account 123456789012 that has every issuer's keys in files."""
    keys = []
    for number, (url, issuer) in enumerate(issuers.items()):
        (tmp_path / f"jwks-{number}.json").write_text(json.dumps(issuer.jwks))
        keys.append(f"{url}={tmp_path / f'jwks-{number}.json'}")
    return make_server("--oidc-jwks", ",".join(keys))


@pytest.fixture
def shell(server, tmp_path):
    """Runs a document's commands in a directory with its files; `wharf` and `docker` are the test's."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "wharf").symlink_to(program())
    # A docker that only says what it was told: the images here are pushed by skopeo.
    (tmp_path / "bin" / "docker").write_text('#!/bin/sh\necho "docker $*"\n')
    (tmp_path / "bin" / "docker").chmod(0o755)
    (tmp_path / "home").mkdir()

    def call(script, **variables):
        script = script.replace("registry.example.com", server.host)
        base = {name: value for name, value in environment().items() if not name.startswith("AWS_")}
        base["PATH"] = f"{tmp_path / 'bin'}:{base['PATH']}"
        base |= {"HOME": str(tmp_path / "home"), "AWS_PAGER": "", "AWS_EC2_METADATA_DISABLED": "true"}
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            env=base | variables,
            text=True,
            capture_output=True,
            timeout=120,
        )

    return call


@pytest.fixture
def as_root(server, shell):
    """The same with the root key, and a failure if it fails."""
    root = server.root_account()

    def call(script):
        done = shell(
            script,
            AWS_ENDPOINT_URL=server.endpoint,
            AWS_ACCESS_KEY_ID=root.access_key_id,
            AWS_SECRET_ACCESS_KEY=root.secret_access_key,
            AWS_REGION="us-east-1",
            AWS_DEFAULT_REGION="us-east-1",
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return call


@pytest.fixture
def ci(as_root, tmp_path):
    """The part of docs/ci.md that is done once."""
    needs("aws", "none: PyPI's awscli")
    needs("skopeo", "skopeo")
    printed = examples("ci.md")
    for name in ("trust-github.json", "trust-gitlab.json", "push.json"):
        (tmp_path / name).write_text(printed[name])
    as_root(printed["provider"])
    as_root(printed["roles"])
    for repository in ("acme/app", "other/app"):
        as_root(f"aws ecr create-repository --repository-name {repository}")
    return printed


@pytest.fixture
def token_service():
    """Where GitHub's runner gets its job's token."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            right = self.headers["Authorization"] == "bearer job" and self.path == "/?v=1&audience=sts.amazonaws.com"
            body = json.dumps({"value": service.token}).encode()
            self.send_response(200 if right else 403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    service = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    yield service
    service.shutdown()
    service.server_close()


def pushes_below_its_prefix_only(server, layout, config):
    env = {"REGISTRY_AUTH_FILE": str(config)}
    copy = ["skopeo", "copy", "--dest-tls-verify=false", f"oci:{layout}:v1"]
    run(*copy, f"docker://{server.host}/acme/app:v1", env=env)
    said = refused(*copy, f"docker://{server.host}/other/app:v1", env=env)
    # The first question is a HEAD, whose answer has no words.
    assert "403 (Forbidden)" in said, said


def test_github_actions(server, shell, ci, issuers, token_service, layout, tmp_path):
    needs("curl", "curl")
    needs("jq", "jq")
    job = yaml.safe_load(ci["github.yml"])["jobs"]["push"]
    assert job["permissions"]["id-token"] == "write"
    login, push = (step["run"] for step in job["steps"] if "run" in step)
    url = f"http://127.0.0.1:{token_service.server_port}/?v=1"
    variables = job["env"] | {
        "RUNNER_TEMP": str(tmp_path),
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "job",
        "ACTIONS_ID_TOKEN_REQUEST_URL": url,
    }
    token_service.token = issuers[GITHUB].token("repo:acme/app:pull_request")
    done = shell(login, **variables)
    assert done.returncode == 1 and "AccessDenied" in done.stderr, done.stderr
    assert not (tmp_path / "home" / ".docker").exists()

    token_service.token = issuers[GITHUB].token("repo:acme/app:ref:refs/heads/main")
    done = shell(login, **variables)
    assert done.returncode == 0, done.stderr
    pushes_below_its_prefix_only(server, layout, tmp_path / "home" / ".docker" / "config.json")
    assert shell(push, GITHUB_SHA="abc").stdout.splitlines()[1] == f"docker push {server.host}/acme/app:abc"
    explained = server.command(
        *("explain", "--principal", "arn:aws:iam::123456789012:role/github"),
        *("--action", "ecr:PutImage", "--resource", "acme/app"),
    )
    assert explained.stdout.startswith("Allowed: ")


def test_gitlab_ci(server, shell, ci, issuers, layout, tmp_path):
    job = yaml.safe_load(ci["gitlab.yml"])["push"]
    audience = job["id_tokens"]["ID_TOKEN"]["aud"]
    script = "\n".join(job["script"])
    subject = "project_path:acme/app:ref_type:branch:ref:feature"
    done = shell(script, **job["variables"], ID_TOKEN=issuers[GITLAB].token(subject, audience="other"), CI_COMMIT_SHA="abc")
    assert done.returncode == 1 and "was refused: " in done.stderr, done.stderr
    done = shell(script, **job["variables"], ID_TOKEN=issuers[GITLAB].token(subject, audience), CI_COMMIT_SHA="abc")
    assert done.returncode == 0, done.stderr
    pushes_below_its_prefix_only(server, layout, tmp_path / "home" / ".docker" / "config.json")


def provider_of(document):
    """The one provider of a CredentialProviderConfig, with the members that kubelets require."""
    assert (document["apiVersion"], document["kind"]) == ("kubelet.config.k8s.io/v1", "CredentialProviderConfig")
    (provider,) = document["providers"]
    assert {"name", "matchImages", "defaultCacheDuration", "apiVersion"} <= set(provider)
    assert provider["apiVersion"] == "credentialprovider.kubelet.k8s.io/v1" and provider["name"] == "wharf"
    return provider


def ask(shell, provider, image, **more):
    request = {"apiVersion": provider["apiVersion"], "kind": "CredentialProviderRequest", "image": image} | more
    variables = {entry["name"]: entry["value"] for entry in provider.get("env", [])}
    arguments = " ".join(provider["args"])
    return shell(f"{provider['name']} {arguments} <<'END'\n{json.dumps(request)}\nEND", **variables)


def test_a_kubelet_by_service_account(server, shell, as_root, issuers, layout, tmp_path):
    needs("aws", "none: PyPI's awscli")
    needs("skopeo", "skopeo")
    printed = examples("kubernetes.md")
    (tmp_path / "trust.json").write_text(printed["trust.json"])
    as_root(printed["provider"])
    as_root("aws ecr create-repository --repository-name shop/web")
    provider = provider_of(yaml.safe_load(printed["service-accounts.yml"]))
    attributes = provider["tokenAttributes"]
    assert set(attributes) >= {"serviceAccountTokenAudience", "cacheType", "requireServiceAccount"}
    account = yaml.safe_load(printed["service-account.yml"])["metadata"]
    annotations = {key: account["annotations"][key] for key in attributes["requiredServiceAccountAnnotationKeys"]}
    subject = f"system:serviceaccount:{account['namespace']}:{account['name']}"
    audience = attributes["serviceAccountTokenAudience"]
    image = f"{server.host}/shop/web:v1"

    def request(subject, **more):
        token = issuers[CLUSTER].token(subject, audience)
        return ask(shell, provider, image, serviceAccountToken=token, **{"serviceAccountAnnotations": annotations} | more)

    done = request(subject)
    assert done.returncode == 0, done.stderr
    response = json.loads(done.stdout)
    assert (response["apiVersion"], response["kind"]) == (provider["apiVersion"], "CredentialProviderResponse")
    # Half of the hour that the role's session lasts.
    assert response["cacheKeyType"] == "Registry" and 1700 <= int(response["cacheDuration"].removesuffix("s")) <= 1800
    (login,) = response["auth"].items()
    assert login[0] == server.host and login[1]["username"] == "AWS"
    env = {"REGISTRY_AUTH_FILE": str(tmp_path / "pod.json")}
    run("skopeo", "login", "--tls-verify=false", "-u", "AWS", "--password-stdin", server.host, input=login[1]["password"], env=env)
    root = server.password(server.root_account())
    run("skopeo", "copy", "--dest-tls-verify=false", "--dest-creds", f"AWS:{root}", f"oci:{layout}:v1", f"docker://{image}", env=env)
    run("skopeo", "copy", "--src-tls-verify=false", f"docker://{image}", f"oci:{tmp_path / 'back'}:v1", env=env)
    assert layout_digest(tmp_path / "back", "v1") == layout_digest(layout, "v1")
    refused("skopeo", "copy", "--dest-tls-verify=false", f"oci:{layout}:v1", f"docker://{server.host}/shop/web:v2", env=env)

    other = request("system:serviceaccount:shop:other")
    assert (other.returncode, other.stdout) == (1, "") and "AccessDenied" in other.stderr
    bare = request(subject, serviceAccountAnnotations={})
    assert (bare.returncode, bare.stdout) == (1, "") and "has no annotation" in bare.stderr


def test_a_kubelet_by_its_node(server, shell, as_root, tmp_path):
    needs("aws", "none: PyPI's awscli")
    provider = provider_of(yaml.safe_load(examples("kubernetes.md")["node.yml"]))
    root = server.root_account()
    path = tmp_path / "wharf-credentials"
    (entry,) = provider["env"]
    assert entry["name"] == "AWS_SHARED_CREDENTIALS_FILE"
    entry["value"] = str(path)
    key = f"aws_access_key_id = {root.access_key_id}\naws_secret_access_key = {root.secret_access_key}\n"
    path.write_text(f"[default]\n{key}")
    done = ask(shell, provider, f"{server.host}/shop/web:v1")
    assert done.returncode == 0, done.stderr
    assert list(json.loads(done.stdout)["auth"]) == [server.host]
