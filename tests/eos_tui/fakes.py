"""Runs that nobody computed: a folder with a log, written record by record, as a runner would."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from math import exp
from pathlib import Path
from typing import Any

import msgspec

from eos_tui.snapshot import RunSnapshot
from eos_tui.watcher import RunWatcher
from runners.records import (
    SCHEMA,
    AnyRecord,
    Curve,
    DataDescription,
    DensityRecord,
    EndRecord,
    EventRecord,
    Header,
    MetricsRecord,
    NtkRecord,
    Panel,
    Request,
    SharpnessRecord,
    StepRecord,
    TailsRecord,
)
from runners.run_folder import RunFolder

RUNNER = """
import sys
from pathlib import Path
from runners.run_folder import RunFolder
with RunFolder(Path(sys.argv[1])).held():
    print("held", flush=True)
    sys.stdin.read()
"""
"""Stands for a runner: holds the folder until its standard input is closed."""
NOW = 1_800_000_000.0
"""When everything is written, in seconds since 1970."""
NAME = "digits-gd-20260131T120000Z-0a1b"
LOSS = Panel(
    title="loss",
    scale="log",
    series=(Curve(record="step", field="loss", label="train"), Curve(record="metrics", field="values.test_loss", label="test")),
)
SHARPNESS = Panel(
    title="sharpness",
    series=(Curve(record="sharpness", field="value", label="sharpness"),),
    references=(Curve(record="sharpness", field="threshold", label="2/lr"),),
    error=Curve(record="sharpness", field="error", label="error"),
    ratio=Curve(record="sharpness", field="ratio", label="of 2/lr"),
)
NTK = Panel(
    title="NTK trace",
    series=(Curve(record="ntk", field="trace", label="trace"),),
    references=(Curve(record="ntk", field="threshold", label="stochastic threshold"),),
    error=Curve(record="ntk", field="sem", label="standard error"),
    ratio=Curve(record="ntk", field="ratio", label="of its threshold"),
    notes=(Curve(record="ntk", field="noise_kernel", label="K"),),
)
PANELS = (LOSS, SHARPNESS, NTK)
DENSITY = Panel(
    title="Hessian spectral density",
    scale="log",
    series=(Curve(record="density", field="density", label="density"),),
    x=Curve(record="density", field="at", label="eigenvalue"),
    decades=5,
    references=SHARPNESS.references,
    error=Curve(record="density", field="sem", label="standard error"),
    notes=(Curve(record="density", field="width", label="smoothing width"),),
)


class FakeRun:
    """A run folder, and a method for each kind of record."""

    def __init__(self, runs: Path, *, name: str = NAME, steps: int = 3000) -> None:
        self.folder = RunFolder(runs / name)
        self.folder.path.mkdir(parents=True, exist_ok=True)
        self.folder.spec.write_text("{}")
        self.steps = steps

    def write(self, *records: AnyRecord) -> None:
        with self.folder.log.open("ab") as log:
            for record in records:
                log.write(msgspec.json.encode(record) + b"\n")
        os.utime(self.folder.log, (NOW, NOW))

    def header(self, *, panels: tuple[Panel, ...] = PANELS, **fields: Any) -> None:
        given: dict[str, Any] = {
            "step": 0,
            "time": 0.0,
            "schema": SCHEMA,
            "run": self.folder.name,
            "runner": "train",
            "created": "2026-01-31T12:00:00Z",
            "steps": self.steps,
            "spec": {},
            "panels": panels,
            "versions": {},
            "device": "cpu",
            "host": "here",
            "pid": 1,
            "precision": "float32",
            "num_params": 26_122,
            "num_examples": 1500,
            "num_measured": 1500,
            "batch_size": 1500,
            "data": DataDescription(
                name="digits",
                source="scikit-learn",
                task="classification",
                num_train=1500,
                num_test=297,
                input_shape=(64,),
                num_outputs=10,
                standardization="none",
            ),
            "loss_convention": "1/2 sum over outputs, mean over examples",
        }
        self.write(Header(**(given | fields)))

    def step(self, step: int, *, loss: float | None = 0.1, lr: float = 0.3) -> None:
        self.write(StepRecord(step=step, time=step / 100, loss=loss, lr=lr))

    def metrics(self, step: int, **values: float | None) -> None:
        self.write(MetricsRecord(step=step, time=step / 100, values=values))

    def sharpness(self, step: int, value: float | None, *, threshold: float = 6.667, **fields: Any) -> None:
        given: dict[str, Any] = {
            "step": step,
            "time": step / 100,
            "value": value,
            "threshold": threshold,
            "ratio": None if value is None else value / threshold,
            "residual": 0.01,
            "error": 0.001,
            "num_hvps": 7,
            "converged": True,
            "num_examples": 1500,
            "method": "lanczos",
            "seconds": 0.02,
        }
        self.write(SharpnessRecord(**(given | fields)))

    def tails(self, step: int, noise_kernel: float | None) -> None:
        """What a simulated ensemble of least squares records beside its loss."""
        table = dict.fromkeys(("levels", "survival", "survival_fit", "quantiles_fit", "quantiles"), (0.0,))
        numbers = dict.fromkeys(("index", "error", "scale", "distance", "hill", "hill_error"), 1.0)
        given: dict[str, Any] = {"step": step, "time": step / 100, "noise_kernel": noise_kernel, "num_paths": 100, "seconds": 0.0}
        self.write(TailsRecord(**given, **numbers, **table))

    def ntk(self, step: int, trace: float | None, *, threshold: float = 380.0, **fields: Any) -> None:
        ratio = None if trace is None else trace / threshold
        given: dict[str, Any] = {
            "step": step,
            "time": step / 100,
            "trace": trace,
            "sem": 2.0,
            "threshold": threshold,
            "ratio": ratio,
            "noise_kernel": None if ratio is None else 1.1 * ratio,
            "convention": "per_output",
            "method": "hutchinson",
            "num_probes": 16,
            "num_examples": 1500,
            "seconds": 0.05,
        }
        self.write(NtkRecord(**(given | fields)))

    def density(self, step: int, **fields: Any) -> None:
        """A bulk at 0 and an eigenvalue that grows with the step."""
        at = [-1.0 + 0.1 * k for k in range(100)]
        value = 2.0 + step / 500
        given: dict[str, Any] = {
            "step": step,
            "time": step / 100,
            "at": tuple(at),
            "density": tuple(exp(-8 * x**2) + 1e-3 * exp(-8 * (x - value) ** 2) for x in at),
            "sem": (1e-5,) * len(at),
            "width": 0.25,
            "num_probes": 4,
            "order": 32,
            "num_hvps": 128,
            "num_examples": 1500,
            "method": "stochastic Lanczos quadrature",
            "seconds": 0.1,
        }
        self.write(DensityRecord(**(given | fields)))

    def event(self, step: int, event: str, message: str = "") -> None:
        self.write(EventRecord(step=step, time=step / 100, event=event, message=message))

    def end(self, step: int, *, status: Any = "finished", reason: str = "All steps are done.") -> None:
        self.write(
            EndRecord(
                step=step, time=step / 100, status=status, reason=reason, steps=step, wall_seconds=step / 100, measure_seconds=step / 500
            )
        )

    def progress(self, steps: range) -> None:
        """Sharpening to 2/lr: records for these steps, measured every 10 (sharpness) and 50 (NTK)."""
        for step in steps:
            settled = min(1.0, step / 1000)
            self.step(step, loss=0.5 * (0.02 + 0.98 * (1 - settled) ** 3))
            if step % 10 == 0:
                self.sharpness(step, 2.0 + settled * (4.7 + 0.1 * (step // 10 % 2)))
            if step % 50 == 0:
                self.ntk(step, 90.0 + 150.0 * settled)
            if step % 100 == 0:
                self.metrics(step, test_loss=0.5 * (0.1 + 0.9 * (1 - settled) ** 2))


@contextmanager
def live(run: FakeRun) -> Iterator[FakeRun]:
    """The run while a runner holds it."""
    with ExitStack() as stack:
        stack.enter_context(run.folder.held())
        yield run


def snapshot_of(run: FakeRun) -> RunSnapshot:
    """The run as it is seen at NOW, while a runner holds it."""
    with live(run):
        return RunWatcher(run.folder, clock=lambda: NOW).catch_up()


@contextmanager
def held_elsewhere(run: FakeRun) -> Iterator["subprocess.Popen[str]"]:
    """The run while a process of its own holds it."""
    command = [sys.executable, "-c", RUNNER, str(run.folder.path)]
    runner = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert runner.stdout
    assert runner.stdout.readline() == "held\n"
    yield runner
    runner.communicate(timeout=20)


def requests(run: FakeRun) -> list[str]:
    """What viewers have asked of the run."""
    if not run.folder.control.exists():
        return []
    return [msgspec.json.decode(line, type=Request).request for line in run.folder.control.read_bytes().splitlines()]


def filled(run: FakeRun) -> FakeRun:
    """The run with the records of its first 1,860 steps."""
    run.header()
    run.progress(range(1861))
    run.event(1860, "checkpoint", "Checkpoint at step 1860.")
    return run
