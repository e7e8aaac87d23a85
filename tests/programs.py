"""The programs of the system that some tests drive, by the marker that these tests carry."""

import os
import shutil
from dataclasses import dataclass

import psutil

ALL = "EOS_TEST_ALL_PROGRAMS"
"""Environment variable under which a test fails whose program is missing."""
PLACES = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
"""Where they are looked for: a user's PATH often lacks sshd's folder."""


@dataclass(frozen=True)
class Program:
    """One of them."""

    names: tuple[str, ...]
    """What it is called; the first that is found counts."""
    package: str
    """Debian's package of it."""

    @property
    def path(self) -> str | None:
        return next((path for name in self.names if (path := shutil.which(name, path=PLACES))), None)


PROGRAMS = {
    "tmux": Program(("tmux",), "tmux"),
    "ssh": Program(("sshd",), "openssh-server"),
    "browser": Program(("chromium", "chromium-browser", "google-chrome"), "chromium"),
}


def path(marker: str) -> str:
    """Where the program of a marked test is."""
    found = PROGRAMS[marker].path
    assert found, f"the test lacks the marker {marker}"
    return found


def lives(pid: int) -> bool:
    """Whether there is such a process that has not ended; one that has may wait for its parent to notice."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
