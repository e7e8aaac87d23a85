"""Which runs can train as one vectorised program: those that differ in nothing but numbers that it takes as arguments.

These are a learning rate that is a number, and the seeds. Called when a sweep is made, and by a runner that is given several folders.
Standard library and msgspec only.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec
from msgspec.structs import replace

from runners.errors import SpecError
from runners.expansion import PlannedRun
from runners.experiments import Spec
from runners.spec import CustomData, CustomModel, CustomOptimizer, EdgeBatch, Run, Schedule, Train, Vgg11

MOST = 32
"""Runs in one program. On a CPU more of them gain nothing over 8, and each takes its memory and half a second of the start."""
FEWEST = 2
"""Runs in one program, where nobody says how many processes there are to be: a core each is still faster than a larger program."""
UNLIKE = "no other differs from them in optimizer.lr and seeds alone"


@dataclass(frozen=True)
class Alike:
    """Runs by what can train together."""

    classes: tuple[tuple[PlannedRun, ...], ...]
    """Two or more each, in the order of starting."""
    alone: dict[str, list[str]] = field(default_factory=dict)
    """By the reason why they train alone: names of runs."""

    def default_jobs(self) -> int:
        """Processes that there is work for: one a class, and more where the classes are large."""
        num_together = sum(map(len, self.classes))
        return max(len(self.classes), num_together // FEWEST) + sum(map(len, self.alone.values()))

    def groups(self, *, jobs: int) -> tuple[tuple[str, ...], ...]:
        """The names of the runs of each program, so many that this number of processes all have work.

        Args:
            jobs: Processes at the same time.
        """
        num_runs = sum(map(len, self.classes)) + sum(map(len, self.alone.values()))
        size = min(MOST, math.ceil(num_runs / jobs))
        groups = (part for runs in self.classes for part in _parts(runs, math.ceil(len(runs) / size)))
        return tuple(tuple(run.name for run in group) for group in groups if len(group) > 1)


def alike(runs: Iterable[PlannedRun]) -> Alike:
    """The runs by what can train together, and why the others cannot."""
    classes: dict[bytes, list[PlannedRun]] = {}
    alone: dict[str, list[str]] = {}
    for run in runs:
        reason = _obstacle(run.spec)
        if reason:
            alone.setdefault(reason, []).append(run.name)
        else:
            classes.setdefault(_common(run.spec), []).append(run)
    for found in classes.values():
        if len(found) == 1:
            alone.setdefault(UNLIKE, []).append(found[0].name)
    return Alike(tuple(tuple(found) for found in classes.values() if len(found) > 1), alone)


def check(specs: Sequence[Spec]) -> None:
    """Find out whether these runs can train as one program.

    Raises:
        SpecError: If not; says why.
    """
    reason = next(filter(None, map(_obstacle, specs)), None)
    if reason is None and len(set(map(_common, specs))) > 1:
        reason = "they differ in more than optimizer.lr and seeds"
    if reason:
        raise SpecError(f"These runs cannot train as one program: {reason}. Start each by itself.")


def _obstacle(spec: Spec) -> str | None:
    """Why a run has to train alone, whatever the others are; None where it need not."""
    if type(spec) is not Train:
        return f'runner = "{spec.__struct_config__.tag}" does not train in one program with others'
    if isinstance(spec.optimizer, CustomOptimizer):
        return "an optimizer of your own may need its learning rate as a plain number"
    if isinstance(spec.optimizer.batch_size, EdgeBatch):
        return "their batch size changes while they train"
    return None


def _common(spec: Spec) -> bytes:
    """What the program follows from: the spec without the learning rate, if that is a number, and without the seeds."""
    assert isinstance(spec, Train)
    optimizer = spec.optimizer
    if not isinstance(optimizer.lr, Schedule):
        optimizer = replace(optimizer, lr=1.0)
    return msgspec.json.encode(replace(spec, optimizer=optimizer, run=_without_seeds(spec)))


def _without_seeds(spec: Train) -> Run:
    """The table `run` with those seeds alone that decide more than the numbers in arrays."""
    run = spec.run
    init_seed = run.seed if run.init_seed is None else run.init_seed
    data_seed = run.seed if run.data_seed is None else run.data_seed
    # A user's module may keep what it drew, as may the layer that is not trained; a user's function may make arrays of any shape.
    has_drawn = isinstance(spec.model, CustomModel) or (isinstance(spec.model, Vgg11) and not spec.model.train_output)
    return replace(
        run,
        seed=0,
        init_seed=init_seed if has_drawn else None,
        data_seed=data_seed if isinstance(spec.data, CustomData) else None,
        order_seed=None,
    )


def _parts(runs: Sequence[PlannedRun], count: int) -> Iterable[Sequence[PlannedRun]]:
    """The runs in so many parts, whose sizes differ by one at most."""
    bounds = [len(runs) * index // count for index in range(count + 1)]
    return (runs[start:stop] for start, stop in itertools.pairwise(bounds))
