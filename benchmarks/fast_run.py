"""Whether the live view keeps up with a run of 10,000 rows a second: its lag, its share of a core, what it sends.

A process writes the log, the viewer follows in a pseudo-terminal. Run `python benchmarks/fast_run.py [--rows N] [--json]`; Linux only.
"""

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
from terminal import VIEWER, Viewer, header, lines

from runners.run_folder import RunFolder

ROWS_PER_STEP = 1.12
"""Of the log of `terminal`: a sharpness every 10 steps, an NTK trace every 50."""
TAIL = 4096
"""Bytes that hold the log's last line."""


def write(folder: RunFolder, *, rows_per_second: int, seconds: float) -> None:
    """Append to the log at this rate, some rows every 10 ms, as a fast run does."""
    rate = rows_per_second / ROWS_PER_STEP
    steps = int(rate * seconds)
    noise = random.Random(0)
    with folder.held(), folder.log.open("ab", buffering=0) as log:
        log.write(msgspec.json.encode(header(steps)) + b"\n")
        start, written = time.monotonic(), 0
        while written < steps:
            last = min(int((time.monotonic() - start) * rate), steps)
            log.write(lines(written, last, steps=steps, noise=noise))
            written = last
            time.sleep(0.01)
        time.sleep(2.0)


def last_step(log: Path) -> int:
    """The step of the log's last whole line."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL))
        whole = file.read().rpartition(b"\n")[0]
    return int(json.loads(whole.rpartition(b"\n")[2])["step"])


def shown_step(viewer: Viewer) -> int:
    """The step that the screen says."""
    found = next((match for row in viewer.rows() if (match := re.search(r"step ([\d,]+) of", row))), None)
    return int(found[1].replace(",", "")) if found else 0


def follow(runs: Path, *, rows_per_second: int, seconds: float, width: int, height: int) -> dict[str, Any]:
    """Follow such a run from its beginning; what was seen at each second."""
    folder = RunFolder(runs / "fast")
    folder.path.mkdir()
    command = [sys.executable, __file__, "--write", str(folder.path), "--rows", str(rows_per_second), "--seconds", str(seconds)]
    with subprocess.Popen(command) as writer:
        while not folder.log.exists():
            time.sleep(0.01)
        with Viewer(VIEWER, "normal", str(folder.path), width=width, height=height) as viewer:
            viewer.read_until("help")
            start, cpu, count = time.monotonic(), viewer.cpu_seconds(), 0
            lags: list[int] = []
            while writer.poll() is None and time.monotonic() - start < seconds - 1.0:
                count += viewer.read(1.0)
                lags.append(int((last_step(folder.log) - shown_step(viewer)) * ROWS_PER_STEP))
            elapsed, used = time.monotonic() - start, viewer.cpu_seconds() - cpu
            megabytes = viewer.megabytes()
            writer.wait()
            viewer.read(1.0)
            left = last_step(folder.log) - shown_step(viewer)
    return {
        "lag_rows": lags,
        "lag_rows_at_the_end": left,
        "percent_of_a_core": round(100 * used / elapsed, 1),
        "kibibytes_per_second": round(count / elapsed / 1024, 2),
        "megabytes": round(megabytes, 1),
    }


def main() -> None:
    """Print what was seen; or, as the writer, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=10_000, help="rows a second")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--size", default="120x40")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.write:
        write(RunFolder(asked.write), rows_per_second=asked.rows, seconds=asked.seconds)
        return
    width, height = map(int, asked.size.split("x"))
    with tempfile.TemporaryDirectory() as runs:
        found = follow(Path(runs), rows_per_second=asked.rows, seconds=asked.seconds, width=width, height=height)
    if asked.json:
        print(json.dumps({"rows_per_second": asked.rows, "size": asked.size, **found}))
        return
    lags = sorted(found["lag_rows"])
    print(f"lag in rows, second by second: {' '.join(map(str, found['lag_rows']))}")
    print(f"median {lags[len(lags) // 2]:,}, most {lags[-1]:,}, {found['lag_rows_at_the_end']} a second after the end")
    print(f"{found['percent_of_a_core']} % of a core, {found['kibibytes_per_second']} KiB/s, {found['megabytes']} MB")


if __name__ == "__main__":
    main()
