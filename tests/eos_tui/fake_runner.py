"""A runner that computes nothing and keeps to the protocol of a run folder: `python fake_runner.py WAY FOLDER`.

WAY: finish, wait (until it is told to stop), diverge, fail, crash (gone without an end), deaf (to every signal that can
be ignored), die (before it holds the folder). Of several, with commas between, the one that the number at the end of the folder's name
picks.
"""

import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from runners.control import Requests, Signals
from runners.run_folder import RunFolder
from tests.eos_tui.fakes import FakeRun


class HeldRun(FakeRun):
    """Writes to the folder that it was given."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.steps = 100


def wait(run: FakeRun, signals: Signals, *, first: int) -> int:
    """Take steps until a request or a signal; the exit code."""
    requests = Requests(run.folder.control, from_start=True)
    paused = False
    step = first
    while True:
        for request in requests.poll():
            if request.request == "stop":
                run.end(step, status="stopped", reason="Asked to stop.")
                return 0
            paused = request.request == "pause"
            run.event(step, "paused" if paused else "unpaused", "On request.")
        if signals.received:
            run.end(step, status="stopped", reason=f"Received {signals.received.name}.")
            return 130
        if not paused:
            run.sharpness(step, 2.0)
            run.step(step)
            step += 1
        time.sleep(0.005)


def main(way: str, path: str) -> int:
    folder = RunFolder(Path(path))
    ways = way.split(",")
    way = ways[int(folder.name[-1]) % len(ways)] if len(ways) > 1 else way
    if way == "die":
        sys.stderr.write("ModuleNotFoundError: No module named 'jax'\n")
        return 1
    signals = Signals()
    signals.install()
    with folder.held():
        run = HeldRun(folder)
        first = 0
        if folder.log.exists():
            first = 50
            run.folder.log.write_bytes(b"".join(run.folder.log.read_bytes().splitlines(keepends=True)[:2]))
            run.event(first, "resumed", "Resumed from the checkpoint.")
        else:
            run.header()
            run.step(0)
        return do(way, run, signals=signals, first=first)


def do(way: str, run: FakeRun, *, signals: Signals, first: int) -> int:
    if way == "wait":
        return wait(run, signals, first=first)
    if way == "deaf":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)
        run.event(1, "deaf", "Hears nothing.")
        time.sleep(60)
    run.sharpness(first + 1, 2.0)
    if way == "crash":
        print("Killed by the machine", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if way == "finish":
        run.end(100)
        return 0
    print("the end of the output", flush=True)
    run.end(first + 1, status={"diverge": "diverged", "fail": "failed"}[way], reason="The loss became inf.")
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
