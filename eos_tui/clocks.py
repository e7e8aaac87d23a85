"""The axes that a run can be drawn on beside its steps: run time, examples seen, lr x steps. Pure."""

from collections.abc import Sequence

from eos_tui.series import Key
from eos_tui.snapshot import RunSnapshot
from eos_tui.window import UNITS, Clock, Unit

LR = ("step", "lr")
BATCH_SIZE = ("step", "batch_size")
"""Logged only where it changes; else the header has it."""


def clock(snapshot: RunSnapshot, unit: Unit) -> Clock | None:
    """Where the run's steps lie on an axis; None for that of steps, and where the log does not tell.

    Args:
        snapshot: The run.
        unit: What the axis counts. Examples and lr are added up over the steps: exactly while each step has a bucket of its own in the
            trace, and where they do not change within one.
    """
    header = snapshot.header
    match unit:
        case "time":
            steps, times = snapshot.times.knots()
            return Clock(unit, steps, times) if steps else None
        case "examples":
            if known := _added_up(snapshot, BATCH_SIZE):
                return Clock(unit, *known)
            return Clock(unit, (0.0, 1.0), (0.0, float(header.batch_size))) if header and header.batch_size else None
        case "lr x steps":
            known = _added_up(snapshot, LR)
            return Clock(unit, *known) if known else None
        case _:
            return None


def units(snapshot: RunSnapshot) -> list[Unit]:
    """The axes that the run can be drawn on."""
    return [unit for unit in UNITS if unit == "steps" or clock(snapshot, unit)]


def _added_up(snapshot: RunSnapshot, key: Key) -> tuple[Sequence[float], Sequence[float]] | None:
    """The sum of the rates of all steps before each known one and before the one behind the last; None where none is known."""
    steps, rates = snapshot.traces[key].means() if key in snapshot.traces else ((), ())
    if not steps:
        return None
    places = [rates[0] * steps[0]]
    for index in range(1, len(steps)):
        places.append(places[-1] + rates[index - 1] * (steps[index] - steps[index - 1]))
    return [*steps, steps[-1] + 1.0], [*places, places[-1] + rates[-1]]
