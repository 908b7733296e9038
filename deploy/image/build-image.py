#!/usr/bin/env python3
"""Builds the OCI image of wharf as an image layout, without a container engine: Python's standard library and `ldd`.

    cargo build --release --bin wharf
    deploy/image/build-image.py --program target/release/wharf --output wharf-image --tag 0.1.0
    skopeo copy oci:wharf-image:0.1.0 docker://registry.example.com/wharf:0.1.0

Nothing is in it but the program, the shared libraries that it names, the certificates of public authorities, a user
without a name (65532) and an empty /data. No shell, no package manager. The same input gives the same digest: entries
are sorted, times are SOURCE_DATE_EPOCH (0 if it is not set), compression has no time of its own.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import platform
import re
import subprocess
import sys
import tarfile
from datetime import datetime, timezone
from pathlib import Path

USER = 65532
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# Looked up by names at run time, so that no list of libraries has it: host names of PostgreSQL and of object stores.
BY_NAME = ("libnss_dns.so.2", "libnss_files.so.2", "libresolv.so.2")


def libraries(program):
    """Shared libraries of a program, the loader included, by the path that the loader looks for them at."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    if listed.returncode != 0:
        if "not a dynamic executable" in listed.stderr + listed.stdout or "statically linked" in listed.stdout:
            return {}
        sys.exit(f"build-image: ldd {program}: {listed.stderr.strip()}")
    found = {}
    for line in listed.stdout.splitlines():
        if "not found" in line:
            sys.exit(f"build-image: a library is missing: {line.strip()}")
        if match := re.match(r"\s*(?:\S+ => )?(/\S+) \(0x", line):
            found[match[1]] = Path(match[1]).resolve()
    directory = next((Path(path).parent for path in found if Path(path).name.startswith("libc.so")), None)
    for name in BY_NAME if directory else ():
        if (directory / name).exists():
            found[str(directory / name)] = (directory / name).resolve()
    return found


def layer(program, epoch):
    """The one layer, as an uncompressed tar."""
    files = {"/usr/bin/wharf": (Path(program).read_bytes(), 0o755)}
    for name, path in libraries(program).items():
        files[name] = (path.read_bytes(), 0o755)
    if CERTIFICATES.exists():
        files[str(CERTIFICATES)] = (CERTIFICATES.read_bytes(), 0o644)
    else:
        print(f"build-image: no {CERTIFICATES} (package ca-certificates): the image trusts nobody", file=sys.stderr)
    files["/etc/passwd"] = (f"root:x:0:0::/:/\nwharf:x:{USER}:{USER}::/data:/\n".encode(), 0o644)
    files["/etc/group"] = (f"root:x:0:\nwharf:x:{USER}:\n".encode(), 0o644)
    files["/etc/nsswitch.conf"] = (b"hosts: files dns\n", 0o644)
    owned = {"/data": (0o700, USER), "/tmp": (0o1777, 0)}
    directories = {str(parent) for name in files for parent in Path(name).parents} - {"/"}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name in sorted(directories | set(owned) | set(files)):
            entry = tarfile.TarInfo(name.lstrip("/"))
            entry.mtime = epoch
            if name in files:
                content, entry.mode = files[name]
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
                continue
            entry.type = tarfile.DIRTYPE
            entry.mode, entry.uid = owned.get(name, (0o755, 0))
            entry.gid = entry.uid
            tar.addfile(entry)
    return out.getvalue()


def digest(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


class Layout:
    """An OCI image layout that is being written."""

    def __init__(self, path):
        self.path = Path(path)
        (self.path / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)

    def blob(self, media_type, content):
        name = digest(content)
        (self.path / "blobs" / "sha256" / name.removeprefix("sha256:")).write_bytes(content)
        return {"mediaType": media_type, "digest": name, "size": len(content)}

    def json(self, media_type, value):
        return self.blob(media_type, json.dumps(value, sort_keys=True, separators=(",", ":")).encode())

    def finish(self, manifest, tag):
        index = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [{**manifest, "annotations": {"org.opencontainers.image.ref.name": tag}}],
        }
        (self.path / "index.json").write_text(json.dumps(index, sort_keys=True, indent=1) + "\n")
        (self.path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}\n')


def build(arguments):
    created = datetime.fromtimestamp(arguments.epoch, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    labels = {
        "org.opencontainers.image.title": "wharf",
        "org.opencontainers.image.description": "Amazon ECR that you run yourself",
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.version": arguments.tag,
        "org.opencontainers.image.created": created,
    }
    if arguments.revision:
        labels["org.opencontainers.image.revision"] = arguments.revision
    if arguments.source:
        labels["org.opencontainers.image.source"] = arguments.source
    tar = layer(arguments.program, arguments.epoch)
    layout = Layout(arguments.output)
    blob = layout.blob("application/vnd.oci.image.layer.v1.tar+gzip", gzip.compress(tar, 6, mtime=0))
    config = {
        "architecture": arguments.architecture,
        "os": "linux",
        "created": created,
        "config": {
            "User": f"{USER}:{USER}",
            "Entrypoint": ["/usr/bin/wharf"],
            "Cmd": ["serve"],
            "WorkingDir": "/data",
            "Env": [
                "PATH=/usr/bin",
                "WHARF_DATA_DIR=/data",
                "WHARF_LISTEN=0.0.0.0:5050",
                f"SSL_CERT_FILE={CERTIFICATES}",
            ],
            "ExposedPorts": {"5050/tcp": {}},
            "Volumes": {"/data": {}},
            "StopSignal": "SIGTERM",
            "Labels": labels,
        },
        "rootfs": {"type": "layers", "diff_ids": [digest(tar)]},
        "history": [{"created": created, "created_by": "deploy/image/build-image.py"}],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": layout.json("application/vnd.oci.image.config.v1+json", config),
        "layers": [blob],
        "annotations": labels,
    }
    made = layout.json("application/vnd.oci.image.manifest.v1+json", manifest)
    made["platform"] = {"architecture": arguments.architecture, "os": "linux"}
    layout.finish(made, arguments.tag)
    return made["digest"]


def main():
    parser = argparse.ArgumentParser(description="Builds the OCI image of wharf without a container engine.")
    parser.add_argument("--program", required=True, help="the built program")
    parser.add_argument("--output", required=True, help="directory of the image layout")
    parser.add_argument("--tag", default="latest", help="version and tag")
    parser.add_argument("--revision", help="commit that the program was built from")
    parser.add_argument("--source", help="where that commit is")
    machine = platform.machine()
    parser.add_argument("--architecture", default=ARCHITECTURES.get(machine, machine), help="amd64 or arm64")
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    parser.add_argument("--epoch", type=int, default=epoch, help="time of everything [SOURCE_DATE_EPOCH]")
    print(build(parser.parse_args()))


if __name__ == "__main__":
    main()
