"""How long the command line and the live view take to answer.

The budgets are 0.25 s for `eos --help`, 0.7 s for the first frame of a run, and 1 s for 1,000 runs, as `eos list` and on the screen.
Each number is the median of several fresh processes, beside that of an interpreter that does nothing.
Run `python benchmarks/startup.py [--repeat N] [--json]`.
"""

import argparse
import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from pathlib import Path

from open_log import write_log

RUNS = 1000
ROWS = 5000
"""Steps of each listed run: a log far longer than its tail."""
BUDGETS = {"help_seconds": 0.25, "first_frame_seconds": 0.7, "list_seconds": 1.0, "home_seconds": 1.0}
EOS = [sys.executable, "-m", "eos_tui"]
SHOWN = b"bench"
"""Begins the runs' names, which stand in the first frame that shows a run."""
GIVE_UP_SECONDS = 20.0


def seconds(command: list[str]) -> float:
    """How long a command takes to end."""
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def first_frame(command: list[str]) -> float:
    """How long a command takes until a terminal of 120x40 shows a run."""
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (40, 120))
    begun = time.perf_counter()
    environment = {**os.environ, "TERM": "xterm-256color"}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True) as process:
        os.close(theirs)
        try:
            seen = b""
            while SHOWN not in seen:
                if not select.select([ours], [], [], GIVE_UP_SECONDS)[0]:
                    raise TimeoutError(f"no frame in {GIVE_UP_SECONDS} s: {seen[-500:]!r}")
                seen += os.read(ours, 65536)
            return time.perf_counter() - begun
        finally:
            process.kill()
            os.close(ours)


def make_runs(runs: Path) -> None:
    """Many runs that share one log."""
    log = runs.parent / "log.jsonl"
    write_log(log, ROWS)
    for number in range(RUNS):
        folder = runs / f"bench-20260101T000000Z-{number:04x}"
        folder.mkdir(parents=True)
        (folder / "spec.json").write_text("{}")
        os.link(log, folder / "log.jsonl")


def median(measure: Callable[[list[str]], float], command: list[str], *, repeat: int) -> float:
    """The middle of several measurements, after one that fills the caches."""
    measure(command)
    return statistics.median(measure(command) for _ in range(repeat))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    repeat = arguments.repeat
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        make_runs(runs)
        found = {
            "python_seconds": median(seconds, [sys.executable, "-c", "pass"], repeat=repeat),
            "help_seconds": median(seconds, [*EOS, "--help"], repeat=repeat),
            "list_seconds": median(seconds, [*EOS, "list", "--runs-dir", str(runs)], repeat=repeat),
            "home_seconds": median(first_frame, [*EOS, "watch", "--runs-dir", str(runs)], repeat=repeat),
            "first_frame_seconds": median(first_frame, [*EOS, "watch", str(next(runs.iterdir()))], repeat=repeat),
        }
    found["help_over_python"] = found["help_seconds"] / found["python_seconds"]
    if arguments.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        budget = f" (budget {BUDGETS[name]:g})" if name in BUDGETS else ""
        print(f"{name:<20} {value:.3f}{budget}")


if __name__ == "__main__":
    main()
