"""The edge of stability of full-batch training: each optimizer's sharpness rises to its own threshold and stays there.

A tanh net 64-128-128-10 on 1,500 digits, squared error unless said otherwise; beside flows 64-32-32-10 on 200; beside the prediction of
its steps 1-8-1 on eight points of a polynomial, where one eigenvalue is at the edge alone. A plateau is the last third of a run's steps.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from eos_tui.claims.statements import Bounds, Claim, Finding, PlannedRun, Runs, Statement, worst
from eos_tui.evidence import (
    BATCH_LOSS,
    PRECONDITIONED_RATIO,
    RATIO,
    SHARPNESS,
    Evidence,
    Measured,
    NotMeasuredError,
    Quantity,
    mean_over_time,
    over,
)
from eos_tui.figures import Chart, Line

COHEN_2021 = "Cohen et al. (2021), arXiv 2103.00065"
COHEN_2022 = "Cohen et al. (2022), abstract, arXiv 2207.14484"
DAMIAN = "Damian, Nichani and Lee (2022), arXiv 2209.15594"
COHEN_2024 = "Cohen et al. (2024), arXiv 2410.24206"
LONG = "Long and Bartlett (2023), arXiv 2309.12488"
LR = {"gd": 0.3, "gd-half": 0.15, "heavy-ball": 0.3, "nesterov": 0.1, "adam": 0.002, "rmsprop": 0.0005, "sam": 0.2, "cross-entropy": 2.0}
AT_THE_EDGE = Bounds(0.9, 1.15)
"""Of a threshold of 2/lr: sharpness x lr from 1.8 to 2.3."""
EDGES: Mapping[str, tuple[str, str, Quantity]] = {
    "gd": ("Gradient descent's sharpness over 2/lr", COHEN_2021, RATIO),
    "heavy-ball": ("Heavy ball's sharpness over (2+2b)/lr", COHEN_2021, RATIO),
    "nesterov": ("Nesterov's sharpness over (2+2b)/(lr(1+2b))", COHEN_2021, RATIO),
    "adam": ("Adam's preconditioned sharpness over (2+2b1)/((1-b1)lr) = 38/lr", COHEN_2022, PRECONDITIONED_RATIO),
    "rmsprop": ("RMSProp's preconditioned sharpness over 2/lr", COHEN_2022, PRECONDITIONED_RATIO),
    "sam": ("SAM's sharpness over its edge, which moves with the norm of the gradient,", LONG, RATIO),
}
"""By run: what stands at its threshold, who says so, and where the log has it."""
AVERAGED_LOSS = Quantity("flow", "averaged_loss")
"""A central flow's prediction of gradient descent's average loss."""
PREDICTED_LOSS, PREDICTED_SHARPNESS = Quantity("prediction", "loss"), Quantity("prediction", "sharpness")
CYCLE = "self-stabilization"
"""Gradient descent at its edge, and the prediction of some seventy steps: a cycle."""
HALF = Bounds(high=0.5)
"""Of the size of what is predicted, its error."""
SMALL, GRADIENT, CENTRAL = "small-gd", "gradient-flow", "central-flow"
"""Runs of the smaller net: gradient descent, and the flows from its start, a step as long as one of its own."""
SAME = Bounds(0.9, 1.1)
"""Of a flow's number over gradient descent's."""
WINDOW = 50
"""Steps that gradient descent is averaged over, to be held against the central flow."""


def _planned(name: str, *, steps: int, **keys: float | str) -> PlannedRun:
    """A run of the digits' spec with the learning rate of that name, and further keys with `__` for the dot."""
    changed = {"optimizer.lr": LR[name], "run.steps": steps} | {key.replace("__", "."): value for key, value in keys.items()}
    return PlannedRun(name=name, config="digits", overrides=tuple(f"{key}={value}" for key, value in changed.items()))


def _beside(name: str, kind: str) -> PlannedRun:
    """A flow beside the run of the smaller net."""
    return PlannedRun(name=name, config="small-digits", overrides=("runner=flow", f"flow.kind={kind}"))


