"""The drill: a backup under load, the loss of everything, and the way back."""

import json
import shutil
import threading

import pytest

from harness import images, oci
from harness.aws import client
from harness.process import wait_until
from harness.server import program
from harness.process import run

OCTETS = {"Content-Type": "application/octet-stream"}
WORKERS = 3


class Pusher(threading.Thread):
    """Pushes images, moves a tag and deletes a few until told to stop. Keeps what was acknowledged, in order."""

    def __init__(self, number, registry):
        super().__init__(daemon=True)
        self.number, self.registry = number, registry
        self.repository = f"drill/{number}"
        self.stop = threading.Event()
        self.acknowledged = []
        self.failure = None

    def run(self):
        try:
            while not self.stop.is_set():
                self.push(len(self.acknowledged))
        except BaseException as error:  # seen by the test
            self.failure = error

    def push(self, turn):
        # Small layers lie in the metadata, large ones beside it.
        size = 150_000 if turn % 2 else 2_000
        one = images.image(f"drill-{self.number}-{turn}", layers=2, layer_size=size)
        self.registry.push(self.repository, one, f"v{turn}")
        self.registry.put_manifest(self.repository, one, "newest").expect(201)
        self.acknowledged.append(one)


class Load:
    """Pushers at work."""

    def __init__(self, server, account):
        ecr = client("ecr", server.endpoint, account)
        registry = oci.Registry(server.endpoint, server.password(account))
        self.pushers = [Pusher(number, registry) for number in range(WORKERS)]
        for pusher in self.pushers:
            ecr.create_repository(repositoryName=pusher.repository)

    def __enter__(self):
        for pusher in self.pushers:
            pusher.start()
        return self

    def __exit__(self, *_):
        for pusher in self.pushers:
            pusher.stop.set()
        for pusher in self.pushers:
            pusher.join(60)
            assert not pusher.is_alive() and pusher.failure is None, f"{pusher.repository}: {pusher.failure!r}"

    def acknowledged(self):
        return {pusher.repository: list(pusher.acknowledged) for pusher in self.pushers}

    def goes_on(self):
        """Waits until everybody has pushed twice more: what was under way is done, and something new is."""
        before = [len(pusher.acknowledged) for pusher in self.pushers]

        def more():
            broken = [pusher.failure for pusher in self.pushers if pusher.failure]
            assert not broken, broken
            return all(len(p.acknowledged) >= count + 2 for p, count in zip(self.pushers, before))

        wait_until(more, "pushes to go on", timeout=60)


def restore(backup, data_dir, root_key):
    """What docs/backup.md tells to do."""
    shutil.rmtree(data_dir)
    shutil.copytree(backup, data_dir)
    if root_key is not None:
        (data_dir / "root-key").write_bytes(root_key)
        (data_dir / "root-key").chmod(0o600)


def assert_whole(registry, acknowledged):
    for repository, pushed in acknowledged.items():
        assert len(pushed) >= 2, "the drill pushed next to nothing"
        for turn, one in enumerate(pushed):
            assert registry.manifest(repository, f"v{turn}").expect(200).body == one.manifest
            for digest, data in one.blobs.items():
                assert registry.blob(repository, digest).expect(200).body == data


