"""Frames wait for the terminal: nothing queues up, a slow one gets few, and one that does not answer is never waited for."""

import fcntl
import os
import struct
import termios
import threading
import time
from contextlib import contextmanager

import pytest

from eos_tui.pacing import ASK, PacedApp
from eos_tui.widgets.cells import CellGrid
from tests.eos_tui.fakes import FakeRun, live
from tests.eos_tui.test_viewer_terminal import Terminal


class Answering(Terminal):
    """A terminal that answers where its cursor is, after some time."""

    def __init__(self, *arguments, delay=0.0, **options):
        self._delay = delay
        super().__init__(*arguments, **options)

    def _read(self, seconds):
        before = len(self.written)
        found = super()._read(seconds)
        for _ in range(self.written[before:].count(ASK.encode())):
            time.sleep(self._delay)
            os.write(self.master, b"\x1b[1;1R")
        return found

    def queued(self):
        """Bytes that the viewer has written and nobody has read."""
        return struct.unpack("i", fcntl.ioctl(self.master, termios.FIONREAD, b"\0" * 4))[0]

    def frames(self, seconds):
        """How many it sends in this time."""
        before, end = self.written.count(ASK.encode()), time.monotonic() + seconds
        while time.monotonic() < end:
            self._read(0.05)
        return self.written.count(ASK.encode()) - before

    def leave(self):
        os.write(self.master, b"\x03")
        self.end()


@contextmanager
def growing(run):
    """The run while it goes on, half of the screen in each second."""
    stopped = threading.Event()

    def grow():
        step = 60
        while not stopped.wait(0.1):
            run.progress(range(step, step + 60))
            step += 60

    with live(run):
        run.header()
        run.progress(range(60))
        thread = threading.Thread(target=grow)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("EOS_RUNS", str(tmp_path))
    found = FakeRun(tmp_path, steps=100_000)
    with growing(found):
        yield found


@pytest.mark.slow
def test_a_terminal_that_stops_reading_has_one_frame_to_read_when_it_goes_on(run):
    terminal = Answering(run.folder.path)
    terminal.read_until("NTK trace")
    terminal.frames(1.0)

    time.sleep(2.5)

    assert 0 < terminal.queued() < 6_000, "a whole frame of 100x30 is about as much"
    assert terminal.frames(1.2) >= 2, "and then it goes on"
    terminal.leave()
    assert terminal.process.returncode == 0


@pytest.mark.slow
def test_a_terminal_that_never_answers_is_not_waited_for(run):
    terminal = Terminal(run.folder.path)
    terminal.read_until("NTK trace")
    before = len(terminal.written)
    terminal.read_until("10k")
    os.write(terminal.master, b"q")
    terminal.end()

    assert terminal.process.returncode == 0
    assert len(terminal.written) > before + 6_000, "many frames"
    assert terminal.written.count(ASK.encode()) == 1


@pytest.mark.slow
def test_a_slow_terminal_gets_fewer_frames_and_is_told_so(run):
    quick = "import eos_tui.pacing as p; p.SLOW_SECONDS = 0.1"
    terminal = Answering(run.folder.path, before=quick, delay=0.15)
    terminal.read_until("slow to take")

    terminal.frames(2.5)

    assert terminal.frames(4.2) <= 3
    terminal.leave()


@pytest.mark.slow
def test_low_bandwidth_is_a_frame_in_two_seconds_and_a_key_is_seen_at_once(run):
    low = "from functools import partial; from eos_tui import app; app.watch = partial(app.watch, options={'low_bandwidth': True})"
    terminal = Answering(run.folder.path, before=low)
    terminal.read_until("NTK trace")
    terminal.frames(2.5)

    assert terminal.frames(4.2) <= 3
    start = time.monotonic()
    os.write(terminal.master, b"?")
    terminal.read_until("how to read the screen")
    assert time.monotonic() - start < 1.9
    terminal.leave()


def test_no_answer_is_left_for_the_shell(run):
    terminal = Answering(run.folder.path)
    terminal.read_until("NTK trace")
    terminal.leave()

    left = terminal.written.rindex(b"\x1b[?1049l")
    assert ASK.encode() not in terminal.written[left:]


class Counting(CellGrid):
    """A grid of one number: how often it was drawn."""

    def grid(self, width, height):
        self.drawn = getattr(self, "drawn", 0) + 1
        return [[(str(self.drawn % 10), "")] * width] * height


async def test_what_cannot_be_sent_yet_is_drawn_once_when_it_can():
    class Showing(PacedApp):
        def compose(self):
            yield Counting()

    async with Showing(low_bandwidth=None, ansi_color=None).run_test() as pilot:
        grid = pilot.app.query_one(Counting)
        before = grid.drawn

        pilot.app._hold()
        grid.redraw()
        grid.redraw()
        assert grid.drawn == before
        pilot.app._go_on()

        assert grid.drawn == before + 1
