"""Whether each layer moves as far in a wide net as in a narrow one: the coordinate check. Pure but for reading the sweep's logs.

Source: Yang et al. (2022), arXiv 2203.03466, who look at how large the outputs of each layer are after some steps, over the width. Here
it is their change since the start, in which the spread of the first values has no part.
"""

import math
from collections.abc import Mapping, Sequence

from msgspec import Struct

from eos_tui.evidence import Evidence
from eos_tui.figures import Chart, Line
from eos_tui.reports import members
from eos_tui.reports.fitting import power
from eos_tui.reports.members import SEEDS, Member
from runners.errors import OutputError
from runners.sweeps import SweepFolder

KIND = "activations"
FEWEST_WIDTHS = 3
SETTINGS = ("measure.sharpness_every=0", "measure.ntk_every=0", "measure.evaluate_every=0", "measure.activations_every=1")
"""What a check needs of a run, and nothing else."""


class Slope(Struct, frozen=True, kw_only=True):
    """b of change ~ width^b after so many steps."""

    step: int
    value: float
    error: float | None
    """Half-width of its 95 % confidence interval, from widths and seeds as points of a straight line in logarithms."""


class Layer(Struct, frozen=True, kw_only=True):
    """A layer's verdict."""

    layer: str
    slopes: tuple[Slope, ...]
    """After each step."""
    size_slopes: tuple[Slope, ...]
    """The same of the size of what it gives out, from step 0."""
    verdict: str
    """pass, fail, or unclear: a slope is outside of the tolerance by less than its error."""
    why: str


class CoordinateCheck(Struct, frozen=True, kw_only=True):
    """The report."""

    sweep: str
    widths: tuple[int, ...]
    num_seeds: int
    tolerance: float
    """|slope| that passes."""
    layers: tuple[Layer, ...]
    passes: bool
    """All layers do."""


def report(folder: SweepFolder, *, tolerance: float) -> tuple[CoordinateCheck, list[Chart]]:
    """The slopes of each layer's change over the width, and a chart after each step.

    Args:
        folder: A sweep over one number, the width, and seeds, of runs that measured `activations` at each step.
        tolerance: |slope| that passes.

    Raises:
        LogError: If a log cannot be read.
        OutputError: If there are fewer than three widths, something else varies too, or a run diverged or has no such measurement.
    """
    found, num_missing = members.read(folder)
    if num_missing:
        raise OutputError(f"{folder.name}: {num_missing} runs have not finished. `eos sweep --continue {folder.name}` goes on with them.")
    return check(found, name=folder.name, tolerance=tolerance)


def check(found: Sequence[Member], *, name: str, tolerance: float) -> tuple[CoordinateCheck, list[Chart]]:
    """The same of runs that are read already."""
    keys = [key for key in found[0].values if key not in SEEDS]
    if len(keys) != 1 or not all(isinstance(member.values[keys[0]], int) for member in found):
        raise OutputError(f"{name}: expected a sweep over a width and seeds alone; it varies {', '.join(found[0].values)}.")
    by_width = {values[keys[0]]: [member.run for member in same] for values, same in members.groups(found, keys)}
    if len(by_width) < FEWEST_WIDTHS:
        raise OutputError(f"{name}: a slope with an error takes {FEWEST_WIDTHS} widths; there are {len(by_width)}.")
    diverged = [member.run.snapshot.name for member in found if member.has_diverged]
    if diverged:
        raise OutputError(
            f"{name}: {', '.join(diverged)} diverged. Lower optimizer.lr, for sizes are compared; where wide nets alone diverge, "
            "the parametrization makes them move more."
        )
    layers = []
    changes = {layer: _by_step(by_width, f"changes.{layer}") for layer in _names(found[0].run)}
    for layer, change in changes.items():
        slopes = tuple(_slope(step, points) for step, points in change.items() if step)
        verdict, why = _verdict(slopes, tolerance)
        sizes = tuple(_slope(step, points) for step, points in _by_step(by_width, f"sizes.{layer}").items())
        layers.append(Layer(layer=layer, slopes=slopes, size_slopes=sizes, verdict=verdict, why=why))
    said = CoordinateCheck(
        sweep=name,
        widths=tuple(by_width),
        num_seeds=max(map(len, by_width.values())),
        tolerance=tolerance,
        layers=tuple(layers),
        passes=all(layer.verdict == "pass" for layer in layers),
    )
    return said, _charts(changes)


def _names(run: Evidence) -> list[str]:
    names = [field.removeprefix("changes.") for kind, field in run.series if kind == KIND and field.startswith("changes.")]
    if not names:
        raise OutputError(f"{run.snapshot.name} has no measurement of what its layers give out. measure.activations_every = 1 makes one.")
    return names


def _by_step(by_width: Mapping[int, Sequence[Evidence]], field: str) -> dict[int, list[tuple[float, float]]]:
    """By step: width and value of each run; None in a log stands for what is not finite."""
    found: dict[int, list[tuple[float, float]]] = {}
    for width, runs in by_width.items():
        for run in runs:
            steps, values = run.series.get((KIND, field), ((), ()))
            for step, value in zip(steps, values, strict=True):
                found.setdefault(int(step or 0), []).append((width, math.inf if value is None else value))
    return dict(sorted(found.items()))


def _slope(step: int, points: Sequence[tuple[float, float]]) -> Slope:
    found = power(*zip(*points, strict=True))
    if found is None:
        return Slope(step=step, value=0.0, error=None)
    return Slope(step=step, value=found.exponent, error=found.error)


def _verdict(slopes: Sequence[Slope], tolerance: float) -> tuple[str, str]:
    """Judged by the slope that is farthest out: a layer that is wrong is so after each step, but shows it after one more than another."""
    worst = max(slopes, key=lambda slope: abs(slope.value))
    excess = abs(worst.value) - tolerance
    if excess <= 0:
        return "pass", ""
    if worst.error is None or excess < worst.error:
        return "unclear", "outside of the tolerance by less than its error: take more seeds, or a wider range of widths"
    return "fail", "moves more the wider the net is" if worst.value > 0 else "moves less the wider the net is"


def _charts(changes: Mapping[str, Mapping[int, Sequence[tuple[float, float]]]]) -> list[Chart]:
    """One for each step, a line for each layer."""
    steps = sorted({step for change in changes.values() for step in change if step})
    return [
        Chart(
            x="width",
            y=f"change after {step} step{'s' if step > 1 else ''}",
            lines=tuple(_line(layer, change.get(step, ())) for layer, change in changes.items()),
            log_x=True,
            log_y=True,
        )
        for step in steps
    ]


def _line(layer: str, points: Sequence[tuple[float, float]]) -> Line:
    means = [(width, members.mean_and_sem([value for each, value in points if each == width])) for width in dict(points)]
    return Line(layer, [(width, mean) for width, (mean, _) in means], errors=[error or 0.0 for _, (_, error) in means])
