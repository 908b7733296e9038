"""Lifecycle policies through boto3, its paginators and waiters, and the AWS CLI; wharf's own commands beside them."""

import json

import pytest
from botocore.exceptions import ClientError

from harness import images


def rule(priority, action="expire", **selection):
    selection = {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 1} | selection
    actions = {"expire": {"type": "expire"}, "archive": {"type": "transition", "targetStorageClass": "archive"}}
    return {"rulePriority": priority, "selection": selection, "action": actions[action]}


def policy(*rules):
    return json.dumps({"rules": list(rules)}, indent=2)


def wait_for_preview(ecr, repository):
    waiter = ecr.get_waiter("lifecycle_policy_preview_complete")
    waiter.wait(repositoryName=repository, WaiterConfig={"Delay": 1, "MaxAttempts": 30})


def tags(ecr, repository):
    pages = ecr.get_paginator("list_images").paginate(repositoryName=repository)
    return sorted(image["imageTag"] for page in pages for image in page["imageIds"] if "imageTag" in image)


def test_a_policy_is_put_shown_and_deleted(ecr, repository):
    with pytest.raises(ClientError) as none:
        ecr.get_lifecycle_policy(repositoryName=repository)
    assert none.value.response["Error"]["Code"] == "LifecyclePolicyNotFoundException"
    text = policy(rule(1, tagStatus="tagged", tagPatternList=["prod*"]), rule(2))
    put = ecr.put_lifecycle_policy(repositoryName=repository, lifecyclePolicyText=text)
    assert put["lifecyclePolicyText"] == text
    got = ecr.get_lifecycle_policy(repositoryName=repository)
    assert got["lifecyclePolicyText"] == text and got["lastEvaluatedAt"].timestamp() == 0
    assert ecr.delete_lifecycle_policy(repositoryName=repository)["lifecyclePolicyText"] == text
    with pytest.raises(ecr.exceptions.LifecyclePolicyNotFoundException):
        ecr.delete_lifecycle_policy(repositoryName=repository)


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("x" * 100, "Could not map policyString into LifecyclePolicy."),
        (json.dumps({"rule": ["x" * 100]}), "not allowed by the schema"),
        (policy(rule(1, countNumber=0)) + " " * 100, "lower than the required minimum (minimum: 1, found: 0)"),
        (policy(rule(1), rule(2, tagStatus="untagged")), "must have the lowest priority"),
        (policy(rule(1, tagStatus="tagged")) + " " * 100, "Must specify tagPrefixList or tagPatternList"),
        (policy(rule(1, wharf={"notInUse": True})) + " " * 100, 'not allowed by the schema: (["wharf"])'),
    ],
)
def test_a_bad_policy_is_refused_and_changes_nothing(ecr, repository, text, detail):
    for call in (ecr.put_lifecycle_policy, ecr.start_lifecycle_policy_preview):
        with pytest.raises(ecr.exceptions.InvalidParameterException) as refused:
            call(repositoryName=repository, lifecyclePolicyText=text)
        message = refused.value.response["Error"]["Message"]
        assert message.startswith("Invalid parameter at 'LifecyclePolicyText' failed to satisfy constraint: ")
        assert "Lifecycle policy validation failure: " in message and detail in message
    with pytest.raises(ecr.exceptions.LifecyclePolicyNotFoundException):
        ecr.get_lifecycle_policy(repositoryName=repository)
    with pytest.raises(ecr.exceptions.LifecyclePolicyPreviewNotFoundException):
        ecr.get_lifecycle_policy_preview(repositoryName=repository)


def test_a_preview_is_awaited_paged_and_filtered(ecr, registry, repository):
    for number in range(7):
        registry.push(repository, images.image(f"preview-{number}"), f"v{number}")
    untagged = images.image("preview-untagged")
    registry.push(repository, untagged, untagged.digest)
    text = policy(rule(1, tagStatus="untagged", countNumber=1), rule(2, countNumber=2))
    started = ecr.start_lifecycle_policy_preview(repositoryName=repository, lifecyclePolicyText=text)
    assert started["status"] == "IN_PROGRESS"
    wait_for_preview(ecr, repository)

    pages = ecr.get_paginator("get_lifecycle_policy_preview").paginate(
        repositoryName=repository, PaginationConfig={"PageSize": 2}
    )
    pages = list(pages)
    assert {page["status"] for page in pages} == {"COMPLETE"} and len(pages) == 3
    results = [result for page in pages for result in page["previewResults"]]
    # The untagged image is kept by its own rule; it is the newest, so that one tagged image is kept beside it.
    assert [result["imageTags"] for result in results] == [[f"v{number}"] for number in range(6)]
    assert {result["appliedRulePriority"] for result in results} == {2}
    assert {result["action"]["type"] for result in results} == {"EXPIRE"}
    assert pages[0]["summary"] == {"expiringImageTotalCount": 6}

    some = ecr.get_lifecycle_policy_preview(
        repositoryName=repository, imageIds=[{"imageTag": "v3"}, {"imageDigest": untagged.digest}]
    )
    assert [result["imageTags"] for result in some["previewResults"]] == [["v3"]]
    filtered = ecr.get_lifecycle_policy_preview(repositoryName=repository, filter={"tagStatus": "UNTAGGED"})
    assert filtered["previewResults"] == []
    assert tags(ecr, repository) == [f"v{number}" for number in range(7)], "a preview changes nothing"
    with pytest.raises(ecr.exceptions.InvalidParameterException):
        ecr.get_lifecycle_policy_preview(repositoryName=repository, nextToken="forged")


