"""Running it: health, metrics, draining, restarts, TLS, encryption at rest, keys, and what the commands promise."""

import http.client
import json
import re
import socket
import ssl

import pytest
from botocore.exceptions import ClientError

from harness import images, oci
from harness.aws import client
from harness.http import send
from harness.process import needs, run, wait_until
from harness.server import program


class Running:
    """A server of the test's own, with its first account and its clients."""

    def __init__(self, server):
        self.server, self.account = server, server.root_account()
        self.ecr = client("ecr", server.endpoint, self.account)
        self.kms = client("kms", server.endpoint, self.account)
        self.registry = oci.Registry(server.endpoint, server.password(self.account))

    def repository(self, name="team/app", **more):
        self.ecr.create_repository(repositoryName=name, **more)
        return name


@pytest.fixture
def running(make_server):
    return Running(make_server())


# ---------------------------------------------------------------- health and metrics


def test_health(server):
    for path in ("/healthz", "/readyz"):
        send(server.endpoint, "GET", path).expect(200)


def test_metrics_are_prometheus_text(server, registry, repository):
    registry.push(repository, images.image("metrics"), "v1")
    answer = send(server.endpoint, "GET", "/metrics").expect(200)
    text = answer.body.decode()
    sample = re.compile(r"^[a-zA-Z_:][\w:]*(\{[^{}]*\})? [-+0-9.eEinfNa]+( \d+(\.\d+)?)?( # .*)?$")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines, "no samples"
    assert [line for line in lines if not sample.match(line)] == []
    names = {re.match(r"[\w:]+", line)[0] for line in lines}
    for word in ("request", "bytes", "upload"):
        assert any(word in name for name in names), f"no metric about {word}s among {sorted(names)}"
    assert registry.headers[0][1] not in text and repository not in text, "no secrets, no unbounded labels"


# ---------------------------------------------------------------- stopping


def test_a_stop_finishes_what_is_in_flight(running):
    repository = running.repository()
    data = images.noise("drain", 2 << 20)
    location = running.registry.start_upload(repository).expect(202).headers["Location"]
    target = re.sub(r"^https?://[^/]+", "", location)
    connection = http.client.HTTPConnection("127.0.0.1", running.server.port, timeout=30)
    connection.putrequest("PUT", f"{target}{'&' if '?' in target else '?'}digest={images.sha256(data)}")
    for name, value in running.registry.headers:
        connection.putheader(name, value)
    connection.putheader("Content-Length", str(len(data)))
    connection.endheaders()
    connection.send(data[: 1 << 20])
    running.registry.request("GET", location)  # answered or not: the server has had time to accept the first half

    running.server.begin_stop()

    def refuses_new_connections():
        try:
            socket.create_connection(("127.0.0.1", running.server.port), 1).close()
            return False
        except OSError:
            return True

    wait_until(refuses_new_connections, "the listener to close")
    assert running.server.process.poll() is None, "the server must wait for the request in flight"
    connection.send(data[1 << 20 :])
    assert connection.getresponse().status == 201
    connection.close()
    running.server.finish_stop()


def test_a_second_server_on_the_same_data_is_refused(running):
    command = [program(), "serve", "--data-dir", running.server.data_dir, "--listen", "127.0.0.1:0"]
    done = run(*command, check=False, timeout=30)
    assert done.returncode != 0, "two processes must not own one data directory"
    assert str(running.server.data_dir) in done.stderr, done.stderr


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_an_upload_goes_on_after(how, running):
    repository = running.repository()
    first, second = images.noise("resume-1", 300_001), images.noise("resume-2", 200_003)
    location = running.registry.start_upload(repository).expect(202).headers["Location"]
    octets = {"Content-Type": "application/octet-stream"}
    location = running.registry.request("PATCH", location, octets, first).expect(202).headers["Location"]

    if how == "kill":
        listen = running.server.host
        running.server.kill()
        running.server.start(listen)
    else:
        running.server.restart()

    status = running.registry.request("GET", location).expect(204)
    assert status.headers["Range"] == f"0-{len(first) - 1}", f"{status}"
    location = running.registry.request("PATCH", location, octets, second).expect(202).headers["Location"]
    digest = images.sha256(first + second)
    joint = "&" if "?" in location else "?"
    running.registry.request("PUT", f"{location}{joint}digest={digest}").expect(201)
    assert running.registry.blob(repository, digest).expect(200).body == first + second


