"""Pulling without credentials by skopeo, podman, containerd and dockerd: only where both host and policy allow."""

import json
from types import SimpleNamespace

import pytest

from harness import aws as aws_face
from harness import containers, images, oci
from harness.process import needs, refused, run
from harness.server import Server

PULL = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability"]
HERE, ELSEWHERE = {"aws:SourceIp": "127.0.0.0/8"}, {"aws:SourceIp": "10.0.0.0/8"}


def to_all(actions=PULL, **conditions):
    statement = {"Effect": "Allow", "Principal": "*", "Action": actions}
    if conditions:
        statement["Condition"] = conditions
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def public(actions=PULL):
    """The policies that let callers of this machine pull without credentials."""
    return [to_all(actions), to_all(actions, IpAddress=HERE)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A server that hears nobody-in-particular on 127.0.0.1, and on no other of its names."""
    server = Server(tmp_path_factory.mktemp("anonymous") / "data", "--anonymous-hosts", "127.0.0.1").start()
    account = server.root_account()
    ecr = aws_face.client("ecr", server.endpoint, account)
    registry = oci.Registry(server.endpoint, server.password(account))
    yield SimpleNamespace(server=server, account=account, ecr=ecr, registry=registry)
    server.stop()


@pytest.fixture
def shelf(place, unique):
    """A repository with the image v1, and a way to set its policy or, by None, to remove it."""
    name = f"tests/shelf-{unique()}"
    place.ecr.create_repository(repositoryName=name)
    one = images.image(name, layers=2)
    place.registry.push(name, one, "v1")

    def policy(text):
        if text is None:
            place.ecr.delete_repository_policy(repositoryName=name)
        else:
            place.ecr.set_repository_policy(repositoryName=name, policyText=text)

    open_host = f"127.0.0.1:{place.server.port}"
    return SimpleNamespace(
        name=name,
        image=one,
        policy=policy,
        open=f"{open_host}/{name}:v1",
        shut=f"localhost:{place.server.port}/{name}:v1",
        new=f"{open_host}/{name}:v2",
        tags=lambda: [i.get("imageTag") for i in place.ecr.list_images(repositoryName=name)["imageIds"]],
    )


def check(shelf, pull, push):
    """The whole story for one client; `pull(target)` and `push(target)` answer None, or what the client was told."""

    # "failed to copy" is containerd 1.6's, when the refusal comes before it has sent everything.
    def is_refused(said):
        assert said is not None, "it went through"
        words = ("401", "403", "denied", "unauthorized", "authentication required", "no basic auth", "failed to copy")
        assert any(word in said.lower() for word in words), said

    is_refused(pull(shelf.open))
    for policy in public():
        shelf.policy(policy)
        assert pull(shelf.open) is None
        is_refused(pull(shelf.shut))
    # No policy lets anybody push, not even one that says so.
    for policy in public("ecr:*"):
        shelf.policy(policy)
        assert pull(shelf.open) is None
        is_refused(push(shelf.new))
        assert shelf.tags() == ["v1"]
    shelf.policy(to_all(IpAddress=ELSEWHERE))
    is_refused(pull(shelf.open))
    shelf.policy(None)
    is_refused(pull(shelf.open))


def attempt(*command, **more):
    return run(*command, check=False, **more)


def outcome(done):
    return None if done.returncode == 0 else done.stdout + done.stderr


def test_skopeo(shelf, layout, tmp_path):
    needs("skopeo", "skopeo")
    env = {"REGISTRY_AUTH_FILE": str(tmp_path / "none.json")}
    pulled = []

    def pull(target):
        directory = tmp_path / f"back-{len(pulled)}"
        pulled.append(directory)
        source = ["--src-no-creds", "--src-tls-verify=false", f"docker://{target}"]
        return outcome(attempt("skopeo", "copy", *source, f"oci:{directory}:back", env=env))

    def push(target):
        there = ["--dest-no-creds", "--dest-tls-verify=false", f"oci:{layout}:v1", f"docker://{target}"]
        return outcome(attempt("skopeo", "copy", *there, env=env))

    check(shelf, pull, push)
    there = [d for d in pulled if (d / "index.json").exists()]
    assert [images.layout_digest(d, "back") for d in there] == [shelf.image.digest] * 4


def test_podman(shelf):
    with containers.tool("podman") as podman:

        def pull(target):
            podman("rmi", "--ignore", "--force", target)
            return outcome(podman("pull", "--tls-verify=false", target, check=False))

        def push(target):
            podman("tag", shelf.open, target)
            return outcome(podman("push", "--tls-verify=false", target, check=False))

        check(shelf, pull, push)


def test_containerd(shelf):
    with containers.containerd() as ctr:

        def pull(target):
            for image in ctr("images", "list", "--quiet").stdout.split():
                ctr("images", "remove", "--sync", image)  # else nothing of it needed to be asked for
            return outcome(ctr("images", "pull", "--plain-http", "--snapshotter", "native", target, how=attempt))

        def push(target):
            ctr("images", "tag", "--force", shelf.open, target)
            return outcome(ctr("images", "push", "--plain-http", target, how=attempt))

        check(shelf, pull, push)


def test_dockerd(shelf):
    # Docker speaks plain HTTP to loopback names without being told.
    with containers.dockerd() as docker:

        def pull(target):
            docker("image", "rm", "--force", target, how=attempt)
            return outcome(docker("pull", target, how=attempt))

        def push(target):
            docker("tag", shelf.open, target)
            return outcome(docker("push", target, how=attempt))

        check(shelf, pull, push)


def test_those_with_a_password_still_push_there(place, shelf, layout, tmp_path):
    password, host = place.server.password(place.account), place.server.host
    creds = f"AWS:{password}"
    skopeo = ["skopeo", "copy", "--dest-tls-verify=false", "--dest-creds", creds]
    run(*skopeo, f"oci:{layout}:v1", f"docker://{host}/{shelf.name}:skopeo")
    with containers.tool("podman") as podman:
        podman("login", "--tls-verify=false", "-u", "AWS", "--password-stdin", host, input=password)
        podman("pull", "--tls-verify=false", shelf.open)
        podman("tag", shelf.open, f"{host}/{shelf.name}:podman")
        podman("push", "--tls-verify=false", f"{host}/{shelf.name}:podman")
    with containers.containerd() as ctr:
        ctr("images", "pull", "--plain-http", "--user", creds, "--snapshotter", "native", shelf.open)
        ctr("images", "tag", shelf.open, f"{host}/{shelf.name}:ctr")
        ctr("images", "push", "--plain-http", "--user", creds, f"{host}/{shelf.name}:ctr")
    with containers.dockerd() as docker:
        docker("login", "-u", "AWS", "--password-stdin", host, input=password)
        docker("pull", shelf.open)
        docker("tag", shelf.open, f"{host}/{shelf.name}:docker")
        docker("push", f"{host}/{shelf.name}:docker")
        said = docker("login", "-u", "AWS", "--password-stdin", host, input="wrong", how=refused)
        assert "unauthorized" in said.lower() or "401" in said, said
    assert sorted(shelf.tags()) == ["ctr", "docker", "podman", "skopeo", "v1"]


def test_what_nobody_is_told(place, shelf):
    """The challenge, the token, and the words of the refusals, on the open host and on others."""
    server = place.server
    nobody = oci.Registry(server.endpoint)

    def challenges(registry, method="GET", path="manifests/v1"):
        answer = registry.request(method, f"/v2/{shelf.name}/{path}").expect(401)
        return [value.split()[0] for value in answer.headers.get_all("WWW-Authenticate")]

    assert challenges(nobody) == ["Bearer"]
    shelf.policy(to_all())
    nobody.manifest(shelf.name, "v1").expect(200)
    assert challenges(nobody, "POST", "blobs/uploads/") == ["Bearer"]
    token = nobody.request("GET", "/token?service=ecr.amazonaws.com").expect(200).json["token"]
    guest = oci.Registry(server.endpoint)
    guest.headers = [("Authorization", f"Bearer {token}")]
    guest.manifest(shelf.name, "v1").expect(200)
    resource = f"arn:aws:ecr:us-east-1:{place.account.id}:repository/{shelf.name}"
    refusal = guest.request("POST", f"/v2/{shelf.name}/blobs/uploads/").expect(403).json
    assert refusal["errors"][0]["code"] == "DENIED" and "User: anonymous is not authorized" in str(refusal)
    refusal = guest.request("GET", f"/v2/{shelf.name}/tags/list").expect(403).json
    assert refusal["errors"] == [
        {
            "code": "DENIED",
            "message": f"User: anonymous is not authorized to perform: ecr:ListImages on resource: {resource}"
            " because no resource-based policy allows the ecr:ListImages action",
        }
    ]
    # The same registry by its other names: no Bearer, no token, no pull; nor does the token of the open host count.
    for host in (f"localhost:{server.port}", f"{place.account.id}.dkr.ecr.us-east-1.localhost:{server.port}"):
        shut = oci.Registry(server.endpoint, host=host)
        assert challenges(shut) == ["Basic"]
        shut.request("GET", "/token").expect(404)
        shut.headers += guest.headers
        assert challenges(shut) == ["Basic"]
    # The AWS face hears nobody anywhere.
    answer = nobody.request(
        "POST",
        "/",
        {
            "Content-Type": aws_face.JSON_TYPE,
            "X-Amz-Target": f"{aws_face.ECR_TARGET}.BatchGetImage",
        },
        json.dumps({"repositoryName": shelf.name, "imageIds": [{"imageTag": "v1"}]}).encode(),
    ).expect(400)
    assert answer.json["__type"].endswith("MissingAuthenticationTokenException"), f"{answer}"


def test_a_server_without_the_setting_hears_nobody(server, account, ecr, registry, repository, tmp_path):
    registry.push(repository, images.image("shut"), "v1")
    ecr.set_repository_policy(repositoryName=repository, policyText=to_all("ecr:*"))
    named = f"{account.id}.dkr.ecr.us-east-1.localhost:{server.port}"
    oci.Registry(server.endpoint, server.password(account), host=named).manifest(repository, "v1").expect(200)
    nobody = oci.Registry(server.endpoint, host=named)
    answer = nobody.request("GET", f"/v2/{repository}/manifests/v1").expect(401)
    assert [value.split()[0] for value in answer.headers.get_all("WWW-Authenticate")] == ["Basic"]
    assert answer.body == b"Not Authorized\n"
    nobody.request("GET", "/token").expect(404)
    target = ["--no-creds", "--tls-verify=false", f"docker://{server.host}/{repository}:v1"]
    refused("skopeo", "inspect", *target, env={"REGISTRY_AUTH_FILE": str(tmp_path / "none.json")})