def test_everything_acknowledged_before_a_backup_comes_back(make_server, tmp_path):
    server = make_server()
    account = server.root_account()
    registry = oci.Registry(server.endpoint, server.password(account))
    root_key = (server.data_dir / "root-key").read_bytes()
    backup = tmp_path / "backup"

    with Load(server, account) as load:
        load.goes_on()
        first, second = images.noise("half-1", 200_000), images.noise("half-2", 100_000)
        location = registry.start_upload("drill/0").expect(202).headers["Location"]
        location = registry.request("PATCH", location, OCTETS, first).expect(202).headers["Location"]
        before = load.acknowledged()
        made = json.loads(server.command("backup", "--to", backup, "--json").stdout)
        assert made["clean"] and made["copied"] == made["objects"] > 0, made
        load.goes_on()
        # Again: only what is new is copied.
        before = load.acknowledged()
        again = json.loads(server.command("backup", "--to", backup, "--json").stdout)
        assert again["clean"] and 0 < again["copied"] < again["objects"], again
        load.goes_on()
        lost = load.acknowledged()
    assert all(len(lost[name]) > len(before[name]) for name in before)
    assert not list(backup.glob("*root-key*")), "the key does not lie beside what it opens"

    server.kill()
    restore(backup, server.data_dir, root_key)
    scrubbed = json.loads(server.command("scrub", "--json").stdout)
    assert scrubbed["clean"] and scrubbed["objects"] > 0, scrubbed
    server.start()
    registry = oci.Registry(server.endpoint, server.password(account))
    assert_whole(registry, before)

    # An upload goes on from its last acknowledged byte, and the next push is like any other.
    joint = "&" if "?" in location else "?"
    digest = images.sha256(first + second)
    location = registry.request("PATCH", location, OCTETS, second).expect(202).headers["Location"]
    registry.request("PUT", f"{location}{joint}digest={digest}", OCTETS).expect(201)
    assert registry.blob("drill/0", digest).expect(200).body == first + second
    registry.push("drill/0", images.image("after", layer_size=100_000), "after")
    assert json.loads(server.command("scrub", "--json").stdout)["clean"]


def test_a_backup_follows_deletions_and_keeps_the_trash(make_server, tmp_path):
    server = make_server("--storage-trash-window=1h")
    account = server.root_account()
    ecr = client("ecr", server.endpoint, account)
    registry = oci.Registry(server.endpoint, server.password(account))
    root_key = (server.data_dir / "root-key").read_bytes()
    backup = tmp_path / "backup"
    ecr.create_repository(repositoryName="team/app")
    one = images.image("trash", layers=1, layer_size=200_000)
    registry.push("team/app", one, "v1")
    ecr.batch_delete_image(repositoryName="team/app", imageIds=[{"imageTag": "v1"}])
    server.stop()

    # Without a server the command does it by itself.
    made = json.loads(server.command("backup", "--to", backup, "--json").stdout)
    assert made["objects"] == 1, made
    restore(backup, server.data_dir, root_key)
    server.start()
    server.command("undelete", "team/app", one.digest)
    registry = oci.Registry(server.endpoint, server.password(account))
    assert registry.manifest("team/app", "v1").expect(200).body == one.manifest
    for digest, data in one.blobs.items():
        assert registry.blob("team/app", digest).expect(200).body == data
    server.stop()

    # What is gone for good leaves the backup too.
    ecr = client("ecr", server.start("127.0.0.1:0").endpoint, account)
    ecr.delete_repository(repositoryName="team/app", force=True)
    server.stop()
    at_once = {"WHARF_STORAGE_TRASH_WINDOW": "0s", "WHARF_STORAGE_UNREFERENCED_GRACE": "0s"}

    def emptied():
        server.command("gc", env=at_once)
        return not [p for p in (server.data_dir / "objects").rglob("*") if p.is_file() and p.stat().st_size > 100_000]

    wait_until(emptied, "the layer to go")
    made = json.loads(server.command("backup", "--to", backup, "--json").stdout)
    assert (made["objects"], made["removed"]) == (0, 1), made


def test_a_backup_without_its_root_key_is_of_no_use(make_server, tmp_path):
    server = make_server()
    server.command("backup", "--to", tmp_path / "backup")
    server.stop()
    restore(tmp_path / "backup", server.data_dir, None)
    done = run(program(), "scrub", "--data-dir", server.data_dir, check=False)
    assert done.returncode != 0 and "key" in done.stderr, done.stderr


@pytest.mark.parametrize("what", ["another directory", "another deployment's backup", "a data directory"])
def test_a_backup_replaces_nothing_else(what, make_server, tmp_path):
    server = make_server()
    target = tmp_path / "target"
    if what == "another directory":
        target.mkdir()
        (target / "letters").write_text("dear")
    elif what == "a data directory":
        target = server.data_dir
    else:
        other = make_server(name="other")
        other.command("backup", "--to", target)
    before = sorted(p.name for p in target.iterdir())
    done = server.command("backup", "--to", target, check=False)
    assert done.returncode != 0 and str(target) in done.stderr, done.stderr
    assert sorted(p.name for p in target.iterdir()) == before
