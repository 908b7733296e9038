"""nginx and HAProxy with the configurations of deploy/compose, in front of servers of a test."""

import re
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

from .http import send
from .process import Daemon, free_port, needs, wait_until
from .server import REPOSITORY_ROOT

COMPOSE = REPOSITORY_ROOT / "deploy" / "compose"


def with_nodes(text, hosts):
    """The configuration with other nodes than Compose's: as many lines like the first one's as there are hosts."""
    lines = re.findall(r"^ *server wharf-\d.*\n", text, re.MULTILINE)
    assert len(lines) == 2, "two nodes in the example"
    ours = "".join(
        lines[0].replace("wharf-1:5050", host).replace("server wharf-1 ", f"server wharf-{number} ")
        for number, host in enumerate(hosts, 1)
    )
    return text.replace("".join(lines), ours)


def nginx_command(directory, port, hosts):
    text = with_nodes((COMPOSE / "nginx.conf").read_text(), hosts)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    own = "    access_log off;\n" + "".join(f"    {kind}_temp_path {directory}/{kind};\n" for kind in kinds)
    text = text.replace("http {\n", f"http {{\n{own}", 1).replace("/run/nginx.pid", f"{directory}/pid")
    (directory / "nginx.conf").write_text(text.replace("listen 5050;", f"listen 127.0.0.1:{port};"))
    directory.chmod(0o755)  # its workers are somebody else
    config = ("-p", directory, "-e", directory / "errors", "-c", directory / "nginx.conf")
    return [needs("nginx", "nginx-light"), *config, "-g", "daemon off;"]


def haproxy_command(directory, port, hosts):
    text = with_nodes((COMPOSE / "haproxy.cfg").read_text(), hosts)
    text = text.replace("bind :5050", f"bind 127.0.0.1:{port}").replace("maxconn 4000", "maxconn 200")
    (directory / "haproxy.cfg").write_text(text)
    return [needs("haproxy", "haproxy"), "-db", "-f", directory / "haproxy.cfg"]


@contextmanager
def balancer(kind, hosts):
    """Starts one and answers its endpoint, once a node answers through it."""
    directory = Path(tempfile.mkdtemp(prefix=f"wharf-{kind}-"))
    port = free_port()
    command = {"nginx": nginx_command, "haproxy": haproxy_command}[kind](directory, port, hosts)
    daemon = Daemon(command, directory / "log")
    endpoint = f"http://127.0.0.1:{port}"

    def answers():
        try:
            return send(endpoint, "GET", "/readyz").status == 200
        except OSError:
            return False

    try:
        wait_until(answers, f"{kind} to reach a node", alive=daemon.must_be_alive)
        yield endpoint
    finally:
        # HAProxy ends by the signal itself.
        daemon.stop()
        shutil.rmtree(directory)