def test_what_was_acknowledged_survives_a_kill(running):
    repository = running.repository(tags=[{"Key": "k", "Value": "v"}])
    one = images.image("kill", layers=3, layer_size=100_000)
    running.registry.push(repository, one, "v1")
    listen = running.server.host
    running.server.kill()
    running.server.start(listen)
    assert running.registry.manifest(repository, "v1").expect(200).body == one.manifest
    for digest, data in one.blobs.items():
        assert running.registry.blob(repository, digest).expect(200).body == data


def test_an_audit_log_on_a_full_disk_stops_no_request(make_server):
    running = Running(make_server("--audit-log", "/dev/full"))
    running.registry.push(running.repository(), images.image("audit-full"), "v1")
    wait_until(lambda: "audit records cannot be written" in running.server.output(), "the log to say so")
    running.server.stop()
    assert running.server.output().count("audit records cannot be written") <= 2, "not once for each record"


# ---------------------------------------------------------------- TLS


@pytest.fixture
def encrypted_transport(make_server):
    server = make_server("--tls", "self-signed")
    assert server.endpoint.startswith("https://"), server.endpoint
    return server, server.data_dir / "tls" / "ca.pem"


def test_self_signed_tls(encrypted_transport, tmp_path, layout):
    server, authority = encrypted_transport
    account = server.root_account()
    wait_until(lambda: str(authority) in server.output(), "the words on how clients come to trust it")
    ecr = client("ecr", server.endpoint, account, verify=str(authority))
    uri = ecr.create_repository(repositoryName="team/app")["repository"]["repositoryUri"]
    assert uri == f"{server.host}/team/app"
    with pytest.raises(ssl.SSLCertVerificationError):
        send(server.endpoint, "GET", "/healthz", ca=None)

    needs("skopeo", "skopeo")
    certificates = tmp_path / "certificates"
    certificates.mkdir()
    (certificates / "ca.crt").write_bytes(authority.read_bytes())
    credentials = f"AWS:{server.password(account)}"
    target = f"docker://{server.host}/team/app:v1"
    run("skopeo", "copy", "--dest-cert-dir", certificates, "--dest-creds", credentials, f"oci:{layout}:v1", target)
    assert len(ecr.list_images(repositoryName="team/app")["imageIds"]) == 1


@pytest.mark.parametrize("protocol", ["h2", "http/1.1"])
def test_tls_speaks_http_1_and_2(protocol, encrypted_transport):
    server, authority = encrypted_transport
    context = ssl.create_default_context(cafile=str(authority))
    context.set_alpn_protocols([protocol])
    with socket.create_connection(("127.0.0.1", server.port), 10) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as wrapped:
            assert wrapped.selected_alpn_protocol() == protocol