RUNS = (
    _beside(CENTRAL, "central"),
    _planned("gd-half", steps=1800),
    _planned("rmsprop", steps=900, optimizer__name="rmsprop"),
    _planned("adam", steps=900, optimizer__name="adam"),
    _planned("sam", steps=900, optimizer__name="sam"),
    _planned("gd", steps=1500),
    _planned("nesterov", steps=1200, optimizer__name="nesterov"),
    _planned("heavy-ball", steps=1200, optimizer__name="heavy_ball"),
    _planned("cross-entropy", steps=300, objective__name="cross_entropy", measure__sharpness_every=5),
    _beside(GRADIENT, "gradient"),
    PlannedRun(name=CYCLE, config="cycle"),
    PlannedRun(name=SMALL, config="small-digits"),
)


def _standing(name: str, quantity: Quantity) -> Callable[[Runs], Finding]:
    """Of all ratios on the plateau, the one that is farthest out."""

    def find(runs: Runs) -> Finding:
        run = runs[name]
        return worst({f"step {step}": found for step, found in run.all(quantity).items() if step >= run.plateau_step}, AT_THE_EDGE)

    return find


def _crossing(run: Evidence) -> int:
    """The first step at which the sharpness was found above its threshold."""
    for step, ratio in run.all(RATIO).items():
        if ratio.value > 1:
            return step
    raise NotMeasuredError(f"{run.snapshot.name} was never above its threshold.")


def _rises(runs: Runs, *, before: bool) -> Finding:
    """The share of steps that raise the loss, before the edge is crossed or from there on."""
    crossing = _crossing(runs["gd"])
    losses = [loss.value for step, loss in runs["gd"].all(BATCH_LOSS).items() if (step <= crossing) == before]
    share = sum(later > earlier for earlier, later in pairwise(losses)) / (len(losses) - 1)
    return Finding(Measured(share), {"crossing at step": crossing, "share": share})


def _falls(runs: Runs) -> Finding:
    crossing, losses = _crossing(runs["gd"]), runs["gd"].all(BATCH_LOSS)
    at, last = losses[crossing], runs["gd"].last(BATCH_LOSS)
    return Finding(over(last, at), {"loss where it crosses": at.value, "last loss": last.value})


def _growth(runs: Runs) -> Finding:
    first, plateau = runs["gd"].at(SHARPNESS, 0), runs["gd"].plateau(SHARPNESS)
    return Finding(over(plateau, first), {"first sharpness": first.value, "plateau": plateau.value})


def _halved(runs: Runs) -> Finding:
    half, whole = (runs[name].plateau(SHARPNESS) for name in ("gd-half", "gd"))
    return Finding(over(half, whole), {"sharpness, lr 0.15": half.value, "sharpness, lr 0.3": whole.value})


def _against_gradient_descent(name: str) -> Callable[[Runs], Finding]:
    """The plateau of the sharpness over 2/lr."""

    def find(runs: Runs) -> Finding:
        plateau = runs[name].plateau(SHARPNESS)
        edge = 2 / LR[name]
        return Finding(over(plateau, Measured(edge)), {"sharpness": plateau.value, "2/lr": edge})

    return find


def _still_sharpening(runs: Runs) -> Finding:
    """Last sharpness over that at the first step from which on the run stands at its edge."""
    growths = {}
    for name in ("adam", "rmsprop"):
        reached = next((step for step, ratio in runs[name].all(PRECONDITIONED_RATIO).items() if ratio.value >= AT_THE_EDGE.low), None)
        if reached is None:
            raise NotMeasuredError(f"{name} never came to its edge.")
        growths[name] = over(runs[name].last(SHARPNESS), runs[name].at(SHARPNESS, reached))
    return worst(growths, Bounds(low=1))


def _fallen(runs: Runs) -> Finding:
    ratios = runs["cross-entropy"].all(RATIO)
    highest, last = max(ratios.values(), key=lambda measured: measured.value), runs["cross-entropy"].last(RATIO)
    return Finding(over(last, highest), {"highest": highest.value, "last": last.value})


def _past_edge(runs: Runs) -> Finding:
    """Gradient flow's last sharpness over 2/lr."""
    crossing, last, beside = _crossing(runs[GRADIENT]), runs[GRADIENT].last(RATIO), runs[SMALL].plateau(RATIO)
    return Finding(last, {"crossing at step": crossing, "last": last.value, "plateau of gradient descent": beside.value})


