"""Several runs held beside each other: which panels they share, in what their specs differ, on which axis they stand. Pure.

Called by the screen and the command that compare runs. Each run has a key, the path of its folder, under which all of it is found.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from eos_tui import clocks, labels
from eos_tui.output import printable
from eos_tui.series import Key
from eos_tui.snapshot import RunSnapshot, trace
from eos_tui.view import FEWEST_STEPS, Extents, View, extents
from eos_tui.window import UNITS, Clock, Unit, Window
from runners.records import Curve, Panel
from runners.run_folder import stem

MISSING = "-"
"""Stands for a key that a spec does not have, and for one without a value."""
SAME = 1e-9
"""Relative difference up to which two thresholds are one."""
THRESHOLD = "its threshold"
"""What a ratio is of where the runs' thresholds have different formulas."""
_AXES: Mapping[Unit, Clock] = {unit: Clock(unit, (0.0, 1.0), (0.0, 1.0)) for unit in UNITS if unit != "steps"}
"""Those whose places are their own numbers."""


@dataclass(frozen=True)
class SharedPanel:
    """What several runs show, each in a panel of its own header."""

    title: str
    panels: Mapping[str, Panel]
    """By run; at least two."""

    def curves(self, *, ratio: bool) -> dict[str, Curve]:
        """What is drawn of each run: its headline number, or that over its own threshold where it has one."""
        found = {run: panel.ratio if ratio else panel.series[0] for run, panel in self.panels.items()}
        return {run: curve for run, curve in found.items() if curve}

    @property
    def ratio_label(self) -> str:
        """What the ratios are of, such as `of 2/lr`; empty where no two runs have one."""
        found = [panel.ratio.label for panel in self.panels.values() if panel.ratio]
        return "" if len(found) < 2 else found[0] if len(set(found)) == 1 else f"of {THRESHOLD}"


class Thresholds(NamedTuple):
    """What the runs' headline numbers of a panel are held against."""

    levels: Sequence[tuple[str, float]]
    """Labels and values of those that are the same for all runs at all times."""
    is_shared: bool
    """Whether all are."""


class Difference(NamedTuple):
    """A key of the spec that has not the same value in all runs."""

    key: str
    """With its tables, such as `optimizer.lr`."""
    values: Mapping[str, Any]
    """By run; None where it is missing."""


def shared_panels(runs: Mapping[str, RunSnapshot]) -> tuple[SharedPanel, ...]:
    """What at least two of the runs show over the step: panels with a title, a first series or a ratio in common.

    A panel of each run at most, in the order of the first run that has it. By the ratio the preconditioned sharpness of one run
    stands beside the sharpness of another.
    """
    groups: list[dict[str, Panel]] = []
    for run, snapshot in runs.items():
        for panel in snapshot.header.panels if snapshot.header else ():
            if panel.x is None:
                group = next((group for group in groups if run not in group and _is_one_of(panel, group.values())), None)
                groups.append({run: panel}) if group is None else group.update({run: panel})
    return tuple(SharedPanel(_title(group.values()), group) for group in groups if len(group) > 1)


def _is_one_of(panel: Panel, group: Iterable[Panel]) -> bool:
    return any(panel.title == other.title or set(_identities(panel)) & set(_identities(other)) for other in group)


def _identities(panel: Panel) -> list[Key]:
    return [(curve.record, curve.field) for curve in (panel.series[0], panel.ratio) if curve]


def _title(panels: Iterable[Panel]) -> str:
    return " / ".join(dict.fromkeys(printable(panel.title) for panel in panels))


def thresholds(shared: SharedPanel, runs: Mapping[str, RunSnapshot]) -> Thresholds:
    """What a shared panel's numbers are held against, as far as it is one for all runs that have it.

    Args:
        shared: The panel.
        runs: Those to look at.
    """
    levels, is_shared = [], True
    for place in range(max(len(panel.references) for panel in shared.panels.values())):
        curves = {run: panel.references[place] for run, panel in shared.panels.items() if place < len(panel.references) and run in runs}
        bounds = [found for run, curve in curves.items() if (found := trace(runs[run], curve).bounds)]
        if not bounds:
            continue
        low, high = min(low for low, _ in bounds), max(high for _, high in bounds)
        if math.isclose(low, high, rel_tol=SAME):
            names = {curve.label for curve in curves.values()}
            levels.append((printable(names.pop()) if len(names) == 1 else "threshold", low))
        else:
            is_shared = False
    return Thresholds(levels, is_shared)


def differences(specs: Mapping[str, Mapping[str, Any] | None]) -> list[Difference]:
    """The keys in which the runs' resolved specs differ, in the order of the first spec that has them.

    Args:
        specs: By run; None where it is not known, of which nothing is said.
    """
    leaves = {run: dict(labels.leaves(spec)) for run, spec in specs.items() if spec is not None}
    keys = dict.fromkeys(key for spec in leaves.values() for key in spec)
    found = [Difference(key, {run: spec.get(key) for run, spec in leaves.items()}) for key in keys]
    return [difference for difference in found if len({_written(value) for value in difference.values.values()}) > 1]


def specs(runs: Mapping[str, RunSnapshot]) -> dict[str, Mapping[str, Any] | None]:
    """The runs' resolved specs, as their logs have them; None before that."""
    return {run: snapshot.header.spec if snapshot.header else None for run, snapshot in runs.items()}


