"""Width, depth and parametrization: sharpness that does not depend on the width, learning rates that transfer, and how each fails.

A ReLU net 64-N-N-10 on digits unless said otherwise; the paper's small convolutional net on some of CIFAR-10; a linear net with one hidden
layer on whitened inputs. The checks are those of the commands `transfer` and `coord-check`, and each has to fail where it should.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from eos_tui.claims.statements import Bounds, Claim, Finding, PlannedRun, Runs, Statement, worst
from eos_tui.evidence import (
    BATCH_LOSS,
    RATIO,
    SHARPNESS,
    Evidence,
    Measured,
    NotMeasuredError,
    Quantity,
    mean,
    mean_over_time,
    over,
    spread,
)
from eos_tui.figures import Chart, Line
from eos_tui.reports import coordinates, transfer
from eos_tui.reports.members import Member

NOCI = "Noci et al. (2024), arXiv 2402.17457"
FIGURE_1 = "Noci et al. (2024), figure 1, arXiv 2402.17457"
YANG = "Yang et al. (2022), arXiv 2203.03466"
LINEAR_THEORY = "derived, for the linear net of Noci et al. (2024), arXiv 2402.17457"
WIDTH, DEPTH, LR, SEED = "model.width", "model.depth", "optimizer.lr", "run.seed"
STAYS = Bounds(high=1)
"""Steps of the grid, each a factor of two."""
MOVES = Bounds(low=2)
FLAT = Bounds(-0.1, 0.1)
"""Exponents of the width."""
GAIN = math.sqrt(2.0)
"""Of hidden matrices, as the spec has it."""
FULL_BATCH = {"objective.name": "mse", "optimizer.batch_size": "full", "data.num_train": 512}
ADAM = {"optimizer.name": "adam", "model.base_width": 64}
DIMENSION = 20
"""Inputs of the linear net."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """Runs at all points of a grid."""

    name: str
    config: str
    axes: Mapping[str, Sequence[Any]]
    """Values by key."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    by_width: Mapping[str, Callable[[int], float]] = field(default_factory=dict)
    """Keys that go with the width, as they should not."""

    def points(self) -> dict[str, dict[str, Any]]:
        """What varies, by the run's name."""
        found = [dict(zip(self.axes, values, strict=True)) for values in itertools.product(*self.axes.values())]
        return {"-".join([self.name, *(f"{key.rsplit('.', 1)[-1]}{value:g}" for key, value in point.items())]): point for point in found}

    def planned(self) -> list[PlannedRun]:
        """The runs."""
        return [
            PlannedRun(name=name, config=self.config, overrides=tuple(f"{key}={value}" for key, value in self._keys(point).items()))
            for name, point in self.points().items()
        ]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the runs."""
        return tuple(self.points())

    def members(self, runs: Runs) -> list[Member]:
        """The runs with what varies."""
        return [Member(point, runs[name]) for name, point in self.points().items()]

    def by(self, key: str, runs: Runs) -> dict[Any, list[Evidence]]:
        """The runs apart by the value of a key."""
        found: dict[Any, list[Evidence]] = {}
        for name, point in self.points().items():
            found.setdefault(point[key], []).append(runs[name])
        return found

    def _keys(self, point: Mapping[str, Any]) -> dict[str, Any]:
        return {**self.overrides, **point, **{key: of(point[WIDTH]) for key, of in self.by_width.items()}}


def _study(name: str, config: str = "digits-relu", **parts: Any) -> Study:
    """A study of muP, unless `overrides` say otherwise."""
    return Study(name=name, config=config, **parts)


def _powers(first: int, last: int) -> list[float]:
    return [2.0**power for power in range(first, last + 1)]


NTP, SP = {"model.parametrization": "ntp"}, {"model.parametrization": "sp"}
EDGE = _study(
    "edge", axes={WIDTH: (512, 256, 128), LR: (1.5, 2.0)}, overrides={**FULL_BATCH, "measure.sharpness_every": 20, "run.steps": 400}
)
LAZY = _study(
    "lazy",
    axes={WIDTH: (512, 128, 32)},
    overrides={**FULL_BATCH, **NTP, LR: 4.0, "measure.sharpness_every": 50, "run.steps": 600},
)
_CURVES = {"measure.sharpness_every": 50, "measure.num_examples": 256, "run.steps": 150}
CE_MUP = _study("ce-mup", axes={WIDTH: (1024, 256, 64), SEED: (0, 1, 2)}, overrides={**_CURVES, LR: 2.0})
CE_NTP = _study("ce-ntp", axes={WIDTH: (1024, 64), SEED: (0, 1, 2)}, overrides={**_CURVES, **NTP, LR: 16.0})
SGD_MUP = _study("sgd-mup", axes={WIDTH: (512, 128, 32), LR: _powers(0, 3), SEED: (0, 1)})
SGD_NTP = _study("sgd-ntp", axes={WIDTH: (512, 32), LR: _powers(4, 9), SEED: (0, 1)}, overrides=NTP)
ADAM_MUP = _study("adam-mup", axes={WIDTH: (1024, 256, 64), LR: _powers(-9, -5), SEED: (0, 1)}, overrides=ADAM)
ADAM_SP = _study("adam-sp", axes={WIDTH: (1024, 64), LR: _powers(-11, -6), SEED: (0, 1)}, overrides={**ADAM, **SP})
_DEEP = {"model.name": "residual-mlp"}
DEPTH_HALF = _study(
    "depth-half", axes={DEPTH: (32, 8, 2), LR: _powers(-2, 2), SEED: (0, 1, 2)}, overrides={**_DEEP, "model.depth_exponent": 0.5}
)
DEPTH_ZERO = _study("depth-zero", axes={DEPTH: (8, 2), LR: _powers(-2, 2)}, overrides={**_DEEP, "model.depth_exponent": 0.0})
_CHECK = {**dict(setting.split("=") for setting in coordinates.SETTINGS), "run.steps": 4}
_SMOOTH = {**_CHECK, **FULL_BATCH, "model.activation": "tanh", "model.hidden_scale": 1.0}
"""With ReLU the first values scatter twice as much from net to net."""
_WIDTHS = (512, 256, 128, 64)
CHECKS = {
    name: _study(f"check-{name}", axes={WIDTH: _WIDTHS, SEED: seeds}, overrides={**_SMOOTH, **overrides}, by_width=by_width)
    for name, seeds, overrides, by_width in (
        ("mup", (0, 1), {LR: 1.0}, {}),
        ("adam-mup", (0, 1), {**ADAM, LR: 0.001}, {}),
        ("ntp", (0, 1), {**NTP, LR: 1.0}, {}),
        ("sp", (0,), {**SP, LR: 0.1}, {}),
        ("adam-sp", (0,), {**ADAM, **SP, LR: 0.001}, {}),
        ("multiplier", (0,), {LR: 0.4}, {"model.gamma": lambda width: math.sqrt(width / _WIDTHS[-1])}),
        ("exponent", (0,), {}, {LR: lambda width: 0.45 * math.sqrt(width / _WIDTHS[-1])}),
    )
}
LINEAR = {
    name: _study(f"linear-{name}", "linear-net", axes={WIDTH: (2048, 512, 128)}, overrides={"model.parametrization": name})
    for name in ("mup", "ntp")
}
_FORM = {
    **FULL_BATCH,
    "data.num_train": 200,
    "run.precision": "float64",
    "run.steps": 50,
    "measure.sharpness_every": 10,
    "measure.tolerance": 1e-5,
}
FORM_LR, FORM_WIDTH, FORM_BRANCHES = 0.5, 64, 4


def _raw(gamma: float, *, depth: int, num_branches: int) -> dict[str, Any]:
    """The same net as the paper writes it."""
    arguments = {"width": FORM_WIDTH, "depth": depth, "seed": 0, "gamma": gamma, "gain": GAIN, "num_branches": num_branches}
    inline = ", ".join(f"{key} = {value}" for key, value in arguments.items())
    return {"model": f'{{name = "runners.nets.raw_form:net", arguments = {{{inline}}}}}', LR: FORM_LR * gamma**2}


_RESIDUAL = {**_DEEP, DEPTH: FORM_BRANCHES, "model.depth_exponent": 0.5}
FORMS: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "mup": ({LR: FORM_LR}, _raw(math.sqrt(FORM_WIDTH), depth=3, num_branches=0)),
    "ntp": ({**NTP, LR: FORM_LR}, _raw(1.0, depth=3, num_branches=0)),
    "depth-mup": ({**_RESIDUAL, LR: FORM_LR}, _raw(math.sqrt(FORM_WIDTH), depth=FORM_BRANCHES + 2, num_branches=FORM_BRANCHES)),
}
"""By parametrization: the keys of our form and of the paper's."""
_CIFAR = "cifar10-simple-cnn"
CIFAR_MUP = _study("cifar-mup", _CIFAR, axes={WIDTH: (64, 16), LR: _powers(0, 2)})
CIFAR_NTP = _study("cifar-ntp", _CIFAR, axes={WIDTH: (64, 16), LR: _powers(2, 6)}, overrides=NTP)
CIFAR_EDGE = _study(
    "cifar-edge",
    _CIFAR,
    axes={WIDTH: (64, 32)},
    overrides={**FULL_BATCH, "data.num_train": 256, LR: 1.0, "measure.sharpness_every": 20, "run.steps": 200},
)
CIFAR_CHECK = _study(
    "cifar-check", _CIFAR, axes={WIDTH: (256, 128, 64, 32), SEED: (0, 1)}, overrides={**_CHECK, LR: 0.5, "data.num_train": 512}
)
STUDIES = (
    *(
        EDGE,
        LAZY,
        CE_MUP,
        CE_NTP,
        CIFAR_EDGE,
        CIFAR_NTP,
        CIFAR_MUP,
        CIFAR_CHECK,
        DEPTH_HALF,
        ADAM_SP,
        ADAM_MUP,
        SGD_NTP,
        SGD_MUP,
        DEPTH_ZERO,
    ),
    *CHECKS.values(),
    *LINEAR.values(),
)