def _below_edge(runs: Runs) -> Finding:
    """Gradient flow's sharpness over gradient descent's, each measurement up to the crossing."""
    flow, descent = runs[GRADIENT].all(SHARPNESS), runs[SMALL].all(SHARPNESS)
    crossing = _crossing(runs[SMALL])
    return worst({f"step {step}": over(flow[step], descent[step]) for step in flow if step <= crossing}, SAME)


def _predicts(flow: Quantity, descent: Quantity, bounds: Bounds) -> Callable[[Runs], Finding]:
    """The central flow's mean over gradient descent's, window by window on the plateau."""

    def find(runs: Runs) -> Finding:
        predicted, found = runs[CENTRAL].all(flow), runs[SMALL].all(descent)
        ratios = {}
        for begin in range(-(-runs[SMALL].plateau_step // WINDOW) * WINDOW, runs[SMALL].snapshot.steps, WINDOW):
            means = [
                mean_over_time([value for step, value in values.items() if begin <= step < begin + WINDOW]) for values in (predicted, found)
            ]
            ratios[f"steps {begin} to {begin + WINDOW}"] = over(*means)
        return worst(ratios, bounds)

    return find


def _cycle(predicted: Quantity, found: Quantity, edge: Quantity | None = None) -> Callable[[Runs], Finding]:
    """Root mean square error of a prediction over the root mean square of what it predicts, or of how far that is from the edge."""

    def find(runs: Runs) -> Finding:
        run = runs[CYCLE]
        predictions, values = run.all(predicted), run.all(found)
        edges = run.all(edge) if edge else {}
        errors = [(prediction.value - values[step].value) ** 2 for step, prediction in predictions.items()]
        sizes = [(values[step].value - (edges[step].value if edge else 0)) ** 2 for step in predictions]
        highest = max(values[step].value for step in predictions), max(prediction.value for prediction in predictions.values())
        share = math.sqrt(sum(errors) / sum(sizes))
        return Finding(Measured(share), {"steps": len(predictions), "highest": highest[0], "highest predicted": highest[1]})

    return find


STATEMENTS = (
    *(
        Statement(
            claim=f"{words} stays at 1 (each measurement of the plateau).",
            source=source,
            runs=(name,),
            tolerance=AT_THE_EDGE,
            find=_standing(name, quantity),
        )
        for name, (words, source, quantity) in EDGES.items()
    ),
    Statement(
        claim="Progressive sharpening: gradient descent comes to the edge from below (plateau of the sharpness over its first value).",
        source=COHEN_2021,
        runs=("gd",),
        tolerance=Bounds(low=1.5),
        find=_growth,
    ),
    Statement(
        claim="Half the learning rate, twice the sharpness (plateau over plateau).",
        source=COHEN_2021,
        runs=("gd-half", "gd"),
        tolerance=Bounds(1.8, 2.2),
        find=_halved,
    ),
    Statement(
        claim="Below the edge gradient descent lowers the loss at each step (share of steps that raise it).",
        source=COHEN_2021,
        runs=("gd",),
        tolerance=Bounds(high=0),
        find=lambda runs: _rises(runs, before=True),
    ),
    Statement(
        claim="At the edge the loss goes up and down from step to step (share of steps that raise it), ...",
        source=COHEN_2021,
        runs=("gd",),
        tolerance=Bounds(low=0.1),
        find=lambda runs: _rises(runs, before=False),
    ),
    Statement(
        claim="... and falls in the long run (last loss over that at the crossing).",
        source=COHEN_2021,
        runs=("gd",),
        tolerance=Bounds(high=0.5),
        find=_falls,
    ),
    Statement(
        claim="Heavy ball stays stable where gradient descent with its learning rate would not (plateau of the sharpness over 2/lr).",
        source=COHEN_2021,
        runs=("heavy-ball",),
        tolerance=Bounds(low=1.5),
        find=_against_gradient_descent("heavy-ball"),
    ),
    Statement(
        claim="SAM keeps the sharpness below gradient descent's edge (plateau over 2/lr).",
        source=LONG,
        runs=("sam",),
        tolerance=Bounds(high=0.9),
        find=_against_gradient_descent("sam"),
    ),
    Statement(
        claim="At their edge Adam and RMSProp go on to regions of higher curvature (last sharpness over that at the edge's first touch).",
        source=COHEN_2022,
        runs=("adam", "rmsprop"),
        tolerance=Bounds(low=1),
        find=_still_sharpening,
    ),
    Statement(
        claim="With cross-entropy the sharpness falls at the end, once the examples are fitted (last over highest).",
        source=COHEN_2021,
        runs=("cross-entropy",),
        tolerance=Bounds(high=0.5),
        find=_fallen,
    ),
    Statement(
        claim="Up to the edge gradient descent is gradient flow (sharpness of the flow over its own, each measurement).",
        source=COHEN_2021,
        runs=(SMALL, GRADIENT),
        tolerance=SAME,
        find=_below_edge,
    ),
    Statement(
        claim="But gradient flow goes on sharpening past 2/lr, where gradient descent stays (the flow's last sharpness over 2/lr).",
        source=COHEN_2021,
        runs=(SMALL, GRADIENT),
        tolerance=Bounds(low=1.3),
        find=_past_edge,
    ),
    Statement(
        claim="At the edge self-stabilisation predicts each step's sharpness (error over its distance from 2/lr, root mean squares).",
        source=DAMIAN,
        runs=(CYCLE,),
        tolerance=HALF,
        find=_cycle(PREDICTED_SHARPNESS, SHARPNESS, Quantity("sharpness", "threshold")),
    ),
    Statement(
        claim="And so is its loss, from burst to burst (error over the loss, root mean squares).",
        source=DAMIAN,
        runs=(CYCLE,),
        tolerance=HALF,
        find=_cycle(PREDICTED_LOSS, BATCH_LOSS),
    ),
    Statement(
        claim=f"At the edge the central flow predicts gradient descent's average loss (ratio of means over {WINDOW} steps, plateau).",
        source=COHEN_2024,
        runs=(SMALL, CENTRAL),
        tolerance=SAME,
        find=_predicts(AVERAGED_LOSS, BATCH_LOSS, SAME),
    ),
    Statement(
        claim="Of this the oscillation makes a part: the loss of the central flow itself is lower (the same ratio).",
        source=COHEN_2024,
        runs=(SMALL, CENTRAL),
        tolerance=Bounds(high=0.95),
        find=_predicts(BATCH_LOSS, BATCH_LOSS, Bounds(high=0.95)),
    ),
    Statement(
        claim="And its sharpness is gradient descent's average (ratio of means, likewise).",
        source=COHEN_2024,
        runs=(SMALL, CENTRAL),
        tolerance=SAME,
        find=_predicts(SHARPNESS, SHARPNESS, SAME),
    ),
)


def _charts(runs: Runs) -> Sequence[Chart]:
    def line(name: str, quantity: Quantity) -> Line:
        return Line(name, [(step, measured.value) for step, measured in runs[name].all(quantity).items()])

    ratios = tuple(line(name, quantity) for name, (_, _, quantity) in EDGES.items())
    return (
        Chart(x="step", y="sharpness / threshold", lines=ratios, references=((1.0, "edge"),)),
        Chart(x="step", y="sharpness / (2/lr)", lines=(line("cross-entropy", RATIO), line("gd", RATIO)), references=((1.0, "edge"),)),
        Chart(x="step", y="loss", lines=(line("gd", BATCH_LOSS), line("gd-half", BATCH_LOSS)), log_y=True),
        Chart(
            x="step",
            y="sharpness / (2/lr), flows",
            lines=tuple(line(name, RATIO) for name in (SMALL, GRADIENT, CENTRAL)),
            references=((1.0, "edge"),),
        ),
    )


CLAIM = Claim(
    name="gd-edge",
    summary="With the full batch the sharpness rises to the optimizer's own threshold and stays there.",
    source="Cohen et al. (2021), arXiv 2103.00065, and what followed it",
    cost="12 runs, 150 s of processor time: one to two minutes on two cores.",
    runs=RUNS,
    statements=STATEMENTS,
    charts=_charts,
)