def test_the_cli_previews_and_the_operator_runs(server, account, aws, ecr, registry, repository):
    for number in range(3):
        registry.push(repository, images.image(f"run-{number}", layer_size=70_000), f"v{number}")
    text = policy(rule(10, tagStatus="tagged", tagPrefixList=["v"], countNumber=1))
    aws("ecr", "put-lifecycle-policy", "--repository-name", repository, "--lifecycle-policy-text", text)
    aws("ecr", "start-lifecycle-policy-preview", "--repository-name", repository)
    aws("ecr", "wait", "lifecycle-policy-preview-complete", "--repository-name", repository)
    shown = aws("ecr", "get-lifecycle-policy-preview", "--repository-name", repository, "--output", "json")
    shown = json.loads(shown.stdout)
    assert [result["imageTags"] for result in shown["previewResults"]] == [["v0"], ["v1"]]

    place = ("--repository", repository, "--account", account.id)
    explained = json.loads(server.command("lifecycle", "explain", *place, "--json").stdout)
    going = {image["tags"][0]: image for image in explained["images"] if image["action"] == "expire"}
    assert sorted(going) == ["v0", "v1"] and explained["bytes_freed"] > 2 * 60_000
    table = server.command("lifecycle", "explain", *place).stdout
    assert "3 images: 2 expire, 0 go to the archive" in table

    report = json.loads(server.command("lifecycle", "run", *place, "--json").stdout)
    assert (report["expired"], report["failures"]) == (2, [])
    assert tags(ecr, repository) == ["v2"]
    assert ecr.get_lifecycle_policy(repositoryName=repository)["lastEvaluatedAt"].timestamp() > 0
    assert json.loads(server.command("lifecycle", "run", *place, "--json").stdout)["expired"] == 0


def test_the_server_carries_policies_out_by_itself(make_server):
    from harness import oci
    from harness.aws import client
    from harness.process import wait_until

    server = make_server("--lifecycle-interval", "100ms", "--lifecycle-extensions")
    account = server.root_account()
    ecr = client("ecr", server.endpoint, account)
    registry = oci.Registry(server.endpoint, server.password(account))
    ecr.create_repository(repositoryName="team/app")
    for tag in ("v1.9.0", "v1.10.0", "v1.2.0"):
        registry.push("team/app", images.image(tag), tag)
    text = policy(rule(1, tagStatus="tagged", countNumber=1, wharf={"tagRegexAnyOf": ["^v1\\."], "order": "semver"}))
    ecr.put_lifecycle_policy(repositoryName="team/app", lifecyclePolicyText=text)
    wait_until(lambda: tags(ecr, "team/app") == ["v1.10.0"], "the policy to be carried out", timeout=30)


def test_the_audit_log_has_what_policies_and_the_operator_deleted(make_server, tmp_path):
    from harness import oci
    from harness.aws import client
    from harness.process import wait_until

    log = tmp_path / "audit.jsonl"
    server = make_server("--audit-log", str(log))
    account = server.root_account()
    ecr = client("ecr", server.endpoint, account)
    registry = oci.Registry(server.endpoint, server.password(account))
    ecr.create_repository(repositoryName="team/app")
    pushed = [images.image(f"audited-{number}") for number in range(3)]
    for number, image in enumerate(pushed):
        registry.push("team/app", image, f"v{number}")
    text = policy(rule(7, tagStatus="tagged", tagPrefixList=["v"]))
    ecr.put_lifecycle_policy(repositoryName="team/app", lifecyclePolicyText=text)

    def recorded():
        lines = [line for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
        records = [json.loads(line) for line in lines]
        return {record["eventID"]: record for record in records if record["eventType"] == "AwsServiceEvent"}

    place = ("--repository", "team/app", "--account", account.id)
    server.command("lifecycle", "run", *place)
    (record,) = wait_until(recorded, "the record of the run").values()
    assert (record["eventName"], record["eventSource"]) == ("PolicyExecutionEvent", "ecr.amazonaws.com")
    details = record["serviceEventDetails"]
    assert details["repositoryName"] == "team/app"
    (shown,) = details["lifecycleEventPolicy"]["lifecycleEventRules"]
    assert (shown["rulePriority"], shown["action"]) == (7, "expire")
    done = {
        (action["lifecycleEventImage"]["digest"], action["rulePriority"])
        for action in details["lifecycleEventImageActions"]
    }
    assert done == {(image.digest, 7) for image in pushed[:2]}

    # Nobody serves while the operator deletes; the log has it as soon as somebody does.
    server.stop()
    server.command("image", "delete", *place, "--force", "v2")
    assert len(recorded()) == 1
    server.start()
    wait_until(lambda: len(recorded()) == 2, "the record of the deletion")
    (record,) = [record for record in recorded().values() if record["eventName"] == "DeleteImage"]
    assert record["userIdentity"] == {"accountId": account.id, "invokedBy": "operator"}
    assert record["serviceEventDetails"]["imageDigest"] == pushed[2].digest
    assert record["serviceEventDetails"]["forced"] is True
