"""The stochastic edge: with small batches training stands where the noise kernel norm K, not the sharpness, is near 1.

Small tanh nets (3072-64-64-C) on 1,000 CIFAR-10 images, plain SGD with lr 0.01 unless said otherwise; C = 1 output of +1 or -1, or the
ten classes. A plateau is the mean over the last third of a run's steps.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from eos_tui.claims.statements import Bounds, Claim, Finding, PlannedRun, Runs, Statement, worst
from eos_tui.evidence import (
    BATCH_RATIO,
    KERNEL,
    KERNEL_BOUND,
    KERNEL_TRACE,
    MEAN_SQUARE_RATIO,
    MEASURED_LOSS,
    RATIO,
    SHARPNESS,
    TRACE,
    Evidence,
    Measured,
    Quantity,
    over,
    spread,
)
from eos_tui.figures import Chart, Line

AGARWALA = "Agarwala and Pennington (2024), abstract, arXiv 2404.19261"
COHEN = "Cohen et al. (2021), arXiv 2103.00065"
MULAYOFF = "Mulayoff and Michaeli (2023), Theorem 3, arXiv 2306.07850"
ANDREYEV = "Andreyev and Beneventano (2024), arXiv 2412.20553"
DERIVED = "derived"

ONE = {1: 48000, 2: 12000, 4: 12000, 8: 12000, 16: 6000, 32: 4000, 1000: 2000}
"""Steps by batch size, one output: long enough for a plateau."""
TEN = {1: 24000, 2: 24000, 4: 24000, 8: 24000, 16: 24000, 1000: 1500}
"""The same for ten outputs; the same number for all small batches, as the trace goes on to creep up."""
CROSS_ENTROPY = {1: 16000, 4: 16000, 16: 4000, 64: 4000}
"""The same for ten outputs and cross-entropy, with lr 0.02."""
COLLAPSE = {1: 0.0025, 2: 0.005, 4: 0.01, 8: 0.02}
"""Learning rates by batch size that have lr / B in common."""
TIMES = (10, 40, 120)
"""Values of lr x steps at which these are compared."""
EARLY = 2000
"""Step at which conservative sharpening is looked at: lr x steps = 20."""
DROP_STEP = 3000
"""Step at which the learning rate is divided by 4."""
EXPELLED_STEP = 3000
"""Up to here the trace is looked at for what K at the start does to it."""
NUM_OUTPUTS = 10


def _one(batch: int) -> str:
    return f"one-b{batch}"


def _ten(batch: int) -> str:
    return f"ten-b{batch}"


def _ce(batch: int) -> str:
    return f"ce-b{batch}"


def _collapse(batch: int) -> str:
    return _one(batch) if COLLAPSE[batch] == COLLAPSE[4] else f"collapse-b{batch}"


def _planned(name: str, config: str, *, batch: int, steps: int, every: int | None = None, **keys: float | str) -> PlannedRun:
    """A run of a spec with another batch size and number of steps, measured every so many, and further keys with `__` for the dot."""
    given = {"optimizer.batch_size": batch, "run.steps": steps}
    if every is not None:
        given |= {"measure.sharpness_every": every, "measure.ntk_every": every}
    changed = given | {key.replace("__", "."): value for key, value in keys.items()}
    return PlannedRun(name=name, config=config, overrides=tuple(f"{key}={value}" for key, value in changed.items()))


def _runs() -> Iterable[PlannedRun]:
    """The full batches first: they take longest, and nothing should be left to wait for them at the end."""
    yield _planned(_ten(1000), "ten-outputs", batch=1000, steps=TEN[1000], every=100, measure__ntk_every=500)
    yield _planned(_one(1000), "one-output", batch=1000, steps=ONE[1000], every=100, measure__ntk_every=500)
    for batch, steps in CROSS_ENTROPY.items():
        yield _planned(_ce(batch), "cross-entropy", batch=batch, steps=steps, every=1000 if steps > 4000 else 500)
    for batch in (4, 8, 16, 1, 2, 32):
        exact: dict[str, Any] = {"measure__mean_square_every": ONE[batch], "measure__tolerance": 1e-3} if batch in (4, 8, 16) else {}
        every = 2000 if batch == 1 else None
        batch_every = 1000 if batch >= 16 else 2000
        yield _planned(
            _one(batch), "one-output", batch=batch, steps=ONE[batch], every=every, measure__batch_sharpness_every=batch_every, **exact
        )
    for batch in (1, 2, 4, 8, 16):
        yield _planned(_ten(batch), "ten-outputs", batch=batch, steps=TEN[batch])
    for batch, lr in COLLAPSE.items():
        if batch != 4:
            every = round(TIMES[0] / lr)
            steps = round(TIMES[-1] / lr)
            yield _planned(_collapse(batch), "one-output", batch=batch, steps=steps, every=every, optimizer__lr=lr)
    yield _planned(
        "momentum", "one-output", batch=4, steps=12000, optimizer__name="heavy_ball", optimizer__momentum=0.9, optimizer__lr=0.001
    )
    drop = f'{{kind="piecewise",values=[0.01,0.0025],boundaries=[{DROP_STEP}]}}'
    yield _planned("lr-drop", "one-output", batch=4, steps=12000, optimizer__lr=drop)


def _each(batches: Iterable[int], name: Callable[[int], str], value: Callable[[Evidence], Measured], runs: Runs) -> dict[str, Measured]:
    """A number of each run of a sweep, by its batch size."""
    return {f"B={batch}": value(runs[name(batch)]) for batch in batches}


def _plateau(quantity: Quantity) -> Callable[[Evidence], Measured]:
    return lambda run: run.plateau(quantity)


def _numbers(values: Mapping[str, Measured]) -> dict[str, float]:
    return {name: measured.value for name, measured in values.items()}


def _scaled(measured: Measured, factor: float) -> Measured:
    return Measured(measured.value * factor, None if measured.error is None else measured.error * factor)


def _conservative_sharpening(runs: Runs) -> Finding:
    found = _each(ONE, _one, lambda run: run.at(SHARPNESS, EARLY), runs)
    growths = [over(larger, smaller) for smaller, larger in pairwise(found.values())]
    return Finding(min(growths, key=lambda growth: growth.value), _numbers(found))


def _full_batch(name: str) -> Callable[[Runs], Finding]:
    def find(runs: Runs) -> Finding:
        found = runs[name].plateau(RATIO)
        return Finding(found, {"first": runs[name].at(RATIO, 0).value, "plateau": found.value})

    return find


def _trace_has_no_say(runs: Runs) -> Finding:
    one, ten = runs[_one(1000)], runs[_ten(1000)]
    traces = {"trace, C=1": one.last(TRACE).value, "trace, C=10": ten.last(TRACE).value}
    ratios = {"sharpness ratio, C=1": one.plateau(RATIO).value, "sharpness ratio, C=10": ten.plateau(RATIO).value}
    return Finding(spread([one.plateau(RATIO), ten.plateau(RATIO)]), traces | ratios)


def _fitted(runs: Runs) -> Finding:
    def share(run: Evidence) -> Measured:
        return over(run.plateau(MEASURED_LOSS), run.at(MEASURED_LOSS, 0))

    return worst(_each((1, 2, 4, 8), _one, share, runs), Bounds(high=0.5))


def _doublings(runs: Runs) -> dict[str, Measured]:
    traces = [runs[_ten(batch)].plateau(TRACE) for batch in (1, 2, 4, 8, 16)]
    return {f"B={2**k} to {2 ** (k + 1)}": over(traces[k + 1], traces[k]) for k in range(4)}


def _proportional(runs: Runs) -> Finding:
    factors = _doublings(runs)
    return worst({name: factor for name, factor in factors.items() if not name.endswith("16")}, Bounds(2.1, 2.4))


def _saturating(runs: Runs) -> Finding:
    *growing, last = _doublings(runs).values()
    return Finding(over(last, min(growing, key=lambda factor: factor.value)), _numbers(_doublings(runs)))


def _spread_of(quantity: Quantity) -> Callable[[Runs], Finding]:
    def find(runs: Runs) -> Finding:
        values = _each((2, 4, 8, 16), _one, _plateau(quantity), runs)
        return Finding(spread(list(values.values())), _numbers(values))

    return find


def _mean_square(runs: Runs) -> Finding:
    def distance(run: Evidence) -> Measured:
        return over(Measured(1.0), run.last(MEAN_SQUARE_RATIO))

    return worst(_each((4, 8, 16), _one, distance, runs), Bounds(1.0, 1.15))


def _collapsed(time: int) -> Callable[[Runs], Finding]:
    def find(runs: Runs) -> Finding:
        found = {
            name: {f"{name}, B={batch}": runs[_collapse(batch)].at(quantity, round(time / lr)) for batch, lr in COLLAPSE.items()}
            for name, quantity in (("trace", TRACE), ("K", KERNEL))
        }
        spreads = [spread(list(values.values())) for values in found.values()]
        return Finding(max(spreads, key=lambda each: each.value), {k: v for values in found.values() for k, v in _numbers(values).items()})

    return find


def _momentum(runs: Runs) -> Finding:
    quantities = {"trace": TRACE, "K": KERNEL, "sharpness": SHARPNESS}
    ratios = {name: over(runs["momentum"].plateau(quantity), runs[_one(4)].plateau(quantity)) for name, quantity in quantities.items()}
    return worst(ratios, Bounds(0.9, 1.1))


def _growth(name: str, quantities: Mapping[str, Quantity], bounds: Bounds) -> Callable[[Runs], Finding]:
    """How many times its value at the drop a quantity has at the end."""

    def find(runs: Runs) -> Finding:
        run = runs[name]
        return worst({words: over(run.last(quantity), run.at(quantity, DROP_STEP)) for words, quantity in quantities.items()}, bounds)

    return find


def _kernel_at_drop(runs: Runs) -> Finding:
    after, before = runs["lr-drop"].at(KERNEL, DROP_STEP), runs[_one(4)].at(KERNEL, DROP_STEP)
    return Finding(over(after, before), {"before": before.value, "after": after.value})


def _sums(runs: Runs) -> Finding:
    one, ten = runs[_one(4)].plateau(KERNEL), _scaled(runs[_ten(4)].plateau(KERNEL), NUM_OUTPUTS)
    return Finding(over(ten, one), {"K, C=1": one.value, "K summed, C=10": ten.value})


def _bounds_agree(runs: Runs) -> Finding:
    one, ten = runs[_one(4)].plateau(KERNEL_BOUND), runs[_ten(4)].plateau(KERNEL_BOUND)
    return Finding(over(ten, one), {"K_MM, C=1": one.value, "K_MM, C=10": ten.value})


def _peak(batch: int, *, since: int = 0) -> Callable[[Runs], Finding]:
    def find(runs: Runs) -> Finding:
        found = max(runs[_ce(batch)].since(KERNEL, since), key=lambda measured: measured.value)
        return Finding(found, {"peak": found.value, "last": runs[_ce(batch)].last(KERNEL).value})

    return find


def _hovering(runs: Runs) -> Finding:
    values = {f"step {step}": found for step, found in runs[_ce(1)].all(KERNEL).items() if step > 0}
    return worst(values, Bounds(0.98, 1.5))


def _falling(runs: Runs) -> Finding:
    shares = {}
    for batch in (4, 16, 64):
        found = runs[_ce(batch)].all(KERNEL).values()
        shares[f"B={batch}"] = over(runs[_ce(batch)].last(KERNEL), max(found, key=lambda measured: measured.value))
    return worst(shares, Bounds(high=0.5))


def _highest_ratio(runs: Runs) -> Finding:
    def highest(run: Evidence) -> Measured:
        return max(run.all(RATIO).values(), key=lambda measured: measured.value)

    return worst(_each(CROSS_ENTROPY, _ce, highest, runs), Bounds(high=0.55))


def _expelled(name: str) -> Callable[[Runs], Finding]:
    """The first trace over the smallest of the first 3,000 steps."""

    def find(runs: Runs) -> Finding:
        early = [trace for step, trace in runs[name].all(TRACE).items() if step <= EXPELLED_STEP]
        smallest = min(early, key=lambda measured: measured.value)
        values = {"K at first": runs[name].at(KERNEL, 0).value, "first trace": early[0].value, "smallest": smallest.value}
        return Finding(over(early[0], smallest), values)

    return find


def _smooth(runs: Runs) -> Finding:
    """The smallest growth of the trace from one measurement of the first steps to the next, where K begins far below 1."""
    growths = {}
    for batch in (16, 32):
        early = [trace for step, trace in runs[_one(batch)].all(TRACE).items() if step <= EXPELLED_STEP]
        growths[f"B={batch}"] = min((over(b, a) for a, b in pairwise(early)), key=lambda growth: growth.value)
    return worst(growths, Bounds(low=1))


def _names(batches: Iterable[int], name: Callable[[int], str]) -> tuple[str, ...]:
    return tuple(name(batch) for batch in batches)


STATEMENTS = (
    Statement(
        claim="Conservative sharpening: at the same lr x steps the sharpness is the higher the larger the batch; from one batch size to "
        "the next it grows by at least the factor measured (one output, lr x steps = 20).",
        source=AGARWALA,
        runs=_names(ONE, _one),
        tolerance=Bounds(low=1),
        find=_conservative_sharpening,
    ),
    Statement(
        claim="With the full batch the sharpness goes to 2/lr: its plateau over 2/lr, ten outputs.",
        source=COHEN,
        runs=(_ten(1000),),
        tolerance=Bounds(1.0, 1.03),
        find=_full_batch(_ten(1000)),
    ),
    Statement(
        claim="The same for one output.",
        source=COHEN,
        runs=(_one(1000),),
        tolerance=Bounds(1.0, 1.03),
        find=_full_batch(_one(1000)),
        otherwise="Past its first overshoot rounding decides how the run comes back to the edge: the same spec has come to 0.99 as well.",
    ),
    Statement(
        claim="With the full batch the trace has no say: the same sharpness over 2/lr for one and ten outputs, whose traces differ "
        "several-fold.",
        source=AGARWALA,
        runs=(_one(1000), _ten(1000)),
        tolerance=Bounds(high=1.1),
        find=_trace_has_no_say,
    ),
    Statement(
        claim="Stochastic edge: up to B = 8 the sharpness stays well below 2/lr (plateau over 2/lr, one output).",
        source=AGARWALA,
        runs=_names((1, 2, 4, 8), _one),
        tolerance=Bounds(high=0.7),
        find=lambda runs: worst(_each((1, 2, 4, 8), _one, _plateau(RATIO), runs), Bounds(high=0.7)),
    ),
    Statement(
        claim="And not because training has come to rest: these runs go on to fit (loss at the plateau over the first loss).",
        source=AGARWALA,
        runs=_names((1, 2, 4, 8), _one),
        tolerance=Bounds(high=0.5),
        find=_fitted,
    ),
    Statement(
        claim="At small batches the plateau of the NTK trace is in proportion to B: its factor from each batch size to twice that, ten "
        "outputs, up to B = 8.",
        source=DERIVED,
        runs=_names((1, 2, 4, 8, 16), _ten),
        tolerance=Bounds(2.1, 2.4),
        find=_proportional,
        otherwise="The crossover batch of these runs is near 5, so that from 4 to 8 the other edge has a say already.",
    ),
    Statement(
        claim="Then it saturates: the factor from 8 to 16 over the smallest of those before.",
        source=DERIVED,
        runs=_names((1, 2, 4, 8, 16), _ten),
        tolerance=Bounds(high=1),
        find=_saturating,
    ),
    Statement(
        claim="The plateau of K does not depend on the batch size: largest over smallest for B = 2 to 16, one output.",
        source=DERIVED,
        runs=_names((2, 4, 8, 16), _one),
        tolerance=Bounds(high=1.25),
        find=_spread_of(KERNEL),
    ),
    Statement(
        claim="While the plateau of the sharpness does.",
        source=DERIVED,
        runs=_names((2, 4, 8, 16), _one),
        tolerance=Bounds(low=5),
        find=_spread_of(SHARPNESS),
    ),
    Statement(
        claim="The trace part of K alone would not say so: its largest over its smallest plateau.",
        source=DERIVED,
        runs=_names((2, 4, 8, 16), _one),
        tolerance=Bounds(low=1.25),
        find=_spread_of(KERNEL_TRACE),
    ),
    Statement(
        claim="The runs stand at the exact edge of mean-square stability: the learning rate at which it lies, at the end of the run, over "
        "the run's, for B = 4, 8 and 16, one output.",
        source=MULAYOFF,
        runs=_names((4, 8, 16), _one),
        tolerance=Bounds(1.0, 1.15),
        find=_mean_square,
    ),
    *(
        Statement(
            claim=f"Only lr / B counts: trace and K at lr x steps = {time} for lr 0.0025 to 0.02 and B = 1 to 8, largest over smallest.",
            source=DERIVED,
            runs=_names(COLLAPSE, _collapse),
            tolerance=Bounds(high=1.15),
            find=_collapsed(time),
            otherwise="This early the trace grows two-fold within lr x steps = 5, and which examples came first shifts it in time."
            if time == TIMES[0]
            else "",
        )
        for time in TIMES
    ),
    Statement(
        claim="Heavy ball with momentum 0.9 and lr 0.001 is SGD with lr 0.01: plateaus of trace, K (each in its own form) and sharpness, "
        "one over the other, B = 4.",
        source=DERIVED,
        runs=("momentum", _one(4)),
        tolerance=Bounds(0.9, 1.1),
        find=_momentum,
        otherwise="The top eigenvalue depends on lr itself as well: with the same lr / B it comes to 52 at lr 0.0025 and to 42 at lr "
        "0.02, and heavy ball's small lr is like the former.",
    ),
    Statement(
        claim="The learning rate divided by 4 lifts the edge: sharpness and trace grow again (end over the value at the drop, B = 4).",
        source=DERIVED,
        runs=("lr-drop",),
        tolerance=Bounds(low=1.5),
        find=_growth("lr-drop", {"sharpness": SHARPNESS, "trace": TRACE}, Bounds(low=1.5)),
    ),
    Statement(
        claim="Without the drop they hardly move over the same steps.",
        source=DERIVED,
        runs=(_one(4),),
        tolerance=Bounds(high=1.25),
        find=_growth(_one(4), {"sharpness": SHARPNESS, "trace": TRACE}, Bounds(high=1.25)),
    ),
    Statement(
        claim="At the drop K falls to a quarter.",
        source=DERIVED,
        runs=("lr-drop", _one(4)),
        tolerance=Bounds(0.2, 0.3),
        find=_kernel_at_drop,
    ),
    Statement(
        claim="And climbs again (end over the value at the drop).",
        source=DERIVED,
        runs=("lr-drop",),
        tolerance=Bounds(low=1.5),
        find=_growth("lr-drop", {"K": KERNEL}, Bounds(low=1.5)),
    ),
    Statement(
        claim="K as a sum over outputs is several times as large for ten outputs as for one at the plateau, B = 4.",
        source=DERIVED,
        runs=(_one(4), _ten(4)),
        tolerance=Bounds(low=2.5),
        find=_sums,
    ),
    Statement(
        claim="The bound K_MM, which holds for any number of outputs, agrees (ten outputs over one, B = 4).",
        source=DERIVED,
        runs=(_one(4), _ten(4)),
        tolerance=Bounds(0.75, 1.25),
        find=_bounds_agree,
    ),
    Statement(
        claim="Batch sharpness rises to 2/lr for every batch size: its plateau over 2/lr, B = 1 to 32, one output.",
        source=ANDREYEV,
        runs=_names((1, 2, 4, 8, 16, 32), _one),
        tolerance=Bounds(0.65, 1.0),
        find=lambda runs: worst(_each((1, 2, 4, 8, 16, 32), _one, _plateau(BATCH_RATIO), runs), Bounds(0.65, 1.0)),
        otherwise="With single examples and one output it is the NTK trace, up to the residual's share, and so over 2/lr it is K: with B "
        "= 1 both stay near 0.5.",
    ),
    Statement(
        claim="While the sharpness goes from far below its edge, at B = 1, ...",
        source=ANDREYEV,
        runs=(_one(1),),
        tolerance=Bounds(high=0.1),
        find=lambda runs: worst(_each((1,), _one, _plateau(RATIO), runs), Bounds(high=0.1)),
    ),
    Statement(
        claim="... to near it, at B = 32 (plateau over 2/lr).",
        source=ANDREYEV,
        runs=(_one(32),),
        tolerance=Bounds(0.9, 1.1),
        find=lambda runs: worst(_each((32,), _one, _plateau(RATIO), runs), Bounds(0.9, 1.1)),
    ),
    Statement(
        claim="Cross-entropy with B = 1: K, from the Gauss-Newton matrix, stays near 1 while the loss is far from fitted (each "
        "measurement).",
        source=DERIVED,
        runs=(_ce(1),),
        tolerance=Bounds(0.98, 1.5),
        find=_hovering,
        otherwise="K comes down from above 3 within the first 1,000 steps, and falls short at first.",
    ),
    Statement(
        claim="Cross-entropy with B = 4: after the first steps K peaks near 1.",
        source=DERIVED,
        runs=(_ce(4),),
        tolerance=Bounds(1.0, 1.2),
        find=_peak(4, since=1000),
    ),
    Statement(
        claim="Cross-entropy with B = 16: K peaks lower.",
        source=DERIVED,
        runs=(_ce(16),),
        tolerance=Bounds(0.4, 0.55),
        find=_peak(16),
    ),
    Statement(
        claim="Cross-entropy with B = 64: and lower.",
        source=DERIVED,
        runs=(_ce(64),),
        tolerance=Bounds(0.13, 0.2),
        find=_peak(64),
    ),
    Statement(
        claim="With cross-entropy K falls again once the examples are fitted: last over peak for B = 4, 16 and 64.",
        source=DERIVED,
        runs=_names((4, 16, 64), _ce),
        tolerance=Bounds(high=0.5),
        find=_falling,
    ),
    Statement(
        claim="With cross-entropy the sharpness never comes to 2/lr here: its highest value over 2/lr for B = 1 to 64.",
        source=DERIVED,
        runs=_names(CROSS_ENTROPY, _ce),
        tolerance=Bounds(high=0.55),
        find=_highest_ratio,
        otherwise="It stays below the edge all the same.",
    ),
    Statement(
        claim="A K above 1 at the start is expelled at once: the first trace over the smallest within 3,000 steps, ten outputs, B = 1 (K "
        "per output).",
        source=DERIVED,
        runs=(_ten(1),),
        tolerance=Bounds(low=5),
        find=_expelled(_ten(1)),
    ),
    Statement(
        claim="The same with cross-entropy, B = 1.",
        source=DERIVED,
        runs=(_ce(1),),
        tolerance=Bounds(low=5),
        find=_expelled(_ce(1)),
        otherwise="The trace falls until K is near 1, and from where K begins that is less far.",
    ),
    Statement(
        claim="A K far below 1 lets the trace grow from the start: the smallest factor between measurements, B = 16 and 32, one output.",
        source=DERIVED,
        runs=(_one(16), _one(32)),
        tolerance=Bounds(low=1),
        find=_smooth,
    ),
)


def _lines(batches: Iterable[int], name: Callable[[int], str], quantity: Quantity, runs: Runs) -> tuple[Line, ...]:
    return tuple(
        Line(f"B={batch}", [(step, measured.value) for step, measured in runs[name(batch)].all(quantity).items()]) for batch in batches
    )


def _charts(runs: Runs) -> Sequence[Chart]:
    small = (1, 2, 4, 8, 16, 32)
    edge = ((1.0, "edge"),)
    plateaus = [
        Line(words, [(batch, runs[_one(batch)].plateau(quantity).value) for batch in small])
        for words, quantity in (
            ("K", KERNEL),
            ("trace part of K", KERNEL_TRACE),
            ("sharpness / (2/lr)", RATIO),
            ("batch sharpness / (2/lr)", BATCH_RATIO),
        )
    ]
    return (
        Chart(x="step", y="sharpness / (2/lr), one output", lines=_lines(ONE, _one, RATIO, runs), references=edge),
        Chart(x="step", y="K, one output", lines=_lines(small, _one, KERNEL, runs), references=edge),
        Chart(x="batch size", y="plateau, one output", lines=tuple(plateaus), references=edge, log_x=True),
        Chart(x="step", y="K, cross-entropy", lines=_lines(CROSS_ENTROPY, _ce, KERNEL, runs), references=edge),
    )


CLAIM = Claim(
    name="stochastic-edge",
    summary="With small batches the sharpness stays far below 2/lr, and the noise kernel norm K stands at an edge of its own.",
    source="Agarwala and Pennington (2024), arXiv 2404.19261, with formulas derived here",
    cost="22 runs, 900 s of processor time: eight to twelve minutes on two cores; needs CIFAR-10 ($EOS_DATA).",
    runs=tuple(_runs()),
    statements=STATEMENTS,
    charts=_charts,
)
