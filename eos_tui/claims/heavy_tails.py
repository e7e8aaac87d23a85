"""Tails of homogenised SGD on least squares, and of SGD itself: the index, its bounds, where it is 2, and what the bounds do not say.

Diffusions with equal eigenvalues, whose law is known; the three data sets of the paper, scaled as there; fresh Gaussian data.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from eos_tui.claims.statements import Bounds, Claim, Finding, PlannedRun, Runs, Statement, worst
from eos_tui.evidence import Evidence, Measured, NotMeasuredError, over
from eos_tui.figures import Chart, Line
from runners.records import TailsRecord

JKR = "Jiao and Keller-Ressel (2024), arXiv 2402.01382"
DERIVED = "derived, for the diffusion of Jiao and Keller-Ressel (2024), arXiv 2402.01382"
GSZ = "Gurbuzbalaban, Simsekli and Zhu (2021), arXiv 2006.04740"
CONFIG = "least-squares"
HORIZON = 15.0
"""Of a diffusion with equal eigenvalues, over the time in which its mean decays by e."""
EQUAL: Mapping[str, tuple[int, float]] = {
    "one-3": (1, 3.0),
    "one-5": (1, 5.0),
    "three-3": (3, 3.0),
    "five-4": (5, 4.0),
    "three-past-2": (3, 1.8),
    "three-below-1": (3, 2 / 3),
}
"""By run: how many equal eigenvalues, and the index that they have."""
PLACES = ("gaussian", "digits", "features")
DATA = {
    "gaussian": '{name = "gaussian", num_train = 2000, num_features = 200, exponent = 0.0, noise_std = 3.0, teacher_norm = 24.5, '
    'standardize = "min-max"}',
    "digits": '{name = "digits", num_test = 0, standardize = "min-max"}',
    "features": '{name = "digits-features", num_test = 0, standardize = "min-max"}',
}
LR = {"gaussian": 0.02, "digits": 0.1, "features": 0.2}
SCALES = {"gaussian": 1.0, "digits": 0.1, "features": 0.1}
"""Of the targets."""
STEPS = {"gaussian": 1000, "digits": 10_000, "features": 10_000}
"""Of SGD, as in the paper's notebooks."""
STARTS = {"gaussian": 0.5, "digits": 0.1, "features": 0.1}
AT_FIVE_PERCENT = 1.358
"""Of the distance of Kolmogorov and Smirnov times the root of the number of samples: rejected above. Mild, for the law was fitted."""
SAMPLES = 1000


def _lr_of(rank: int, index: float) -> float:
    """At which that many eigenvalues of 1 have this index, with single examples: phi = lr / 2 = 1 / (index + rank - 2)."""
    return 2 / (index + rank - 2)


def _planned(name: str, **keys: Any) -> PlannedRun:
    """A run of the spec with these keys, `__` for the dot."""
    return PlannedRun(name=name, config=CONFIG, overrides=tuple(f"{key.replace('__', '.')}={value}" for key, value in keys.items()))


def _equal(name: str) -> PlannedRun:
    rank, index = EQUAL[name]
    lr = _lr_of(rank, index)
    return _planned(name, data__num_features=rank, optimizer__lr=repr(lr), run__steps=math.ceil(HORIZON / lr), run__divergence_factor=1e30)


def _on(place: str, name: str, **keys: Any) -> PlannedRun:
    given = {"data": DATA[place], "optimizer__lr": LR[place], "least_squares__target_scale": SCALES[place]}
    return _planned(name, **{**given, "least_squares__start": STARTS[place], **keys})


def _diffusion(place: str) -> str:
    return f"{place}-diffusion"


def _sgd(place: str) -> str:
    return f"{place}-sgd"


def _few(place: str) -> str:
    return f"{place}-sgd-few"


RUNS = (
    *(_on(place, _diffusion(place), simulation__num_paths=4000, run__steps=150) for place in PLACES),
    *map(_equal, EQUAL),
    *(
        _on(
            place,
            name_of(place),
            runner="sgd-ensemble",
            simulation__num_paths=num_paths,
            simulation__record_every=STEPS[place] // 20,
            run__steps=STEPS[place],
        )
        for name_of, num_paths in ((_sgd, 10_000), (_few, SAMPLES))
        for place in PLACES
    ),
    _on("digits", "digits-batches", optimizer__batch_size=2, simulation__num_paths=1000, run__steps=1),
    _on("digits", "digits-slower", optimizer__lr=LR["digits"] / 2, simulation__num_paths=1000, run__steps=1),
    _on("digits", "digits-ridge", least_squares__ridge=1.0, simulation__num_paths=1000, run__steps=1),
    _planned("volterra", data__num_features=20, data__exponent=0.5, optimizer__lr=0.05, simulation__num_paths=20_000, run__steps=200),
    _planned(
        "volterra-sgd",
        runner="sgd-ensemble",
        data='{name = "gaussian", num_train = 400, num_features = 200, exponent = 0.0, noise_std = 0.3}',
        optimizer__lr=0.02,
        optimizer__batch_size=4,
        simulation__num_paths=1000,
        run__steps=1600,
    ),
    _planned(
        "fresh",
        runner="sgd-ensemble",
        data__num_features=2,
        optimizer__lr=0.4,
        simulation__streaming="true",
        run__steps=200,
    ),
)


