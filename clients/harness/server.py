"""The program under test, started as a user starts it."""

import json
import os
import signal
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from .process import environment, run

REPOSITORY_ROOT = Path(__file__).resolve().parents[2]


def program():
    """The built program: WHARF_BIN, else the newest of target/{release,debug}/wharf."""
    if os.environ.get("WHARF_BIN"):
        return Path(os.environ["WHARF_BIN"])
    built = [p for p in (REPOSITORY_ROOT / "target" / kind / "wharf" for kind in ("release", "debug")) if p.exists()]
    if not built:
        pytest.exit("no program to test: cargo build, or set WHARF_BIN", returncode=2)
    return max(built, key=lambda path: path.stat().st_mtime)


@dataclass(frozen=True)
class Account:
    """An account with its root access key."""

    id: str
    access_key_id: str
    secret_access_key: str

    @classmethod
    def from_json(cls, text):
        fields = json.loads(text)
        return cls(fields["account_id"], fields["access_key_id"], fields["secret_access_key"])


class Server:
    """`wharf serve` on a free loopback port with its own data directory."""

    def __init__(self, data_dir: Path, *arguments, env=None):
        self.data_dir = Path(data_dir)
        self.arguments = [str(a) for a in arguments]
        self.env = env or {}
        self.process = None
        self.endpoint = None
        self._said = []
        self._listening = threading.Event()
        self._reader = None

    # -- running

    def start(self, listen="127.0.0.1:0"):
        assert self.process is None or self.process.poll() is not None, "already running"
        if self._reader is not None:
            self._reader.join()  # its last word would be taken for the next process's
        self._listening.clear()
        self.endpoint = None
        command = [program(), "serve", "--data-dir", self.data_dir, "--listen", listen, *self.arguments]
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=open(self.data_dir.parent / (self.data_dir.name + ".stderr"), "ab"),
            text=True,
            env=environment(self.env),
        )
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self._reader.start()
        if not self._listening.wait(30) or self.endpoint is None:
            self.process.kill()
            pytest.fail(f"no `listening on` line within 30 s from: {' '.join(map(str, command))}\n{self.output()}")
        return self

    def _read(self, stdout):
        for line in stdout:
            self._said.append(line)
            if line.startswith("listening on http"):
                self.endpoint = line.split()[2].rstrip("/")
                self._listening.set()
        self._listening.set()

    def stop(self, timeout=30):
        """SIGTERM by process id; the exit code must be 0."""
        self.begin_stop()
        self.finish_stop(timeout)

    def begin_stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def finish_stop(self, timeout=30):
        """Waits for a server that was told to stop."""
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            pytest.fail(f"the server did not drain within {timeout} s of SIGTERM\n{self.output()}")
        self._reader.join(10)
        assert code == 0, f"the server ended with {code} after SIGTERM, 0 expected\n{self.output()}"

    def kill(self):
        """SIGKILL: nothing is handed over, as in a power cut without the lost cache."""
        self.process.kill()
        self.process.wait()

    def restart(self):
        """Stops and starts again on the same port, so that clients can go on."""
        self.stop()
        return self.start(self.host)

    def output(self):
        errors = self.data_dir.parent / (self.data_dir.name + ".stderr")
        tail = errors.read_text(errors="replace")[-6000:] if errors.exists() else ""
        return f"--- its stdout\n{''.join(self._said)[-3000:]}\n--- the end of its stderr\n{tail}"

    # -- names

    @property
    def host(self):
        return self.endpoint.split("://", 1)[1]

    @property
    def port(self):
        return int(self.host.rsplit(":", 1)[1])

    # -- the command line beside it

    def command(self, *arguments, **kwargs):
        return run(program(), *arguments, "--data-dir", self.data_dir, **kwargs)

    def root_account(self):
        """The account of the first start, as its file in the data directory has it."""
        path = self.data_dir / "root-credentials.json"
        assert path.stat().st_mode & 0o777 == 0o600, f"{path} must be readable by its owner only"
        return Account.from_json(path.read_text())

    def new_account(self):
        return Account.from_json(self.command("account", "create", "--json").stdout)

    def password(self, account: Account, *arguments):
        """A registry password: what `docker login -u AWS` wants."""
        return self.command("token", "issue", "--account", account.id, *arguments).stdout.strip()
