"""A sweep's runs for a report: read, and apart by what varies. Called by the reports and the screen of sweeps."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

from eos_tui import evidence
from eos_tui.evidence import Evidence
from eos_tui.snapshot import Status
from runners.errors import OutputError
from runners.run_folder import RunFolder
from runners.sweeps import SweepFolder

LR = "optimizer.lr"
SEEDS = ("run.seed", "run.init_seed", "run.data_seed", "run.order_seed")
SIZES = ("model.width", "model.depth", "model.arguments.width", "model.arguments.depth")
"""Keys that say how large a net is, of ours and of users' modules."""
ENDED = (Status.FINISHED, Status.DIVERGED)
"""Runs that a report counts: both are results."""

Values: TypeAlias = Mapping[str, Any]
"""What varies, by key with dots."""


class Placed(Protocol):
    """Something with a place in a sweep."""

    @property
    def values(self) -> Values:
        """What varies."""


Kind = TypeVar("Kind", bound=Placed)


@dataclass(frozen=True)
class Member:
    """A run of a sweep."""

    values: Values
    run: Evidence

    @property
    def has_diverged(self) -> bool:
        """Whether the loss became too large, or no number."""
        return self.run.snapshot.status is Status.DIVERGED


def read(folder: SweepFolder) -> tuple[list[Member], int]:
    """The runs of a sweep that came to an end of their own, and how many others there are.

    Raises:
        LogError: If a log cannot be read.
        OutputError: If no run has ended.
    """
    runs = folder.read().runs
    found = [Member(run.values, evidence.read(RunFolder(folder.path / run.run))) for run in runs if (folder.path / run.run).is_dir()]
    ended = [member for member in found if member.run.snapshot.status in ENDED]
    if not ended:
        raise OutputError(
            f"{folder.name}: none of its {len(runs)} runs has finished. `eos sweep --continue {folder.name}` goes on with them."
        )
    return ended, len(runs) - len(ended)


def sizes_of(members: Sequence[Placed], asked: Sequence[str], *, name: str) -> tuple[str, ...]:
    """The keys that say how large a net is: those asked for, else width and depth as far as they vary.

    Args:
        members: The runs.
        asked: Keys; none for those that there are.
        name: The sweep's, for messages.

    Raises:
        OutputError: If a key does not vary, or none does.
    """
    varied = tuple(members[0].values)
    for key in asked:
        if key not in varied:
            raise OutputError(f"{key} does not vary in {name}. What varies: {', '.join(varied)}.")
    found = tuple(asked) or tuple(key for key in SIZES if key in varied)
    if not found:
        expected = " or ".join(SIZES[:2])
        raise OutputError(
            f"{name} has nets of one size: expected {expected} among what varies ({', '.join(varied)}). --size KEY names another."
        )
    return found


def groups(members: Iterable[Kind], keys: Sequence[str]) -> Iterator[tuple[dict[str, Any], list[Kind]]]:
    """The runs apart by some of their values, in order of these; a value may be a table."""
    found: dict[str, tuple[dict[str, Any], list[Kind]]] = {}
    for member in members:
        values = {key: member.values[key] for key in keys}
        found.setdefault(repr(values), (values, []))[1].append(member)
    return iter(sorted(found.values(), key=lambda group: [in_order(value) for value in group[0].values()]))


def in_order(value: Any) -> tuple[bool, float, str]:
    """To sort values of one key by: numbers by size, before all else by its text."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return (not is_number, value if is_number else 0.0, "" if is_number else str(value))


def label(values: Values) -> str:
    """The values in words, each with the last part of its key: `width 64, depth 3`."""
    return ", ".join(f"{key.rsplit('.', 1)[-1]} {value}" for key, value in values.items())


def mean_and_sem(numbers: Sequence[float]) -> tuple[float, float | None]:
    """The mean and its standard error, which one number does not have; infinite and without one where a number is."""
    center = math.fsum(numbers) / len(numbers)
    if len(numbers) < 2 or not math.isfinite(center):
        return center, None
    return center, math.sqrt(math.fsum((number - center) ** 2 for number in numbers) / (len(numbers) - 1) / len(numbers))
