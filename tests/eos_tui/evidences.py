"""Evidence that no run gave: series made by hand, as a claim's functions take them."""

from collections.abc import Callable, Mapping
from pathlib import Path

from eos_tui.evidence import Evidence
from eos_tui.snapshot import RunSnapshot, Status
from runners.records import EndRecord

Values = Mapping[str, float | Callable[[int], float]]
"""By `kind.field`: a number at every step, or a function of the step."""


def evidence(name: str, *, steps: int, every: int = 500, status: Status = Status.FINISHED, reason: str = "", **values: Values) -> Evidence:
    """A run with each number at each of the steps; given by kind, then field."""
    at = [*range(0, steps + 1, every)]
    series = {}
    for kind, fields in values.items():
        for field, value in fields.items():
            numbers = [value(step) if callable(value) else value for step in at]
            series[kind, field] = (at, numbers)
    end = EndRecord(step=steps, time=1.0, status="finished", reason=reason, steps=steps, wall_seconds=10.0, measure_seconds=5.0)
    return Evidence(RunSnapshot(name=name, folder=Path(name), status=status, step=steps, steps=steps, end=end), series)