def value_words(value: Any) -> str:
    """A value of a spec as a table shows it."""
    return MISSING if value is None else printable(value) if isinstance(value, str) else _written(value)


def _written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def names(runs: Mapping[str, RunSnapshot]) -> dict[str, str]:
    """What to call each run: its name without time stamp, with what tells its spec apart where that name is not its alone."""
    short = {run: stem(snapshot.name) for run, snapshot in runs.items()}
    if len(set(short.values())) < len(short):
        telling = labels.run_labels(list(runs.values()))
        one = len(set(short.values())) == 1
        short = {
            run: label if one or label == runs[run].name else f"{short[run]} {label}" for run, label in zip(runs, telling, strict=True)
        }
    return {run: " ".join(printable(name).split()) for run, name in short.items()}


def places(runs: Iterable[str], before: Mapping[str, int]) -> dict[str, int]:
    """A number for each run, from 0 on, which decides how its line looks.

    Args:
        runs: Those that are compared, in the order in which they were given.
        before: The numbers until now: a run keeps its own, and a new one gets the smallest that none of these has.
    """
    wanted = list(runs)
    found = {run: before[run] for run in wanted if run in before}
    for run in wanted:
        if run not in found:
            found[run] = next(number for number in range(len(wanted)) if number not in found.values())
    return found


@dataclass(frozen=True)
class Axis:
    """What the runs are laid along, so that they can be held against each other."""

    unit: Unit
    clocks: Mapping[str, Clock | None]
    """By run, where its steps lie; None where the axis counts them. Runs of which that is not known are left out."""
    extents: Extents
    runs: Mapping[str, RunSnapshot]
    """Of which it was made."""

    def windows(self, view: View) -> dict[str, Window]:
        """The steps of each run that lie in what is shown."""
        low, high = view.span or (0.0, self.extents.most)
        return {run: _window(clock, low, high) for run, clock in self.clocks.items()}

    def window(self, view: View) -> Window:
        """What is shown, in the axis's own numbers."""
        low, high = view.span or (0.0, self.extents.most)
        return Window(low, high, _AXES.get(self.unit))

    def step(self, run: str, place: float) -> float:
        """The step of a run that lies there."""
        clock = self.clocks[run]
        return place if clock is None else clock.step(place)


def axis(runs: Mapping[str, RunSnapshot], unit: Unit, *, before: Axis | None = None) -> Axis:
    """The axis on which all of the runs have room.

    Args:
        runs: Those to lay along it.
        unit: What it counts.
        before: One from which the clocks of runs that have not changed since are taken.
    """
    kept = before.clocks if before and before.unit == unit else {}
    is_kept = {run: run in kept and before is not None and before.runs[run] is snapshot for run, snapshot in runs.items()}
    found = {run: kept[run] if is_kept[run] else clocks.clock(snapshot, unit) for run, snapshot in runs.items()}
    if unit == "steps":
        reach = [extents(snapshot) for snapshot in runs.values()]
        end, most = max((one.end for one in reach), default=0.0), max((one.most for one in reach), default=1.0)
        return Axis(unit, found, Extents(end, most), runs)
    known = {run: clock for run, clock in found.items() if clock}
    ends = [(clock, extents(runs[run])) for run, clock in known.items()]
    end = max((clock.place(one.end) for clock, one in ends), default=0.0)
    most = _rounded_up(max((clock.place(one.most) for clock, one in ends), default=1.0))
    paces = [clock.place(one.most) / one.most for clock, one in ends]
    fewest = min(FEWEST_STEPS * max(paces, default=0.0), most / 2)
    return Axis(unit, dict(known), Extents(end, most, fewest=fewest or most / 1e6, is_whole=False), runs)


def units(runs: Mapping[str, RunSnapshot]) -> list[Unit]:
    """The axes on which all runs that have records can be laid; of steps alone where there are none."""
    known = [clocks.units(snapshot) for snapshot in runs.values() if snapshot.num_records > 1]
    return [unit for unit in UNITS if unit == "steps" or (known and all(unit in found for found in known))]


def turned(view: View, before: Axis, after: Axis) -> View:
    """The view on another axis: around the same steps of the first run that stands on both."""
    run = next((run for run in before.clocks if run in after.clocks), None)
    if run is None:
        return replace(view, unit=after.unit, span=None, cursor=None)

    def moved(place: float) -> float:
        clock, step = after.clocks[run], before.step(run, place)
        return after.extents.nearest(step if clock is None else clock.place(step))

    span = (moved(view.span[0]), moved(view.span[1])) if view.span else None
    if span and not span[0] < span[1]:
        span = None
    return replace(view, unit=after.unit, span=span, cursor=None if view.cursor is None else moved(view.cursor))


def _window(clock: Clock | None, low: float, high: float) -> Window:
    """A run's own, whose axis has these ends."""
    if clock is None:
        return Window(low, high)
    first = 0.0 if low <= clock.place(0.0) else clock.step(low)
    return Window(first, max(clock.step(high), first + 1.0), clock, (low, high))


def _rounded_up(value: float) -> float:
    """The next number of two digits: an axis that moved with each estimate of where a run will end would be sent each time."""
    if value <= 0.0:
        return 1.0
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.ceil(value / unit - SAME) * unit
