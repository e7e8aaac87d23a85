"""What the live views cost: time to the first frame, bytes on the wire, share of a core, and how fast a long log opens.

Runs the viewer in a pseudo-terminal on a run that this script pretends to compute. Run it with
`python benchmarks/viewer_bytes.py`; Linux only.
"""

import argparse
import fcntl
import json
import math
import os
import random
import re
import select
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import pyte

from runners.records import SCHEMA, AnyRecord, Curve, DataDescription, Header, NtkRecord, Panel, SharpnessRecord, StepRecord
from runners.run_folder import RunFolder

VIEWER = """
import sys
from pathlib import Path
from eos_tui.app import watch
from runners.run_folder import RunFolder
folders = [RunFolder(Path(path)) for path in sys.argv[1:]]
watch(folders if len(folders) > 1 else folders[0])
"""
SIZES = ((80, 24), (120, 40), (200, 60))
STEPS = 10_000
STEPS_PER_SECOND = 100
NUM_LIVE = 3
"""Of the runs that are compared."""
LONG = 1_000_000
LR = 0.3


def curve(record: str, field: str, label: str) -> Curve:
    """A curve of a panel."""
    return Curve(record=record, field=field, label=label)


PANELS = (
    Panel(title="loss", scale="log", series=(curve("step", "loss", "train"),)),
    Panel(
        title="sharpness",
        series=(curve("sharpness", "value", "sharpness"),),
        references=(curve("sharpness", "threshold", "2/lr"),),
        error=curve("sharpness", "error", "error"),
        ratio=curve("sharpness", "ratio", "of 2/lr"),
    ),
    Panel(
        title="NTK trace",
        series=(curve("ntk", "trace", "trace"),),
        references=(curve("ntk", "threshold", "stochastic threshold"),),
        error=curve("ntk", "sem", "standard error"),
        ratio=curve("ntk", "ratio", "of its threshold"),
        notes=(curve("ntk", "noise_kernel", "K"),),
    ),
)


def header(steps: int) -> Header:
    """The log's first line."""
    data = DataDescription(
        name="none", source="none", task="regression", num_train=1, num_test=0, input_shape=(1,), num_outputs=1, standardization="none"
    )
    return Header(
        step=0,
        time=0.0,
        schema=SCHEMA,
        run="benchmark",
        runner="train",
        created="2026-01-01T00:00:00Z",
        steps=steps,
        spec={},
        panels=PANELS,
        versions={},
        device="none",
        host="none",
        pid=0,
        precision="float32",
        num_params=1,
        num_examples=1,
        num_measured=1,
        batch_size=1,
        data=data,
        loss_convention="none",
    )


def records(step: int, *, steps: int, noise: random.Random) -> Iterator[AnyRecord]:
    """A noisy loss, a sharpness that rises to its edge and stays there, an NTK trace."""
    seconds = step / STEPS_PER_SECOND
    done = min(1.0, 3 * step / steps)
    yield StepRecord(step=step, time=seconds, loss=(0.01 + (1 - done) ** 3) * math.exp(noise.gauss(0, 0.05)), lr=LR)
    if step % 10 == 0:
        value = 2 + done * (4.7 + noise.gauss(0, 0.1))
        quality: dict[str, Any] = {"residual": 0.01, "error": 0.001, "num_hvps": 7, "converged": True, "method": "none", "seconds": 0.002}
        yield SharpnessRecord(step=step, time=seconds, value=value, threshold=2 / LR, ratio=value * LR / 2, num_examples=1, **quality)
    if step % 50 == 0:
        trace = 90 + 150 * done + noise.gauss(0, 1)
        how: dict[str, Any] = {"convention": "per_output", "method": "none", "num_probes": 16, "num_examples": 1, "seconds": 0.01}
        yield NtkRecord(step=step, time=seconds, trace=trace, sem=2.0, threshold=380.0, ratio=trace / 380, noise_kernel=trace / 350, **how)


def lines(first: int, last: int, *, steps: int, noise: random.Random) -> bytes:
    """The log's lines of these steps."""
    return b"".join(
        msgspec.json.encode(record) + b"\n" for step in range(first, last) for record in records(step, steps=steps, noise=noise)
    )


class Viewer:
    """A viewer in a pseudo-terminal; counts what it writes."""

    def __init__(self, *folders: Path, width: int, height: int) -> None:
        """Start it.

        Args:
            folders: The run, or those that are compared.
            width: Columns.
            height: Rows.
        """
        self.started = time.monotonic()
        self._screen = pyte.Screen(width, height)
        self._stream = pyte.ByteStream(self._screen)
        self._master, slave = os.openpty()
        termios.tcsetwinsize(slave, (height, width))
        self._process = subprocess.Popen(
            [sys.executable, "-c", VIEWER, *map(str, folders)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color"},
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)

    def __enter__(self) -> "Viewer":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.write(self._master, b"q")
        while self._process.poll() is None:
            self.read(0.05)
        os.close(self._master)

    def read(self, seconds: float) -> int:
        """Show what it writes in this time; the number of bytes."""
        deadline = time.monotonic() + seconds
        count = 0
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self._master], [], [], left)[0]:
                try:
                    written = os.read(self._master, 1 << 16)
                except OSError:
                    break
                count += len(written)
                # The emulator takes private parameters for those of colours.
                self._stream.feed(re.sub(rb"\x1b\[[<>=][0-9;]*[a-z]", b"", written))
        return count

    def read_until(self, text: str, *, seconds: float = 60.0) -> float:
        """Read until the screen shows a text; seconds since the start of the process."""
        while not any(text in row for row in self._screen.display):
            self.read(0.01)
            if time.monotonic() - self.started > seconds:
                raise SystemExit("\n".join(self._screen.display))
        return time.monotonic() - self.started

    def rows(self) -> list[str]:
        """What the screen shows."""
        return list(self._screen.display)

    def cpu_seconds(self) -> float:
        """Processor time that it has used."""
        user, system = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def megabytes(self) -> float:
        """Memory that it holds now."""
        found = subprocess.run(["ps", "-o", "rss=", "-p", str(self._process.pid)], capture_output=True, text=True, check=True)
        return int(found.stdout) / 1024


