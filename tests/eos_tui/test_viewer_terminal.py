"""The viewer in a pseudo-terminal: however it is left, the terminal is restored and the run goes on."""

import os
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pyte
import pytest

from tests.eos_tui import fakes
from tests.eos_tui.fakes import NAME, FakeRun, filled, requests

VIEWER = """
import sys
from pathlib import Path
from eos_tui.app import watch
from runners.run_folder import RunFolder
print(watch(RunFolder(Path(sys.argv[1]))))
"""
EXEC = "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"
TAKE_TERMINAL = f"import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); {EXEC}"
"""Makes standard input the session's terminal, whose closing sends it SIGHUP, and goes on as the command that follows."""
PATIENCE = 20.0
"""Seconds after which a test gives up on another process."""


class Terminal:
    """The viewer in a pseudo-terminal of 100x30, and what it has written there."""

    def __init__(
        self,
        folder: Path,
        *,
        before: str = "",
        is_controlling: bool = True,
        command: list[str] | None = None,
        environ: dict[str, str] | None = None,
    ) -> None:
        viewer = [sys.executable, "-c", before + VIEWER, str(folder)]
        self.master, slave = os.openpty()
        termios.tcsetwinsize(slave, (30, 100))
        self.screen = pyte.Screen(100, 30)
        self._stream = pyte.ByteStream(self.screen)
        self.written = b""
        # Which go before the terminal's own size, and which Python's readline leaves to the processes that it starts.
        inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", TAKE_TERMINAL if is_controlling else EXEC, *(command or viewer)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**inherited, "TERM": "xterm-256color", **(environ or {})},
            start_new_session=True,
        )
        os.close(slave)

    def read_until(self, text: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while text not in "\n".join(self.screen.display):
            assert time.monotonic() < deadline, "\n".join(self.screen.display)
            if not self._read(0.1) and self.process.poll() is not None:
                raise AssertionError("\n".join(self.screen.display))

    def end(self) -> float:
        """Read on until the process has ended; seconds that it took."""
        start = time.monotonic()
        while self.process.poll() is None:
            assert time.monotonic() < start + PATIENCE
            self._read(0.01)
        took = time.monotonic() - start
        while self._read(0.0):
            pass
        return took

    def _read(self, seconds: float) -> bool:
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self.master, 65_536)
        except OSError:
            return False
        self.written += data
        # A private parameter that this emulator takes for one of SGR.
        self._stream.feed(re.sub(rb"\x1b\[[<>=][0-9;]*[a-z]", b"", data))
        return bool(data)


@pytest.fixture
def held_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FakeRun, "subprocess.Popen[str]"]]:
    """A run that another process holds."""
    monkeypatch.setenv("EOS_RUNS", str(tmp_path))
    run = filled(FakeRun(tmp_path))
    with fakes.held_elsewhere(run) as runner:
        yield run, runner


def leave(terminal: Terminal, how: str) -> None:
    if how in ("q", "\x03"):
        os.write(terminal.master, how.encode())
    else:
        os.kill(terminal.process.pid, signal.Signals[how])


@pytest.mark.parametrize("how", ["q", "\x03", "SIGTERM", "SIGHUP", "SIGINT"])
def test_leaving_restores_the_terminal_and_never_touches_the_run(held_elsewhere, how):
    run, runner = held_elsewhere
    terminal = Terminal(run.folder.path)
    terminal.read_until("step 1,860 of 3,000")

    leave(terminal, how)
    terminal.end()

    assert terminal.process.returncode == 0
    left = terminal.written.rindex(b"\x1b[?1049l")
    assert terminal.written.rindex(b"\x1b[?25h") > left
    assert terminal.written.rindex(b"\x1b[?2004l") < left
    assert f"{NAME} goes on".encode() in terminal.written[left:]
    assert runner.poll() is None
    assert run.folder.is_held()
    assert requests(run) == []


IGNORES_HANG_UPS = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); "


@pytest.mark.slow
def test_a_terminal_without_unicode_is_sent_ascii_alone(held_elsewhere):
    run, _ = held_elsewhere
    terminal = Terminal(run.folder.path, environ={"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
    terminal.read_until("2/lr = ")
    assert "====" in "\n".join(terminal.screen.display)

    os.write(terminal.master, b"?")
    terminal.read_until("how to read the screen")
    screen = "\n".join(terminal.screen.display)
    os.write(terminal.master, b"\x03")
    terminal.end()

    assert terminal.written.isascii()
    assert screen.count("?") <= 2, "what cannot be encoded is written as a question mark; that is the help's key, there and in the footer"
    assert "+-" in screen


@pytest.mark.slow
def test_with_the_mouse_a_click_in_a_chart_reads_all_panels_at_a_step(held_elsewhere):
    run, _ = held_elsewhere
    terminal = Terminal(run.folder.path, command=[sys.executable, "-m", "eos_tui", "watch", str(run.folder.path), "--mouse"])
    terminal.read_until("2/lr = ")

    os.write(terminal.master, b"\x1b[<0;30;10M\x1b[<0;30;10m")
    terminal.read_until("at step ")
    os.write(terminal.master, b"\x03")
    terminal.end()

    assert b"\x1b[?1000h" in terminal.written


@pytest.mark.parametrize("how", [{}, {"before": IGNORES_HANG_UPS}, {"is_controlling": False}], ids=["", "under nohup", "without SIGHUP"])
def test_closing_the_terminal_ends_the_viewer_and_never_touches_the_run(held_elsewhere, how):
    run, runner = held_elsewhere
    terminal = Terminal(run.folder.path, **how)
    terminal.read_until("step 1,860 of 3,000")

    os.close(terminal.master)
    terminal.process.wait(timeout=PATIENCE)

    assert runner.poll() is None
    assert run.folder.is_held()
    assert requests(run) == []
