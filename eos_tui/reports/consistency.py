"""How far nets of different sizes are apart while they train, and whether the distance grows. Pure but for reading the sweep's logs.

Source: Noci et al. (2024), arXiv 2402.17457: a quantity is super consistent when it is nearly the same at each large width and stays so in
training. The widest net stands for the limit of infinite width, and the growth is the exponent b of |S_widest(t) - S_width(t)| = A t^b.
"""

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

from msgspec import Struct

from eos_tui.evidence import Evidence
from eos_tui.figures import Chart, Line
from eos_tui.reports import members
from eos_tui.reports.fitting import power, student
from eos_tui.reports.members import SEEDS, Member, Values
from eos_tui.series import Key
from runners.errors import OutputError
from runners.sweeps import SweepFolder

MOST_POINTS = 60
"""Of a series; a longer one is averaged over as many equal stretches of steps."""
LATE = 2 / 3
"""Share of the steps after which the last third begins."""
FEWEST = 3
"""Points that an exponent is fitted to, at least."""
CLEAR = 4.0
"""Standard errors that a distance is, at least, for its exponent to be told."""
QUANTITIES: dict[str, Key] = {
    "loss": ("step", "loss"),
    "sharpness": ("sharpness", "value"),
    "NTK trace": ("ntk", "trace"),
    "Hessian trace": ("hessian_trace", "value"),
}
"""What is compared where it was measured, besides the further eigenvalues."""
NAMES = {"sharpness": "Hessian eigenvalue", "gauss_newton": "Gauss-Newton eigenvalue"}
"""Kinds of records that list eigenvalues from the top down."""


class Distance(Struct, frozen=True, kw_only=True):
    """How far nets of one size are from the largest ones."""

    values: dict[str, Any]
    """What makes the size, by key."""
    early: float | None
    """|S - S_largest| / |S_largest|, mean over the first third of the steps; without step 0."""
    late: float | None
    """The same over the last third."""
    late_error: float | None
    """Its standard error over seeds; null with one."""
    exponent: float | None
    """b of |S - S_largest| = A step^b; null where the distance over the last third is less than four times its error.

    There the noise's own distance makes b too small.
    """
    exponent_error: float | None
    """Half-width of its 95 % confidence interval, from leaving out seeds; null with fewer than two of a size.

    It covers the true exponent in 87 to 97 of 100 cases (simulated, 2 to 5 seeds). Points along one run move together: their scatter
    about the power law covers it in 5 to 60.
    """


class Compared(Struct, frozen=True, kw_only=True):
    """A quantity, by size."""

    quantity: str
    distances: tuple[Distance, ...]
    """Of all sizes but the largest."""
    stays_within: float
    """The largest `late` of the sizes."""


class Group(Struct, frozen=True, kw_only=True):
    """Nets of several sizes that are alike in all else."""

    values: dict[str, Any]
    largest: dict[str, Any]
    """What the others are held against."""
    quantities: tuple[Compared, ...]
    num_diverged: int
    """Runs that are left out because they diverged."""


class Consistency(Struct, frozen=True, kw_only=True):
    """The report."""

    sweep: str
    groups: tuple[Group, ...]
    num_missing: int
    """Runs that have not come to an end of their own, and are left out."""


def report(folder: SweepFolder, *, sizes: Sequence[str] = ()) -> tuple[Consistency, list[Chart]]:
    """The distances of each quantity that was measured, by all that varies besides size and seed, and a chart of each.

    Args:
        folder: A sweep that varies a size; seeds are optional.
        sizes: Keys that make the size; none for width and depth.

    Raises:
        LogError: If a log cannot be read.
        OutputError: If no size varies.
    """
    found, num_missing = members.read(folder)
    keys = members.sizes_of(found, sizes, name=folder.name)
    others = [key for key in found[0].values if key not in (*SEEDS, *keys)]
    groups, charts = [], []
    for values, alike in members.groups(found, others):
        fit = [member for member in alike if not member.has_diverged]
        by_size = list(members.groups(fit, keys))
        if len(by_size) > 1:
            said, drawn = group(by_size, values=values, num_diverged=len(alike) - len(fit))
            groups.append(said)
            charts.extend(drawn)
    if not groups:
        raise OutputError(f"{folder.name}: of no two sizes a run has finished that are alike in all else.")
    return Consistency(sweep=folder.name, groups=tuple(groups), num_missing=num_missing), charts


def group(by_size: Sequence[tuple[Values, Sequence[Member]]], *, values: Values, num_diverged: int) -> tuple[Group, list[Chart]]:
    """The distances of nets that are alike in all but size.

    Args:
        by_size: The sizes in order, the last one being the largest, with their runs of several seeds.
        values: What they are alike in.
        num_diverged: Runs left out.
    """
    quantities, charts = [], []
    for name, key in _measured([member.run for _, same in by_size for member in same]).items():
        curves = [(size, _on_common_steps([member.run for member in same], key)) for size, same in by_size]
        (_, largest), others = curves[-1], curves[:-1]
        distances = tuple(distance(size, own, largest) for size, own in others)
        late = [each.late for each in distances if each.late is not None]
        if late:
            quantities.append(Compared(quantity=name, distances=distances, stays_within=max(late)))
            charts.append(_chart(name, curves, values))
    largest_size = dict(by_size[-1][0])
    return Group(values=dict(values), largest=largest_size, quantities=tuple(quantities), num_diverged=num_diverged), charts