def live(runs: Path, *, width: int, height: int, seconds: float) -> dict[str, float]:
    """First frame, then a run at 100 steps/s for so many seconds, then silence."""
    folder = RunFolder(runs / f"live-{width}x{height}")
    folder.path.mkdir()
    noise = random.Random(0)
    written = 3000
    with folder.held(), folder.log.open("ab", buffering=0) as log, Viewer(folder.path, width=width, height=height) as viewer:
        log.write(msgspec.json.encode(header(STEPS)) + b"\n" + lines(0, written, steps=STEPS, noise=noise))
        first_frame = viewer.read_until("help")
        first_numbers = viewer.read_until("step 2,999 of")
        viewer.read(2.0)
        start, cpu, num_bytes = time.monotonic(), viewer.cpu_seconds(), 0
        while (elapsed := time.monotonic() - start) < seconds:
            last = 3000 + int(elapsed * STEPS_PER_SECOND)
            log.write(lines(written, last, steps=STEPS, noise=noise))
            written = last
            num_bytes += viewer.read(0.1)
        cpu = viewer.cpu_seconds() - cpu
        viewer.read(2.0)
        idle_cpu = viewer.cpu_seconds()
        idle = viewer.read(5.0)
        idle_cpu = viewer.cpu_seconds() - idle_cpu
    return {
        "first_frame_seconds": first_frame,
        "first_numbers_seconds": first_numbers,
        "kibibytes_per_second": num_bytes / elapsed / 1024,
        "percent_of_a_core": 100 * cpu / elapsed,
        "idle_bytes": idle,
        "idle_percent_of_a_core": 100 * idle_cpu / 5.0,
    }


def compared(runs: Path, *, width: int, height: int, seconds: float) -> dict[str, float]:
    """Eight runs beside each other, three of them at 100 steps/s for so many seconds, then silence."""
    folders = [RunFolder(runs / f"compared-{number}") for number in range(8)]
    noise = random.Random(0)
    written = 3000
    with ExitStack() as stack:
        logs = []
        for number, folder in enumerate(folders):
            folder.path.mkdir()
            first = msgspec.json.encode(header(STEPS)) + b"\n" + lines(0, written, steps=STEPS + 1000 * number, noise=noise)
            folder.log.write_bytes(first)
            if number < NUM_LIVE:
                stack.enter_context(folder.held())
                logs.append(stack.enter_context(folder.log.open("ab", buffering=0)))
        viewer = stack.enter_context(Viewer(*(folder.path for folder in folders), width=width, height=height))
        first_frame = viewer.read_until("help")
        first_numbers = viewer.read_until(f"{NUM_LIVE} live")
        viewer.read(3.0)
        start, cpu, num_bytes = time.monotonic(), viewer.cpu_seconds(), 0
        while (elapsed := time.monotonic() - start) < seconds:
            last = 3000 + int(elapsed * STEPS_PER_SECOND)
            for number, log in enumerate(logs):
                log.write(lines(written, last, steps=STEPS + 1000 * number, noise=noise))
            written = last
            num_bytes += viewer.read(0.1)
        cpu = viewer.cpu_seconds() - cpu
        viewer.read(3.0)
        idle_cpu = viewer.cpu_seconds()
        idle = viewer.read(5.0)
        idle_cpu = viewer.cpu_seconds() - idle_cpu
    return {
        "first_frame_seconds": first_frame,
        "first_numbers_seconds": first_numbers,
        "kibibytes_per_second": num_bytes / elapsed / 1024,
        "percent_of_a_core": 100 * cpu / elapsed,
        "idle_bytes": idle,
        "idle_percent_of_a_core": 100 * idle_cpu / 5.0,
    }


def long_log(runs: Path, *, num_rows: int) -> dict[str, float]:
    """Opening a log of so many rows: until its last step is on the screen."""
    folder = RunFolder(runs / "long")
    folder.path.mkdir()
    steps = int(num_rows / 1.12)
    folder.log.write_bytes(msgspec.json.encode(header(steps)) + b"\n" + lines(0, steps, steps=steps, noise=random.Random(0)))
    with folder.held(), Viewer(folder.path, width=120, height=40) as viewer:
        opened = viewer.read_until(f"step {steps - 1:,} of")
        return {"open_seconds": opened, "megabytes": viewer.megabytes()}


def main() -> None:
    """Print one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each live run lasts")
    parser.add_argument("--rows", type=int, default=LONG, help="rows of the long log")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for width, height in SIZES:
            found = live(Path(folder), width=width, height=height, seconds=asked.seconds)
            print(json.dumps({"size": f"{width}x{height}", **{name: round(value, 2) for name, value in found.items()}}))
        found = compared(Path(folder), width=120, height=40, seconds=asked.seconds)
        print(json.dumps({"compared": 8, "live": NUM_LIVE, **{name: round(value, 2) for name, value in found.items()}}))
        found = long_log(Path(folder), num_rows=asked.rows)
        print(json.dumps({"rows": asked.rows, **{name: round(value, 2) for name, value in found.items()}}))


if __name__ == "__main__":
    main()
