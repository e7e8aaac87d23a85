"""Whether the best learning rate stays where it is as a net becomes wider or deeper. Pure but for reading the sweep's logs.

Source: learning-rate transfer as in Yang et al. (2022), arXiv 2203.03466, and Noci et al. (2024), arXiv 2402.17457: under muP the learning
rate with the lowest training loss is the same at each width, with Depth-muP at each depth.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import Struct

from eos_tui.evidence import NotMeasuredError, Quantity
from eos_tui.figures import Chart, Line
from eos_tui.numerals import format_number
from eos_tui.reports import members
from eos_tui.reports.fitting import power
from eos_tui.reports.members import LR, SEEDS, Member, Values
from runners.errors import OutputError
from runners.sweeps import SweepFolder

LAST_SHARE = 0.1
"""Of a run's steps, the last ones, over which a loss of batches is averaged."""
FEWEST = 3
"""Learning rates between which a best one can lie off both ends."""
TOLERANCE = 1.0
"""Steps of the grid that the best learning rate may move where nobody says how many; the default of `eos transfer` too."""
ALIKE = 0.8
"""Confidence with which a loss is above the lowest one. A false shift takes two of them: it is then called one in 6 cases of 100 or less,
where the seeds' noise alone shifts the best one in 30 to 60 (simulated)."""
SAME = 1e-6
"""Relative difference of learning rates below which they are the same."""


class Best(Struct, frozen=True, kw_only=True):
    """The best learning rate of nets of one size."""

    values: dict[str, Any]
    """What makes the size, by key."""
    lr: float
    """With the lowest mean loss over seeds; the lowest one tried where at each a run diverged."""
    by_seed: tuple[float, ...]
    """That of each seed alone; one number where there is one seed."""
    between: float | None
    """Vertex of the parabola through log loss over log lr at the best and its neighbours; null beside an end, or a diverged run."""
    between_error: float | None
    """Standard error of log(between) over seeds; null with fewer than two that have one."""
    loss: float
    """Infinite, in JSON null, where at each learning rate a run diverged."""
    loss_error: float | None
    """Standard error over seeds; null with one."""
    end: str | None
    """lowest or highest, where it is that of the learning rates tried: the best one may lie beyond."""
    diverges_from: float | None
    """The lowest learning rate above it at which a run diverged."""


class Group(Struct, frozen=True, kw_only=True):
    """Nets of several sizes that are alike in all else."""

    values: dict[str, Any]
    """What they are alike in, of that which varies."""
    bests: tuple[Best, ...]
    grid_step: float
    """Factor from one learning rate to the next; the median one."""
    shift: float
    """From the lowest best learning rate of a size to the highest, in steps of the grid."""
    shift_by_seed: tuple[float, ...]
    """The same of each seed alone."""
    least_shift: float
    """The least shift of learning rates whose losses noise may have put above the lowest; with one seed `shift`."""
    exponent: float | None
    """b of `between` ~ size^b; null unless one size varies, with three values at least that have one."""
    exponent_error: float | None
    """Half-width of its 95 % confidence interval."""
    verdict: str
    """stays, moves, or open: it seems to stay, but a best one lies at an end of the grid; or to move, but noise may do as much."""
    warnings: tuple[str, ...]


class Transfer(Struct, frozen=True, kw_only=True):
    """The report."""

    sweep: str
    loss: str
    """What is compared."""
    tolerance: float
    """Steps of the grid that the best learning rate may move."""
    groups: tuple[Group, ...]
    num_missing: int
    """Runs that have not come to an end of their own, and are left out."""


class Trial(NamedTuple):
    """A run's loss: infinite where the run diverged."""

    size: Values
    lr: float
    seed: str
    loss: float


