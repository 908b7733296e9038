"""One raw HTTP request, with nothing normalised, retried or followed on the way."""

import http.client
import json
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes
    request: str

    @property
    def json(self):
        try:
            return json.loads(self.body)
        except ValueError:
            raise AssertionError(f"the body is not JSON: {self}") from None

    def expect(self, *statuses):
        assert self.status in statuses, f"expected {' or '.join(map(str, statuses))}: {self}"
        return self

    def __str__(self):
        headers = "\n".join(f"  {name}: {value}" for name, value in self.headers.items())
        return f"{self.request}\nanswered {self.status}\n{headers}\n  {self.body[:2000]!r}"


def send(endpoint, method, target, headers=(), body=b"", timeout=60, ca=None):
    """Sends `target` exactly as written. `headers` is a list of pairs; Host and Content-Length are added when absent."""
    url = urlsplit(endpoint)
    if url.scheme == "https":
        context = ssl.create_default_context(cafile=ca)
        connection = http.client.HTTPSConnection(url.hostname, url.port, timeout=timeout, context=context)
    else:
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=timeout)
    headers = list(headers.items()) if isinstance(headers, dict) else list(headers)
    names = {name.lower() for name, _ in headers}
    try:
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        if "host" not in names:
            connection.putheader("Host", url.netloc)
        for name, value in headers:
            connection.putheader(name, value)
        if "content-length" not in names and (body or method in ("POST", "PUT", "PATCH")):
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        try:
            if body:
                connection.send(body)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before the body was taken: the answer says why
        response = connection.getresponse()
        data = response.read()
    finally:
        connection.close()
    shown = ", ".join(f"{n}: {v}" for n, v in headers if n.lower() not in ("authorization", "x-amz-security-token"))
    return Answer(response.status, response.headers, data, f"{method} {target[:300]} [{shown[:400]}] {body[:400]!r}")
