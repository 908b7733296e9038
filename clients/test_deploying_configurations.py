"""deploy/: what Kubernetes, Compose, the balancers, Prometheus and Terraform are given, judged without any of them running."""

import json
import re

import kubernetes_validate
import hcl2
import pytest
import yaml

from harness import images
from harness.http import send
from harness.process import needs, run
from harness.server import REPOSITORY_ROOT, program

DEPLOY = REPOSITORY_ROOT / "deploy"
KUBERNETES = "1.33"


@pytest.fixture(scope="module")
def variables():
    """Every variable that is a setting, as the program has them."""
    settings = json.loads(run(program(), "config", "--json").stdout)
    return {setting["variable"] for setting in settings.values()}


def assert_known(names, variables):
    ours = {name for name in names if name.startswith("WHARF_")}
    assert ours, "nothing is set"
    assert ours <= variables, f"no settings of wharf: {sorted(ours - variables)}"


# ---------------------------------------------------------------- Kubernetes


def objects():
    """Every object under deploy/kubernetes, with the file that it is in."""
    for path in sorted((DEPLOY / "kubernetes").glob("*/*.yml")):
        for one in yaml.safe_load_all(path.read_text()):
            if one["kind"] != "Kustomization":
                yield path, one


def pod_templates():
    return [(path, one["spec"]["template"]["spec"]) for path, one in objects() if "template" in one.get("spec", {})]


def test_the_objects_follow_the_schemas_of_kubernetes():
    kinds = set()
    for path, one in objects():
        kinds.add(one["kind"])
        try:
            kubernetes_validate.validate(one, KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as error:
            pytest.fail(f"{path}: {one['kind']}: {error}")
    assert {"Deployment", "StatefulSet", "Service", "PodDisruptionBudget", "ClusterRole"} <= kinds


def test_the_schemas_would_notice():
    path, one = next((path, one) for path, one in objects() if one["kind"] == "Deployment")
    one["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(one, KUBERNETES, strict=True)


def test_kustomizations_name_what_is_there():
    for path in sorted((DEPLOY / "kubernetes").glob("*/kustomization.yml")):
        one = yaml.safe_load(path.read_text())
        for resource in one["resources"]:
            assert (path.parent / resource).exists(), f"{path} names {resource}"
        beside = {other.name for other in path.parent.glob("*.yml")} - {"kustomization.yml"}
        assert beside <= set(one["resources"]), f"{path} leaves out {beside - set(one['resources'])}"


@pytest.mark.parametrize("name", ["base", "single-node", "in-use-agent"])
def test_kustomize_makes_of_them_what_kubernetes_takes(name):
    kubectl = needs("kubectl", "kubernetes-client")
    version = re.search(r"Kustomize Version: v(\d+)", run(kubectl, "version", "--client", check=False).stdout)
    if version is None or int(version[1]) < 5:
        pytest.skip("this kubectl has no kustomize of version 5: the objects are judged one by one")
    made = list(yaml.safe_load_all(run(kubectl, "kustomize", DEPLOY / "kubernetes" / name).stdout))
    for one in made:
        kubernetes_validate.validate(one, KUBERNETES, strict=True)
    kinds = [one["kind"] for one in made]
    assert kinds.count("Deployment") == (name != "single-node") and kinds.count("StatefulSet") == (name == "single-node")
    names = {one["metadata"]["name"] for one in made}
    assert names == {"wharf-in-use" if name == "in-use-agent" else "wharf"}
    for one in made:
        if one["kind"] in ("Deployment", "StatefulSet"):
            wanted = one["spec"]["selector"]["matchLabels"].items()
            assert wanted <= one["spec"]["template"]["metadata"]["labels"].items()
            assert one["spec"]["template"]["spec"]["containers"][0]["image"].startswith("registry.example.com/wharf:")
    if name == "single-node":
        (settings,) = (one["data"] for one in made if one["kind"] == "ConfigMap")
        assert "WHARF_BLOBS" not in settings and "WHARF_METADATA" not in settings


def test_pods_are_confined_and_given_time_to_drain():
    found = pod_templates()
    assert len(found) == 3
    for path, spec in found:
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] == 65532, path
        (container,) = spec["containers"]
        confined = container["securityContext"]
        assert confined["readOnlyRootFilesystem"] and not confined["allowPrivilegeEscalation"], path
        assert confined["capabilities"] == {"drop": ["ALL"]}, path
        mounts = {mount["name"] for mount in container.get("volumeMounts", [])}
        volumes = {volume["name"] for volume in spec.get("volumes", [])} | {"data"}
        assert mounts <= volumes, path
        if "serve" in container["args"]:
            pause = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            assert spec["terminationGracePeriodSeconds"] > 30 + pause, path


def test_kubernetes_sets_and_asks_what_there_is(variables, server):
    names, paths = set(), set()
    for _, one in objects():
        if one["kind"] == "ConfigMap":
            names |= set(one["data"])
    for _, spec in pod_templates():
        for container in spec["containers"]:
            names |= {variable["name"] for variable in container.get("env", [])}
            probes = [container[kind] for kind in container if kind.endswith("Probe")]
            paths |= {probe["httpGet"]["path"] for probe in probes}
    told = re.findall(r"^#   (WHARF_\w+)", (DEPLOY / "kubernetes/base/settings.yml").read_text(), re.MULTILINE)
    assert_known(names | set(told), variables)
    assert paths == {"/healthz", "/readyz"}
    for path in paths:
        send(server.endpoint, "GET", path).expect(200)


def test_the_agent_may_only_look_at_pods():
    (role,) = (one for _, one in objects() if one["kind"] == "ClusterRole")
    assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]


