"""The OCI face, spoken by hand, where a test needs to see the very bytes."""

import base64
from urllib.parse import quote, urlsplit

from .http import send
from .images import sha256

ACCEPT_ALL = [
    ("Accept", "application/vnd.oci.image.manifest.v1+json"),
    ("Accept", "application/vnd.oci.image.index.v1+json"),
    ("Accept", "application/vnd.docker.distribution.manifest.v2+json"),
    ("Accept", "application/vnd.docker.distribution.manifest.list.v2+json"),
]


def basic(username, password):
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


class Registry:
    """A registry at an endpoint, for one user; `host` sets the Host header, and with it the registry's account."""

    def __init__(self, endpoint, password=None, username="AWS", host=None):
        self.endpoint = endpoint
        self.headers = [("Authorization", basic(username, password))] if password is not None else []
        if host is not None:
            self.headers.append(("Host", host))

    def request(self, method, target, headers=(), body=b""):
        if target.startswith("http"):  # a Location may be absolute
            parts = urlsplit(target)
            target = parts.path + (f"?{parts.query}" if parts.query else "")
        headers = list(headers.items()) if isinstance(headers, dict) else list(headers)
        return send(self.endpoint, method, target, self.headers + headers, body)

    # -- blobs

    def start_upload(self, repository, query=""):
        return self.request("POST", f"/v2/{repository}/blobs/uploads/{query}")

    def push_blob(self, repository, data, digest=None):
        digest = digest or sha256(data)
        if self.request("HEAD", f"/v2/{repository}/blobs/{digest}").status == 200:
            return
        location = self.start_upload(repository).expect(202).headers["Location"]
        joint = "&" if "?" in location else "?"
        self.request(
            "PUT",
            f"{location}{joint}digest={quote(digest, safe='')}",
            {"Content-Type": "application/octet-stream"},
            data,
        ).expect(201)

    def blob(self, repository, digest, headers=()):
        """GET of a blob; a redirect is followed without the Authorization header, as clients do."""
        answer = self.request("GET", f"/v2/{repository}/blobs/{digest}", headers)
        if answer.status in (302, 307):
            parts = urlsplit(answer.headers["Location"])
            endpoint = f"{parts.scheme}://{parts.netloc}" if parts.netloc else self.endpoint
            target = parts.path + (f"?{parts.query}" if parts.query else "")
            answer = send(endpoint, "GET", target, headers)
        return answer

    # -- manifests

    def put_manifest(self, repository, image, reference=None):
        return self.request(
            "PUT",
            f"/v2/{repository}/manifests/{reference or image.digest}",
            {"Content-Type": image.media_type},
            image.manifest,
        )

    def push_content(self, repository, image):
        """Everything an image needs but its own manifest: blobs, and for an index its children."""
        for digest, data in image.blobs.items():
            self.push_blob(repository, data, digest)
        for child in image.children:
            self.push(repository, child)

    def push(self, repository, image, tag=None):
        self.push_content(repository, image)
        return self.put_manifest(repository, image, tag).expect(201)

    def manifest(self, repository, reference, method="GET", headers=ACCEPT_ALL):
        return self.request(method, f"/v2/{repository}/manifests/{reference}", headers)

    def tags(self, repository, query=""):
        return self.request("GET", f"/v2/{repository}/tags/list{query}")
