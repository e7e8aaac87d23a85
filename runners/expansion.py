"""From a spec document and a grid to the runs of a sweep: their names, values and specs, all checked before anything is made.

Standard library and msgspec only.
"""

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runners import grid, schema, spec_file
from runners.errors import SpecError
from runners.experiments import Spec
from runners.grid import Axis
from runners.overrides import Override, with_overrides
from runners.schema import Document

NAME_CHARACTERS = 120
"""Of a run's name, at most; a folder's may have 255 bytes."""
KIND_KEYS = ("runner", "name", "kind")
"""Keys whose value says by itself what it is of."""


@dataclass(frozen=True)
class PlannedRun:
    """One point of the grid."""

    name: str
    """What varies, such as `width64-lr0.1-seed0`."""
    values: Mapping[str, Any]
    """By key with dots."""
    spec: Spec


def axes(document: Document, given: Sequence[Axis], *, seeds: int | None) -> tuple[Axis, ...]:
    """The grid's axes, with the seeds as the last one.

    Args:
        document: What the runs have in common; its `run.seed` is the first seed, 0 when absent.
        given: The axes but for the seeds.
        seeds: How many; None for the document's own alone.

    Raises:
        SpecError: If nothing varies, or a key does so twice.
    """
    first = schema.value_at(document, ("run", "seed"))
    found = (*given, *([grid.seeds_axis(first if isinstance(first, int) else 0, seeds)] if seeds else []))
    if not found:
        raise SpecError("Nothing varies. Say what does: --grid optimizer.lr=0.1,0.2, --seeds 3, or a table [sweep] in the file.")
    key, count = Counter(axis.key for axis in found).most_common(1)[0]
    if count > 1:
        raise SpecError(f"{key} is varied {count} times. Give all its values in one place.")
    return found


def num_runs(found: Sequence[Axis]) -> int:
    """How many points the grid has."""
    return math.prod(len(axis.values) for axis in found)


def expand(document: Document, found: Sequence[Axis], *, label: str) -> list[PlannedRun]:
    """The runs at all points of the grid; the last axis goes fastest.

    Args:
        document: What the runs have in common.
        found: The axes.
        label: Where the document comes from, for messages.

    Raises:
        SpecError: If the spec of a run is not valid; names the run.

    Cost: some 2 ms a run.
    """
    labels = _labels(found)
    taken: set[str] = set()
    runs = []
    for point in itertools.product(*(axis.values for axis in found)):
        base = _name(labels, point)
        name = next(name for name in _with_numbers(base) if name.casefold() not in taken)
        taken.add(name.casefold())
        try:
            asked = with_overrides(document, point)
            spec = spec_file.with_absolute_paths(spec_file.checked(asked, label=label, given=point))
        except SpecError as error:
            raise SpecError(f"{error} This is the run {name}; nothing was started.") from error
        values = {override.key: schema.value_at(asked, override.path) for override in point}
        runs.append(PlannedRun(name=name, values=values, spec=spec))
    return runs


def _labels(found: Sequence[Axis]) -> list[str]:
    """What stands before each axis's value in a name: the last part of its key where that is clear."""
    paths = [axis.values[0].path for axis in found]
    shared = Counter(path[-1] for path in paths)
    return ["" if path[-1] in KIND_KEYS else path[-1] if shared[path[-1]] == 1 else ".".join(path) for path in paths]


def _name(labels: Sequence[str], point: Sequence[Override]) -> str:
    name = "-".join(_part(label, override.text) for label, override in zip(labels, point, strict=True))
    return re.sub(r"^[^A-Za-z0-9]+", "", name[:NAME_CHARACTERS].rstrip("-._")) or "run"


def _with_numbers(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}-{number}" for number in itertools.count(2))


def _part(label: str, text: str) -> str:
    value = re.sub(r"[^A-Za-z0-9._-]+", "-", text.replace("e+", "e")).strip("-" if not text.startswith("-") else "")
    is_number = re.match(r"-?[\d.]", value) is not None
    return f"{label}{'' if is_number or not label else '-'}{value}"
