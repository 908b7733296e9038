"""wharf behind nginx and HAProxy, with the configurations of deploy/compose."""

import re

import pytest

from harness import images, oci
from harness.aws import client
from harness.balancers import COMPOSE, balancer, haproxy_command, nginx_command, with_nodes
from harness.http import send
from harness.process import needs, run, wait_until

KINDS = ["nginx", "haproxy"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_balancer_takes_its_configuration(kind, tmp_path):
    make = {"nginx": nginx_command, "haproxy": haproxy_command}[kind]
    command = make(tmp_path, 1, ["127.0.0.1:1", "127.0.0.1:2"])
    command = [*command[:-2], "-t"] if kind == "nginx" else [command[0], "-c", "-f", command[-1]]
    done = run(*command, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0 and "warn" not in said.lower(), said


@pytest.mark.parametrize("kind", KINDS)
def test_clients_reach_wharf_behind_it(kind, make_server, layout):
    server = make_server("--trusted-proxies=127.0.0.1/32")
    account = server.root_account()
    with balancer(kind, [server.host]) as endpoint:
        host = endpoint.removeprefix("http://")
        ecr = client("ecr", endpoint, account)
        made = ecr.create_repository(repositoryName="team/app")["repository"]
        assert made["repositoryUri"] == f"{host}/team/app", "the name that the client used"
        password = server.password(account)
        registry = oci.Registry(endpoint, password)
        # Larger than what a proxy would buffer or refuse by default.
        one = images.image("behind", layers=1, layer_size=3_000_000)
        registry.push("team/app", one, "v1")
        for digest, data in one.blobs.items():
            assert registry.blob("team/app", digest).expect(200).body == data
        location = registry.start_upload("team/app").expect(202).headers["Location"]
        assert location.startswith("/") or location.startswith(f"{endpoint}/"), location
        needs("skopeo", "skopeo")
        target = f"docker://{host}/team/app:v2"
        run("skopeo", "copy", "--dest-tls-verify=false", "--dest-creds", f"AWS:{password}", f"oci:{layout}:v1", target)
        assert {"v1", "v2"} == set(registry.tags("team/app").json["tags"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_node_that_is_gone_is_left_out(kind, make_server):
    """Both answer at first; requests are answered on when one is killed, and reads without any failing."""
    servers = [make_server(name=name) for name in ("one", "two")]
    with balancer(kind, [server.host for server in servers]) as endpoint:
        servers[0].kill()
        # Once its checks or the first refused connection have told it so.
        wait_until(lambda: all(send(endpoint, "GET", "/readyz").status == 200 for _ in range(10)), "the other node alone")


def test_the_examples_name_the_same_nodes():
    for name in ("nginx.conf", "haproxy.cfg"):
        text = (COMPOSE / name).read_text()
        assert set(re.findall(r"wharf-\d:5050", text)) == {"wharf-1:5050", "wharf-2:5050"}
        assert "wharf-" not in with_nodes(text, []), "every line is replaced"
