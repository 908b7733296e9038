"""A bucket of a real S3 server on loopback: moto's, or Garage's with WHARF_TEST_S3=garage (see ./test s3)."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from .server import REPOSITORY_ROOT

NAME = "wharf-tests"
MOTO = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""
GARAGE = """
metadata_dir = "{directory}/meta"
data_dir = "{directory}/data"
db_engine = "sqlite"
replication_factor = 1
rpc_bind_addr = "127.0.0.1:{rpc}"
rpc_public_addr = "127.0.0.1:{rpc}"
rpc_secret = "{secret}"
[s3_api]
s3_region = "garage"
api_bind_addr = "127.0.0.1:{api}"
"""


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Bucket:
    """The server, its bucket, and what a program needs to use it. Stopped by its process."""

    def __init__(self, directory: Path):
        directory.mkdir(parents=True)
        if os.environ.get("WHARF_TEST_S3") == "garage":
            self._start_garage(directory)
        else:
            self._start_moto()
        self.s3 = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.key[0],
            aws_secret_access_key=self.key[1],
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0}),
        )
        self._wait_for_the_bucket()

    def _start_moto(self):
        self.key, self.region = ("key", "secret"), "us-east-1"
        self.process = subprocess.Popen(
            [sys.executable, "-c", MOTO],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.endpoint = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def _start_garage(self, directory):
        program = os.environ.get("WHARF_GARAGE", str(REPOSITORY_ROOT / ".cache" / "garage" / "bin" / "garage"))
        if not Path(program).exists():
            pytest.skip(f"no {program}: ./test s3 builds it")
        self.key, self.region = ("GK" + "c0" * 12, "cd" * 32), "garage"
        api = free_port()
        config = directory / "garage.toml"
        config.write_text(GARAGE.format(directory=directory, rpc=free_port(), api=api, secret="ab" * 32))
        self.process = subprocess.Popen(
            [program, "-c", str(config), "server", "--single-node", "--default-bucket"],
            stdin=subprocess.DEVNULL,
            stdout=(directory / "log").open("wb"),
            stderr=subprocess.STDOUT,
            env=os.environ
            | {
                "GARAGE_DEFAULT_ACCESS_KEY": self.key[0],
                "GARAGE_DEFAULT_SECRET_KEY": self.key[1],
                "GARAGE_DEFAULT_BUCKET": NAME,
            },
        )
        self.endpoint = f"http://127.0.0.1:{api}"

    def _wait_for_the_bucket(self):
        deadline = time.monotonic() + 60
        while True:
            try:
                if self.region != "garage":
                    self.s3.create_bucket(Bucket=NAME)
                self.s3.list_objects_v2(Bucket=NAME)
                return
            except (BotoCoreError, ClientError):
                assert time.monotonic() < deadline, "the S3 server did not start"
                time.sleep(0.05)

    def url(self, prefix):
        """What the settings `blobs` and `archive` take."""
        return f"s3://{NAME}/{prefix}?endpoint={self.endpoint}&region={self.region}"

    @property
    def environment(self):
        """The credentials, as every AWS client takes them."""
        return {"AWS_ACCESS_KEY_ID": self.key[0], "AWS_SECRET_ACCESS_KEY": self.key[1]}

    def keys(self, prefix):
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=NAME, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def open_uploads(self):
        return self.s3.list_multipart_uploads(Bucket=NAME).get("Uploads", [])

    def close(self):
        self.process.kill()
        self.process.wait()
