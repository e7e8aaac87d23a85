"""Normalised gradient descent and gradient descent on sqrt(L): both cross the manifold of minima at each step and move along it.

The valley L = (1 + x^2) y^2, a quadratic with the eigenvalues 1 and 0.4, a tanh net 1-8-8-1 through five points and a small convolutional
net on fifty digits, both with squared error, all in float64. A plateau is the last third of a run's steps.

On the valley what Arora, Li and Panigrahi (2022) say of small learning rates has closed forms, with tau = lr^2 x steps. The limit of
gradient flow from (x, y) is the point X of the floor with ln X + X^2 / 2 = ln x + x^2 / 2 - y^2 / 2. Along the floor normalised steps lower
ln X + X^2 / 2 by tau / 2, and steps on sqrt(L) lower ln X by tau / 2.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from eos_tui.claims.statements import Bounds, Claim, Finding, PlannedRun, Runs, Statement, worst
from eos_tui.evidence import BATCH_LOSS, SHARPNESS, Evidence, Measured, NotMeasuredError, Quantity, over
from eos_tui.figures import Chart, Line

ARORA = "Arora, Li and Panigrahi (2022), arXiv 2205.09745"
DERIVED = "derived"

X, Y = Quantity("metrics", "values.x"), Quantity("metrics", "values.y")
FIRST, SECOND = Quantity("metrics", "values.x1"), Quantity("metrics", "values.x2")
RECIPROCAL_SUM = Quantity("stableness", "reciprocal_sum")
EFFECTIVE_SUM = Quantity("stableness", "effective_reciprocal_sum")
EFFECTIVE = (Quantity("stableness", "effective_sharpness"), Quantity("stableness", "next_effective_sharpness"))
EFFECTIVE_MEAN = Quantity("stableness", "effective_harmonic_mean")
LOSS_RATIO = Quantity("stableness", "loss_ratio")
ALIGNMENT = Quantity("stableness", "alignment")
DIRECTIONAL = Quantity("gradient", "directional_sharpness")

TOY_PLACES = {"x": (14.7, 13.203459, 11.026201, 9.903982), "y": (3.0, -4.366987, 2.253650, -3.282078)}
"""Where gradient descent on sqrt(L) comes to in the valley from (14.7, 3) with lr 0.5, by step; computed apart from the runs."""
TOY_ROOTS = (44.20192, 57.82447, 24.95118, 32.67091, 14.12261, 18.52199, 8.03151, 10.56314, 4.60520, 6.08616, 2.67780, 3.56763)
"""Its sqrt(L) by step."""
NORMS = (1e-3, 0.9923855, 0.03080015, 0.43042428, 0.31767664, 0.68018956, 0.31980699, 0.68016912, 0.31983085, 0.68016890, 0.31983110)
"""|A x| / lr on the quadratic by step."""
SMALLEST_EIGENVALUE = 0.4
"""Of the quadratic; the largest is 1."""
SETTLED = 8
"""Step from which the quadratic's orbit is found."""
DURATION = 2.0
"""Tau at the end of a run along the valley's floor."""
RATES = (0.2, 0.1, 0.05)
"""Learning rates of these runs."""
WRONG = (0.5, 2.0)
"""Factors of the flow's constant that are held against the runs beside 1."""
ON_ROOT = ("optimizer.name=sgd", "objective.transform=sqrt")
"""Overrides that put gradient descent on sqrt(L) in place of normalised steps."""
ALGORITHMS = {"normalised": "ngd", "on sqrt(L)": "sqrt"}
"""By words, how the runs' names begin."""
NEWTON_STEPS = 20
"""Of Newton's method, which from ln x = 0 comes to any place of these runs in fewer."""
ORBIT = Bounds(0.99999, 1.00001)
"""Of what settles geometrically, and has settled."""
PAIRS = Bounds(0.97, 1.03)
"""What pairs of steps give on the net's plateau, over what they give for small learning rates along the top eigenvector."""
DAMPED = (
    "Here the two steps of a pair become alike, within 100 steps of the drop of lr, and then the loss falls as slowly as the sharpness."
)
"""Why the loss need not go up and down on sqrt(L)."""
MET = "Here the sharpness falls until the next eigenvalue stands as high, and then the gradient turns within the space of both."
"""Why the gradient need not stay along one eigenvector."""


