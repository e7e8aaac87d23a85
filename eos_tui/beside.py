"""A training run beside its flows: what to run, and loss and sharpness of all of them as rows and as charts.

Called by the command line. Reads logs; the flows themselves are runs like any other.
"""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

import msgspec
from msgspec.structs import asdict, replace

from eos_tui import evidence
from eos_tui.evidence import Evidence
from eos_tui.figures import Chart, Line
from eos_tui.series import Key
from runners import spec_file
from runners.errors import SpecError
from runners.experiments import CentralFlow, Flow, GradientFlow, LimitingFlow, SelfStabilization, Spec
from runners.run_folder import RunFolder, stem
from runners.spec import Measure, NormalizedGd, RmsProp, Sgd, Train

SHARPNESS_EVERY = 10
"""Steps between measurements of a flow whose run has none."""
RUN = "run"
"""The training run's own name among the series; the others are those of `FLOWS`."""
FLOWS = {"gradient": GradientFlow, "central": CentralFlow, "limiting": LimitingFlow}
LABELS = {RUN: "optimizer", "gradient": "gradient flow", "central": "central flow", "limiting": "limiting flow"}
LOSS: Key = ("step", "loss")
AVERAGED: Key = ("flow", "averaged_loss")
TAU: Key = ("flow", "tau")
PREDICTED: Mapping[str, Key] = {
    "loss": LOSS,
    "predicted_loss": ("prediction", "loss"),
    "constrained_loss": ("prediction", "constrained_loss"),
    "sharpness": ("sharpness", "value"),
    "predicted_sharpness": ("prediction", "sharpness"),
    "oscillation": ("prediction", "actual_oscillation"),
    "predicted_oscillation": ("prediction", "oscillation"),
}
"""Where the log has what a `PredictedRow` holds."""
PREDICTION = "prediction"
"""The kind of run that stands beside itself: gradient descent and what is predicted of it."""
CLOSE = 0.1
"""A prediction follows while its error is below this share: of the loss, and of how far the sharpness went from 2/lr."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A step at which the run's sharpness is known; null is not measured, or not finite."""

    step: int
    time: float
    """Sum of the learning rates up to it, lr x step; beside a limiting flow the flow's time, lr^2 x step from where it begins."""
    loss: dict[str, float | None]
    """By series."""
    run_average: float
    """Mean of the run's loss from this row to the next: what `averaged_loss` predicts."""
    averaged_loss: float | None
    sharpness: dict[str, float | None]
    """By series; for an adaptive optimizer the preconditioned one."""


class PredictedRow(msgspec.Struct, frozen=True, kw_only=True):
    """A step, and what self-stabilisation predicts of it; null is not measured, not predicted, or not finite."""

    step: int
    loss: float | None
    predicted_loss: float | None
    constrained_loss: float | None
    sharpness: float | None
    predicted_sharpness: float | None
    oscillation: float | None
    predicted_oscillation: float | None


class Followed(msgspec.Struct, frozen=True, kw_only=True):
    """For how long a prediction follows a run."""

    begins: int
    """The first step that is predicted."""
    predicted: int
    """Steps predicted."""
    loss: int
    """Steps until its loss is first off by more than `CLOSE` of the run's."""
    sharpness: int
    """Steps until its sharpness is first off by more than `CLOSE` of the furthest that the run's goes from 2/lr while it is predicted."""


@dataclass(frozen=True)
class PlannedFlow:
    """A flow that is wanted; see `execution.Planned`."""

    name: str
    flow: Flow

    def spec(self) -> Spec:
        """The spec, checked."""
        return spec_file.from_json(spec_file.to_json(self.flow))


def plan(folder: RunFolder, *, from_step: int) -> dict[str, PlannedFlow]:
    """The flows of a run, by kind: gradient, and central where the optimizer has one; or limiting, for normalised descent.

    Args:
        folder: The run.
        from_step: Until when the flows make the optimizer's own updates.

    Raises:
        SpecError: If the run is not a training run, or its optimizer has no flow.
    """
    spec = _training_run(folder)
    every = spec.measure.sharpness_solve_every or SHARPNESS_EVERY
    tables = asdict(spec) | {"measure": _measure(spec.measure, every=every)}
    flows = {kind: Flow(**tables, flow=FLOWS[kind](from_step=from_step)) for kind in _kinds(spec)}
    found = {kind: PlannedFlow(f"{kind}-flow-{stem(folder.name)}", flow) for kind, flow in flows.items()}
    for planned in found.values():
        planned.spec()
    return found


