"""Running programs: one command to its end, and daemons that are stopped by their process id."""

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

# Found even where the user's PATH lacks them.
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"


def environment(more=None):
    """This process's environment without WHARF_… (each is a setting of the program, or ours), and `more`."""
    return {name: value for name, value in os.environ.items() if not name.startswith("WHARF_")} | (more or {})


def run(*command, input=None, env=None, timeout=120, check=True):
    """Runs a command to its end; a failure shows the command, its exit code and everything it said."""
    command = [str(part) for part in command]
    done = subprocess.run(
        command,
        input=input,
        env=environment(env),
        timeout=timeout,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    if check and done.returncode != 0:
        pytest.fail(
            f"{' '.join(command)}\nexit code {done.returncode}\n--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}",
            pytrace=True,
        )
    return done


def refused(*command, **kwargs):
    """Runs a command that must fail; answers all it said."""
    done = run(*command, check=False, **kwargs)
    said = done.stdout + done.stderr
    assert done.returncode != 0, f"{' '.join(map(str, command))} succeeded but must be refused; it said:\n{said}"
    return said


def needs(program, package):
    """The path of a program, or a skip that says which Debian package has it."""
    found = shutil.which(program, path=os.environ.get("PATH", "") + ":" + SYSTEM_PATH)
    if found is None:
        pytest.skip(f"{program} is not installed (Debian package {package}); ./test installs it")
    return found


def needs_root():
    if os.geteuid() != 0:
        pytest.skip("needs root: it starts a container daemon or mounts file systems")


def wait_until(condition, what, timeout=30.0, alive=None):
    """Waits for a condition to become true and answers its value; `alive` may name why it never will."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while True:
        value = condition()
        if value:
            return value
        if alive is not None:
            alive()
        assert time.monotonic() < deadline, f"waited {timeout:.0f} s in vain for {what}"
        pause.wait(0.02)


def free_port():
    """A port of loopback that nobody listens on, for programs that cannot choose one themselves."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def remove_tree(directory: Path):
    """Removes a daemon's directory, whatever the daemon left mounted in it first."""
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for place in sorted((m for m in mounted if m.startswith(f"{directory}/")), reverse=True):
        run("umount", "--lazy", place)
    shutil.rmtree(directory)


class Daemon:
    """A background program with its output in a file. Stopped by its own process id."""

    def __init__(self, command, log: Path, env=None):
        self.command = [str(part) for part in command]
        self.log = log
        with open(log, "ab") as sink:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=environment(env),
            )

    def must_be_alive(self):
        code = self.process.poll()
        assert code is None, f"{self.command[0]} ended with code {code}:\n{self.tail()}"

    def tail(self, count=40):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])

    def stop(self, timeout=30):
        """SIGTERM, then the exit code; SIGKILL and a failure when it does not end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            pytest.fail(f"{self.command[0]} did not end within {timeout} s of SIGTERM:\n{self.tail()}")
