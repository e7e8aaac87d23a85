"""The viewer in a real tmux: keys, other sizes, and that the run outlives the terminal in every way."""

import os
import shlex
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
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
        # pytest's workers have a COLUMNS, which programs take for the terminal's, however large that is.
        environ = {key: value for key, value in os.environ.items() if key not in ("TMUX", "COLUMNS", "LINES")}
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
        return self.looks(lambda text: (words in text) is not gone)

    def looks(self, condition: Callable[[str], bool]) -> str:
        """The pane's text once it is so."""
        text = ""

        def is_so() -> bool:
            nonlocal text
            text = self("capture-pane", "-p")
            return condition(text)

        try:
            until(is_so, seconds=PATIENCE)
        except AssertionError:
            raise AssertionError(f"{self('list-panes', '-F', '#{pane_width}x#{pane_height}')}{text}") from None
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


def is_wide(text: str) -> bool:
    """Whether panels stand side by side."""
    return any(line.count("╭") > 1 for line in text.splitlines())


def is_untouched(run: FakeRun) -> bool:
    return run.folder.is_held() is True and requests(run) == []


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (120, 40)])
def test_keys_change_the_screen(tmux: Tmux, run: FakeRun, columns: int, rows: int) -> None:
    tmux.open([*EOS, "watch", NAME], columns=columns, rows=rows)
    tmux.shows("loss (log)")
    shown = tmux.looks(lambda text: is_wide(text) is (columns >= 100) and "step 1,860 of 3,000" in text)
    assert max(map(len, shown.splitlines())) <= columns

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


@pytest.mark.slow
def test_the_view_outlives_its_clients_and_fits_each_of_them(tmux: Tmux, run: FakeRun) -> None:
    viewer = tmux.open([*EOS, "watch", NAME], columns=80, rows=24)
    assert not is_wide(tmux.shows("loss (log)"))

    client = tmux.attached(run.folder.path)
    client.read_until("loss (log)")
    tmux.looks(is_wide)
    os.write(client.master, PREFIX + b"d")
    client.end()
    tmux("resize-window", "-x", "80", "-y", "24")
    tmux.looks(lambda text: not is_wide(text))
    tmux.attached(run.folder.path).read_until("step 1,860 of 3,000")

    assert programs.lives(viewer)
    assert is_untouched(run)


@pytest.mark.slow
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
