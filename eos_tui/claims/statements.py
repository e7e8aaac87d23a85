"""What a claim is: the runs that it needs, and statements that their evidence bears out or not. Pure; knows of no paper.

Each module that holds a paper's claims builds one `Claim` of these; the command line carries it out.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import msgspec

from eos_tui.evidence import Evidence, Measured, NotMeasuredError
from eos_tui.figures import Chart
from eos_tui.snapshot import Status
from runners import spec_file
from runners.experiments import Spec

CONFIGS = spec_file.CONFIGS / "claims"
"""The specs that claims run, apart from the presets."""

MAX_LISTED = 8
"""Values that are listed one by one."""

Runs: TypeAlias = Mapping[str, Evidence]
"""The evidence of a claim's runs, by their names in the claim."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one statement."""

    claim: str
    source: str
    """Authors (year), section; or `derived`."""
    measured: float | None
    """Of several values the one that is farthest out; null when a run did not give it."""
    error: float | None
    """Half-width of the error of `measured`; null when it is not known."""
    tolerance: str
    """Where `measured` has to lie."""
    holds: bool
    why: str | None = None
    """Why it does not hold; null when it does."""
    seconds: float
    """Run time of the runs that it needs, some of which other statements need as well."""
    values: dict[str, float]
    """The numbers that `measured` comes from."""


@dataclass(frozen=True)
class Bounds:
    """Where a number has to lie; the ends count as inside."""

    low: float = -math.inf
    high: float = math.inf

    def __str__(self) -> str:
        if math.isinf(self.low):
            return f"<= {self.high:g}"
        return f">= {self.low:g}" if math.isinf(self.high) else f"{self.low:g} to {self.high:g}"

    def excess(self, value: float) -> float:
        """How far outside the number lies; negative inside."""
        return max(self.low - value, value - self.high)


class Finding(NamedTuple):
    """What the evidence says of a statement."""

    measured: Measured
    values: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One sentence that can be wrong."""

    claim: str
    source: str
    runs: tuple[str, ...]
    """Names of the runs that it needs."""
    tolerance: Bounds
    find: Callable[[Runs], Finding]
    """Takes the evidence of these runs."""
    may_diverge: bool = False
    """Whether a run that diverged is evidence, too."""
    otherwise: str = ""
    """What is known of why it may not hold at this scale: a sentence."""


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """A run that a claim needs: a spec of `configs/claims`, and what is changed in it."""

    name: str
    config: str
    overrides: tuple[str, ...] = ()

    def spec(self) -> Spec:
        """The spec, checked."""
        return spec_file.load(CONFIGS / f"{self.config}.toml", self.overrides)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a paper says, as far as small runs can bear it out."""

    name: str
    summary: str
    """One sentence."""
    source: str
    """The paper."""
    cost: str
    """What it takes, in words."""
    runs: tuple[PlannedRun, ...]
    """In the order of starting: the longest first, so that none is left over at the end."""
    statements: tuple[Statement, ...]
    charts: Callable[[Runs], Sequence[Chart]]
    """Takes the evidence of the runs that are not optional."""
    optional: tuple[str, ...] = ()
    """Names of runs that are left out where their data is not here; the rows that need them say so."""


def rows(claim: Claim, runs: Runs, missing: Mapping[str, str] | None = None) -> list[Row]:
    """A row for each statement of the claim, whether it holds or not.

    Args:
        claim: The claim.
        runs: The evidence of all its runs but those that could not be made.
        missing: Why these could not be, by name.
    """
    found = []
    for statement in claim.statements:
        why = next((missing[name] for name in statement.runs if name in missing), None) if missing else None
        if why is not None:
            found.append(_told(statement, None, {}, seconds=0.0, why=f"Not measured: {why}"))
        else:
            found.append(_row(statement, {name: runs[name] for name in statement.runs}))
    return found


def worst(values: Mapping[str, Measured], bounds: Bounds) -> Finding:
    """The value that is farthest out of the bounds, or nearest to one, with all of them beside it."""
    farthest = max(values.values(), key=lambda measured: bounds.excess(measured.value))
    return Finding(farthest, {name: measured.value for name, measured in values.items()})


def listed(values: Mapping[str, float]) -> str:
    """The values in words; of many of them the smallest and the largest."""
    if len(values) <= MAX_LISTED:
        return ", ".join(f"{name}: {value:.3g}" for name, value in values.items())
    ends = (min(values, key=values.__getitem__), max(values, key=values.__getitem__))
    return f"{len(values)} values from {' to '.join(f'{values[name]:.3g} ({name})' for name in ends)}"


def _row(statement: Statement, runs: Runs) -> Row:
    seconds = sum(run.snapshot.end.wall_seconds for run in runs.values() if run.snapshot.end)
    ends = (Status.FINISHED, Status.DIVERGED) if statement.may_diverge else (Status.FINISHED,)
    unfinished = [_ending(name, run) for name, run in runs.items() if run.snapshot.status not in ends]
    try:
        if unfinished:
            raise NotMeasuredError(" ".join(unfinished))
        measured, values = statement.find(runs)
    except NotMeasuredError as error:
        return _told(statement, None, {}, seconds=seconds, why=str(error))
    holds = statement.tolerance.excess(measured.value) <= 0
    return _told(statement, measured, values, seconds=seconds, why=None if holds else _why(statement, measured, values))


def _told(statement: Statement, measured: Measured | None, values: dict[str, float], *, seconds: float, why: str | None) -> Row:
    return Row(
        claim=statement.claim,
        source=statement.source,
        measured=None if measured is None else measured.value,
        error=None if measured is None else measured.error,
        tolerance=str(statement.tolerance),
        holds=why is None,
        why=why,
        seconds=round(seconds, 1),
        values=values,
    )


def _why(statement: Statement, measured: Measured, values: Mapping[str, float]) -> str:
    return f"{measured.value:.4g} is not {statement.tolerance} ({listed(values)}). {statement.otherwise}".rstrip()


def _ending(name: str, run: Evidence) -> str:
    end = run.snapshot.end
    return f"The run {name} did not come to its end, {run.snapshot.status} at step {run.snapshot.step:,}{f': {end.reason}' if end else '.'}"