def _form_name(form: str, which: int) -> str:
    return f"form-{form}-{('ours', 'raw')[which]}"


def _form_runs() -> list[PlannedRun]:
    return [
        PlannedRun(
            name=_form_name(form, which),
            config="digits-relu",
            overrides=tuple(f"{key}={value}" for key, value in {**_ordered(keys), **_FORM, LR: keys[LR]}.items()),
        )
        for form, both in FORMS.items()
        for which, keys in enumerate(both)
    ]


def _ordered(keys: Mapping[str, Any]) -> dict[str, Any]:
    """A whole table first, then the keys in it."""
    return {"model.width": FORM_WIDTH, **keys} if "model" not in keys else dict(keys)


# What the runs have to show


def _at_the_edge(runs: Runs) -> Finding:
    """Mean sharpness over 2/lr from step 200 on; of all widths and learning rates the farthest out."""
    return worst({name: mean_over_time(runs[name].since(RATIO, 200)) for name in EDGE.names}, Bounds(0.95, 1.05))


def _images_at_the_edge(runs: Runs) -> Finding:
    """Mean sharpness over 2/lr from step 100 on, about which it goes up and down by a fifth."""
    return worst({name: mean_over_time(runs[name].since(RATIO, 100)) for name in CIFAR_EDGE.names}, Bounds(0.9, 1.25))


