"""Small OCI images, indexes and artifacts made by hand: deterministic, without a network or a container tool."""

import gzip
import hashlib
import io
import json
import random
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def noise(seed, size):
    """Bytes that do not compress, the same for the same seed."""
    return random.Random(repr(seed)).randbytes(size)


@dataclass
class Image:
    """A manifest with everything it names, ready to push."""

    media_type: str
    manifest: bytes
    blobs: dict = field(default_factory=dict)  # digest -> bytes: config and layers
    children: list = field(default_factory=list)  # images an index names

    @property
    def digest(self):
        return sha256(self.manifest)

    @property
    def parsed(self):
        return json.loads(self.manifest)

    def descriptor(self, **more):
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.manifest), **more}

    @property
    def layer_digests(self):
        return [layer["digest"] for layer in self.parsed.get("layers", [])]

    @property
    def config_digest(self):
        return self.parsed["config"]["digest"]

    @property
    def size_in_bytes(self):
        """What DescribeImages calls imageSizeInBytes: configuration and layers."""
        parsed = self.parsed
        return parsed["config"]["size"] + sum(layer["size"] for layer in parsed["layers"])


def _encode(document):
    return json.dumps(document, indent=2).encode()


def layer(files):
    """(gzip-compressed tar, digest of the plain tar) of {path: bytes}."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, data in sorted(files.items()):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode, entry.mtime = len(data), 0o644, 1_700_000_000
            tar.addfile(entry, io.BytesIO(data))
    return gzip.compress(plain.getvalue(), mtime=0), sha256(plain.getvalue())


def image(seed, layers=1, layer_size=2048, docker=False, architecture="amd64", subject=None, annotations=None):
    """A runnable-looking image; different seeds share nothing but the format."""
    packed = [layer({f"srv/{seed}-{i}": noise((seed, i), layer_size)}) for i in range(layers)]
    config = _encode(
        {
            "architecture": architecture,
            "os": "linux",
            "created": "2024-01-01T00:00:00Z",
            "config": {"Cmd": ["/bin/true"], "Labels": {"seed": str(seed)}},
            "rootfs": {"type": "layers", "diff_ids": [plain for _, plain in packed]},
            "history": [{"created": "2024-01-01T00:00:00Z", "created_by": f"layer {i}"} for i in range(layers)],
        }
    )
    media_type = DOCKER_MANIFEST if docker else OCI_MANIFEST
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": {
            "mediaType": DOCKER_CONFIG if docker else OCI_CONFIG,
            "digest": sha256(config),
            "size": len(config),
        },
        "layers": [
            {"mediaType": DOCKER_LAYER if docker else OCI_LAYER, "digest": sha256(data), "size": len(data)}
            for data, _ in packed
        ],
    }
    if subject is not None:
        document["subject"] = subject.descriptor()
    if annotations:
        document["annotations"] = annotations
    blobs = {sha256(config): config, **{sha256(data): data for data, _ in packed}}
    return Image(media_type, _encode(document), blobs)


def artifact(seed, artifact_type="application/vnd.example.sbom", subject=None, annotations=None):
    """An OCI 1.1 artifact: empty configuration, one small file."""
    payload = f"artifact {seed}\n".encode()
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": {"mediaType": OCI_EMPTY, "digest": sha256(b"{}"), "size": 2},
        "layers": [{"mediaType": "text/plain", "digest": sha256(payload), "size": len(payload)}],
    }
    if subject is not None:
        document["subject"] = subject.descriptor()
    if annotations:
        document["annotations"] = annotations
    return Image(OCI_MANIFEST, _encode(document), {sha256(b"{}"): b"{}", sha256(payload): payload})


def index(*children, docker=False):
    """An index of images: one amd64, the next arm64, and so on."""
    media_type = DOCKER_LIST if docker else OCI_INDEX
    architectures = ["amd64", "arm64", "s390x", "ppc64le"]
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "manifests": [
            child.descriptor(platform={"architecture": architectures[i % 4], "os": "linux"})
            for i, child in enumerate(children)
        ],
    }
    return Image(media_type, _encode(document), children=list(children))


def write_layout(directory: Path, tagged):
    """Writes {tag: image} as an OCI image layout, which skopeo, buildah and umoci read as `oci:DIR:TAG`."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)

    def put(data):
        (blobs / sha256(data).split(":")[1]).write_bytes(data)

    def put_image(one):
        put(one.manifest)
        for data in one.blobs.values():
            put(data)
        for child in one.children:
            put_image(child)

    entries = []
    for tag, one in tagged.items():
        put_image(one)
        entries.append(one.descriptor(annotations={"org.opencontainers.image.ref.name": tag}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    return directory


def layout_digest(directory: Path, tag=None):
    """The manifest digest a layout names for a tag, or its only entry."""
    entries = json.loads((directory / "index.json").read_text())["manifests"]
    for entry in entries:
        if tag is None or entry.get("annotations", {}).get("org.opencontainers.image.ref.name") == tag:
            return entry["digest"]
    raise AssertionError(f"{directory} has no {tag}: {entries}")
