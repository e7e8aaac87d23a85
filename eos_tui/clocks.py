"""The axes that a run can be drawn on beside its steps: run time, examples seen, lr x steps. Pure."""

from collections.abc import Sequence

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
            if sizes := snapshot.traces.get(BATCH_SIZE):
                return Clock(unit, *_added_up(*sizes.means()))
            return Clock(unit, (0.0, 1.0), (0.0, float(header.batch_size))) if header and header.batch_size else None
        case "lr x steps":
            rates = snapshot.traces.get(LR)
            return Clock(unit, *_added_up(*rates.means())) if rates else None
        case _:
            return None


def units(snapshot: RunSnapshot) -> list[Unit]:
    """The axes that the run can be drawn on."""
    return [unit for unit in UNITS if unit == "steps" or clock(snapshot, unit)]


def _added_up(steps: Sequence[float], rates: Sequence[float]) -> tuple[Sequence[float], Sequence[float]]:
    """The sum of the rates of all steps before each of these and before the one behind the last."""
    places = [rates[0] * steps[0]]
    for index in range(1, len(steps)):
        places.append(places[-1] + rates[index - 1] * (steps[index] - steps[index - 1]))
    return [*steps, steps[-1] + 1.0], [*places, places[-1] + rates[-1]]
