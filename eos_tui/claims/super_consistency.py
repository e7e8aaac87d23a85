"""What of training does not depend on width and depth under muP and Depth-muP, and does under NTP and SP.

Relu nets 64-N-N-10 on digits, without biases; residual ones of L branches; linear nets of two layers, whose sharpness is known. A width's
best learning rate is that of the lowest loss on all training examples after 100 steps, on a grid of powers of two.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from eos_tui.claims.evidence import RATIO, SHARPNESS, Evidence, Measured, NotMeasuredError, Quantity, mean, over, spread
from eos_tui.claims.statements import Bounds, Chart, Claim, Finding, Line, PlannedRun, Runs, Statement, worst
from eos_tui.snapshot import Status

NOCI = "Noci et al. (2024), arXiv 2402.17457"
YANG = "Yang et al. (2022), arXiv 2203.03466"
DERIVED = "derived"
TRAIN_LOSS = Quantity("metrics", "values.train_loss")
EDGE_WIDTHS, EDGE_RATES = (128, 256, 512), (1.5, 2.0)
LAZY_WIDTHS = (32, 128, 512)
WIDTHS, SEEDS = (64, 256, 1024), (0, 1, 2)
"""Of nets trained with cross-entropy in batches of 128."""
LINEAR_WIDTHS = (128, 512)
FEATURES = 20
"""Inputs of the linear nets."""
DEPTHS: tuple[int, ...] = (2, 8, 32)
HIDDEN = ("layer_0", "layer_1")
SWEEPS: Mapping[str, tuple[tuple[str, ...], tuple[int, ...], tuple[float, ...]]] = {
    "mup": (("optimizer.name=sgd",), (32, 128, 512), (1, 2, 4, 8)),
    "ntp": (("model.parametrization=ntp",), (32, 128, 512), (16, 32, 64, 128, 256, 512)),
    "adam-mup": (("optimizer.name=adam",), WIDTHS, (2**-9, 2**-8, 2**-7, 2**-6, 2**-5)),
    "adam-sp": (("optimizer.name=adam", "model.parametrization=sp"), WIDTHS, (2**-10, 2**-9, 2**-8, 2**-7, 2**-6, 2**-5)),
}
"""By name: what is changed, widths, learning rates."""
DEPTH_SWEEPS: Mapping[str, tuple[float, tuple[float, ...]]] = {
    "depth-half": (0.5, (0.5, 1, 2, 4)),
    "depth-none": (0.0, (0.0625, 0.125, 0.25, 0.5, 1, 2)),
}
"""By name: the exponent and learning rates."""
CHECKS: Mapping[str, tuple[str, ...]] = {
    "mup": ("optimizer.lr=2",),
    "ntp": ("model.parametrization=ntp", "optimizer.lr=16"),
    "adam-mup": ("optimizer.name=adam", "optimizer.lr=0.02"),
    "adam-sp": ("optimizer.name=adam", "optimizer.lr=0.02", "model.parametrization=sp"),
}
"""Coordinate checks, by name: what is changed."""
CROSS_ENTROPY = ("objective.name=cross_entropy", "optimizer.batch_size=128", "data.num_train=1500")
QUIET = ("measure.sharpness_every=0",)
FLAT = Bounds(-0.1, 0.1)
"""Of the slope of log change against log width."""


def _edge(lr: float, width: int) -> str:
    return f"edge-lr{lr:g}-n{width}"


def _lazy(width: int) -> str:
    return f"lazy-n{width}"


def _noisy(form: str, width: int, seed: int) -> str:
    return f"{form}-n{width}-seed{seed}"


def _point(sweep: str, size: int, lr: float) -> str:
    return f"{sweep}-{size}-lr{lr:g}"


def _check(name: str, width: int) -> str:
    return f"check-{name}-n{width}"


def _linear(form: str, width: int) -> str:
    return f"linear-{form}-n{width}"


def _planned(name: str, *overrides: str, config: str = "digits-relu", width: int | None = None) -> PlannedRun:
    return PlannedRun(name=name, config=config, overrides=(*overrides, *((f"model.width={width}",) if width else ())))


def _noisy_run(form: str, lr: float, width: int, seed: int) -> PlannedRun:
    measured = ("run.steps=200", "measure.sharpness_every=50", "measure.num_examples=512", "measure.evaluate_every=100", f"run.seed={seed}")
    changed = (*CROSS_ENTROPY, *measured, f"model.parametrization={form}", f"optimizer.lr={lr}")
    return _planned(_noisy(form, width, seed), *changed, width=width)


def _swept(sweep: str, changed: Sequence[str], width: int, lr: float) -> PlannedRun:
    steps = ("run.steps=100", "measure.evaluate_every=100")
    return _planned(_point(sweep, width, lr), *CROSS_ENTROPY, *QUIET, *steps, *changed, f"optimizer.lr={lr}", width=width)


def _deep(sweep: str, exponent: float, depth: int, lr: float) -> PlannedRun:
    model = ("model.name=residual-mlp", f"model.depth={depth}", f"model.depth_exponent={exponent}", "model.hidden_scale=1")
    return replace(_swept(sweep, model, 128, lr), name=_point(sweep, depth, lr))


RUNS = tuple(
    sorted(
        [
            *(_planned(_edge(lr, width), f"optimizer.lr={lr}", width=width) for lr in EDGE_RATES for width in EDGE_WIDTHS),
            *(_planned(_lazy(width), "model.parametrization=ntp", "optimizer.lr=4", "run.steps=600", width=width) for width in LAZY_WIDTHS),
            *(_noisy_run(form, lr, width, seed) for form, lr in (("mup", 2), ("ntp", 16)) for width in WIDTHS for seed in SEEDS),
            *(_swept(sweep, changed, width, lr) for sweep, (changed, widths, rates) in SWEEPS.items() for width in widths for lr in rates),
            *(_deep(sweep, exponent, depth, lr) for sweep, (exponent, rates) in DEPTH_SWEEPS.items() for depth in DEPTHS for lr in rates),
            *(
                _planned(_check(name, width), *CROSS_ENTROPY, *QUIET, "run.steps=3", "measure.activations_every=3", *changed, width=width)
                for name, changed in CHECKS.items()
                for width in WIDTHS
            ),
            *(
                _planned(_linear(form, width), f"model.parametrization={form}", config="linear-net", width=width)
                for form in ("mup", "ntp")
                for width in LINEAR_WIDTHS
            ),
        ],
        key=lambda planned: -int(next((key.partition("=")[2] for key in planned.overrides if key.startswith("model.width=")), "0")),
    )
)


def _at_the_edge(runs: Runs) -> Finding:
    """The mean ratio to 2/lr of the second half of the steps, of each width and learning rate."""
    found = {name: mean(run.since(RATIO, run.snapshot.steps // 2)) for name, run in runs.items()}
    return worst(found, Bounds(0.95, 1.05))


def _spread_of_sharpness(runs: Runs) -> Finding:
    last = {name: run.last(SHARPNESS) for name, run in runs.items()}
    return Finding(spread(list(last.values())), {name: value.value for name, value in last.items()})


def _far_from_the_edge(runs: Runs) -> Finding:
    """The largest ratio to 2/lr of the widest net."""
    run = runs[_lazy(LAZY_WIDTHS[-1])]
    ratio = max(run.all(RATIO).values(), key=lambda measured: measured.value)
    return Finding(ratio, {"largest ratio": ratio.value})


def _sharpness_at(runs: Runs, form: str, width: int, step: int) -> Measured:
    return mean([runs[_noisy(form, width, seed)].at(SHARPNESS, step) for seed in SEEDS])


def _differs(form: str, widths: tuple[int, int], bounds: Bounds) -> Callable[[Runs], Finding]:
    """The ratio of the sharpness of two widths, mean over the seeds, that is farthest out."""

    def find(runs: Runs) -> Finding:
        narrow, wide = widths
        ratios = {
            f"step {step}": over(_sharpness_at(runs, form, narrow, step), _sharpness_at(runs, form, wide, step)) for step in (100, 150, 200)
        }
        return worst(ratios, bounds)

    return find


def _ordered(form: str, *, falls: bool) -> Callable[[Runs], Finding]:
    """The largest ratio of the loss of a width to that of the next narrower one, or the smallest, after 100 steps, mean over seeds."""

    def find(runs: Runs) -> Finding:
        losses = {width: mean([runs[_noisy(form, width, seed)].at(TRAIN_LOSS, 100) for seed in SEEDS]) for width in WIDTHS}
        ratios = {f"{wide} over {narrow}": over(losses[wide], losses[narrow]) for narrow, wide in pairwise(WIDTHS)}
        return worst(ratios, Bounds(high=1.0) if falls else Bounds(low=1.0))

    return find


def _best(runs: Runs, sweep: str, size: int, rates: Sequence[float]) -> float:
    """The learning rate of the lowest loss; one that diverged has none.

    Raises:
        NotMeasuredError: If all diverged.
    """
    losses = {lr: loss for lr in rates if (loss := _final_loss(runs[_point(sweep, size, lr)])) is not None}
    if not losses:
        raise NotMeasuredError(f"{sweep}: every learning rate diverged at {size}.")
    return min(losses, key=losses.__getitem__)


def _final_loss(run: Evidence) -> float | None:
    if run.snapshot.status is Status.DIVERGED:
        return None
    return run.last(TRAIN_LOSS).value


def _shift(sweep: str, sizes: Sequence[int], rates: Sequence[float]) -> Callable[[Runs], Finding]:
    """Grid steps between the smallest and the largest best learning rate."""

    def find(runs: Runs) -> Finding:
        best = {size: _best(runs, sweep, size, rates) for size in sizes}
        steps = math.log2(max(best.values()) / min(best.values()))
        return Finding(Measured(steps, None), {f"best at {size}": lr for size, lr in best.items()})

    return find


def _slopes(name: str) -> Callable[[Runs], Finding]:
    """Slope of log change against log width, of each hidden layer."""

    def find(runs: Runs) -> Finding:
        changes = {
            layer: [runs[_check(name, width)].last(Quantity("activations", f"changes.{layer}")).value for width in WIDTHS]
            for layer in HIDDEN
        }
        found = {layer: Measured(_slope(values), None) for layer, values in changes.items()}
        return worst(found, FLAT)

    return find


def _slope(values: Sequence[float]) -> float:
    xs, ys = [math.log(width) for width in WIDTHS], [math.log(value) for value in values]
    center = math.fsum(xs) / len(xs)
    return math.fsum((x - center) * y for x, y in zip(xs, ys, strict=True)) / math.fsum((x - center) ** 2 for x in xs)


def sharpness_at_the_start(strength: float) -> float:
    """1/D + sqrt(1/D^2 + strength / D): gamma^2 times the sharpness of a wide linear net as it starts.

    The net is f = x E V / (gamma sqrt(N D)) with V and E ~ N(0, 1), the loss (f - y)^2 / 2 on inputs with the identity as covariance and a
    target of length 1; strength = gamma^2 / N is what the features move with: 1 under muP, 0 under NTP. Derived: at f = 0 the Hessian
    is G + R, G of rank D with eigenvalues 2/D, R that couples E and V with |target| sqrt(strength / D).
    """
    return 1 / FEATURES + math.sqrt(1 / FEATURES**2 + strength / FEATURES)


def sharpness_at_the_end(strength: float) -> float:
    """(2/D) sqrt(1 + D strength): the same where the target is learnt. Derived from what gradient flow conserves, E E^T / N - V V^T / N."""
    return 2 / FEATURES * math.sqrt(1 + FEATURES * strength)


def _linear_end(form: str, strength: float) -> Callable[[Runs], Finding]:
    def find(runs: Runs) -> Finding:
        predicted = sharpness_at_the_end(strength)
        found = {f"N = {width}": over(runs[_linear(form, width)].last(SHARPNESS), Measured(predicted)) for width in LINEAR_WIDTHS}
        return worst(found, Bounds(0.97, 1.03))

    return find


def _linear_growth(runs: Runs) -> Finding:
    """The last sharpness over the first, which is lower under NTP at any width."""
    found = {
        f"{form}, N = {width}": over(runs[_linear(form, width)].last(SHARPNESS), runs[_linear(form, width)].at(SHARPNESS, 0))
        for form in ("mup", "ntp")
        for width in LINEAR_WIDTHS
    }
    least_mup = min(value.value for name, value in found.items() if name.startswith("mup"))
    most_ntp = max(value.value for name, value in found.items() if name.startswith("ntp"))
    return Finding(Measured(least_mup / most_ntp, None), {name: value.value for name, value in found.items()})


def _names(sweep: str) -> tuple[str, ...]:
    if sweep in DEPTH_SWEEPS:
        return tuple(_point(sweep, depth, lr) for depth in DEPTHS for lr in DEPTH_SWEEPS[sweep][1])
    _, widths, rates = SWEEPS[sweep]
    return tuple(_point(sweep, width, lr) for width in widths for lr in rates)


def _transfer(sweep: str, claim: str, bounds: Bounds, *, source: str = NOCI, otherwise: str = "") -> Statement:
    if sweep in DEPTH_SWEEPS:
        sizes, rates = DEPTHS, DEPTH_SWEEPS[sweep][1]
    else:
        _, sizes, rates = SWEEPS[sweep]
    return Statement(
        claim=f"{claim} (grid steps between the best of the sizes)",
        source=source,
        runs=_names(sweep),
        tolerance=bounds,
        find=_shift(sweep, sizes, rates),
        may_diverge=True,
        otherwise=otherwise,
    )


def _flatness(name: str, claim: str, bounds: Bounds) -> Statement:
    runs = tuple(_check(name, width) for width in WIDTHS)
    return Statement(claim=claim, source=YANG, runs=runs, tolerance=bounds, find=_slopes(name))


STATEMENTS = (
    Statement(
        claim="Under muP the sharpness, times gamma^2, stands at 2/lr at every width (ratio, second half of the steps).",
        source=NOCI,
        runs=tuple(_edge(lr, width) for lr in EDGE_RATES for width in EDGE_WIDTHS),
        tolerance=Bounds(0.95, 1.05),
        find=_at_the_edge,
    ),
    Statement(
        claim="Under NTP it does not agree across widths (largest over smallest at the end) ...",
        source=NOCI,
        runs=tuple(map(_lazy, LAZY_WIDTHS)),
        tolerance=Bounds(low=1.8),
        find=_spread_of_sharpness,
    ),
    Statement(
        claim="... and that of the widest net never comes near 2/lr.",
        source=NOCI,
        runs=(_lazy(LAZY_WIDTHS[-1]),),
        tolerance=Bounds(high=0.9),
        find=_far_from_the_edge,
    ),
    Statement(
        claim="With cross-entropy and small batches the sharpness of muP nets of width 256 and 1,024 agrees (ratio, steps 100 to 200) ...",
        source=NOCI,
        runs=tuple(_noisy("mup", width, seed) for width in (256, 1024) for seed in SEEDS),
        tolerance=Bounds(0.75, 1.25),
        find=_differs("mup", (256, 1024), Bounds(0.75, 1.25)),
    ),
    Statement(
        claim="... while that of NTP nets falls with the width (64 over 1,024).",
        source=NOCI,
        runs=tuple(_noisy("ntp", width, seed) for width in (64, 1024) for seed in SEEDS),
        tolerance=Bounds(low=1.5),
        find=_differs("ntp", (64, 1024), Bounds(low=1.5)),
    ),
    Statement(
        claim="Under muP a wider net has no higher loss at the same learning rate (largest ratio of neighbouring widths, step 100) ...",
        source=NOCI,
        runs=tuple(_noisy("mup", width, seed) for width in WIDTHS for seed in SEEDS),
        tolerance=Bounds(high=1.0),
        find=_ordered("mup", falls=True),
    ),
    Statement(
        claim="... and under NTP it has a higher one (smallest ratio).",
        source=NOCI,
        runs=tuple(_noisy("ntp", width, seed) for width in WIDTHS for seed in SEEDS),
        tolerance=Bounds(low=1.0),
        find=_ordered("ntp", falls=False),
    ),
    _transfer("mup", "Under muP the best learning rate of SGD stays over the width", Bounds(high=1)),
    _transfer("ntp", "Under NTP it moves", Bounds(low=2)),
    _transfer("adam-mup", "Under muP the best learning rate of Adam stays over the width", Bounds(high=1), source=YANG),
    _transfer("adam-sp", "Under SP it moves", Bounds(low=2), source=YANG),
    _transfer("depth-half", "With branches times L^-1/2 the best learning rate stays over the depth", Bounds(high=1)),
    _transfer("depth-none", "Without that factor it moves", Bounds(low=2)),
    _flatness(
        "mup", "Coordinate check: what SGD changes of hidden layers in 3 steps does not depend on the width under muP (slope) ...", FLAT
    ),
    _flatness("ntp", "... and falls with it under NTP.", Bounds(-0.8, -0.4)),
    _flatness("adam-mup", "What Adam changes of them does not depend on it under muP ...", FLAT),
    Statement(
        claim="... and grows with it under SP (slope of the last hidden layer).",
        source=YANG,
        runs=tuple(_check("adam-sp", width) for width in WIDTHS),
        tolerance=Bounds(low=0.4),
        find=lambda runs: Finding(
            Measured(
                slope := _slope(
                    [runs[_check("adam-sp", width)].last(Quantity("activations", f"changes.{HIDDEN[-1]}")).value for width in WIDTHS]
                ),
                None,
            ),
            {"slope": slope},
        ),
    ),
    Statement(
        claim="A linear net of two layers ends at the sharpness (2/D) sqrt(1 + D) under muP (ratio) ...",
        source=DERIVED,
        runs=tuple(_linear("mup", width) for width in LINEAR_WIDTHS),
        tolerance=Bounds(0.97, 1.03),
        find=_linear_end("mup", 1.0),
    ),
    Statement(
        claim="... and sharpens more than under NTP, where features do not move (growth over growth).",
        source=NOCI,
        runs=tuple(_linear(form, width) for form in ("mup", "ntp") for width in LINEAR_WIDTHS),
        tolerance=Bounds(low=1.3),
        find=_linear_growth,
    ),
)


def _charts(runs: Runs) -> Sequence[Chart]:
    def sharpness(label: str, name: str) -> Line:
        return Line(label, [(step, value.value) for step, value in runs[name].all(SHARPNESS).items()])

    def swept(sweep: str, size: int, rates: Sequence[float]) -> Line:
        losses = ((lr, _final_loss(runs[_point(sweep, size, lr)])) for lr in rates)
        return Line(f"{sweep}, {size}", [(lr, loss) for lr, loss in losses if loss is not None])

    edge = tuple(sharpness(f"muP, N = {width}", _edge(EDGE_RATES[0], width)) for width in EDGE_WIDTHS)
    lazy = tuple(sharpness(f"NTP, N = {width}", _lazy(width)) for width in LAZY_WIDTHS)
    sweeps = [
        Chart(x="lr", y="loss after 100 steps", lines=tuple(swept(sweep, width, rates) for width in widths), log_x=True, log_y=True)
        for sweep, (_, widths, rates) in SWEEPS.items()
    ]
    return (
        Chart(x="step", y="sharpness", lines=edge, references=((2 / EDGE_RATES[0], "2/lr"),)),
        Chart(x="step", y="sharpness", lines=lazy, references=((0.5, "2/lr"),)),
        *sweeps,
    )


CLAIM = Claim(
    name="super-consistency",
    summary="Under muP sharpness and the best learning rate do not depend on the width, nor with L^-1/2 on the depth; else they do.",
    source=NOCI,
    cost="some 110 short runs, under ten minutes on two cores",
    runs=RUNS,
    statements=STATEMENTS,
    charts=_charts,
)