def report(folder: SweepFolder, *, tolerance: float, loss: str | None = None, sizes: Sequence[str] = ()) -> tuple[Transfer, list[Chart]]:
    """Where the best learning rate of each size lies, by all else that varies, and a chart of each such group.

    Args:
        folder: A sweep that varies `optimizer.lr` and a size; seeds are optional.
        tolerance: Steps of the grid that the best learning rate may move.
        loss: `kind.field` of the log, whose last value is compared; None for the mean of `step.loss` over the last tenth of the steps.
        sizes: Keys that make the size; none for width and depth.

    Raises:
        LogError: If a log cannot be read.
        OutputError: If the sweep varies no learning rate or no size, or a run has no such loss.
    """
    found, num_missing = members.read(folder)
    varied = tuple(found[0].values)
    if LR not in varied:
        raise OutputError(
            f"{folder.name} does not vary {LR}. What varies: {', '.join(varied)}. `eos sweep SPEC --grid {LR}=0.1:3.2:x2 ...` does."
        )
    keys = members.sizes_of(found, sizes, name=folder.name)
    others = [key for key in varied if key not in (LR, *SEEDS, *keys)]
    groups, charts = [], []
    for values, alike in members.groups(found, others):
        trials = [trial(member, keys, loss=loss) for member in alike]
        groups.append(group(trials, values=values, tolerance=tolerance))
        charts.append(chart(trials, groups[-1], loss=loss or "training loss"))
    said = Transfer(sweep=folder.name, loss=loss or "step.loss", tolerance=tolerance, groups=tuple(groups), num_missing=num_missing)
    return said, charts


def final_loss(member: Member, name: str | None = None) -> float:
    """A run's loss at its end: infinite where it diverged.

    Args:
        member: The run.
        name: `kind.field` of the log, whose last value counts; None for the mean of `step.loss` over the last tenth of the steps.

    Raises:
        OutputError: If its log has no such loss.
    """
    if member.has_diverged:
        return math.inf
    run = member.run
    kind, _, field = (name or "step.loss").partition(".")
    try:
        found = [(step, measured.value) for step, measured in run.all(Quantity(kind, field)).items()]
    except NotMeasuredError as error:
        raise OutputError(
            f"{error} Expected a kind of record and its field, such as metrics.values.test_loss, that all runs have."
        ) from error
    if name is not None:
        return found[-1][1]
    last = [value for step, value in found if step >= (1 - LAST_SHARE) * run.snapshot.steps] or [found[-1][1]]
    return math.fsum(last) / len(last)


def trial(member: Member, sizes: Sequence[str], *, loss: str | None = None) -> Trial:
    """A run's loss, with what it is held against others by.

    Raises:
        OutputError: If its learning rate is no number, or its log has no such loss.
    """
    return placed(member.values, sizes, loss=final_loss(member, loss))


def placed(values: Values, sizes: Sequence[str], *, loss: float) -> Trial:
    """This loss, with what it is held against others by.

    Raises:
        OutputError: If its learning rate is no number.
    """
    lr = values[LR]
    if not isinstance(lr, int | float):
        raise OutputError(f"{LR} = {lr} is no number; only numbers can be put in order.")
    seed = members.label({key: values[key] for key in SEEDS if key in values})
    return Trial({key: values[key] for key in sizes}, float(lr), seed, loss)


def group(trials: Sequence[Trial], *, values: Mapping[str, Any], tolerance: float) -> Group:
    """Where the best learning rates of several sizes lie.

    Args:
        trials: Of all sizes.
        values: What they are alike in.
        tolerance: Steps of the grid that the best may move.

    Raises:
        OutputError: If a size has fewer than three learning rates.
    """
    by_size: dict[str, list[Trial]] = {}
    for each in sorted(trials, key=lambda trial: [members.in_order(value) for value in trial.size.values()]):
        by_size.setdefault(repr(each.size), []).append(each)
    bests = tuple(best(same) for same in by_size.values())
    step = _grid_step([each.lr for each in trials])
    shift = _shift([each.lr for each in bests], step)
    seeds = zip(*(each.by_seed for each in bests), strict=True) if len({len(each.by_seed) for each in bests}) == 1 else ()
    least = _least_shift(list(by_size.values()), bests, step)
    exponent = _exponent(bests)
    verdict = "moves" if least > tolerance + SAME else "open" if shift > tolerance + SAME or any(each.end for each in bests) else "stays"
    return Group(
        values=dict(values),
        bests=bests,
        grid_step=step,
        shift=shift,
        shift_by_seed=tuple(_shift(own, step) for own in seeds),
        least_shift=least,
        exponent=exponent[0],
        exponent_error=exponent[1],
        verdict=verdict,
        warnings=tuple(_warnings(bests, step)),
    )