def _same_at_the_edge(runs: Runs) -> Finding:
    spreads = {f"lr {lr:g}": spread([mean_over_time(run.since(SHARPNESS, 200)) for run in same]) for lr, same in EDGE.by(LR, runs).items()}
    return worst(spreads, Bounds(high=1.05))


def _differs_under_ntp(runs: Runs) -> Finding:
    last = {width: run.last(SHARPNESS) for width, [run] in LAZY.by(WIDTH, runs).items()}
    return Finding(spread(list(last.values())), {f"width {width}": found.value for width, found in last.items()})


def _stands_still(runs: Runs) -> Finding:
    run = LAZY.by(WIDTH, runs)[512][0]
    return Finding(over(run.last(SHARPNESS), run.at(SHARPNESS, 50)), {"ratio to 2/lr": run.last(RATIO).value})


def _at_step(study: Study, quantity: Quantity, step: int, runs: Runs) -> dict[int, Measured]:
    """The mean over the seeds by width, with its standard error."""
    return {width: mean([run.at(quantity, step) for run in same]) for width, same in study.by(WIDTH, runs).items()}


def _wide_are_alike(runs: Runs) -> Finding:
    ratios = {}
    for step in (50, 100, 150):
        found = _at_step(CE_MUP, SHARPNESS, step, runs)
        ratios[f"step {step}"] = over(found[256], found[1024])
    return worst(ratios, Bounds(0.75, 1.25))


def _narrow_are_sharper(runs: Runs) -> Finding:
    found = _at_step(CE_NTP, SHARPNESS, 100, runs)
    return Finding(over(found[64], found[1024]), {f"width {width}": value.value for width, value in found.items()})