def test_a_certificate_is_reloaded_when_it_changes(make_server, tmp_path):
    needs("openssl", "openssl")

    def certificate(name):
        names = ["-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        made = ["-keyout", tmp_path / f"{name}.key", "-out", tmp_path / f"{name}.pem"]
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", *names, *made)
        return tmp_path / f"{name}.key", tmp_path / f"{name}.pem"

    (key_one, one), (key_two, two) = certificate("one"), certificate("two")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    key.write_bytes(key_one.read_bytes())
    cert.write_bytes(one.read_bytes())
    server = make_server("--tls", "files", "--tls-cert", cert, "--tls-key", key)
    served = lambda: ssl.get_server_certificate(("127.0.0.1", server.port), timeout=5)  # noqa: E731
    assert ssl.PEM_cert_to_DER_cert(served()) == ssl.PEM_cert_to_DER_cert(one.read_text())
    for new, place in ((key_two, key), (two, cert)):
        beside = place.with_suffix(".new")
        beside.write_bytes(new.read_bytes())
        beside.rename(place)
    wanted = ssl.PEM_cert_to_DER_cert(two.read_text())
    wait_until(lambda: ssl.PEM_cert_to_DER_cert(served()) == wanted, "the new certificate")


# ---------------------------------------------------------------- encryption at rest


METADATA = re.compile(r"\.(db|sqlite3?)(-wal|-shm|-journal)?$")


def files_of(server, at_least=0):
    """Files of the data directory; with a least size, the stored objects of that size."""
    files = [p for p in server.data_dir.rglob("*") if p.is_file() and not p.is_socket()]
    if at_least:
        files = [p for p in files if p.stat().st_size >= at_least and not METADATA.search(p.name)]
    return files


def test_nothing_is_readable_on_disk(running):
    repository = running.repository()
    marker = b"a very plain and greppable marker "
    small, large = marker * 20, marker * 9000
    for data in (small, large):
        running.registry.push_blob(repository, data)
    running.server.restart()
    holding = [str(p) for p in files_of(running.server) if marker in p.read_bytes()]
    assert holding == [], f"content in the clear in {holding}"
    assert running.registry.blob(repository, images.sha256(large)).expect(200).body == large


def flip_bytes(server, size):
    """Flips one byte in the middle of every stored object of at least that size; answers how many."""
    spoiled = files_of(server, at_least=size)
    for path in spoiled:
        with open(path, "r+b") as file:
            file.seek(path.stat().st_size // 2)
            byte = file.read(1)
            file.seek(-1, 1)
            file.write(bytes([byte[0] ^ 1]))
    return len(spoiled)


def served_whole(registry, repository, digest, data, headers=()):
    """Whether a pull gave content; a cut connection or an error is none. Wrong content fails the test."""
    try:
        answer = registry.blob(repository, digest, headers)
    except (http.client.HTTPException, OSError):
        return False
    if answer.status not in (200, 206):
        return False
    assert answer.body in data, "damaged content was served as if it were good"
    return answer.status == 206 or answer.body == data


def test_a_flipped_byte_is_never_served(running):
    repository = running.repository()
    data = images.noise("flip", 400_000)
    digest = images.sha256(data)
    running.registry.push_blob(repository, data)
    assert flip_bytes(running.server, 400_000) == 1, "one object of that size is expected on disk"
    assert not served_whole(running.registry, repository, digest, data)
    middle = {"Range": "bytes=190000-210000"}
    assert not served_whole(running.registry, repository, digest, data, middle)
    # A new push replaces what was damaged.
    location = running.registry.start_upload(repository).expect(202).headers["Location"]
    joint = "&" if "?" in location else "?"
    running.registry.request("PUT", f"{location}{joint}digest={digest}", body=data).expect(201)
    wait_until(lambda: served_whole(running.registry, repository, digest, data), "the new copy to be served")


def test_scrub_finds_a_flipped_byte(running):
    repository = running.repository()
    good, bad = images.noise("scrub-good", 150_000), images.noise("scrub-bad", 400_000)
    for data in (good, bad):
        running.registry.push_blob(repository, data)
    clean = json.loads(running.server.command("scrub", "--json").stdout)
    assert flip_bytes(running.server, 400_000) == 1
    done = running.server.command("scrub", "--json", check=False)
    dirty = json.loads(done.stdout)
    assert clean != dirty, f"scrub said the same before and after: {dirty}"
    assert not served_whole(running.registry, repository, images.sha256(bad), bad)
    assert served_whole(running.registry, repository, images.sha256(good), good)


@pytest.mark.parametrize("kind", ["KMS", "KMS_DSSE"])
def test_a_disabled_key_stops_its_images(kind, running):
    key = running.kms.create_key()["KeyMetadata"]
    encrypted = {"encryptionType": kind, "kmsKey": key["KeyId"]}
    repository = running.repository(encryptionConfiguration=encrypted)
    (made,) = running.ecr.describe_repositories(repositoryNames=[repository])["repositories"]
    assert made["encryptionConfiguration"] == {"encryptionType": kind, "kmsKey": key["Arn"]}
    one = images.image("kms", layer_size=100_000)
    running.registry.push(repository, one, "v1")
    running.registry.manifest(repository, "v1").expect(200)

    running.kms.disable_key(KeyId=key["KeyId"])
    for path in ("manifests/v1", f"manifests/{one.digest}", f"blobs/{one.layer_digests[0]}", f"blobs/{one.config_digest}"):
        answer = running.registry.request("GET", f"/v2/{repository}/{path}")
        assert 400 <= answer.status < 500, f"content of a disabled key: {answer}"
    got = running.ecr.batch_get_image(repositoryName=repository, imageIds=[{"imageTag": "v1"}])
    assert [f["failureCode"] for f in got["failures"]] == ["KmsError"], got
    with pytest.raises(ClientError) as raised:
        running.ecr.initiate_layer_upload(repositoryName=repository)
    assert raised.value.response["Error"]["Code"] == "KmsException"
    assert raised.value.response["kmsError"] == "DisabledException"

    running.kms.enable_key(KeyId=key["KeyId"])
    assert running.registry.manifest(repository, "v1").expect(200).body == one.manifest
    for digest, data in one.blobs.items():
        assert running.registry.blob(repository, digest).expect(200).body == data


def test_the_key_ring_is_rotated_beside_the_running_server(running):
    plain = running.repository("team/plain")
    key = running.kms.create_key()["KeyMetadata"]["KeyId"]
    locked = running.repository("team/locked", encryptionConfiguration={"encryptionType": "KMS", "kmsKey": key})
    one = images.image("rotate", layer_size=150_000)
    for repository in (plain, locked):
        running.registry.push(repository, one, "v1")
    before = {p: p.stat().st_mtime_ns for p in files_of(running.server, at_least=150_000)}
    running.server.command("key-ring", "rotate", "--json")
    for _ in ("at once", "after a restart"):
        for repository in (plain, locked):
            assert running.registry.manifest(repository, "v1").expect(200).body == one.manifest
            for digest, data in one.blobs.items():
                assert running.registry.blob(repository, digest).expect(200).body == data
        running.server.restart()
    assert before, "no object on disk was looked at"
    assert all(p.stat().st_mtime_ns == then for p, then in before.items()), "no object is rewritten"


# ---------------------------------------------------------------- collection and return


def test_a_deleted_image_returns(running):
    repository = running.repository()
    one = images.image("undelete", layers=2, layer_size=100_000)
    registry = running.registry
    for tag in ("v1", "v2"):
        registry.push(repository, one, tag)
    running.ecr.batch_delete_image(repositoryName=repository, imageIds=[{"imageDigest": one.digest}])
    json.loads(running.server.command("gc", "--json").stdout)
    assert registry.manifest(repository, "v1").status == 404

    json.loads(running.server.command("undelete", repository, one.digest, "--json").stdout)
    for tag in ("v1", "v2"):
        assert registry.manifest(repository, tag).expect(200).body == one.manifest
    for digest, data in one.blobs.items():
        assert registry.blob(repository, digest).expect(200).body == data


def test_collection_frees_what_nothing_needs_and_nothing_else(make_server):
    at_once = ["--storage-trash-window=0s", "--storage-unreferenced-grace=0s"]
    running = Running(make_server(*at_once))
    repository = running.repository()
    kept, gone = images.image("kept", layer_size=200_000), images.image("gone", layer_size=300_000)
    running.registry.push(repository, kept, "kept")
    running.registry.push(repository, gone, "gone")
    running.ecr.batch_delete_image(repositoryName=repository, imageIds=[{"imageTag": "gone"}])

    def stored():
        running.server.command("gc", "--json")
        return files_of(running.server, at_least=300_000)

    wait_until(lambda: stored() == [], "the large layer to leave the disk")
    for digest, data in kept.blobs.items():
        assert running.registry.blob(repository, digest).expect(200).body == data
    for digest in gone.blobs:
        assert running.registry.blob(repository, digest).status == 404


# ---------------------------------------------------------------- settings


def test_an_unknown_setting_names_the_nearest(tmp_path):
    (tmp_path / "wharf.toml").write_text('[oci]\ndialekt = "ecr"\n')
    command = [program(), "serve", "--data-dir", tmp_path / "data", "--config", tmp_path / "wharf.toml", "--listen", "127.0.0.1:0"]
    done = run(*command, check=False, timeout=30)
    assert done.returncode != 0
    assert "oci.dialekt" in done.stderr and "oci.dialect" in done.stderr, done.stderr
    command = [program(), "serve", "--data-dir", tmp_path / "data", "--listen", "127.0.0.1:0"]
    done = run(*command, env={"WHARF_OCI_DIALEKT": "ecr"}, check=False, timeout=30)
    assert done.returncode != 0
    assert "WHARF_OCI_DIALECT" in done.stderr, done.stderr


def test_without_tls_only_loopback_is_served(tmp_path):
    command = [program(), "serve", "--data-dir", tmp_path / "data", "--listen", "0.0.0.0:0"]
    done = run(*command, check=False, timeout=30)
    assert done.returncode != 0 and "insecure-plain-http" in done.stderr, done.stderr


def test_quotas_are_exact(make_server):
    limits = ["--quotas-repositories=2", "--quotas-images-per-repository=2", "--quotas-tags-per-image=2"]
    running = Running(make_server(*limits))
    for name in ("team/a", "team/b"):
        running.repository(name)
    with pytest.raises(ClientError) as raised:
        running.repository("team/c")
    assert raised.value.response["Error"]["Code"] == "LimitExceededException"

    first, second, third = (images.image(f"quota-{i}") for i in range(3))
    for tag in ("t1", "t2"):
        running.registry.push("team/a", first, tag)
    assert running.registry.put_manifest("team/a", first, "t3").status >= 400
    running.registry.push("team/a", second)
    running.registry.push_content("team/a", third)
    assert 400 <= running.registry.put_manifest("team/a", third).status < 500
    with pytest.raises(ClientError) as raised:
        running.ecr.put_image(repositoryName="team/a", imageManifest=third.manifest.decode())
    assert raised.value.response["Error"]["Code"] == "LimitExceededException"


def test_throttling_answers_as_ecr_does(make_server):
    running = Running(make_server("--throttle-enabled=on", "--throttle-rates=BatchGetImage=1"))
    repository = running.repository()
    running.registry.push_blob(repository, b"x")
    ids = {"repositoryName": repository, "imageIds": [{"imageTag": "v1"}]}

    def throttled():
        try:
            running.ecr.batch_get_image(**ids)
            return None
        except ClientError as error:
            return error.response["Error"]

    error = wait_until(throttled, "the API to throttle")
    assert (error["Code"], error["Message"]) == ("ThrottlingException", "Rate exceeded")

    def too_many():
        answer = running.registry.manifest(repository, "v1")
        return answer if answer.status == 429 else None

    answer = wait_until(too_many, "the registry to throttle")
    assert answer.headers["Retry-After"], f"{answer}"
    assert answer.json == {"errors": [{"code": "TOOMANYREQUESTS", "message": "Rate exceeded"}]}, f"{answer}"