def distance(size: Values, own: Sequence["Moment"], largest: Sequence["Moment"]) -> Distance:
    """How far a size's curve is from the largest one's, at the steps that both have."""
    there = {moment.step: moment for moment in largest}
    pairs = [(each, there[each.step]) for each in own if each.step > 0 and each.step in there and there[each.step].mean]
    if not pairs:
        return Distance(values=dict(size), early=None, late=None, late_error=None, exponent=None, exponent_error=None)
    last = pairs[-1][0].step
    early = [pair for pair in pairs if pair[0].step <= last * (1 - LATE)] or pairs[:1]
    late = [pair for pair in pairs if pair[0].step >= last * LATE]
    distant, error = _mean([_relative(*pair) for pair in late]), _late_error(late)
    found = None if error is not None and distant < CLEAR * error else _exponent(pairs)
    return Distance(
        values=dict(size),
        early=_mean([_relative(*pair) for pair in early]),
        late=distant,
        late_error=error,
        exponent=found,
        exponent_error=None if found is None else _exponent_error(pairs),
    )


class Moment(Struct, frozen=True):
    """A quantity of one size at one step."""

    step: float
    values: tuple[float, ...]
    """Of the seeds."""

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return _mean(self.values)

    @property
    def sem(self) -> float | None:
        """Standard error over the seeds."""
        return members.mean_and_sem(self.values)[1]

    def without(self, seed: int) -> "Moment":
        """The same of all seeds but one."""
        return Moment(self.step, self.values[:seed] + self.values[seed + 1 :])


Pairs: TypeAlias = Sequence[tuple[Moment, Moment]]
"""Of a size and of the largest one, step by step."""


def _relative(each: Moment, limit: Moment) -> float:
    return abs(each.mean - limit.mean) / abs(limit.mean)


def _late_error(pairs: Pairs) -> float | None:
    """The mean of the points' standard errors: a run's points move together, so averaging them does not make the error smaller.

    That of |S / S_largest - 1| has both sizes' relative errors in it, times their ratio.
    """
    errors = [
        math.hypot(each.sem, each.mean / limit.mean * limit.sem) / abs(limit.mean)
        for each, limit in pairs
        if each.sem is not None and limit.sem is not None
    ]
    return _mean(errors) if len(errors) == len(pairs) else None


def _exponent(pairs: Pairs) -> float | None:
    """The b of |S - S_largest| = A step^b."""
    if len(pairs) < FEWEST:
        return None
    found = power([each.step for each, _ in pairs], [abs(each.mean - limit.mean) for each, limit in pairs])
    return found.exponent if found else None


def _exponent_error(pairs: Pairs) -> float | None:
    """By the jackknife, over the seeds of both sizes, as if none of them were shared.

    Source: Efron and Stein (1981), Ann. Statist. 9.
    """
    seeds = [len(moment.values) for moment in pairs[0]]
    if min(seeds) < 2:
        return None
    variance = 0.0
    for side, count in enumerate(seeds):
        left = [_exponent([_without(pair, side, seed) for pair in pairs]) for seed in range(count)]
        known = [exponent for exponent in left if exponent is not None]
        if len(known) < count:
            return None
        variance += (count - 1) / count * math.fsum((exponent - _mean(known)) ** 2 for exponent in known)
    return student(sum(seeds) - 2) * math.sqrt(variance)


def _without(pair: tuple[Moment, Moment], side: int, seed: int) -> tuple[Moment, Moment]:
    each, limit = pair
    return (each, limit.without(seed)) if side else (each.without(seed), limit)


def _mean(numbers: Sequence[float]) -> float:
    return math.fsum(numbers) / len(numbers)


def _measured(runs: Sequence[Evidence]) -> dict[str, Key]:
    """What all runs measured, by name."""
    common = set.intersection(*(set(run.series) for run in runs))
    found = {name: key for name, key in QUANTITIES.items() if key in common}
    for kind, name in NAMES.items():
        places = sorted(int(field.removeprefix("values.")) for at, field in common if at == kind and field.startswith("values."))
        found |= {f"{name} {place + 1}": (kind, f"values.{place}") for place in places if place or kind != "sharpness"}
    return found


def _on_common_steps(runs: Sequence[Evidence], key: Key) -> list[Moment]:
    """What the seeds have at the steps that all have; a long series averaged over stretches of steps."""
    curves = [_thinned(run, key) for run in runs]
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    return [Moment(step, tuple(curve[step] for curve in curves)) for step in steps]


def _thinned(run: Evidence, key: Key) -> dict[float, float]:
    steps, values = run.series[key]
    points = [(step, value) for step, value in zip(steps, values, strict=True) if step is not None and value is not None]
    if len(points) <= MOST_POINTS:
        return dict(points)
    stretch = max(run.snapshot.steps, 1) / MOST_POINTS
    found: dict[int, list[float]] = {}
    for step, value in points:
        found.setdefault(min(int(step / stretch), MOST_POINTS - 1), []).append(value)
    return {(place + 0.5) * stretch: _mean(same) for place, same in found.items()}


def _chart(name: str, curves: Sequence[tuple[Values, Sequence[Moment]]], values: Values) -> Chart:
    lines = []
    for size, curve in curves:
        errors = [moment.sem or 0.0 for moment in curve]
        lines.append(Line(members.label(size), [(moment.step, moment.mean) for moment in curve], errors=errors))
    title = f"{name}, {members.label(values)}" if values else name
    return Chart(x="step", y=title, lines=tuple(lines), log_y=all(y > 0 for line in lines for _, y in line.points))