def _loss_of_the_widest(study: Study) -> Callable[[Runs], Finding]:
    """Loss of the widest net over that of the narrowest, means over steps 90 to 110 and seeds."""

    def find(runs: Runs) -> Finding:
        losses = {}
        for width, same in study.by(WIDTH, runs).items():
            over_steps = [mean_over_time([loss for step, loss in run.all(BATCH_LOSS).items() if 90 <= step <= 110]) for run in same]
            losses[width] = mean(over_steps)
        return Finding(over(losses[1024], losses[64]), {f"width {width}": loss.value for width, loss in losses.items()})

    return find


def _shift(study: Study, key: str, *, stays: bool) -> Callable[[Runs], Finding]:
    """How many steps of the grid the best learning rate moves; the error is by how much the seeds alone differ from that."""

    def find(runs: Runs) -> Finding:
        trials = [transfer.trial(member, [key]) for member in study.members(runs)]
        found = transfer.group(trials, values={}, tolerance=1)
        if stays and found.verdict == "open" and found.shift <= STAYS.high:
            raise NotMeasuredError(" ".join(found.warnings))
        error = max((abs(own - found.shift) for own in found.shift_by_seed), default=0.0)
        return Finding(Measured(found.shift, error), {f"{key.rsplit('.', 1)[-1]} {best.values[key]}": best.lr for best in found.bests})

    return find


def _slopes(study: Study, bounds: Bounds, *, without: Sequence[str] = ()) -> Callable[[Runs], Finding]:
    """Of all layers but those left out, and all steps, the exponent of the width that is farthest out of the bounds."""

    def find(runs: Runs) -> Finding:
        check, _ = coordinates.check(study.members(runs), name=study.name, tolerance=FLAT.high)
        slopes = {
            f"{layer.layer} step {slope.step}": Measured(slope.value, slope.error)
            for layer in check.layers
            if layer.layer not in without
            for slope in layer.slopes
        }
        return worst(slopes, bounds)

    return find


def _farthest(study: Study) -> Callable[[Runs], Finding]:
    """Of all layers and steps the largest |exponent|, where the check as a whole fails; 0 where it passes."""

    def find(runs: Runs) -> Finding:
        check, _ = coordinates.check(study.members(runs), name=study.name, tolerance=FLAT.high)
        failed = [slope for layer in check.layers if layer.verdict == "fail" for slope in layer.slopes]
        far = max(failed, key=lambda slope: abs(slope.value), default=None)
        return Finding(
            Measured(abs(far.value), far.error) if far else Measured(0.0),
            {layer.layer: layer.slopes[-1].value for layer in check.layers},
        )

    return find


def _converged(runs: Runs) -> Finding:
    """Last sharpness over (2/D) sqrt(1 + D (gamma^2 / N) |w*|^2), where gamma^2 = N and |w*| = 1."""
    expected = Measured(2 / DIMENSION * math.sqrt(1 + DIMENSION))
    ratios = {f"width {width}": over(run.last(SHARPNESS), expected) for width, [run] in LINEAR["mup"].by(WIDTH, runs).items()}
    return worst(ratios, Bounds(0.97, 1.03))


def _sharpening(name: str, bounds: Bounds) -> Callable[[Runs], Finding]:
    """Last sharpness over the first; of widths from 512 on, whose first values scatter less."""

    def find(runs: Runs) -> Finding:
        found = LINEAR[name].by(WIDTH, runs)
        growths = {f"width {width}": over(run.last(SHARPNESS), run.at(SHARPNESS, 0)) for width, [run] in found.items() if width >= 512}
        return worst(growths, bounds)

    return find


def _equal_forms(runs: Runs) -> Finding:
    """Largest relative difference of loss, and of sharpness over 2/lr, along the way."""
    differences = {}
    for form in FORMS:
        ours, raw = (runs[_form_name(form, which)] for which in (0, 1))
        for name, quantity in {"loss": BATCH_LOSS, "sharpness": RATIO}.items():
            there = raw.all(quantity)
            far = max(abs(found.value / there[step].value - 1) for step, found in ours.all(quantity).items())
            differences[f"{form}, {name}"] = Measured(far)
    return worst(differences, Bounds(high=1e-3))