def _kinds(spec: Train) -> tuple[str, ...]:
    if isinstance(spec.optimizer, NormalizedGd) or spec.objective.transform == "sqrt":
        return ("limiting",)
    is_of_whole_loss = spec.optimizer.batch_size == "full" and spec.measure.num_examples == "all"
    return ("gradient", "central") if isinstance(spec.optimizer, Sgd | RmsProp) and is_of_whole_loss else ("gradient",)


def plan_prediction(folder: RunFolder, *, first: int, last: int) -> PlannedFlow:
    """Gradient descent's own steps again from the run's first parameters, with the prediction of a range of them.

    Args:
        folder: The run.
        first: The step from which on the prediction may begin.
        last: The step at which it ends.

    Raises:
        SpecError: If the run is not one of full-batch gradient descent with one learning rate.
    """
    spec = _training_run(folder)
    tables = asdict(spec) | {"measure": _measure(spec.measure, every=1), "run": replace(spec.run, steps=last)}
    planned = PlannedFlow(f"{PREDICTION}-{stem(folder.name)}", Flow(**tables, flow=SelfStabilization(from_step=first)))
    planned.spec()
    return planned


def read(folders: Mapping[str, RunFolder]) -> dict[str, Evidence]:
    """The series of the run and its flows, by name, in the order of `LABELS`."""
    return {name: evidence.read(folders[name]) for name in LABELS if name in folders}


def rows(runs: Mapping[str, Evidence], *, most: int) -> list[Row]:
    """The run beside its flows, at as many of the steps at which the run's sharpness is known, evenly thinned.

    Args:
        runs: As `read` gives them.
        most: How many rows at most.
    """
    losses = {name: _values(run, LOSS) for name, run in runs.items()}
    sharpness = {name: _sharpness(run) for name, run in runs.items()}
    times, averaged = _times(runs), _values(runs["central"], AVERAGED) if "central" in runs else {}
    known = [step for step in sharpness[RUN] or losses[RUN] if step in losses[RUN]]
    steps = known[:: max(1, math.ceil(len(known) / most))]
    ends = [*steps[1:], max(losses[RUN], default=0) + 1]
    return [
        Row(
            step=step,
            time=times.get(step, 0.0),
            loss={name: values.get(step) for name, values in losses.items()},
            run_average=statistics.fmean(losses[RUN][at] for at in range(step, end) if at in losses[RUN]),
            averaged_loss=averaged.get(step),
            sharpness={name: values.get(step) for name, values in sharpness.items()},
        )
        for step, end in zip(steps, ends, strict=True)
    ]


def predicted_rows(run: Evidence, *, most: int) -> list[PredictedRow]:
    """The predicted steps of a run, as many as asked for at most, evenly thinned.

    An odd number of steps lies between two rows, where there are any, since the oscillation changes its sign at each.

    Args:
        run: A run with its prediction.
        most: How many rows at most.
    """
    series = {name: _values(run, key) for name, key in PREDICTED.items()}
    steps = list(series["predicted_loss"])
    every = max(1, math.ceil(len(steps) / most))
    every += every > 1 and every % 2 == 0
    return [PredictedRow(step=step, **{name: values.get(step) for name, values in series.items()}) for step in steps[::every]]


def followed(run: Evidence) -> Followed | None:
    """For how long the prediction follows the run; None where nothing was predicted."""
    series = {name: _values(run, key) for name, key in PREDICTED.items()}
    thresholds = _values(run, ("sharpness", "threshold"))
    steps = list(series["predicted_loss"])
    if not steps:
        return None
    away = max((abs(series["sharpness"][step] - thresholds[step]) for step in steps if step in series["sharpness"]), default=0.0)

    def count(name: str, scale: Mapping[int, float] | None = None) -> int:
        """Steps before the first one that is off by more."""
        for place, step in enumerate(steps):
            found, expected = series[name].get(step), series[f"predicted_{name}"].get(step, math.inf)
            if found is not None and not abs(expected - found) <= CLOSE * (scale[step] if scale else away):
                return place
        return len(steps)

    return Followed(begins=steps[0], predicted=len(steps), loss=count("loss", series["loss"]), sharpness=count("sharpness"))


