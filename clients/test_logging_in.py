"""wharf as a client: login, the credential helper under its own name, profiles for the AWS CLI, explanations."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from harness import aws as aws_face
from harness.document import examples
from harness.images import layout_digest
from harness.process import needs, needs_root, refused, remove_tree, run
from harness.server import program


@pytest.fixture
def keys(account):
    return {"AWS_ACCESS_KEY_ID": account.access_key_id, "AWS_SECRET_ACCESS_KEY": account.secret_access_key}


@pytest.fixture
def user(server, keys, tmp_path):
    """Variables of a user with an empty home, the helper in the PATH, and the root key of the account."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "docker-credential-wharf").symlink_to(program())
    (tmp_path / "home").mkdir()
    return keys | {
        "HOME": str(tmp_path / "home"),
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "REGISTRY_AUTH_FILE": str(tmp_path / "auth.json"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "AWS_REGION": "us-east-1",
    }


@pytest.fixture
def helped(server, user, tmp_path):
    """The same with the documents' entry for the helper."""
    entry = json.loads(examples("logging-in.md")["helper"])
    helpers = {name.replace("registry.example.com", server.host): helper for name, helper in entry["credHelpers"].items()}
    assert helpers[server.host] == "wharf"
    (tmp_path / "auth.json").write_text(json.dumps({"credHelpers": helpers}))
    return user


def test_skopeo_pushes_and_pulls_by_the_helper(server, helped, repository, layout, tmp_path):
    needs("skopeo", "skopeo")
    target = f"docker://{server.host}/{repository}:v1"
    run("skopeo", "copy", "--dest-tls-verify=false", f"oci:{layout}:v1", target, env=helped)
    run("skopeo", "copy", "--src-tls-verify=false", target, f"oci:{tmp_path / 'back'}:v1", env=helped)
    assert layout_digest(tmp_path / "back", "v1") == layout_digest(layout, "v1")
    (remembered,) = (tmp_path / "cache" / "wharf" / "passwords").glob("*.json")
    assert remembered.stat().st_mode & 0o777 == 0o600
    without = helped | {"AWS_SECRET_ACCESS_KEY": "wrong"}
    said = refused("skopeo", "inspect", "--tls-verify=false", target, env=without)
    assert "InvalidSignatureException" in said, said


@pytest.mark.parametrize("tool", ["podman", "buildah"])
def test_podman_and_buildah_pull_by_the_helper(tool, server, helped, repository, layout):
    needs(tool, tool)
    needs("skopeo", "skopeo")
    needs_root()
    target = f"{server.host}/{repository}:v1"
    run("skopeo", "copy", "--dest-tls-verify=false", f"oci:{layout}:v1", f"docker://{target}", env=helped)
    storage = Path(tempfile.mkdtemp(prefix=f"wharf-{tool}-"))
    try:
        options = ["--storage-driver", "vfs", "--root", storage / "root", "--runroot", storage / "run"]
        pulled = run(tool, *options, "pull", "--tls-verify=false", target, env=helped | {"TMPDIR": str(storage)})
        assert len(pulled.stdout.strip().splitlines()[-1]) == 64, pulled.stdout
    finally:
        remove_tree(storage)


def test_skopeo_and_docker_log_out_by_the_helper(server, helped, repository, layout):
    needs("skopeo", "skopeo")
    helper = lambda action, said: run("docker-credential-wharf", action, input=said, env=helped)  # noqa: E731
    first = json.loads(helper("get", server.host).stdout)
    assert json.loads(helper("list", "").stdout) == {server.host: "AWS"}
    run("skopeo", "logout", server.host, env=helped)
    assert json.loads(helper("list", "").stdout) == {}
    assert json.loads(helper("get", server.host).stdout)["Secret"] != first["Secret"]


def test_a_login_is_docker_s_and_skopeo_s(server, user, repository, layout, tmp_path):
    needs("skopeo", "skopeo")
    run(program(), "login", "--registry", server.host, env=user)
    config = tmp_path / "home" / ".docker" / "config.json"
    logged_in = user | {"REGISTRY_AUTH_FILE": str(config)}
    target = f"docker://{server.host}/{repository}:v1"
    run("skopeo", "copy", "--dest-tls-verify=false", f"oci:{layout}:v1", target, env=logged_in)
    if docker := shutil.which("docker"):
        # Only the client: it reads the same file and asks nobody.
        said = run(docker, "--config", config.parent, "logout", server.host, env=user).stdout
        assert "Removing login credentials" in said, said
        assert json.loads(config.read_text())["auths"] == {}


def test_a_profile_is_the_aws_cli_s(server, account, user, tmp_path):
    needs("aws", "none: PyPI's awscli")
    (tmp_path / "home" / ".aws").mkdir()
    config = tmp_path / "home" / ".aws" / "config"
    config.write_text("# kept\n[default]\nregion = eu-west-1\n")
    key = {"access_key_id": account.access_key_id, "secret_access_key": account.secret_access_key}
    env = {name: value for name, value in user.items() if not name.startswith("AWS_")} | {
        name: "" for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_PROFILE", "AWS_ENDPOINT_URL")
    }
    for _ in range(2):
        run(
            *(program(), "aws-profile", "--name", "team", "--endpoint", server.endpoint, "--credentials", "-"),
            *("--data-dir", server.data_dir),
            input=json.dumps(key),
            env=env,
        )
    assert config.read_text().startswith("# kept\n[default]\nregion = eu-west-1\n\n[profile team]\n")
    assert config.read_text().count("[profile team]") == 1
    for service in ("ecr describe-registry", "sts get-caller-identity", "iam list-users", "kms list-keys"):
        run("aws", "--profile", "team", *service.split(), env=env)
    said = json.loads(run("aws", "--profile", "team", "sts", "get-caller-identity", env=env).stdout)
    assert said["Account"] == account.id
    password = run(program(), "login", "--profile", "team", "--print", env=env).stdout.strip()
    login = ["skopeo", "login", "--tls-verify=false", "-u", "AWS", "--password-stdin", server.host]
    run(*login, input=password, env=user)


def test_a_user_s_decisions_are_explained(server, account, repository):
    iam = aws_face.client("iam", server.endpoint, account)
    user = iam.create_user(UserName="explained", Path="/team/")["User"]
    arn = f"arn:aws:ecr:us-east-1:{account.id}:repository/{repository}"
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {"Sid": "list", "Effect": "Allow", "Action": "ecr:List*", "Resource": "*"},
            {
                "Sid": "push",
                "Effect": "Allow",
                "Action": "ecr:PutImage",
                "Resource": arn,
                "Condition": {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}},
            },
            {"Sid": "never", "Effect": "Deny", "Action": "ecr:Delete*", "Resource": "*"},
        ],
    }
    iam.put_user_policy(UserName="explained", PolicyName="mine", PolicyDocument=json.dumps(policy))

    def explain(action, *more, expected=0):
        command = ["explain", "--principal", user["Arn"], "--action", action, "--resource", arn, "--json", *more]
        done = server.command(*command, check=False)
        assert done.returncode == expected, done.stdout + done.stderr
        return json.loads(done.stdout)

    denied = explain("ecr:PutImage", expected=1)
    assert (denied["decision"], denied["missing_context"]) == ("ImplicitlyDenied", ["aws:SourceIp"])
    assert denied["message"].startswith(f"User: {user['Arn']} is not authorized to perform: ecr:PutImage on resource: {arn}")
    assert user["Arn"] in denied["missing"] and denied["identity_policies"] == ["mine"]

    allowed = explain("ecr:PutImage", "--context", "aws:SourceIp=192.0.2.7")
    assert [(s["policy"], s["statement"], s["sid"], s["effect"]) for s in allowed["statements"]] == [
        ("mine", 1, "push", "Allow")
    ]
    explicit = explain("ecr:DeleteRepository", expected=1)
    assert explicit["decision"] == "ExplicitlyDenied" and explicit["statements"][0]["sid"] == "never"

    key = iam.create_access_key(UserName="explained")["AccessKey"]
    iam.attach_user_policy(UserName="explained", PolicyArn="arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryReadOnly")
    assert explain("ecr:DescribeImages")["statements"][0]["policy"].endswith("/AmazonEC2ContainerRegistryReadOnly")
    mine = type("Key", (), {"access_key_id": key["AccessKeyId"], "secret_access_key": key["SecretAccessKey"]})
    assert aws_face.client("ecr", server.endpoint, mine).describe_images(repositoryName=repository)["imageDetails"] == []

    foreign = "arn:aws:iam::999988887777:user/nobody"
    missing = server.command("explain", "--principal", foreign, "--action", "ecr:PutImage", "--resource", arn, check=False)
    assert missing.returncode == 1 and f"there is no {foreign}" in missing.stderr


def test_a_repository_policy_decides_for_strangers_as_explained(server, account, stranger, ecr, repository):
    arn = f"arn:aws:ecr:us-east-1:{account.id}:repository/{repository}"
    ask = ["explain", "--principal", stranger.id, "--action", "ecr:BatchGetImage", "--resource", arn, "--json"]
    before = server.command(*ask, check=False)
    assert before.returncode == 1 and "policy of the repository" in json.loads(before.stdout)["missing"]
    statement = {"Sid": "pull", "Effect": "Allow", "Principal": {"AWS": stranger.id}, "Action": "ecr:BatchGetImage"}
    ecr.set_repository_policy(
        repositoryName=repository, policyText=json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    )
    after = json.loads(server.command(*ask).stdout)
    assert ("resource", "pull") in {(s["source"], s["sid"]) for s in after["statements"]}, after
