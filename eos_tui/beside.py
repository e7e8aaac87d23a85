"""A training run beside its flows: what to run, and loss and sharpness of all of them as rows and as charts.

Called by the command line. Reads logs; the flows themselves are runs like any other.
"""

import math
import re
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

import msgspec
from msgspec.structs import asdict

from eos_tui.claims import evidence
from eos_tui.claims.evidence import Evidence
from eos_tui.claims.statements import Chart, Line
from eos_tui.series import Key
from runners import spec_file
from runners.errors import SpecError
from runners.experiments import CentralFlow, Flow, GradientFlow, LimitingFlow, Spec
from runners.run_folder import RunFolder
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
    spec = spec_file.from_json(folder.spec.read_bytes())
    if isinstance(spec, Flow) or not isinstance(spec, Train):
        raise SpecError(
            f'{folder.name} has runner = "{spec.__struct_config__.tag}": expected a training run, beside which flows can stand.'
        )
    asked = spec.measure
    measure = Measure(
        sharpness_every=asked.sharpness_solve_every or SHARPNESS_EVERY,
        solve_every=1,
        ntk_every=0,
        evaluate_every=0,
        tolerance=asked.tolerance,
        max_hvps=asked.max_hvps,
        num_examples=asked.num_examples,
        chunk_size=asked.chunk_size,
    )
    tables = asdict(spec) | {"measure": measure}
    stem = re.sub(r"-\d{8}T\d{6}Z-[0-9a-f]+$", "", folder.name)
    flows = {kind: Flow(**tables, flow=FLOWS[kind](from_step=from_step)) for kind in _kinds(spec)}
    found = {kind: PlannedFlow(f"{kind}-flow-{stem}", flow) for kind, flow in flows.items()}
    for planned in found.values():
        planned.spec()
    return found


def _kinds(spec: Train) -> tuple[str, ...]:
    if isinstance(spec.optimizer, NormalizedGd) or spec.objective.transform == "sqrt":
        return ("limiting",)
    is_of_whole_loss = spec.optimizer.batch_size == "full" and spec.measure.num_examples == "all"
    return ("gradient", "central") if isinstance(spec.optimizer, Sgd | RmsProp) and is_of_whole_loss else ("gradient",)


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