def last(run: Evidence, field: str, error: str | None = None) -> Measured:
    """The number that a run recorded last of its tails.

    Raises:
        NotMeasuredError: If it recorded none, or null.
    """
    _, values = run.series.get(("tails", field), ((), ()))
    if not values or values[-1] is None:
        raise NotMeasuredError(f"{run.snapshot.name} has no tails.{field} at its end: a Gaussian fits as well.")
    _, errors = run.series.get(("tails", error), ((), ())) if error else ((), ())
    return Measured(values[-1], errors[-1] if errors else 0.0)


def _index(run: Evidence) -> Measured:
    return last(run, "index", "error")


def _exactly(names: Sequence[str], bounds: Bounds) -> Callable[[Runs], Finding]:
    """Fitted over exact."""

    def find(runs: Runs) -> Finding:
        return worst({name: over(_index(runs[name]), Measured(EQUAL[name][1])) for name in names}, bounds)

    return find


def _of(name: str) -> Callable[[Runs], Finding]:
    def find(runs: Runs) -> Finding:
        found = _index(runs[name])
        return Finding(found, {"K": last(runs[name], "noise_kernel").value, "upper bound": last(runs[name], "upper").value})

    return find


def _outside(name_of: Callable[[str], str]) -> Callable[[Runs], Finding]:
    """How far the fitted index is outside of its bounds, with twice its standard error taken off; below 0 inside.

    Of the data sets the farthest out that has an index, which one that a Gaussian fits as well has not.
    """

    def find(runs: Runs) -> Finding:
        excesses: dict[str, float] = {}
        values: dict[str, float] = {}
        for place in PLACES:
            run = runs[name_of(place)]
            low, high = last(run, "lower").value, last(run, "upper").value
            values |= {f"{place}, lower": low, f"{place}, upper": high}
            with suppress(NotMeasuredError):
                found = _index(run)
                excesses[place] = Bounds(low, high).excess(found.value) - 2 * (found.error or 0.0)
                values[place] = found.value
        if not excesses:
            raise NotMeasuredError("A Gaussian fits all of them as well as Student's t.")
        return Finding(Measured(max(excesses.values())), values)

    return find


def _distances(field: str, bounds: Bounds) -> Callable[[Runs], Finding]:
    """Of Kolmogorov and Smirnov between SGD's iterates and a law fitted to them, times the root of their number."""

    def find(runs: Runs) -> Finding:
        return worst({place: Measured(last(runs[_few(place)], field).value * math.sqrt(SAMPLES)) for place in PLACES}, bounds)

    return find


def _bound_ratio(name: str) -> Callable[[Runs], Finding]:
    """The upper bound's excess over 1 against that at learning rate 0.1 with single examples."""

    def find(runs: Runs) -> Finding:
        here, there = (last(runs[each], "upper").value for each in (name, _diffusion("digits")))
        return Finding(Measured((here - 1) / (there - 1)), {"upper bound": here, "before": there})

    return find


def _expected(name: str) -> Callable[[Runs], Finding]:
    """Mean loss at the end over the expected one."""

    def find(runs: Runs) -> Finding:
        run = runs[name]
        (loss, expected, sem) = (
            run.series[key][1][-1] for key in (("step", "loss"), ("metrics", "values.expected_loss"), ("metrics", "values.loss_sem"))
        )
        if loss is None or expected is None or sem is None:
            raise NotMeasuredError(f"{run.snapshot.name}: the loss is not finite at its end.")
        return Finding(over(Measured(loss, sem), Measured(expected)), {"loss": loss, "expected": expected})

    return find


def _kesten(runs: Runs) -> Finding:
    exact = last(runs["fresh"], "exact")
    return Finding(over(last(runs["fresh"], "hill", "hill_error"), exact), {"exact": exact.value})


