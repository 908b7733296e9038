"""The AWS face: boto3 clients without retries, and raw requests signed by botocore whose bytes a test chooses."""

import json
import threading
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from unittest import mock

import boto3
import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from .http import send

ECR_TARGET = "AmazonEC2ContainerRegistry_V20150921"
KMS_TARGET = "TrentService"
JSON_TYPE = "application/x-amz-json-1.1"

_clock = threading.Lock()


def client(service, endpoint, account, region="us-east-1", **more):
    """A boto3 client: one attempt, so a refusal is seen as it was given."""
    config = Config(retries={"total_max_attempts": 1}, connect_timeout=10, read_timeout=60)
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name=region,
        aws_access_key_id=account.access_key_id,
        aws_secret_access_key=account.secret_access_key,
        config=config.merge(more.pop("config", Config())),
        **more,
    )


@contextmanager
def clock_off_by(seconds):
    """Botocore's signer believes it is that many seconds later."""

    def shifted(*_, **__):
        return datetime.now(timezone.utc).replace(tzinfo=None) + timedelta(seconds=seconds)

    with _clock, mock.patch.object(botocore.auth, "get_current_datetime", shifted):
        yield


class Signed:
    """Signs with botocore and sends the bytes untouched."""

    def __init__(self, endpoint, account, region="us-east-1", service="ecr", token=None):
        self.endpoint, self.region, self.service = endpoint, region, service
        self.credentials = Credentials(account.access_key_id, account.secret_access_key, token)

    def post(self, body=b"", headers=(), path="/"):
        request = AWSRequest("POST", self.endpoint + path, headers=dict(headers), data=body)
        botocore.auth.SigV4Auth(self.credentials, self.service, self.region).add_auth(request)
        return send(self.endpoint, "POST", path, list(request.headers.items()), body)

    def call(self, operation, body=None, target=ECR_TARGET, content_type=JSON_TYPE):
        """`body` is bytes as they are, or anything JSON can write."""
        data = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
        return self.post(data, {"Content-Type": content_type, "X-Amz-Target": f"{target}.{operation}"})

    def presigned(self, method="GET", path="/", query="", body=b"", headers=(), expires=60):
        """A request signed in its query string."""
        url = self.endpoint + path + (f"?{query}" if query else "")
        request = AWSRequest(method, url, headers=dict(headers), data=body)
        # The generic presigner hashes the real body; only S3's leaves it unsigned.
        signer = botocore.auth.SigV4QueryAuth(self.credentials, self.service, self.region, expires=expires)
        signer.add_auth(request)
        return send(self.endpoint, method, request.url[len(self.endpoint) :], list(request.headers.items()), body)