def best(trials: Sequence[Trial]) -> Best:
    """The best learning rate of one size.

    Raises:
        OutputError: If there are fewer than three learning rates.
    """
    by_lr = _by_lr(trials)
    size = trials[0].size
    if len(by_lr) < FEWEST:
        raise OutputError(f"{members.label(size)}: runs at {len(by_lr)} learning rates have ended; a best one needs {FEWEST} at least.")
    losses = {lr: members.mean_and_sem([each.loss for each in same]) for lr, same in by_lr.items()}
    lr = min(losses, key=lambda lr: losses[lr][0])
    seeds = sorted({each.seed for each in trials})
    own = [{lr: each.loss for lr, same in by_lr.items() for each in same if each.seed == seed} for seed in seeds]
    vertices = [found for losses_of_seed in own if (found := vertex(losses_of_seed)) is not None]
    lrs = list(by_lr)
    return Best(
        values=dict(size),
        lr=lr,
        by_seed=tuple(min(found, key=found.__getitem__) for found in own),
        between=vertex({lr: mean for lr, (mean, _) in losses.items()}),
        between_error=members.mean_and_sem([math.log(found) for found in vertices])[1] if vertices else None,
        loss=losses[lr][0],
        loss_error=losses[lr][1],
        end={lrs[0]: "lowest", lrs[-1]: "highest"}.get(lr),
        diverges_from=next((each for each in lrs if each > lr and math.isinf(losses[each][0])), None),
    )


def words(found: Group, *, tolerance: float) -> str:
    """The verdict in a sentence, with what it is made of."""
    verdicts = {
        "stays": "The best learning rate stays",
        "moves": "The best learning rate MOVES",
        "open": "OPEN: the best learning rate seems to stay, but lies at an end of the grid",
    }
    is_noise = found.shift > tolerance + SAME >= found.least_shift
    verdict = "OPEN: the best learning rate seems to move, but noise of the seeds may do as much" if is_noise else verdicts[found.verdict]
    low, high = (f"{end(found.shift_by_seed or (0.0,)):.4g}" for end in (min, max))
    seeds = f", of the seeds alone {low if low == high else f'{low} to {high}'}" if len(found.shift_by_seed) > 1 else ""
    steps = "step" if found.shift == 1 else "steps"
    allowed = f"up to {tolerance:.4g} counts as staying"
    said = f"{verdict}: it moves by {found.shift:.4g} {steps} of x{found.grid_step:.4g}{seeds}; {allowed}."
    if found.verdict == "moves" and all(len(best.by_seed) == 1 for best in found.bests):
        said += " One seed does not tell it from noise."
    if found.exponent is None:
        return said
    size = next(iter(found.bests[0].values)).rsplit(".", 1)[-1]
    error = "" if found.exponent_error is None else f" ± {found.exponent_error:.1g}"
    return f"{said} It goes like {size}^{format_number(found.exponent)}{error}."


def vertex(losses: Mapping[float, float]) -> float | None:
    """Where the parabola through log loss over log lr, at the best learning rate and its two neighbours, is lowest.

    None when the best is an end, or a loss there is not > 0 and finite. The parabola interpolates; it is no model of the loss.
    """
    lrs = sorted(losses)
    at = lrs.index(min(lrs, key=losses.__getitem__))
    near = lrs[at - 1 : at + 2] if at else []
    if len(near) < FEWEST or not all(0 < losses[lr] < math.inf for lr in near):
        return None
    (x0, y0), (x1, y1), (x2, y2) = [(math.log(lr), math.log(losses[lr])) for lr in near]
    left, right = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)
    curvature = (right - left) / (x2 - x0)
    return math.exp((x0 + x1) / 2 - left / (2 * curvature)) if curvature > 0 else None


def chart(trials: Sequence[Trial], found: Group, *, loss: str) -> Chart:
    """Loss over learning rate, a line for each size, its best learning rate pointed out."""
    lines = []
    for each in found.bests:
        by_lr = _by_lr([trial for trial in trials if dict(trial.size) == each.values])
        means = {lr: members.mean_and_sem([trial.loss for trial in same]) for lr, same in by_lr.items()}
        finite = {lr: (mean, error or 0.0) for lr, (mean, error) in means.items() if math.isfinite(mean)}
        points = [(lr, mean) for lr, (mean, _) in finite.items()]
        stars = [(each.lr, each.loss)] if each.lr in finite else []
        lines.append(Line(members.label(each.values), points, errors=[error for _, error in finite.values()], stars=stars))
    are_positive = all(y > 0 for line in lines for _, y in line.points)
    title = f"{loss}, {members.label(found.values)}" if found.values else loss
    return Chart(x="learning rate", y=title, lines=tuple(lines), log_x=True, log_y=are_positive)