def predicted_charts(run: Evidence) -> list[Chart]:
    """Loss, sharpness and oscillation over the step, as they are and as they are predicted."""
    series = {name: _values(run, key) for name, key in PREDICTED.items()}
    begins = min(series["predicted_loss"], default=0)

    def line(label: str, name: str) -> Line:
        return Line(label, [(step, value) for step, value in series[name].items() if step >= begins])

    thresholds = set(_values(run, ("sharpness", "threshold")).values())
    references = ((thresholds.pop(), "2/lr"),) if len(thresholds) == 1 else ()
    losses = line("gradient descent", "loss"), line("predicted", "predicted_loss"), line("constrained", "constrained_loss")
    sharpness = line("gradient descent", "sharpness"), line("predicted", "predicted_sharpness")
    oscillation = line("gradient descent", "oscillation"), line("predicted", "predicted_oscillation")
    return [
        Chart(x="step", y="loss", lines=losses, log_y=True),
        Chart(x="step", y="sharpness", lines=sharpness, references=references),
        Chart(x="step", y="oscillation", lines=oscillation, log_y=True),
    ]


def apart(runs: Mapping[str, Evidence]) -> float | None:
    """The largest relative difference of a limiting flow's sharpness from the run's, from where it begins; None without one."""
    if "limiting" not in runs:
        return None
    flow, run, times = _sharpness(runs["limiting"]), _sharpness(runs[RUN]), _values(runs["limiting"], TAU)
    return max((abs(flow[step] / run[step] - 1) for step in times if run.get(step) and step in flow), default=None)


def charts(runs: Mapping[str, Evidence]) -> list[Chart]:
    """Loss and sharpness of the run and its flows, over lr x step; beside a limiting flow, which begins late, over the step."""
    is_limiting = "limiting" in runs
    x = "step" if is_limiting else "lr x step"
    at_steps = {step: float(step) for run in runs.values() for step in _sharpness(run) | _values(run, LOSS)}
    times = at_steps if is_limiting else _times(runs)

    def line(label: str, values: Mapping[int, float]) -> Line:
        return Line(label, [(times[step], value) for step, value in values.items() if step in times])

    losses = [line(LABELS[name], _values(run, LOSS)) for name, run in runs.items()]
    if "central" in runs:
        losses.append(line("central flow, predicted average", _values(runs["central"], AVERAGED)))
    sharpness = tuple(line(LABELS[name], _sharpness(run)) for name, run in runs.items())
    thresholds = set(_values(runs[RUN], ("sharpness", "threshold")).values())
    references = ((thresholds.pop(), "threshold"),) if len(thresholds) == 1 else ()
    return [
        Chart(x=x, y="loss", lines=tuple(losses), log_y=True),
        Chart(x=x, y="sharpness", lines=sharpness, references=references),
    ]


def _training_run(folder: RunFolder) -> Train:
    spec = spec_file.from_json(folder.spec.read_bytes())
    if isinstance(spec, Flow) or not isinstance(spec, Train):
        raise SpecError(
            f'{folder.name} has runner = "{spec.__struct_config__.tag}": expected a training run, beside which flows can stand.'
        )
    return spec


def _measure(asked: Measure, *, every: int) -> Measure:
    """The sharpness alone, as the run measures it but for how often."""
    return Measure(
        sharpness_every=every,
        solve_every=1,
        ntk_every=0,
        evaluate_every=0,
        tolerance=asked.tolerance,
        max_hvps=asked.max_hvps,
        num_examples=asked.num_examples,
        chunk_size=asked.chunk_size,
    )


def _sharpness(run: Evidence) -> dict[int, float]:
    """For an adaptive optimizer the preconditioned one."""
    return _values(run, ("sharpness", "preconditioned")) or _values(run, ("sharpness", "value"))


def _times(runs: Mapping[str, Evidence]) -> dict[int, float]:
    """Sum of the learning rates before each step; or the time of the limiting flow at each step that it took."""
    if "limiting" in runs:
        return _values(runs["limiting"], TAU)
    rates = _values(runs[RUN], ("step", "lr"))
    return dict(zip([*rates, max(rates, default=-1) + 1], accumulate(rates.values(), initial=0.0), strict=True))


def _values(run: Evidence, key: Key) -> dict[int, float]:
    """The finite numbers of a series by step."""
    steps, values = run.series.get(key, ((), ()))
    return {int(step): value for step, value in zip(steps, values, strict=True) if step is not None and value is not None}