def test_the_agent_s_flags_are_those_of_the_program():
    (agent,) = (spec["containers"][0] for path, spec in pod_templates() if path.parent.name == "in-use-agent")
    said = run(program(), "in-use", "report", "--help").stdout
    flags = [argument.split("=")[0] for argument in agent["args"] if argument.startswith("--")]
    missing = [flag for flag in flags if not re.search(rf"{flag}\b", said)]
    assert missing == [], said


def assert_taken(values):
    """The program takes the values as its settings; secrets are the test's."""
    secrets = {"WHARF_ROOT_KEY": "YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=", "POSTGRES_PASSWORD": "secret"}
    ours = {}
    for name, value in values.items():
        if name.startswith("WHARF_"):
            ours[name] = re.sub(r"\$\{(\w+):\?\}", lambda asked: secrets[asked[1]], value)
    run(program(), "config", env=ours)


def test_kubernetes_settings_are_taken():
    (settings,) = (one["data"] for _, one in objects() if one["kind"] == "ConfigMap")
    text = (DEPLOY / "kubernetes/base/settings.yml").read_text()
    metadata = re.search(r"^#   WHARF_METADATA +(\S+)", text, re.MULTILINE)[1]
    assert_taken(settings | {"WHARF_METADATA": metadata})


# ---------------------------------------------------------------- Compose


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((DEPLOY / "compose" / "compose.yml").read_text())


def test_compose_hangs_together(compose, variables):
    services = compose["services"]
    nodes = [services[name] for name in services if name.startswith("wharf-")]
    assert len(nodes) == 2 and nodes[0] == nodes[1]
    assert_known(nodes[0]["environment"], variables)
    for name, service in services.items():
        assert "image" in service, name
        needed = service.get("depends_on", [])
        assert set(needed) <= set(services), name
        assert set(service["networks"]) <= set(compose["networks"]), name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            known = (DEPLOY / "compose" / source).exists() if source.startswith(".") else source in compose["volumes"]
            assert known, f"{name}: {volume}"
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published == ["127.0.0.1:5050:5050"], "plain HTTP stays on the machine"


def test_compose_s_settings_are_taken(compose):
    assert_taken(compose["services"]["wharf-1"]["environment"])


def test_compose_asks_for_the_secrets_of_the_example(compose):
    asked = set(re.findall(r"\$\{(\w+):\?\}", (DEPLOY / "compose" / "compose.yml").read_text()))
    example = (DEPLOY / "compose" / "example.env").read_text()
    assert asked == set(re.findall(r"^(\w+)=", example, re.MULTILINE))
    assert not re.search(r"^\w+=\S", example, re.MULTILINE), "no secret that somebody would leave in"


# ---------------------------------------------------------------- monitoring


def test_alerts_ask_for_metrics_that_there_are(server, registry, repository):
    registry.push(repository, images.image("alerts"), "v1")
    text = send(server.endpoint, "GET", "/metrics").expect(200).body.decode()
    known = set(re.findall(r"^(wharf_\w+)[ {]", text, re.MULTILINE))
    rules = yaml.safe_load((DEPLOY / "monitoring" / "prometheus-rules.yml").read_text())
    alerts = [rule for group in rules["groups"] for rule in group["rules"]]
    assert len(alerts) >= 5 and all(rule["annotations"]["summary"] for rule in alerts)
    asked = {name for rule in alerts for name in re.findall(r"\bwharf_\w+", rule["expr"])}
    # A family that has counted nothing yet shows no sample, but its type.
    assert len(asked) >= 5 and asked <= known, f"nobody counts {sorted(asked - known)}"
    labels = set(re.findall(r'wharf_requests_total\{([^}]*)\}', text)[0].replace('"', "").split(","))
    assert {label.split("=")[0] for label in labels} == {"face", "operation", "status"}