STATEMENTS = (
    Statement(
        claim="With equal eigenvalues the diffusion's stationary law is Student's t, its index the lower bound (fitted over exact).",
        source=DERIVED,
        runs=("one-3", "one-5", "three-3", "five-4"),
        tolerance=Bounds(0.96, 1.04),
        find=_exactly(("one-3", "one-5", "three-3", "five-4"), Bounds(0.96, 1.04)),
    ),
    Statement(
        claim="Three equal eigenvalues at K = 3/4: the index is 3, not the upper bound of 5.",
        source=DERIVED,
        runs=("three-3",),
        tolerance=Bounds(2.88, 3.12),
        find=_of("three-3"),
    ),
    Statement(
        claim="Past K = 1, at 1.07, the index is below 2: there is no second moment.",
        source=DERIVED,
        runs=("three-past-2",),
        tolerance=Bounds(high=2),
        find=_of("three-past-2"),
    ),
    Statement(
        claim="The tail index of the diffusion is above 1.",
        source=JKR,
        runs=("three-below-1",),
        tolerance=Bounds(low=1),
        find=_of("three-below-1"),
        otherwise="It is the upper bound that is above 1; three equal eigenvalues with phi = 0.6 have an index of 2/3, as derived.",
    ),
    Statement(
        claim="On the paper's three data sets the diffusion's index lies between the bounds (how far it is outside, less two errors).",
        source=JKR,
        runs=tuple(map(_diffusion, PLACES)),
        tolerance=Bounds(high=0),
        find=_outside(_diffusion),
    ),
    Statement(
        claim="So does the index of Student's t fitted to SGD's own iterates (how far it is outside, less two errors).",
        source=JKR,
        runs=tuple(map(_sgd, PLACES)),
        tolerance=Bounds(high=0),
        find=_outside(_sgd),
        otherwise="The theorem is about the diffusion; SGD's steps are not small at these learning rates, and few stretch anything.",
    ),
    Statement(
        claim="Student's t is not rejected for 1,000 iterates of SGD (distance of Kolmogorov and Smirnov times the root of their number).",
        source=JKR,
        runs=tuple(map(_few, PLACES)),
        tolerance=Bounds(high=AT_FIVE_PERCENT),
        find=_distances("distance", Bounds(high=AT_FIVE_PERCENT)),
    ),
    Statement(
        claim="A stable law is rejected for them (the same distance).",
        source=JKR,
        runs=tuple(map(_few, PLACES)),
        tolerance=Bounds(low=AT_FIVE_PERCENT),
        find=_distances("stable_distance", Bounds(low=AT_FIVE_PERCENT)),
        otherwise="The symmetric law fitted by two quantiles of |x| is nearly Gaussian, and so are 1,000 iterates. Which fit was rejected "
        "is not said.",
    ),
    Statement(
        claim="Twice the batch size doubles the upper bound's distance from 1 (ratio).",
        source=JKR,
        runs=("digits-batches", _diffusion("digits")),
        tolerance=Bounds(1.99, 2.01),
        find=_bound_ratio("digits-batches"),
    ),
    Statement(
        claim="Half the learning rate does so too (ratio).",
        source=JKR,
        runs=("digits-slower", _diffusion("digits")),
        tolerance=Bounds(1.99, 2.01),
        find=_bound_ratio("digits-slower"),
    ),
    Statement(
        claim="Ridge makes the upper bound larger (ratio of distances from 1).",
        source=JKR,
        runs=("digits-ridge", _diffusion("digits")),
        tolerance=Bounds(low=1.05),
        find=_bound_ratio("digits-ridge"),
    ),
    Statement(
        claim="The mean loss of the diffusion is that of the Volterra equation (ratio).",
        source=DERIVED,
        runs=("volterra",),
        tolerance=Bounds(0.98, 1.02),
        find=_expected("volterra"),
    ),
    Statement(
        claim="The mean loss of SGD with batches of 4 is that of the Volterra equation in steps (ratio).",
        source=DERIVED,
        runs=("volterra-sgd",),
        tolerance=Bounds(0.98, 1.02),
        find=_expected("volterra-sgd"),
    ),
    Statement(
        claim="On fresh Gaussian data the tail of SGD has the index of its random products (Hill's estimate over the exact index).",
        source=GSZ,
        runs=("fresh",),
        tolerance=Bounds(0.9, 1.1),
        find=_kesten,
    ),
)


def _charts(runs: Runs) -> Sequence[Chart]:
    def tails(names: Sequence[str], *, fit: bool) -> tuple[Line, ...]:
        lines = []
        for name in names:
            curves = {"": "survival"} | ({", Student t": "survival_fit"} if fit else {})
            record = runs[name].snapshot.last.get("tails")
            if isinstance(record, TailsRecord):
                for words, field in curves.items():
                    points = zip(record.levels, getattr(record, field), strict=True)
                    lines.append(Line(name + words, [(x, y) for x, y in points if x is not None and y is not None]))
        return tuple(lines)

    parts = [tails(tuple(EQUAL), fit=False), *(tails((_diffusion(place), _sgd(place)), fit=True) for place in PLACES)]
    return [Chart(x="log10 of |x| over the scale", y="log10 of the share beyond", lines=lines) for lines in parts]


CLAIM = Claim(
    name="heavy-tails",
    summary="Homogenised SGD on least squares has tails whose index lies between bounds and is 2 where K is 1; SGD's own are lighter.",
    source="Jiao and Keller-Ressel (2024), arXiv 2402.01382",
    cost=f"{len(RUNS)} runs; four minutes on two cores.",
    runs=RUNS,
    statements=STATEMENTS,
    charts=_charts,
)
