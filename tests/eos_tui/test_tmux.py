"""The viewer in a real tmux: keys, other sizes, and that the run outlives the terminal in every way."""

import os
import shlex
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import programs
from tests.eos_tui.fakes import NAME, FakeRun, filled, held_elsewhere, requests
from tests.eos_tui.test_launch import until
from tests.eos_tui.test_viewer_terminal import PATIENCE, Terminal

pytestmark = pytest.mark.tmux
EOS = [sys.executable, "-m", "eos_tui"]
PREFIX = b"\x02"
"""Ctrl-b: what follows is for tmux."""


class Tmux:
    """A tmux server of its own with one pane."""

    def __init__(self) -> None:
        self._clients: list[Terminal] = []
        self.command = [programs.path("tmux"), "-L", f"eos-{uuid.uuid4().hex[:12]}", "-f", "/dev/null"]

    def __call__(self, *arguments: str) -> str:
        environ = {key: value for key, value in os.environ.items() if key != "TMUX"}
        return subprocess.run([*self.command, *arguments], capture_output=True, text=True, check=True, env=environ).stdout

    def open(self, command: list[str], *, columns: int, rows: int) -> int:
        """Start a command in a pane of this size; its process."""
        size = ["-x", str(columns), "-y", str(rows)]
        return int(self("new-session", "-d", "-P", "-F", "#{pane_pid}", *size, f"exec {shlex.join(command)}"))

    def attached(self, folder: Path) -> Terminal:
        """A client of the server."""
        self._clients.append(Terminal(folder, command=[*self.command, "attach"]))
        return self._clients[-1]

    def end(self) -> None:
        """No server and no client any more."""
        subprocess.run([*self.command, "kill-server"], capture_output=True)
        for client in self._clients:
            client.process.kill()
            client.process.wait()
            os.close(client.master)

    def press(self, *keys: str) -> None:
        self("send-keys", *keys)

    def shows(self, words: str, *, gone: bool = False) -> str:
        """The pane's text once it has these words, or no longer has them."""
        text = ""

        def is_there() -> bool:
            nonlocal text
            text = self("capture-pane", "-p")
            return (words in text) is not gone

        try:
            until(is_there, seconds=PATIENCE)
        except AssertionError:
            raise AssertionError(f"{words!r}, gone: {gone}\n{text}") from None
        return text


@pytest.fixture
def tmux() -> Iterator[Tmux]:
    tmux = Tmux()
    yield tmux
    tmux.end()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRun]:
    """A run that another process holds."""
    monkeypatch.setenv("EOS_RUNS", str(tmp_path))
    run = filled(FakeRun(tmp_path))
    with held_elsewhere(run):
        yield run


def has_panels_side_by_side(tmux: Tmux) -> bool:
    return any(line.count("╭") > 1 for line in tmux.shows("loss (log)").splitlines())


def is_untouched(run: FakeRun) -> bool:
    return run.folder.is_held() is True and requests(run) == []


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (120, 40)])
def test_keys_change_the_screen(tmux: Tmux, run: FakeRun, columns: int, rows: int) -> None:
    tmux.open([*EOS, "watch", NAME], columns=columns, rows=rows)
    shown = tmux.shows("step 1,860 of 3,000")
    assert max(map(len, shown.splitlines())) <= columns
    assert "2/lr" in tmux.shows("loss (log)")

    tmux.press("l")
    tmux.shows("loss (log)", gone=True)
    tmux.press("?")
    tmux.shows("keys, and how to read the screen")
    tmux.press("Escape")
    tmux.shows("keys, and how to read the screen", gone=True)
    tmux.press("s")
    tmux.shows(f"Stop {NAME}?")
    tmux.press("n")
    tmux.shows(f"Stop {NAME}?", gone=True)

    assert is_untouched(run)


def test_the_view_outlives_its_clients_and_fits_each_of_them(tmux: Tmux, run: FakeRun) -> None:
    viewer = tmux.open([*EOS, "watch", NAME], columns=80, rows=24)
    tmux.shows("loss (log)")
    assert not has_panels_side_by_side(tmux)

    client = tmux.attached(run.folder.path)
    client.read_until("loss (log)")
    until(lambda: has_panels_side_by_side(tmux), seconds=PATIENCE)
    os.write(client.master, PREFIX + b"d")
    client.end()
    tmux("resize-window", "-x", "80", "-y", "24")
    until(lambda: not has_panels_side_by_side(tmux), seconds=PATIENCE)
    tmux.attached(run.folder.path).read_until("step 1,860 of 3,000")

    assert programs.lives(viewer)
    assert is_untouched(run)


def test_the_end_of_tmux_is_the_viewers_and_not_the_runs(tmux: Tmux, run: FakeRun) -> None:
    viewer = tmux.open([*EOS, "watch", NAME], columns=80, rows=24)
    tmux.shows("step 1,860 of 3,000")

    tmux("kill-server")

    until(lambda: not programs.lives(viewer), seconds=PATIENCE)
    assert is_untouched(run)


def test_the_list_of_runs_is_filtered_and_opens_a_run(tmux: Tmux, run: FakeRun) -> None:
    filled(FakeRun(run.folder.path.parent, name="adam-20260131T120000Z-0c0c"))
    tmux.open(EOS, columns=80, rows=24)
    tmux.shows("2 runs in")

    tmux.press("/")
    tmux.press("-l", "name-of-none")
    assert "adam" not in tmux.shows("0 of them: name-of-none").replace("adam-", "")
    tmux.press("Escape")
    tmux.shows("0 of them", gone=True)
    tmux.press("/")
    tmux.press("-l", "digits")
    tmux.press("Enter")
    tmux.shows("1 of them: digits")
    tmux.press("Enter")
    tmux.shows("step 1,860 of 3,000")
    tmux.press("q")
    tmux.shows("2 runs in")

    assert is_untouched(run)