def test_the_documented_metrics_are_those_that_there_are(server, registry, repository):
    registry.push(repository, images.image("metrics-documented"), "v1")
    text = send(server.endpoint, "GET", "/metrics").expect(200).body.decode()
    counted = set(re.findall(r"^# TYPE (wharf_\w+) ", text, re.MULTILINE))
    table = re.findall(r"^\| (`wharf_.*?) \|", (REPOSITORY_ROOT / "docs" / "deploying.md").read_text(), re.MULTILINE)
    told = {re.sub(r"_total$", "", name) for cell in table for name in re.findall(r"`(wharf_\w+)", cell)}
    assert told == counted


# ---------------------------------------------------------------- Terraform

# What the AWS provider calls to make, read and remove each resource, as far as the example asks for it.
PROVIDER_CALLS = {
    "aws_ecr_repository": "ecr: CreateRepository DescribeRepositories ListTagsForResource TagResource UntagResource"
    " PutImageTagMutability DeleteRepository",
    "aws_ecr_lifecycle_policy": "ecr: PutLifecyclePolicy GetLifecyclePolicy DeleteLifecyclePolicy",
    "aws_ecr_repository_policy": "ecr: SetRepositoryPolicy GetRepositoryPolicy DeleteRepositoryPolicy",
    "aws_iam_user": "iam: CreateUser GetUser UpdateUser ListUserTags TagUser UntagUser ListGroupsForUser DeleteUser",
    "aws_iam_access_key": "iam: CreateAccessKey ListAccessKeys UpdateAccessKey DeleteAccessKey",
    "aws_iam_user_policy": "iam: PutUserPolicy GetUserPolicy DeleteUserPolicy",
    "aws_iam_role": "iam: CreateRole GetRole ListRolePolicies ListAttachedRolePolicies UpdateRole UpdateAssumeRolePolicy"
    " ListInstanceProfilesForRole DeleteRole",
    "aws_iam_role_policy_attachment": "iam: AttachRolePolicy ListAttachedRolePolicies DetachRolePolicy",
    "aws_kms_key": "kms: CreateKey DescribeKey GetKeyPolicy GetKeyRotationStatus ListResourceTags ScheduleKeyDeletion",
    "aws_kms_alias": "kms: CreateAlias ListAliases DeleteAlias",
    "aws_caller_identity": "sts: GetCallerIdentity",
}


@pytest.fixture(scope="module")
def terraform():
    return hcl2.loads((DEPLOY / "terraform" / "main.tf").read_text())


def plain(text):
    """A name without the quotes that some versions of the parser leave on it."""
    return text.strip('"')


def test_terraform_s_resources_need_only_what_is_built(terraform):
    readme = (REPOSITORY_ROOT / "README.md").read_text()
    built = set(re.findall(r"^\| (\w[\w-]*) \| `(\w+)` \| .* \| yes \|$", readme, re.MULTILINE))
    assert ("ecr", "CreateRepository") in built
    kinds = {plain(kind) for block in ("resource", "data") for one in terraform[block] for kind in one}
    assert len(kinds) >= 9
    for kind in kinds:
        service, calls = PROVIDER_CALLS[kind].split(": ")
        missing = [call for call in calls.split() if (service, call) not in built]
        assert missing == [], f"{kind} needs {missing} of {service}"


def test_terraform_s_provider_asks_nobody_else(terraform):
    (provider,) = (one for block in terraform["provider"] for one in block.values())
    (endpoints,) = provider["endpoints"]
    services = {name for name in endpoints if not name.startswith("__")}
    assert services == {calls.split(":")[0] for calls in PROVIDER_CALLS.values()}
    assert all("var.endpoint" in endpoints[name] for name in services)


def test_terraform_s_lifecycle_policy_is_one(ecr, repository):
    policy = (DEPLOY / "terraform" / "lifecycle.json").read_text()
    ecr.put_lifecycle_policy(repositoryName=repository, lifecyclePolicyText=policy)
    kept = ecr.get_lifecycle_policy(repositoryName=repository)["lifecyclePolicyText"]
    assert json.loads(kept) == json.loads(policy)
