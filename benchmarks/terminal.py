"""What the app costs in a terminal: bytes on the wire, share of a core, frames, first frame, and how fast a long log opens.

Runs it in a pseudo-terminal, on runs that this script pretends to compute, beside the same three series drawn with textual-plotext
and textual-plot. Run it with `python benchmarks/terminal.py [--json]`; Linux only. The others need `pip install '.[bench]'`.
"""

import argparse
import fcntl
import importlib.util
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
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import pyte

from runners.records import SCHEMA, AnyRecord, Curve, DataDescription, EndRecord, Header, NtkRecord, Panel, SharpnessRecord, StepRecord
from runners.run_folder import RunFolder

VIEWER = """
import sys
from pathlib import Path
from eos_tui.app import watch
from runners.run_folder import RunFolder
mode, *paths = sys.argv[1:]
shown = [RunFolder(Path(path)) for path in paths]
watch(shown if len(shown) > 1 else shown[0] if shown[0].log.exists() else shown[0].path, options={"low_bandwidth": mode == "low"})
"""
COMMON = """
import math, random, sys
from textual.app import App
from textual.containers import Container
from textual.widgets import Static
noise = random.Random(0)
steps = list(range(0, {steps}, 10))
series = [
    [(0.01 + max(0, 1 - 3 * s / {steps}) ** 3) * math.exp(noise.gauss(0, 0.05)) for s in steps],
    [2 + min(1, 3 * s / {steps}) * (4.7 + noise.gauss(0, 0.1)) for s in steps],
    [90 + 150 * min(1, 3 * s / {steps}) + noise.gauss(0, 1) for s in steps],
]
class Panels(App):
    CSS = "Container {{ layout: grid; grid-size: 2; grid-rows: 1fr; height: 1fr; }} .alone {{ column-span: 2; }}"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS = [("q", "quit", "")]
    def compose(self):
        self.count = {begin}
        self.plots = [PLOT() for _ in series]
        self.plots[-1].add_class("alone")
        yield Container(*self.plots)
        yield Static("help")
    def on_ready(self):
        self.set_interval(0.5, self.advance)
    def advance(self):
        self.count = min(self.count + 5, len(steps))
        for plot, values in zip(self.plots, series):
            show(plot, steps[: self.count], values[: self.count])
"""
RIVALS = {
    "textual-plotext": """
from textual_plotext import PlotextPlot as PLOT
def show(plot, xs, ys):
    plot.plt.clear_data()
    plot.plt.plot(xs, ys, marker="braille")
    plot.refresh()
""",
    "textual-plot": """
from textual_plot import PlotWidget as PLOT, HiResMode
def show(plot, xs, ys):
    plot.clear()
    plot.plot(xs, ys, hires_mode=HiResMode.BRAILLE)
""",
}
"""The same three series by others, 50 points more each half second, in the terminal's standard settings of each."""
BUDGET = {"kibibytes_per_second": 2.5, "percent_of_a_core": 3.0, "idle_bytes": 0.0}
"""For a run with three panels at two frames a second and 120x40; nothing is ever sent when nothing changes."""
SIZE = (120, 40)
SCREENS = {
    "Run": (1, 1, 2.0, "step 2,999 of"),
    "Home, 50 runs, 10 live": (10, 50, 1.0, "50 runs in"),
    "Compare, 8 runs, 3 live": (3, 8, 1.0, "3 live"),
}
"""By name: live runs, all runs, frames a second while they change, and what the screen says once it has read them."""
SETTLING_SECONDS = 8.0
"""How long runs go on before it is measured: by then the screen stands, and what is kept from frame to frame is there."""
ASK = b"\x1b[6n"
STEPS = 10_000
STEPS_PER_SECOND = 100
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

    def __init__(self, *arguments: str, width: int = SIZE[0], height: int = SIZE[1]) -> None:
        """Start it.

        Args:
            arguments: Of Python: the program and what it is given.
            width: Columns.
            height: Rows.
        """
        self.frames = 0
        self.started = time.monotonic()
        self._screen = pyte.Screen(width, height)
        self._stream = pyte.ByteStream(self._screen)
        self._master, slave = os.openpty()
        termios.tcsetwinsize(slave, (height, width))
        self._process = subprocess.Popen(
            [sys.executable, "-c", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"},
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
                self.frames += (asked := written.count(ASK))
                os.write(self._master, b"\x1b[1;1R" * asked)
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
        # The number of the clock that Linux keeps for a process: `clock_getcpuclockid`. Ticks of 10 ms miss much of what is shorter.
        return time.clock_gettime(~self._process.pid << 3 | 2)

    def megabytes(self) -> float:
        """Memory that it holds now."""
        found = subprocess.run(["ps", "-o", "rss=", "-p", str(self._process.pid)], capture_output=True, text=True, check=True)
        return int(found.stdout) / 1024


def measured(viewer: Viewer, feed: Callable[[float], None], *, seconds: float) -> dict[str, float]:
    """What a viewer sends and computes while its files grow, and then while they do not.

    Args:
        viewer: One that shows them.
        feed: Lets them grow until so many seconds after the beginning.
        seconds: How long.
    """
    begin = time.monotonic()

    def fed(until: float) -> int:
        num_bytes = 0
        while (elapsed := time.monotonic() - begin) < until:
            feed(elapsed)
            num_bytes += viewer.read(0.1)
        return num_bytes

    fed(SETTLING_SECONDS)
    start, cpu, frames = time.monotonic(), viewer.cpu_seconds(), viewer.frames
    num_bytes = fed(SETTLING_SECONDS + seconds)
    elapsed, cpu, frames = time.monotonic() - start, viewer.cpu_seconds() - cpu, viewer.frames - frames
    viewer.read(3.0)
    idle_cpu = viewer.cpu_seconds()
    idle = viewer.read(5.0)
    return {
        "kibibytes_per_second": num_bytes / elapsed / 1024,
        "percent_of_a_core": 100 * cpu / elapsed,
        "frames_per_second": frames / elapsed,
        "idle_bytes": idle,
        "idle_percent_of_a_core": 100 * (viewer.cpu_seconds() - idle_cpu) / 5.0,
    }


class Growing:
    """Some live runs of 100 steps/s among some that have ended."""

    def __init__(self, runs: Path, *, num_live: int, num_runs: int) -> None:
        """Write the first 3,000 steps of each.

        Args:
            runs: An empty folder.
            num_live: Runs that go on.
            num_runs: All runs.
        """
        self._noise = random.Random(0)
        self._written = 3000
        self.folders = [RunFolder(runs / f"run-{k:02}-20260101T0000{k:02}Z-00aa") for k in range(num_runs)]
        for k, folder in enumerate(self.folders):
            folder.path.mkdir(parents=True)
            folder.log.write_bytes(
                msgspec.json.encode(header(STEPS)) + b"\n" + lines(0, 3000 if k < num_live else 300, steps=STEPS, noise=self._noise)
            )
            if k >= num_live:
                end = EndRecord(step=300, time=3.0, status="finished", reason="", steps=300, wall_seconds=3.0, measure_seconds=1.0)
                with folder.log.open("ab") as log:
                    log.write(msgspec.json.encode(end) + b"\n")
        self._live = self.folders[:num_live]

    def feed(self, seconds: float) -> None:
        """Append what the live runs have computed by then."""
        last = 3000 + int(seconds * STEPS_PER_SECOND)
        text = lines(self._written, last, steps=STEPS, noise=self._noise)
        for folder in self._live:
            with folder.log.open("ab", buffering=0) as log:
                log.write(text)
        self._written = last


def app(runs: Path, *, screen: str, mode: str, seconds: float) -> dict[str, float]:
    """Our app.

    Args:
        runs: An empty folder.
        screen: One of `SCREENS`.
        mode: `normal` or `low` bandwidth.
        seconds: How long the live runs go on.
    """
    num_live, num_runs, due, words = SCREENS[screen]
    growing = Growing(runs, num_live=num_live, num_runs=num_runs)
    shown = [runs] if screen.startswith("Home") else [folder.path for folder in growing.folders]
    with ExitStack() as stack:
        for folder in growing.folders[:num_live]:
            stack.enter_context(folder.held())
        viewer = stack.enter_context(Viewer(VIEWER, mode, *map(str, shown)))
        first = viewer.read_until("help")
        viewer.read_until(words)
        found = measured(viewer, growing.feed, seconds=seconds)
    return {**found, "frames_per_second_due": due if mode == "normal" else 0.5, "first_frame_seconds": first}


def rival(name: str, *, seconds: float) -> dict[str, float] | None:
    """The same series by another library; None where it is not installed."""
    if importlib.util.find_spec(name.replace("-", "_")) is None:
        return None
    program = RIVALS[name] + COMMON.format(steps=STEPS, begin=300) + "Panels().run(mouse=False)"
    with Viewer(program) as viewer:
        first = viewer.read_until("help")
        found = measured(viewer, lambda _: None, seconds=seconds)
        return {**{key: value for key, value in found.items() if "idle" not in key and "frames" not in key}, "first_frame_seconds": first}


def long_log(runs: Path, *, num_rows: int) -> dict[str, float]:
    """Opening a log of so many rows: until its last step is on the screen."""
    folder = RunFolder(runs / "long")
    folder.path.mkdir()
    steps = int(num_rows / 1.12)
    folder.log.write_bytes(msgspec.json.encode(header(steps)) + b"\n" + lines(0, steps, steps=steps, noise=random.Random(0)))
    with folder.held(), Viewer(VIEWER, "normal", str(folder.path)) as viewer:
        opened = viewer.read_until(f"step {steps - 1:,} of")
        return {"open_seconds": opened, "megabytes": viewer.megabytes()}


def main() -> None:
    """Print a table, or JSON; end with 1 when a budget is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each is looked at")
    parser.add_argument("--rows", type=int, default=0, help=f"also open a log of so many rows, such as {LONG:,}")
    asked = parser.parse_args()
    found: dict[str, dict[str, float] | None] = {}
    with tempfile.TemporaryDirectory() as folder:
        for mode in ("normal", "low"):
            for screen in SCREENS:
                found[f"{screen}, {mode}"] = app(Path(folder) / f"{screen} {mode}", screen=screen, mode=mode, seconds=asked.seconds)
        for name in RIVALS:
            found[name] = rival(name, seconds=asked.seconds)
        if asked.rows:
            found[f"opening {asked.rows:,} rows"] = long_log(Path(folder), num_rows=asked.rows)
    _print(found, as_json=asked.json)
    ours = found["Run, normal"] or {}
    if any(ours[name] > most for name, most in BUDGET.items()):
        raise SystemExit(1)


def _print(found: dict[str, dict[str, float] | None], *, as_json: bool) -> None:
    ours = found["Run, normal"] or {}
    for name, numbers in found.items():
        if as_json:
            print(json.dumps({"what": name, **{key: round(value, 2) for key, value in (numbers or {}).items()}}))
        elif numbers is None:
            print(f"{name:<32}not installed: pip install '.[bench]'")
        elif "kibibytes_per_second" not in numbers:
            print(f"{name:<32}" + ", ".join(f"{value:.2f} {key}" for key, value in numbers.items()))
        else:
            times = numbers["kibibytes_per_second"] / ours["kibibytes_per_second"]
            frames = f", {numbers['frames_per_second']:.1f} of {due:g} frames/s" if (due := numbers.get("frames_per_second_due")) else ""
            idle = f"{numbers['idle_bytes']:8.0f} bytes idle" if "idle_bytes" in numbers else ""
            print(
                f"{name:<32}{numbers['kibibytes_per_second']:6.2f} KiB/s ({times:5.2f} x){numbers['percent_of_a_core']:6.1f} % of a core"
                f"{idle}{frames}"
            )


if __name__ == "__main__":
    main()
