"""Lifecycle policies over months, by a clock that the tests set, through stock clients that have the same clock."""

import json
from datetime import datetime, timedelta

import pytest
from botocore.exceptions import WaiterError

from harness import aws, images, oci
from harness.clock import Clock
from harness.process import run, wait_until


@pytest.fixture
def clock(tmp_path):
    return Clock(tmp_path / "clock", datetime(2028, 1, 30, 12))


class Place:
    """A server on that clock, and clients that sign by it."""

    def __init__(self, server, clock):
        self.server, self.clock = server, clock
        self.account = server.root_account()
        self.ecr = aws.client("ecr", server.endpoint, self.account)
        self("create_repository", repositoryName="team/app")

    def __call__(self, operation, **more):
        with aws.clock_off_by(self.clock.ahead):
            return getattr(self.ecr, operation)(**more)

    def push(self, tag):
        # A password lives for twelve hours.
        registry = oci.Registry(self.server.endpoint, self.server.password(self.account))
        registry.push("team/app", images.image(tag), tag)

    def tags(self):
        with aws.clock_off_by(self.clock.ahead):
            pages = list(self.ecr.get_paginator("list_images").paginate(repositoryName="team/app"))
        return sorted(image["imageTag"] for page in pages for image in page["imageIds"])

    def evaluated(self):
        """When the server carried the policy out last."""
        return self("get_lifecycle_policy", repositoryName="team/app")["lastEvaluatedAt"]

    def preview(self):
        """Started and awaited by the waiter; answers the status and the tags of what would go, by the paginator."""
        self("start_lifecycle_policy_preview", repositoryName="team/app")
        with aws.clock_off_by(self.clock.ahead):
            waiter = self.ecr.get_waiter("lifecycle_policy_preview_complete")
            waiter.wait(repositoryName="team/app", WaiterConfig={"Delay": 1, "MaxAttempts": 30})
        return self.previewed()

    def previewed(self):
        with aws.clock_off_by(self.clock.ahead):
            pages = self.ecr.get_paginator("get_lifecycle_policy_preview").paginate(repositoryName="team/app")
            pages = list(pages)
        tags = sorted(tag for page in pages for result in page["previewResults"] for tag in result["imageTags"])
        return pages[0]["status"], tags


def older_than(days):
    selection = {"tagStatus": "any", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": days}
    return json.dumps({"rules": [{"rulePriority": 1, "selection": selection, "action": {"type": "expire"}}]}, indent=2)


def test_images_expire_to_the_minute_across_the_end_of_a_leap_february(make_server, clock):
    place = Place(make_server(env=clock.env), clock)
    place.push("january")  # on the 30th, about noon
    pushed = place.clock.now()
    clock.advance(days=25)
    place.push("february")
    place("put_lifecycle_policy", repositoryName="team/app", lifecyclePolicyText=older_than(30))
    # Thirty days after January 30 is February 29, in this year.
    clock.advance(days=5, minutes=-10)
    assert (clock.now().month, clock.now().day) == (2, 29)
    assert place.preview() == ("COMPLETE", [])
    # The server's own job looks in vain now, and not again within the hour.
    wait_until(lambda: place.evaluated() > clock.now() - timedelta(hours=1), "the policy to be looked at")
    clock.advance(minutes=20)
    assert place.preview() == ("COMPLETE", ["january"])
    # The server's own job.
    clock.advance(hours=1)
    wait_until(lambda: place.tags() == ["february"], "the policy to be carried out")
    assert timedelta(days=30) <= place.evaluated() - pushed < timedelta(days=30, hours=2)

    # A preview is forgotten after a day; what it says then, no waiter takes for done.
    clock.advance(days=2)
    assert place.previewed() == ("EXPIRED", [])
    with aws.clock_off_by(clock.ahead), pytest.raises(WaiterError):
        waiter = place.ecr.get_waiter("lifecycle_policy_preview_complete")
        waiter.wait(repositoryName="team/app", WaiterConfig={"Delay": 0, "MaxAttempts": 3})


def test_the_aws_cli_waits_for_a_preview_months_later(make_server, clock, tmp_path):
    place = Place(make_server(env=clock.env), clock)
    place.push("old")
    # Not the one that is previewed: the server would carry that out.
    place("put_lifecycle_policy", repositoryName="team/app", lifecyclePolicyText=older_than(4000))
    clock.advance(days=366 + 30)
    place.push("young")
    clock.advance(days=5)
    signed = {
        "AWS_ENDPOINT_URL": place.server.endpoint,
        "AWS_ACCESS_KEY_ID": place.account.access_key_id,
        "AWS_SECRET_ACCESS_KEY": place.account.secret_access_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_PAGER": "",
    }
    of = ("--repository-name", "team/app")
    text = older_than(400)
    run("aws", "ecr", "start-lifecycle-policy-preview", *of, "--lifecycle-policy-text", text, env=signed | clock.env)
    run("aws", "ecr", "wait", "lifecycle-policy-preview-complete", *of, env=signed | clock.env)
    shown = run("aws", "ecr", "get-lifecycle-policy-preview", *of, "--output", "json", env=signed | clock.env)
    assert [result["imageTags"] for result in json.loads(shown.stdout)["previewResults"]] == [["old"]]
    refused = run("aws", "ecr", "get-lifecycle-policy-preview", *of, env=signed, check=False)
    assert refused.returncode != 0 and "Signature" in refused.stderr, "the client's own clock is years behind"
