"""Container clients with storage, sockets and credentials of their own: buildah and podman, containerd, dockerd."""

import os
import shutil
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from .process import Daemon, needs, needs_root, refused, remove_tree, run, wait_until

DOCKER = "/usr/bin/docker"  # Debian's, of the daemon's version; another docker may come first on the PATH


def resolving(name, directory):
    """A command prefix under which the name resolves: none where it does, else an /etc/hosts of the command's own."""
    try:
        socket.getaddrinfo(name, None)
        return ()
    except OSError:
        pass
    if os.geteuid() != 0:
        pytest.skip(f"{name} does not resolve here (libnss-myhostname would do it), and only root can mount a hosts file")
    hosts = directory / "hosts"
    hosts.write_text(f"127.0.0.1 localhost {name}\n")
    own_hosts = f'mount --bind {hosts} /etc/hosts && exec "$@"'
    probe = subprocess.run(["unshare", "-m", "sh", "-c", own_hosts, "sh", "true"], capture_output=True, text=True)
    if probe.returncode != 0:
        pytest.skip(f"{name} does not resolve here, and no mount namespace can be made: {probe.stderr.strip()}")
    return ("unshare", "-m", "sh", "-c", own_hosts, "sh")


class Tool:
    """buildah or podman with its own storage and credentials."""

    def __init__(self, name, storage):
        self.name, self.storage = name, storage
        self.options = ["--storage-driver", "vfs", "--root", storage / "root", "--runroot", storage / "run"]
        if name == "podman":
            self.options += ["--cgroup-manager", "cgroupfs", "--events-backend", "none"]
        (storage / "auth.json").write_text("{}")
        self.env = {"REGISTRY_AUTH_FILE": str(storage / "auth.json"), "TMPDIR": str(storage)}

    def __call__(self, *arguments, prefix=(), **more):
        return run(*prefix, self.name, *self.options, *arguments, env=self.env, timeout=300, **more)

    def refused(self, *arguments, prefix=()):
        return refused(*prefix, self.name, *self.options, *arguments, env=self.env)


@contextmanager
def tool(name):
    """buildah or podman, not logged in anywhere."""
    needs(name, name)
    needs_root()
    one = Tool(name, Path(tempfile.mkdtemp(prefix=f"wharf-{name}-")))
    try:
        yield one
    finally:
        remove_tree(one.storage)


@contextmanager
def containerd():
    """A containerd; answers its ctr."""
    needs_root()
    needs("ctr", "containerd")
    directory = Path(tempfile.mkdtemp(prefix="wharf-ctrd-"))
    config = directory / "config.toml"
    config.write_text(
        f"""version = 2
root = "{directory}/root"
state = "{directory}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
  address = "{directory}/sock"
[ttrpc]
  address = "{directory}/sock.ttrpc"
"""
    )
    daemon = Daemon([needs("containerd", "containerd"), "--config", config], directory / "log")

    def call(*arguments, how=run, **more):
        command = ["ctr", "--address", directory / "sock", "--namespace", "wharf-test", *arguments]
        return how(*command, **more)

    ready = ["ctr", "--address", directory / "sock", "version"]
    try:
        wait_until(
            lambda: run(*ready, check=False).returncode == 0, "containerd to answer", alive=daemon.must_be_alive
        )
        call.socket = directory / "sock"
        yield call
    finally:
        daemon.stop()
        remove_tree(directory)


@contextmanager
def dockerd(*insecure):
    """A dockerd that speaks plain HTTP to the hosts; answers its docker, not logged in anywhere."""
    needs_root()
    program = needs("dockerd", "docker.io")
    needs(DOCKER, "docker.io")
    directory = Path(tempfile.mkdtemp(prefix="wharf-dockerd-"))
    server = f"unix://{directory}/sock"
    daemon = Daemon(
        [
            *(program, "--data-root", directory / "data", "--exec-root", directory / "exec"),
            *("--pidfile", directory / "pid", "--host", server, "--group", "root"),
            *("--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver", "vfs"),
            *(word for host in insecure for word in ("--insecure-registry", host)),
        ],
        directory / "log",
    )
    env = {"DOCKER_CONFIG": str(directory / "config"), "DOCKER_HOST": server, "DOCKER_CONTEXT": ""}

    def call(*arguments, how=run, with_env=None, **more):
        return how(DOCKER, *arguments, env=env | (with_env or {}), **more)

    try:
        wait_until(
            lambda: run(DOCKER, "version", env=env, check=False).returncode == 0,
            "dockerd to answer",
            timeout=60,
            alive=daemon.must_be_alive,
        )
        yield call
    finally:
        daemon.stop()
        remove_tree(directory)


def tarball(directory, seed, content):
    """A file-system tarball with one file, for `docker import`."""
    tree = directory / f"tree-{seed}"
    tree.mkdir()
    (tree / "seed").write_bytes(content)
    return shutil.make_archive(str(directory / f"tree-{seed}"), "tar", tree)
