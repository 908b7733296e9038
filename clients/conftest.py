"""Fixtures: the program under test, accounts in it, clients of it, and images for it.

One server per pytest worker. Every test module has an account of its own there, so modules do not see each other.
"""

import itertools
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harness import aws as aws_face  # noqa: E402
from harness import oci  # noqa: E402
from harness.images import image, write_layout  # noqa: E402
from harness.process import run  # noqa: E402
from harness.server import REPOSITORY_ROOT, Server  # noqa: E402

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """`wharf serve` with its defaults; at the end it must drain and exit with 0."""
    running = Server(tmp_path_factory.mktemp("wharf") / "data").start()
    yield running
    running.stop()


@pytest.fixture
def make_server(tmp_path):
    """Starts servers with arguments of the test's choice; stops those that still run."""
    started = []

    def make(*arguments, name="data", **kwargs):
        started.append(Server(tmp_path / name, *arguments, **kwargs).start())
        return started[-1]

    yield make
    for one in started:
        if one.process.poll() is None:
            one.stop()


@pytest.fixture(scope="module")
def account(server):
    """An account of this test module."""
    return server.new_account()


@pytest.fixture(scope="module")
def stranger(server):
    """Another account, with no business in the first one's registry."""
    return server.new_account()


@pytest.fixture(scope="module")
def ecr(server, account):
    return aws_face.client("ecr", server.endpoint, account)


@pytest.fixture(scope="module")
def kms(server, account):
    return aws_face.client("kms", server.endpoint, account)


@pytest.fixture(scope="module")
def signed(server, account):
    """Raw requests to ECR, signed, byte for byte what the test says."""
    return aws_face.Signed(server.endpoint, account)


@pytest.fixture(scope="module")
def password(server, account):
    return server.password(account)


@pytest.fixture(scope="module")
def registry(server, password):
    """The OCI face of this module's account, spoken by hand."""
    return oci.Registry(server.endpoint, password)


@pytest.fixture
def repository(ecr, request):
    """A new, empty repository."""
    name = f"tests/{request.node.originalname.replace('_', '-')[:80].strip('-')}-{next(_numbers)}"
    ecr.create_repository(repositoryName=name)
    return name


@pytest.fixture
def unique():
    """Numbers that no other test of this worker gets."""
    return lambda: next(_numbers)


@pytest.fixture
def aws(server, account, tmp_path):
    """The AWS CLI with nothing but what the tour exports; answers what it printed."""
    empty = tmp_path / "no-aws-configuration"

    def call(*arguments, as_account=account, at=server, check=True):
        environment = {
            "AWS_ENDPOINT_URL": at.endpoint,
            "AWS_ACCESS_KEY_ID": as_account.access_key_id,
            "AWS_SECRET_ACCESS_KEY": as_account.secret_access_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",
            "AWS_CONFIG_FILE": str(empty),
            "AWS_SHARED_CREDENTIALS_FILE": str(empty),
            "AWS_MAX_ATTEMPTS": "1",
            "AWS_PAGER": "",
        }
        return run("aws", *arguments, env=environment, check=check)

    return call


@pytest.fixture(scope="session")
def layout(tmp_path_factory):
    """An OCI image layout with one small image, tag v1."""
    return write_layout(tmp_path_factory.mktemp("layout") / "small", {"v1": image("layout", layers=2)})


@pytest.fixture(scope="session")
def real_images():
    """The directory of images/build-images.sh: real images from Debian packages. ./test builds them once."""
    directory = Path(os.environ.get("WHARF_IMAGES", REPOSITORY_ROOT / ".cache" / "images"))
    if not (directory / "summary.txt").exists():
        pytest.skip(f"no real images in {directory}: images/build-images.sh could not run here (see ./test)")
    return directory
