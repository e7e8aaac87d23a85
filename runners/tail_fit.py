"""`python -m runners.tail_fit REQUEST`: what all estimators say of the tail index of a file's numbers, as JSON on stdout.

Started by `eos theory tail-fit`, which must not load the numerics itself; needs no run folder. An estimator that cannot be had says why in
its own row; what is wrong with the file or the request goes to stderr as one message, with the exit code of its kind.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from jaxtyping import Float

from runners.errors import DataError, EosError, SpecError
from runners.formats import csv_table
from runners.measure import stable, tails
from runners.measure.stable import Stable
from runners.measure.tails import Quantiles, StudentT, Survival, Tail
from runners.tails import answered, numbers

WANTED = 50
"""Of the largest numbers, that Hill's estimate takes, but for the limits."""
LEAST_SHARE, MOST_SHARE = 0.01, 0.1
WIDER, WIDEST = 5, 0.25
"""Times as many the generalised Pareto law takes, but for the limit."""
WITH_VARIANCE = 2.0
"""The index below which there is none."""
REJECTED = 0.05
"""The p of the fit of Student's t below which a note says that it does not fit."""


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked for."""

    path: str
    column: str | None = None
    """Of a comma-separated file."""
    center: bool = True
    """Whether the mean is subtracted."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What one estimator says."""

    estimator: str
    index: float | None = None
    """Null where the numbers say that the tail is lighter than any power, or there is no estimate."""
    error: float | None = None
    """Standard error; null where nothing bounds the index above."""
    num_used: int | None = None
    used: str
    """Which of the numbers it rests on, in words."""
    blind: str
    """What it cannot see."""
    why: str | None = None
    """There is no estimate."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What is found."""

    source: str
    num_samples: int
    mean: float
    centered: bool
    """Whether it was subtracted."""
    estimates: list[Row]
    student_t: StudentT | None
    """Null where there is no such fit."""
    stable: Stable | None
    """The same."""
    survival: Survival
    """Of the distance from the mean, or from 0 where that was not subtracted."""
    quantiles: Quantiles | None
    """Beside those of Student's t."""
    notes: list[str]


def main(arguments: list[str]) -> int:
    """Answer the request; the process's exit code."""
    return answered(arguments, Request, report)


def report(request: Request) -> Report:
    """What all estimators say.

    Raises:
        SpecError: If a column is asked for of what has none.
        DataError: If the file cannot be read, or its numbers have no tail.
    """
    found = tails.checked(_read(request))
    mean = float(np.mean(found))
    samples = found - mean if request.center else found
    rows, fit, stable_fit = [], None, None
    for estimator in _estimators(len(samples)):
        row = Row(estimator=estimator.name, used=estimator.used, blind=estimator.blind)
        try:
            tail = estimator.estimate(samples)
        except EosError as error:
            rows.append(msgspec.structs.replace(row, why=str(error)))
            continue
        rows.append(msgspec.structs.replace(row, index=tail.index, error=tail.error, num_used=tail.num_used))
        if isinstance(tail, StudentT):
            fit = tail
        if isinstance(tail, Stable):
            stable_fit = tail
    return Report(
        source=request.path + (f", column {request.column}" if request.column else ""),
        num_samples=len(samples),
        mean=mean,
        centered=request.center,
        estimates=rows,
        student_t=fit,
        stable=stable_fit,
        survival=tails.survival(samples),
        quantiles=None if fit is None else tails.quantiles(samples, fit),
        notes=list(_notes(fit, stable_fit, rows, centered=request.center)),
    )


class _Estimator(NamedTuple):
    name: str
    estimate: Callable[[Float[np.ndarray, " samples"]], Tail]
    used: str
    blind: str


def _estimators(num_samples: int) -> Iterator[_Estimator]:
    share = min(max(WANTED / num_samples, LEAST_SHARE), MOST_SHARE)
    wide, search = min(WIDER * share, WIDEST), "that its share was searched for"
    yield _Estimator("Student t, likelihood", tails.student_t, "all", "a tail unlike the middle's")
    yield _Estimator("Hill", lambda x: tails.hill(x, share), f"largest {share:.2g} of all", "bias where the tail is no pure power yet")
    yield _Estimator("generalised Pareto", lambda x: tails.pareto(x, wide), f"largest {wide:.2g} of all", "bias by the level it begins at")
    yield _Estimator("power law (powerlaw)", tails.power_law, "beyond a level it finds", search)
    yield _Estimator("Hill (tailestim)", tails.double_bootstrap, "as many as it finds best", search)
    yield _Estimator("stable, two quantiles", stable.stable, "|x| at 50 and 90 %", "indices above 2; what lies beyond the 90 %")
    yield _Estimator("stable (Mohammadi)", tails.mohammadi, "sums of blocks", "indices above 2, of which it makes at most 2")


def _notes(fit: StudentT | None, stable_fit: Stable | None, rows: list[Row], *, centered: bool) -> Iterator[str]:
    """What stands against taking the numbers as they are."""
    # Of Hill's estimate too, as a centre that is far off makes Student's t too light.
    if centered and any(row.index is not None and row.index < WITH_VARIANCE for row in rows[:2]):
        yield "Where the variance is infinite the mean is far from the centre: subtract the median, say, and pass --no-center."
    for name, law in (("Student's t", fit), ("The symmetric stable law", stable_fit)):
        if law is not None and law.p < REJECTED:
            yield f"{name} does not fit: p = {law.p:.2g}, which is too large still, as the fit was made to these numbers."
    if fit is not None and not fit.is_bounded:
        yield f"Nothing bounds the index above: a Gaussian is not rejected at 5 % in favour of Student's t with {fit.index:,.0f}."


def _read(request: Request) -> Float[np.ndarray, " samples"]:
    path = Path(request.path)
    if request.column is None and path.suffix != ".csv":
        return numbers(path)
    if path.suffix in (".npy", ".json"):
        raise SpecError(f"--column = {request.column!r}: {path} has no columns. Expected a comma-separated file.")
    table = csv_table.read(path)
    if request.column is None and table.num_columns > 1:
        names = ", ".join(table.columns or map(str, range(table.num_columns)))
        raise DataError(f"{path}: {table.num_columns} columns, {names}: expected one. Name it by --column.")
    column = 0 if request.column is None else csv_table.column(table, request.column, key="--column")
    return np.array(csv_table.features(table, (column,)))[:, 0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
