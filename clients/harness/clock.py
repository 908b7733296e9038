"""A clock that a test sets, under the real program: libfaketime, which the loader puts before the C library."""

import time
from datetime import datetime, timezone
from glob import glob

import pytest


class Clock:
    """Goes on from where it was set. Only what is started with `env` has it; waiting and timeouts keep the real one."""

    def __init__(self, file, start):
        libraries = glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
        if not libraries:
            pytest.skip("libfaketime is not installed (Debian package libfaketime); ./test installs it")
        self._file = file
        self.ahead = int(start.replace(tzinfo=timezone.utc).timestamp() - time.time())
        self.advance(seconds=0)
        self.env = {
            "LD_PRELOAD": libraries[0],
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def advance(self, days=0, hours=0, minutes=0, seconds=0):
        self.ahead += ((days * 24 + hours) * 60 + minutes) * 60 + seconds
        # In one step, since the program may read it at any moment.
        beside = self._file.with_suffix(".new")
        beside.write_text(f"{self.ahead:+d}\n")
        beside.rename(self._file)

    def now(self):
        return datetime.fromtimestamp(time.time() + self.ahead, timezone.utc)