STATEMENTS = (
    Statement(
        claim="Under muP the sharpness stands at 2/lr, at widths 128 to 512 alike (mean from step 200 on over 2/lr).",
        source=FIGURE_1,
        runs=EDGE.names,
        tolerance=Bounds(0.95, 1.05),
        find=_at_the_edge,
    ),
    Statement(
        claim="Under muP the sharpness at the edge is the same at each width (largest over smallest).",
        source=FIGURE_1,
        runs=EDGE.names,
        tolerance=Bounds(high=1.05),
        find=_same_at_the_edge,
    ),
    Statement(
        claim="CIFAR-10, convolutional, muP: the sharpness stands about 2/lr at widths 32 and 64 (mean from step 100 on over 2/lr).",
        source=FIGURE_1,
        runs=CIFAR_EDGE.names,
        tolerance=Bounds(0.9, 1.25),
        find=_images_at_the_edge,
    ),
    Statement(
        claim="Under NTP the sharpness depends on the width (largest over smallest of widths 32 to 512, step 600).",
        source=FIGURE_1,
        runs=LAZY.names,
        tolerance=Bounds(low=1.8),
        find=_differs_under_ntp,
    ),
    Statement(
        claim="Under NTP a wide net does not sharpen (width 512, step 600 over step 50).",
        source=NOCI,
        runs=LAZY.names,
        tolerance=Bounds(0.95, 1.05),
        find=_stands_still,
    ),
    Statement(
        claim="Under muP with small batches and cross-entropy the sharpness of widths 256 and 1024 is alike (ratio, mean of 3 seeds).",
        source=NOCI,
        runs=CE_MUP.names,
        tolerance=Bounds(0.75, 1.25),
        find=_wide_are_alike,
    ),
    Statement(
        claim="Under NTP with small batches and cross-entropy narrow nets are sharper (width 64 over 1024, step 100).",
        source=NOCI,
        runs=CE_NTP.names,
        tolerance=Bounds(low=2),
        find=_narrow_are_sharper,
    ),
    Statement(
        claim="Under muP wider nets have a lower loss (width 1024 over 64, steps 90 to 110).",
        source=FIGURE_1,
        runs=CE_MUP.names,
        tolerance=Bounds(high=1),
        find=_loss_of_the_widest(CE_MUP),
    ),
    Statement(
        claim="Under NTP at one learning rate wider nets have a higher loss (width 1024 over 64, steps 90 to 110).",
        source=FIGURE_1,
        runs=CE_NTP.names,
        tolerance=Bounds(low=1.5),
        find=_loss_of_the_widest(CE_NTP),
    ),
    *(
        Statement(
            claim=f"{words} (steps of x2).",
            source=source,
            runs=study.names,
            tolerance=STAYS if stays else MOVES,
            find=_shift(study, key, stays=stays),
            may_diverge=True,
        )
        for words, source, study, key, stays in (
            ("The best learning rate of SGD under muP stays from width 32 to 512", FIGURE_1, SGD_MUP, WIDTH, True),
            ("The best learning rate of SGD under NTP moves from width 32 to 512", FIGURE_1, SGD_NTP, WIDTH, False),
            ("The best learning rate of Adam under muP stays from width 64 to 1024", YANG, ADAM_MUP, WIDTH, True),
            ("Control: that of Adam with SP called muP moves from width 64 to 1024", YANG, ADAM_SP, WIDTH, False),
            ("With branches over sqrt(L) the best learning rate stays from depth 2 to 32", NOCI, DEPTH_HALF, DEPTH, True),
            ("Without the factor on branches it moves from depth 2 to 8", NOCI, DEPTH_ZERO, DEPTH, False),
            ("CIFAR-10, convolutional: the best learning rate under muP stays from width 16 to 64", FIGURE_1, CIFAR_MUP, WIDTH, True),
            ("CIFAR-10, convolutional: the best learning rate under NTP moves from width 16 to 64", FIGURE_1, CIFAR_NTP, WIDTH, False),
        )
    ),
    *(
        Statement(
            claim=f"Coordinate check, {words} (exponent of the width).",
            source=YANG,
            runs=study.names,
            tolerance=bounds,
            find=_slopes(study, bounds, without=without),
        )
        for words, study, without, bounds in (
            ("muP with SGD: each layer's change does not depend on the width", CHECKS["mup"], (), FLAT),
            ("muP with Adam: each layer's change does not depend on the width", CHECKS["adam-mup"], (), FLAT),
            ("NTP: hidden layers move less the wider the net is, like its -1/2", CHECKS["ntp"], ("layer_2",), Bounds(-0.8, -0.4)),
            ("muP on CIFAR-10, convolutional", CIFAR_CHECK, (), FLAT),
        )
    ),
    *(
        Statement(
            claim=f"Control: the coordinate check fails for {words} (largest |exponent| of a layer that fails).",
            source=source,
            runs=CHECKS[name].names,
            tolerance=Bounds(low=0.3),
            find=_farthest(CHECKS[name]),
        )
        for words, name, source in (
            ("SP called muP, SGD", "sp", YANG),
            ("SP called muP, Adam", "adam-sp", YANG),
            ("a wrong multiplier, gamma = N and not sqrt(N)", "multiplier", "derived"),
            ("a wrong learning rate, sqrt(N) times that of muP", "exponent", "derived"),
        )
    ),
    Statement(
        claim="Linear net under muP: the last sharpness over (2/D) sqrt(1 + D |w*|^2), at widths 128 to 2048.",
        source=LINEAR_THEORY,
        runs=LINEAR["mup"].names,
        tolerance=Bounds(0.97, 1.03),
        find=_converged,
    ),
    Statement(
        claim="Linear net under muP: the sharpness grows at each width (last over first; predicted 1.64).",
        source=LINEAR_THEORY,
        runs=LINEAR["mup"].names,
        tolerance=Bounds(1.4, 1.9),
        find=_sharpening("mup", Bounds(1.4, 1.9)),
    ),
    Statement(
        claim="Linear net under NTP: the sharpness of wide nets does not grow (last over first).",
        source=LINEAR_THEORY,
        runs=LINEAR["ntp"].names,
        tolerance=Bounds(0.75, 1.05),
        find=_sharpening("ntp", Bounds(0.75, 1.05)),
    ),
    Statement(
        claim="The form with one learning rate for all widths trains as the paper's raw entries with lr gamma^2 (largest difference).",
        source=NOCI,
        runs=tuple(_form_name(form, which) for form in FORMS for which in (0, 1)),
        tolerance=Bounds(high=1e-3),
        find=_equal_forms,
    ),
)


