"""Data directories of earlier programs, which today's opens, serves whole and goes on with.

clients/data-directories/N.tar.gz was written by the program whose metadata has schema version N. When a release has a new
schema, add one with its program: WHARF_WRITE_DATA_DIRECTORY=1 ./test clients -k upgrade. Never change an old one.
"""

import json
import os
import sqlite3
import tarfile
from pathlib import Path

import pytest

from harness import images, oci
from harness.aws import client
from harness.process import refused
from harness.server import program

DIRECTORIES = Path(__file__).parent / "data-directories"
KEPT = sorted(DIRECTORIES.glob("*.tar.gz"), key=lambda path: int(path.name.split(".")[0]))
REPOSITORIES = {"team/app": {}, "team/locked": {"kms": True}}


def contents():
    """What every such directory holds: small layers, which lie in the metadata, a large one, and an index."""
    small = images.image("upgrade-small", layers=2)
    large = images.image("upgrade-large", layers=1, layer_size=70_000)
    return {"small": small, "large": large, "index": images.index(small, large)}


def schema(data_dir):
    connection = sqlite3.connect(data_dir / "metadata.sqlite")
    try:
        return connection.execute("SELECT MAX(version) FROM schema_migrations").fetchone()[0]
    finally:
        connection.close()


def fill(server):
    account = server.root_account()
    ecr, kms = client("ecr", server.endpoint, account), client("kms", server.endpoint, account)
    iam = client("iam", server.endpoint, account)
    registry = oci.Registry(server.endpoint, server.password(account))
    key = kms.create_key()["KeyMetadata"]["Arn"]
    for name, wanted in REPOSITORIES.items():
        encrypted = {"encryptionConfiguration": {"encryptionType": "KMS", "kmsKey": key}} if "kms" in wanted else {}
        ecr.create_repository(repositoryName=name, tags=[{"Key": "team", "Value": "app"}], **encrypted)
        for tag, one in contents().items():
            registry.push(name, one, tag)
    iam.create_user(UserName="erin")
    statement = {"Effect": "Allow", "Action": "ecr:*", "Resource": "*"}
    document = {"Version": "2012-10-17", "Statement": statement}
    iam.put_user_policy(UserName="erin", PolicyName="p", PolicyDocument=json.dumps(document))


def test_every_earlier_schema_has_its_directory(make_server):
    """The test of upgrades would pass on nothing otherwise."""
    server = make_server()
    server.stop()
    versions = [int(path.name.split(".")[0]) for path in KEPT]
    now = schema(server.data_dir)
    if os.environ.get("WHARF_WRITE_DATA_DIRECTORY") and now not in versions:
        fill(server.start())
        server.stop()
        DIRECTORIES.mkdir(exist_ok=True)
        with tarfile.open(DIRECTORIES / f"{now}.tar.gz", "w:gz") as tar:
            for name in ("metadata.sqlite", "objects", "root-key", "root-credentials.json"):
                tar.add(server.data_dir / name, arcname=name)
        versions.append(now)
    assert versions and max(versions) <= now, f"{versions}, and the program has schema {now}"


@pytest.mark.parametrize("kept", KEPT, ids=lambda path: f"schema {path.name.split('.')[0]}")
def test_an_earlier_data_directory_is_served_whole(kept, make_server, tmp_path):
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    with tarfile.open(kept) as tar:
        tar.extractall(data_dir)
    for name in ("root-key", "root-credentials.json"):
        (data_dir / name).chmod(0o600)
    assert schema(data_dir) == int(kept.name.split(".")[0])
    server = make_server()
    account = server.root_account()
    ecr, registry = client("ecr", server.endpoint, account), oci.Registry(server.endpoint, server.password(account))
    for name in REPOSITORIES:
        for tag, one in contents().items():
            assert registry.manifest(name, tag).expect(200).body == one.manifest
            for digest, data in one.blobs.items():
                assert registry.blob(name, digest).expect(200).body == data
        (found,) = ecr.describe_repositories(repositoryNames=[name])["repositories"]
        tags = ecr.list_tags_for_resource(resourceArn=found["repositoryArn"])["tags"]
        assert tags == [{"Key": "team", "Value": "app"}]
        registry.push(name, images.image(f"after-{name}", layer_size=80_000), "after")
    assert client("iam", server.endpoint, account).get_user_policy(UserName="erin", PolicyName="p")
    assert json.loads(server.command("scrub", "--json").stdout)["clean"]


def test_a_newer_data_directory_is_refused(make_server):
    """Downgrading would lose what the older program does not know: it says so, and touches nothing."""
    server = make_server()
    server.stop()
    connection = sqlite3.connect(server.data_dir / "metadata.sqlite")
    with connection:
        connection.execute("INSERT INTO schema_migrations (version, applied_at) VALUES (9999, 0)")
    connection.close()
    said = refused(program(), "serve", "--data-dir", server.data_dir, "--listen", "127.0.0.1:0")
    assert "9999" in said and "newer program" in said, said