def _by_lr(trials: Sequence[Trial]) -> dict[float, list[Trial]]:
    """Apart by learning rate, from the lowest up."""
    ordered = sorted(trials, key=lambda trial: trial.lr)
    return {lr: list(same) for lr, same in itertools.groupby(ordered, key=lambda trial: trial.lr)}


def _grid_step(lrs: Sequence[float]) -> float:
    different = sorted(set(lrs))
    factors = sorted(after / before for before, after in itertools.pairwise(different) if before > 0 and after / before > 1 + SAME)
    if not factors:
        raise OutputError("The learning rates have to be > 0, three of them at least.")
    return factors[len(factors) // 2]


def _shift(lrs: Sequence[float], step: float) -> float:
    return math.log(max(lrs) / min(lrs)) / math.log(step)


def _least_shift(sizes: Sequence[Sequence[Trial]], bests: Sequence[Best], step: float) -> float:
    """The least shift between learning rates that are as good as the best of their size, for all that the seeds tell.

    The noise of log loss is taken to be the same at the best learning rates and beside them, for all sizes.
    """
    losses = [{lr: [each.loss for each in same] for lr, same in _by_lr(trials).items()} for trials in sizes]
    variances, freedom = [], 0
    for found, each in zip(losses, bests, strict=True):
        lrs = list(found)
        at = lrs.index(each.lr)
        for near in lrs[max(at - 1, 0) : at + 2]:
            if len(found[near]) > 1 and all(0 < loss < math.inf for loss in found[near]):
                _, sem = members.mean_and_sem([math.log(loss) for loss in found[near]])
                assert sem is not None
                variances.append((len(found[near]) - 1) * len(found[near]) * sem**2)
                freedom += len(found[near]) - 1
    if not freedom:
        return _shift([each.lr for each in bests], step)
    from scipy import stats

    noise = float(stats.t.ppf(ALIKE, freedom)) * math.sqrt(math.fsum(variances) / freedom)
    alike = [_as_good(found, each, noise) for found, each in zip(losses, bests, strict=True)]
    shifts = []
    for low in itertools.chain(*alike):
        above = [min((lr for lr in lrs if lr >= low), default=math.inf) for lrs in alike]
        shifts.append(math.log(max(above) / low) / math.log(step))
    return min(shifts)


def _as_good(losses: Mapping[float, Sequence[float]], best: Best, noise: float) -> list[float]:
    """Learning rates whose mean loss is not above the lowest by more than noise, with this much of it for one run."""
    if not 0 < best.loss < math.inf:
        return [best.lr]
    lowest = len(losses[best.lr])
    return [
        lr
        for lr, found in losses.items()
        if math.log(members.mean_and_sem(found)[0] / best.loss) <= noise * math.sqrt(1 / len(found) + 1 / lowest)
    ]


def _exponent(bests: Sequence[Best]) -> tuple[float | None, float | None]:
    """Of places between the grid's learning rates: those of the grid itself would be without error where all are one."""
    if len(bests) < FEWEST or len(bests[0].values) != 1:
        return None, None
    points = [(next(iter(each.values.values())), each.between) for each in bests if each.between is not None]
    if len(points) < FEWEST or not all(isinstance(size, int | float) and size > 0 for size, _ in points):
        return None, None
    found = power(*zip(*points, strict=True))
    return (found.exponent, found.error) if found else (None, None)


def _warnings(bests: Sequence[Best], step: float) -> list[str]:
    said = []
    for each in bests:
        size = members.label(each.values)
        if math.isinf(each.loss):
            said.append(f"{size}: at each learning rate a run diverged. Try lower ones.")
        elif each.end:
            beyond = "above" if each.end == "highest" else "below"
            said.append(f"{size}: the best learning rate, {each.lr:.4g}, is the {each.end} one tried. Try some {beyond} it.")
        if _shift(each.by_seed, step) > 1 + SAME:
            low, high = (f"{end(each.by_seed):.4g}" for end in (min, max))
            said.append(f"{size}: the seeds disagree, their best ones lie from {low} to {high}. Take more seeds, or more steps.")
    if len(bests) == 1:
        said.append("There is one size only, so nothing can move.")
    return said