def _charts(runs: Runs) -> Sequence[Chart]:
    def lines(study: Study, quantity: Quantity, **where: Any) -> tuple[Line, ...]:
        return tuple(
            Line(f"width {point[WIDTH]}", [(step, found.value) for step, found in runs[name].all(quantity).items()])
            for name, point in study.points().items()
            if all(point[key.replace("__", ".")] == value for key, value in where.items())
        )

    def losses(study: Study, title: str, key: str = WIDTH) -> Chart:
        trials = [transfer.trial(member, [key]) for member in study.members(runs)]
        return transfer.chart(trials, transfer.group(trials, values={}, tolerance=1), loss=title)

    edge = ((1.0, "2/lr"),)
    check, drawn = coordinates.check(CHECKS["mup"].members(runs), name="muP", tolerance=FLAT.high)
    return [
        Chart(x="step", y="sharpness / (2/lr), muP", lines=lines(EDGE, RATIO, optimizer__lr=1.5), references=edge),
        Chart(x="step", y="sharpness / (2/lr), NTP", lines=lines(LAZY, RATIO), references=edge),
        losses(SGD_MUP, "loss, SGD, muP"),
        losses(SGD_NTP, "loss, SGD, NTP"),
        losses(ADAM_MUP, "loss, Adam, muP"),
        losses(ADAM_SP, "loss, Adam, SP"),
        losses(DEPTH_HALF, "loss, branches / sqrt(L)", DEPTH),
        drawn[len(check.layers[0].slopes) - 1],
        Chart(x="step", y="sharpness, linear net, muP", lines=lines(LINEAR["mup"], SHARPNESS)),
    ]


CLAIM = Claim(
    name="super-consistency",
    summary="Under muP sharpness and best learning rate do not depend on the width, with branches over sqrt(L) not on the depth.",
    source="Noci, Meterez, Hofmann and Orvieto (2024), arXiv 2402.17457",
    cost="259 runs, most of them short; seven minutes on two cores. Four of its statements need CIFAR-10.",
    runs=(*(run for study in STUDIES for run in study.planned()), *_form_runs()),
    statements=STATEMENTS,
    charts=_charts,
    optional=tuple(name for study in (CIFAR_EDGE, CIFAR_MUP, CIFAR_NTP, CIFAR_CHECK) for name in study.names),
)