def _slow(algorithm: str, lr: float) -> str:
    """The name of a run along the valley's floor."""
    return f"{algorithm}-{lr:g}"


def _valley(name: str, *, lr: float, start: tuple[float, float], steps: int, **keys: int) -> PlannedRun:
    """A run down the valley, its algorithm told by the name, with further keys of `measure`."""
    changed = {"function.start": list(start), "optimizer.lr": lr, "run.steps": steps, **{f"measure.{key}": keys[key] for key in keys}}
    algorithm = ON_ROOT if name.startswith("sqrt") else ()
    return PlannedRun(name=name, config="valley", overrides=(*algorithm, *(f"{key}={value}" for key, value in changed.items())))


def _along_floor(algorithm: str, lr: float) -> PlannedRun:
    """From near (2, 0), off the floor by 0.3 times a step's length."""
    steps, length = round(DURATION / lr**2), lr * (math.sqrt(5) if algorithm == "sqrt" else 1)
    return _valley(_slow(algorithm, lr), lr=lr, start=(2.0, 0.3 * length), steps=steps, parameters_every=steps // 10)


RUNS = (
    PlannedRun(name="ngd-digits", config="fifty-digits"),
    PlannedRun(name="sqrt-digits", config="fifty-digits", overrides=ON_ROOT),
    PlannedRun(name="ngd-net", config="five-points"),
    PlannedRun(name="sqrt-net", config="five-points", overrides=ON_ROOT),
    _valley("sqrt-toy", lr=0.5, start=(14.7, 3.0), steps=60, stableness_every=1),
    _valley("ngd-toy", lr=5.0, start=(14.7, -3.0), steps=9),
    PlannedRun(name="quadratic", config="two-eigenvalues"),
    *(_along_floor(algorithm, lr) for lr in reversed(RATES) for algorithm in ALGORITHMS.values()),
)


def _numbers(run: Evidence, quantity: Quantity) -> list[float]:
    """The quantity in the order of steps."""
    return [measured.value for measured in run.all(quantity).values()]


def _off(found: Sequence[float], expected: Sequence[float]) -> Measured:
    """The largest relative difference of the first numbers, as many as are expected."""
    return Measured(max(abs(number / wanted - 1) for number, wanted in zip(found[: len(expected)], expected, strict=True)))


def _toy_iterates(runs: Runs) -> Finding:
    run = runs["sqrt-toy"]
    x, y = _numbers(run, X), _numbers(run, Y)
    roots = [math.sqrt(1 + a * a) * abs(b) for a, b in zip(x, y, strict=True)]
    found = {"x": _off(x, TOY_PLACES["x"]), "y": _off(y, TOY_PLACES["y"]), "sqrt(L)": _off(roots, TOY_ROOTS)}
    return worst(found, Bounds(high=2e-6))


def _crosses(runs: Runs) -> Finding:
    """The share of steps at which y changes sign."""

    def share(run: Evidence) -> Measured:
        ys = _numbers(run, Y)
        return Measured(sum(a * b < 0 for a, b in pairwise(ys)) / (len(ys) - 1))

    return worst({name: share(run) for name, run in runs.items()}, Bounds(low=1))


def _drifts(runs: Runs) -> Finding:
    """The largest factor of x in a step."""
    return worst({name: Measured(max(b / a for a, b in pairwise(_numbers(run, X)))) for name, run in runs.items()}, Bounds(high=1))


def _toy_sums(runs: Runs) -> Finding:
    """The largest factor from one sum of two sqrt(L) in a row to the next, over the twelve iterates."""
    roots = [math.sqrt(loss) for loss in _numbers(runs["sqrt-toy"], BATCH_LOSS)[: len(TOY_ROOTS)]]
    sums = [a + b for a, b in pairwise(roots)]
    return Finding(Measured(max(b / a for a, b in pairwise(sums))), {"first sum": sums[0], "last sum": sums[-1]})


def _norms(run: Evidence) -> list[float]:
    """|A x| / lr by step, lr = 1."""
    places = zip(_numbers(run, FIRST), _numbers(run, SECOND), strict=True)
    return [math.hypot(first, SMALLEST_EIGENVALUE * second) for first, second in places]


def _orbit_norms(runs: Runs) -> Finding:
    return Finding(_off(_norms(runs["quadratic"]), NORMS), {})


def _orbit_sums(runs: Runs) -> Finding:
    sums = [a + b for a, b in pairwise(_norms(runs["quadratic"])[SETTLED:])]
    return worst({f"from step {SETTLED + place}": Measured(total) for place, total in enumerate(sums)}, ORBIT)


def _orbit_split(runs: Runs) -> Finding:
    one, other = sorted(_norms(runs["quadratic"])[-2:])
    return Finding(Measured(other / one), {"smaller": one, "larger": other})


def _orbit_preparation(runs: Runs) -> Finding:
    """The smallest growth of |<v1, A x>| / lr from one step of norm at most 1/2 to the next such step."""
    run = runs["quadratic"]
    shares = [abs(first) for first, norm in zip(_numbers(run, FIRST), _norms(run), strict=True) if norm <= 0.5]
    growths = [b / a for a, b in pairwise(shares)]
    if not growths:
        raise NotMeasuredError("quadratic has fewer than two steps with a norm of at most 1/2.")
    return Finding(Measured(min(growths)), {"first": shares[0], "last": shares[-1]})


def _last(name: str, quantity: Quantity) -> Callable[[Runs], Finding]:
    return lambda runs: Finding(runs[name].last(quantity), {})


def _means(runs: Runs) -> Finding:
    """The plain mean of the effective sharpnesses of each pair on the plateau over the harmonic one."""

    def ratio(run: Evidence) -> Measured:
        first, second = (run.plateau(quantity) for quantity in EFFECTIVE)
        error = None if first.error is None or second.error is None else (first.error + second.error) / 2
        plain = Measured((first.value + second.value) / 2, error)
        return over(plain, run.plateau(EFFECTIVE_MEAN))

    return worst({name: ratio(run) for name, run in runs.items()}, Bounds(low=1.02))


def _each(quantity: Quantity, bounds: Bounds) -> Callable[[Runs], Finding]:
    """Of all values on the plateaus, the one that is farthest out."""

    def find(runs: Runs) -> Finding:
        found = {(name, step): value for name, run in runs.items() for step, value in run.all(quantity).items() if step >= run.plateau_step}
        return worst({f"{name}, step {step}": value for (name, step), value in found.items()}, bounds)

    return find


def _net_sharpness(runs: Runs) -> Finding:
    """The last sharpness over the plateau's first."""
    found = {name: over(run.last(SHARPNESS), run.since(SHARPNESS, run.plateau_step)[0]) for name, run in runs.items()}
    return worst(found, Bounds(high=0.98))


def _net_rises(runs: Runs) -> Finding:
    """The share of the plateau's steps that raise the loss."""

    def share(run: Evidence) -> Measured:
        losses = [loss.value for loss in run.since(BATCH_LOSS, run.plateau_step)]
        return Measured(sum(b > a for a, b in pairwise(losses)) / (len(losses) - 1))

    return worst({name: share(run) for name, run in runs.items()}, Bounds(0.45, 0.55))


def _net_falls(runs: Runs) -> Finding:
    """The largest factor of the sharpness from one measurement of the plateau to the next."""

    def largest(run: Evidence) -> Measured:
        return max((over(b, a) for a, b in pairwise(run.since(SHARPNESS, run.plateau_step))), key=lambda factor: factor.value)

    return worst({name: largest(run) for name, run in runs.items()}, Bounds(high=1))


def _on_floor(height: float) -> float:
    """The x with ln x + x^2 / 2 = height, by Newton's method in ln x, where this is convex and increases."""
    log = 0.0
    for _ in range(NEWTON_STEPS):
        log -= (log + math.exp(2 * log) / 2 - height) / (1 + math.exp(2 * log))
    return math.exp(log)


def _limit(x: float, y: float) -> float:
    """Where on the floor gradient flow from (x, y) ends."""
    return _on_floor(math.log(x) + x**2 / 2 - y**2 / 2)


def _flow(algorithm: str, start: float, tau: float) -> float:
    """Where on the floor the limiting flow of the algorithm is at a time."""
    return start * math.exp(-tau / 2) if algorithm == "sqrt" else _on_floor(math.log(start) + start**2 / 2 - tau / 2)


def _limits(run: Evidence) -> dict[int, float]:
    """The limits of gradient flow by step."""
    xs, ys = run.all(X), run.all(Y)
    return {step: _limit(xs[step].value, ys[step].value) for step in xs}


def _distances(algorithm: str, lr: float, runs: Runs, *, factor: float = 1.0) -> dict[int, float]:
    """How far the run's limits are from the flow with its constant times the factor, by step."""
    limits = _limits(runs[_slow(algorithm, lr)])
    return {step: abs(at - _flow(algorithm, limits[0], factor * lr**2 * step)) for step, at in limits.items()}


def _distance(algorithm: str, lr: float, runs: Runs, *, factor: float = 1.0) -> float:
    """The largest of these distances."""
    return max(_distances(algorithm, lr, runs, factor=factor).values())


def _tracks(algorithm: str) -> Callable[[Runs], Finding]:
    """The largest factor of the distance to the flow when lr is halved."""

    def find(runs: Runs) -> Finding:
        distances = [_distance(algorithm, lr, runs) for lr in RATES]
        found = {f"lr={lr:g}": distance for lr, distance in zip(RATES, distances, strict=True)}
        return Finding(Measured(max(half / whole for whole, half in pairwise(distances))), found)

    return find


def _misses(algorithm: str) -> Callable[[Runs], Finding]:
    """The smallest distance to a flow with a wrong constant over that to the right one."""

    def find(runs: Runs) -> Finding:
        found = {
            f"times {factor:g}, lr={lr:g}": Measured(_distance(algorithm, lr, runs, factor=factor) / _distance(algorithm, lr, runs))
            for factor in WRONG
            for lr in RATES
        }
        return worst(found, Bounds(low=10))

    return find


def _net(algorithm: str) -> str:
    """The name of the net's run."""
    return f"{algorithm}-net"


NETS = tuple(_net(algorithm) for algorithm in ALGORITHMS.values())
DIGITS = ("ngd-digits", "sqrt-digits")


def _mean_of(quantity: Quantity, bounds: Bounds) -> Callable[[Runs], Finding]:
    """Of the means over the plateaus, the one that is farthest out."""
    return lambda runs: worst({name: run.plateau(quantity) for name, run in runs.items()}, bounds)


def _along_gradient(runs: Runs) -> Finding:
    """The sharpness along the gradient over the sharpness, means over the plateaus."""
    return worst({name: over(run.plateau(DIRECTIONAL), run.plateau(SHARPNESS)) for name, run in runs.items()}, PAIRS)


ON_DIGITS = (
    Statement(
        claim="On digits the gradient turns into the top eigenvector as well (share of its square, each measurement of the plateau), ...",
        source=ARORA,
        runs=DIGITS,
        tolerance=Bounds(low=0.99),
        find=_each(ALIGNMENT, Bounds(low=0.99)),
        otherwise=MET,
    ),
    Statement(
        claim="... or among the top eigenvectors: the sharpness along it is the sharpness (their ratio, means over the plateau).",
        source=ARORA,
        runs=DIGITS,
        tolerance=PAIRS,
        find=_along_gradient,
    ),
    Statement(
        claim="There 1/S + 1/S' = 1 for the effective sharpness S of two steps in a row (mean over the plateau), ...",
        source=DERIVED,
        runs=DIGITS,
        tolerance=PAIRS,
        find=_mean_of(EFFECTIVE_SUM, PAIRS),
    ),
    Statement(
        claim="... two sqrt(L) in a row are what they are on the net (their ratio, mean over the plateau), ...",
        source=DERIVED,
        runs=DIGITS,
        tolerance=PAIRS,
        find=_mean_of(LOSS_RATIO, PAIRS),
    ),
    Statement(
        claim="... the loss rises at every other step, ...",
        source=ARORA,
        runs=DIGITS,
        tolerance=Bounds(0.45, 0.55),
        find=_net_rises,
    ),
    Statement(
        claim="... and the sharpness falls from each measurement of the plateau to the next (largest factor).",
        source=ARORA,
        runs=DIGITS,
        tolerance=Bounds(high=1),
        find=_net_falls,
    ),
)

STATEMENTS = (
    Statement(
        claim="In the valley gradient descent on sqrt(L) from (14.7, 3) with lr 0.5 goes the way of the paper's figure (largest relative "
        "difference of x, y and sqrt(L) over up to 12 iterates).",
        source=ARORA,
        runs=("sqrt-toy",),
        tolerance=Bounds(high=2e-6),
        find=_toy_iterates,
    ),
    Statement(
        claim="Both algorithms jump across the valley's floor at each step (share of steps at which y changes sign), ...",
        source=ARORA,
        runs=("sqrt-toy", "ngd-toy"),
        tolerance=Bounds(low=1),
        find=_crosses,
    ),
    Statement(
        claim="... and each step leads to where the valley is less steep (largest factor of x in a step).",
        source=ARORA,
        runs=("sqrt-toy", "ngd-toy"),
        tolerance=Bounds(high=1),
        find=_drifts,
    ),
    Statement(
        claim="Of sqrt(L) the sum of two steps in a row falls (its largest factor from step to step, over 12 iterates).",
        source=ARORA,
        runs=("sqrt-toy",),
        tolerance=Bounds(high=1),
        find=_toy_sums,
    ),
    Statement(
        claim="At the end of this run the effective sharpnesses of two steps in a row have the harmonic mean 2.",
        source=DERIVED,
        runs=("sqrt-toy",),
        tolerance=Bounds(1.999, 2.001),
        find=_last("sqrt-toy", EFFECTIVE_MEAN),
    ),
    Statement(
        claim="On a quadratic normalised steps have the norms of A x over lr that the recursion gives (largest relative difference).",
        source=ARORA,
        runs=("quadratic",),
        tolerance=Bounds(high=1e-6),
        find=_orbit_norms,
    ),
    Statement(
        claim="Two of these in a row come to add up to the largest eigenvalue, 1 (each sum from step 8 on), ...",
        source=ARORA,
        runs=("quadratic",),
        tolerance=ORBIT,
        find=_orbit_sums,
    ),
    Statement(
        claim="... though neither is half of it (larger over smaller at the end).",
        source=ARORA,
        runs=("quadratic",),
        tolerance=Bounds(low=1.5),
        find=_orbit_split,
    ),
    Statement(
        claim="Of the steps with a norm of at most half the largest eigenvalue each has more along the top eigenvector than the one before "
        "(smallest factor).",
        source=ARORA,
        runs=("quadratic",),
        tolerance=Bounds(low=1),
        find=_orbit_preparation,
    ),
    Statement(
        claim="The quadratic's gradient turns into the top eigenvector (share of its square at the end).",
        source=ARORA,
        runs=("quadratic",),
        tolerance=Bounds(low=1 - 1e-6),
        find=_last("quadratic", ALIGNMENT),
    ),
    *(
        Statement(
            claim=f"Along the valley's floor, {words}: the smaller lr, the nearer gradient flow from the iterates ends to the flow "
            "(largest factor of the distance when lr is halved).",
            source=ARORA,
            runs=tuple(_slow(algorithm, lr) for lr in RATES),
            tolerance=Bounds(high=0.55),
            find=_tracks(algorithm),
        )
        for words, algorithm in ALGORITHMS.items()
    ),
    *(
        Statement(
            claim=f"The flow's constant is no other, {words}: with half or twice the constant the distance is many times as large.",
            source=ARORA,
            runs=tuple(_slow(algorithm, lr) for lr in RATES),
            tolerance=Bounds(low=10),
            find=_misses(algorithm),
        )
        for words, algorithm in ALGORITHMS.items()
    ),
    Statement(
        claim="On a net too the gradient turns into the top eigenvector (share of its square, each measurement of the plateau).",
        source=ARORA,
        runs=NETS,
        tolerance=Bounds(low=0.99),
        find=_each(ALIGNMENT, Bounds(low=0.99)),
    ),
    Statement(
        claim="Of two normalised steps in a row 1/S + 1/S' = 1 for the stableness S (each measurement of the plateau).",
        source=ARORA,
        runs=("ngd-net",),
        tolerance=PAIRS,
        find=_each(RECIPROCAL_SUM, PAIRS),
    ),
    Statement(
        claim="With the effective sharpness for S this holds for both algorithms.",
        source=DERIVED,
        runs=NETS,
        tolerance=PAIRS,
        find=_each(EFFECTIVE_SUM, PAIRS),
    ),
    Statement(
        claim="So their harmonic mean is 2, but their plain mean is above it (plain over harmonic on the plateau).",
        source=DERIVED,
        runs=("ngd-net", "sqrt-toy", "quadratic"),
        tolerance=Bounds(low=1.02),
        find=_means,
    ),
    Statement(
        claim="Two sqrt(L) in a row of normalised steps add up to lr sqrt(sharpness / 2) (their ratio, each measurement of the plateau).",
        source=ARORA,
        runs=("ngd-net",),
        tolerance=PAIRS,
        find=_each(LOSS_RATIO, PAIRS),
    ),
    Statement(
        claim="On sqrt(L) they add up to lr sharpness / 2.",
        source=DERIVED,
        runs=("sqrt-net",),
        tolerance=PAIRS,
        find=_each(LOSS_RATIO, PAIRS),
    ),
    *(
        Statement(
            claim=f"At its floor the net's loss rises at every other step, {words} (share of the plateau's steps).",
            source=DERIVED if algorithm == "sqrt" else ARORA,
            runs=(_net(algorithm),),
            tolerance=Bounds(0.45, 0.55),
            find=_net_rises,
            otherwise=DAMPED if algorithm == "sqrt" else "",
        )
        for words, algorithm in ALGORITHMS.items()
    ),
    Statement(
        claim="While the loss is at its floor the sharpness goes on falling (last over the plateau's first), ...",
        source=ARORA,
        runs=NETS,
        tolerance=Bounds(high=0.98),
        find=_net_sharpness,
    ),
    Statement(
        claim="... slowly and steadily (largest factor from one measurement of the plateau to the next).",
        source=ARORA,
        runs=NETS,
        tolerance=Bounds(high=1),
        find=_net_falls,
    ),
    *ON_DIGITS,
)


def _charts(runs: Runs) -> Sequence[Chart]:
    def line(name: str, quantity: Quantity) -> Line:
        return Line(name, [(step, measured.value) for step, measured in runs[name].all(quantity).items()])

    def net(quantity: Quantity) -> tuple[Line, ...]:
        return tuple(line(name, quantity) for name in NETS)

    def along_floor(algorithm: str) -> tuple[Line, Line]:
        lr = RATES[-1]
        limits = {lr**2 * step: at for step, at in _limits(runs[_slow(algorithm, lr)]).items()}
        flow = [(tau, _flow(algorithm, limits[0], tau)) for tau in limits]
        return Line(f"{algorithm}, lr={lr:g}", list(limits.items())), Line(f"{algorithm}, flow", flow)

    distances = tuple(
        Line(f"{algorithm}, lr={lr:g}", [(lr**2 * step, off) for step, off in _distances(algorithm, lr, runs).items() if step])
        for algorithm in ALGORITHMS.values()
        for lr in RATES
    )
    return (
        Chart(x="tau = lr^2 step", y="x where gradient flow ends", lines=along_floor("ngd") + along_floor("sqrt")),
        Chart(x="tau = lr^2 step", y="distance to the flow", lines=distances, log_y=True),
        Chart(x="step", y="sum of 1/S of two steps, net", lines=net(EFFECTIVE_SUM), references=((1.0, "edge"),)),
        Chart(x="step", y="effective sharpness, net", lines=net(EFFECTIVE[0]), references=((2.0, "edge"),)),
        Chart(x="step", y="sharpness, net", lines=net(SHARPNESS)),
        Chart(x="step", y="loss, net", lines=net(BATCH_LOSS), log_y=True),
        Chart(x="step", y="sharpness, digits", lines=tuple(line(name, SHARPNESS) for name in DIGITS)),
        Chart(x="step", y="loss, digits", lines=tuple(line(name, BATCH_LOSS) for name in DIGITS), log_y=True),
    )


CLAIM = Claim(
    name="normalized",
    summary="Normalised gradient descent and gradient descent on sqrt(L) jump across the minima and drift to flatter ones.",
    source="Arora, Li and Panigrahi (2022), arXiv 2205.09745",
    cost="13 runs, 70 s of processor time: under a minute on two cores.",
    runs=RUNS,
    statements=STATEMENTS,
    charts=_charts,
)
