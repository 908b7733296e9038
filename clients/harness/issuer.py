"""An issuer of OpenID Connect identity tokens, as a cluster or a CI service is one."""

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import rsa


def _text(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _number(value):
    return _text(value.to_bytes((value.bit_length() + 7) // 8, "big"))


class Issuer:
    """Signs tokens with RS256; `jwks` is its key set."""

    def __init__(self, url, key_id="one"):
        self.url, self.key_id = url, key_id
        self.public, self._private = rsa.newkeys(2048, poolsize=1)

    @property
    def jwks(self):
        key = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.key_id}
        return {"keys": [key | {"n": _number(self.public.n), "e": _number(self.public.e)}]}

    def token(self, subject, audience="sts.amazonaws.com", lifetime=600, **more):
        now = int(time.time())
        claims = {"iss": self.url, "sub": subject, "aud": audience, "iat": now, "exp": now + lifetime} | more
        header = {"alg": "RS256", "kid": self.key_id, "typ": "JWT"}
        signed = ".".join(_text(json.dumps(part).encode()) for part in (header, claims))
        return f"{signed}.{_text(rsa.sign(signed.encode(), self._private, 'SHA-256'))}"


class KeyServer:
    """Serves whatever key set it holds, and counts how often it was asked."""

    def __init__(self, jwks):
        self.jwks, self.asked = jwks, 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked += 1
                body = json.dumps(outer.jwks).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/keys"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()
