"""How long it takes to open a log of a million steps, and how much memory: the budget is 2 s and 200 MB.

Writes such a log to a temporary folder and opens it in a fresh process, whose interpreter and imports are counted.
Run `python benchmarks/open_log.py [--rows N] [--json]`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from msgspec.json import Encoder

from runners.records import DataDescription, EndRecord, Header, SharpnessRecord, StepRecord

MEASURED_EVERY = 10
CHILD = """
import json, resource, sys, time
from pathlib import Path
from eos_tui.watcher import RunWatcher
from runners.run_folder import RunFolder
begun = time.perf_counter()
snapshot = RunWatcher(RunFolder(Path(sys.argv[1]))).catch_up()
print(json.dumps({
    "seconds": time.perf_counter() - begun,
    "processor_seconds": time.process_time(),
    "records": snapshot.num_records,
    "status": snapshot.status,
    "peak_rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
}))
"""


def header(rows: int) -> Header:
    """A plausible first line."""
    data = DataDescription(
        name="digits", source="none", task="classification", num_train=1500, num_test=297, input_shape=(64,), num_outputs=10,
        standardization="none",
    )  # fmt: skip
    return Header(
        step=0, time=0.0, schema=1, run="bench", runner="train", created="2026-01-01T00:00:00Z", steps=rows, spec={}, panels=(),
        versions={}, device="cpu", host="here", pid=1, precision="float32", num_params=1, num_examples=1500, num_measured=1500,
        batch_size=32, data=data, loss_convention="mean",
    )  # fmt: skip


def write_log(path: Path, rows: int) -> None:
    """A log of `rows` step records, and as many measurements as usual."""
    encode = Encoder().encode
    with path.open("wb") as log:
        log.write(encode(header(rows)) + b"\n")
        for step in range(rows):
            moment = step * 1e-4
            if step % (100 * MEASURED_EVERY) == 0:
                log.write(encode(_sharpness(step, moment)) + b"\n")
            record = StepRecord(step=step, time=moment, loss=1 / (1 + step * 0.37), lr=0.3, grad_norm=0.1 + step % 997 / 313)
            log.write(encode(record) + b"\n")
        end = EndRecord(
            step=rows, time=rows * 1e-4, status="finished", reason="", steps=rows, wall_seconds=rows * 1e-4, measure_seconds=1.0
        )
        log.write(encode(end) + b"\n")


def _sharpness(step: int, moment: float) -> SharpnessRecord:
    return SharpnessRecord(
        step=step, time=moment, value=6.5 + step % 7 * 0.1, threshold=2 / 0.3, ratio=1.0, residual=1e-3, error=1e-4, num_hvps=7,
        converged=True, num_examples=1500, method="lanczos", seconds=0.01,
    )  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.jsonl"
        write_log(log, arguments.rows)
        begun = time.perf_counter()
        child = subprocess.run([sys.executable, "-c", CHILD, folder], check=True, capture_output=True, text=True)
        found = json.loads(child.stdout)
        found["seconds_with_start"] = time.perf_counter() - begun
        found["log_megabytes"] = log.stat().st_size / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    found["peak_megabytes"] = found.pop("peak_rss") * unit / 1e6
    if arguments.json:
        print(json.dumps(found))
        return
    print(f"{found['records']:,} records, {found['log_megabytes']:.0f} MB: opened in {found['seconds']:.2f} s (budget 2), ", end="")
    print(f"{found['seconds_with_start']:.2f} s with the interpreter's start, {found['processor_seconds']:.2f} s of a core; ", end="")
    print(f"peak {found['peak_megabytes']:.0f} MB (budget 200)")


if __name__ == "__main__":
    main()
