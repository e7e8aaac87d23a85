"""Figures for papers from runs' logs: the panels of the live view, one below the other, over one axis of steps.

Those with an x axis of their own come last. Called by the command line. matplotlib is an optional package and imported where
it draws, without its global state.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import chain
from math import isfinite, nan
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from eos_tui.labels import run_labels
from eos_tui.log_reader import read_whole
from eos_tui.profiles import floor, in_sight
from eos_tui.replacing import replacing
from eos_tui.series import Key, by_kind, points
from eos_tui.snapshot import RunSnapshot, profiles
from eos_tui.snapshot import value as last_value
from eos_tui.watcher import RunWatcher
from runners.errors import OutputError
from runners.records import Curve, Panel
from runners.run_folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

ENDINGS = (".png", ".svg", ".pdf")
MAX_POINTS = 20_000
"""A longer series is drawn by its extremes in `COLUMNS` columns, which on paper looks the same."""
COLUMNS = 1000
"""A column's width of print at 300 dots an inch."""
WIDTH, PANEL_HEIGHT, X_HEIGHT = 3.4, 1.55, 0.3
"""Of a figure that fills one of a page's two columns, of each panel, and of an x axis of its own; in inches."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Told apart by the colour-blind. Source: Okabe and Ito (2008), "Color Universal Design"; the yellow is left out, which print loses."""
Dash: TypeAlias = Literal["-"] | tuple[float, Sequence[float]]
OTHER_DASHES: tuple[Dash, ...] = ((0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
"""Of the series beside a panel's first, where colours tell runs apart."""
REFERENCE_DASH: Dash = (0, (4, 2))
GREY = "0.35"
MAX_LABELS = 4
"""Series of a panel that each have their own line in its legend."""
IN_SIGHT = 4.0
"""An axis reaches to references up to so many times the largest value; a farther one does not press the series flat."""
FEW_POINTS = 40
"""Up to so many points each is marked."""
MANY_POINTS = 1000
"""From here on a series beside the headline is paler, for it covers an area."""
MAX_MAGNITUDE = 1e100
"""Larger numbers are left out, and those nearer to zero than its inverse drawn as zero: the arithmetic of axes overflows on them."""
STYLE = {
    "font.size": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "legend.labelspacing": 0.3,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.1,
    "lines.solid_capstyle": "round",
    "pdf.fonttype": 42,
    "svg.hashsalt": "eos",
    "savefig.dpi": 300,
}

Points: TypeAlias = tuple[Sequence[float], Sequence[float]]
"""Steps and values; NaN breaks the line."""


@dataclass(frozen=True)
class _Run:
    """A run as the figure shows it."""

    label: str
    panels: tuple[Panel, ...]
    points: Mapping[Key, Points]
    """Of what is drawn over steps."""
    snapshot: RunSnapshot

    def of(self, curve: Curve) -> Points:
        """The points of a curve; none when it was never measured."""
        return self.points.get((curve.record, curve.field), ((), ()))


@dataclass(frozen=True)
class _Line:
    """A line of a panel, and how it is drawn."""

    label: str
    points: Points
    colour: str
    _: KW_ONLY
    dash: Dash
    order: int
    """Higher ones lie on top; the panel's headline has 10."""
    error: Points | None = None
    """Half-widths of a band, at the steps of the points."""
    is_reference: bool = False
    is_upright: bool = False
    """A value of x."""


def plot(folders: Sequence[RunFolder], output: Path) -> Path:
    """Draw the panels of one run, or of several over each other, into a file.

    Args:
        folders: The runs; at least one.
        output: The file, replaced if it exists. Its ending says the format: .png, .svg or .pdf.

    Returns:
        The file.

    Raises:
        LogError: If a log cannot be read.
        OutputError: If the ending is another one, the file cannot be written, a run has no panels yet, or matplotlib is missing.
    """
    check_ending(output)
    try:
        from matplotlib import style
    except ImportError:
        raise OutputError("Plots need the package matplotlib, which is not here. Install it: pip install 'eos-tui[plot]'") from None
    runs = _read(folders)
    with style.context(["default", STYLE]), replacing(output) as path:
        save(_figure(runs), path, output.suffix.lower()[1:])
    return output


def check_ending(output: Path) -> None:
    """Find out whether a file's name says a format that can be written.

    Raises:
        OutputError: If it does not.
    """
    if output.suffix.lower() not in ENDINGS:
        raise OutputError(f"{output}: expected a name that ends in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}, which says the format.")


def save(figure: "Figure", path: Path, kind: str) -> None:
    """Write a figure without the date, so that the same log makes the same file.

    Args:
        figure: What to write.
        path: The file.
        kind: png, svg or pdf.
    """
    date = {"svg": "Date", "pdf": "CreationDate"}.get(kind)
    figure.savefig(path, format=kind, metadata={date: None} if date else None)


def _read(folders: Sequence[RunFolder]) -> list[_Run]:
    snapshots = [RunWatcher(folder).catch_up() for folder in folders]
    labels = run_labels(snapshots)
    runs = []
    for folder, snapshot, label in zip(folders, snapshots, labels, strict=True):
        if snapshot.header is None or not snapshot.header.panels:
            raise OutputError(f"{folder.name} has nothing to draw: its log has no header yet, or one without panels.")
        runs.append(_Run(label, snapshot.header.panels, _all_points(folder, snapshot), snapshot))
    return runs


def _all_points(folder: RunFolder, snapshot: RunSnapshot) -> Mapping[Key, Points]:
    """The points of what the panels show: all of a short series, the extremes of a long one."""
    assert snapshot.header is not None
    curves = chain.from_iterable((*panel.series, *panel.references, panel.error) for panel in snapshot.header.panels if not panel.x)
    wanted = {(curve.record, curve.field) for curve in curves if curve} & snapshot.traces.keys()
    short = {key for key in wanted if len(snapshot.traces[key]) <= MAX_POINTS}
    found: dict[Key, tuple[list[float], list[float]]] = {key: ([], []) for key in short}
    for records in read_whole(folder.log) if short else ():
        for key, steps, values in points(by_kind(records)):
            if key in short:
                found[key][0].extend(steps)
                found[key][1].extend(_drawable(value) for value in values)
    return found | {key: _extremes(snapshot, key) for key in wanted - short}


def _drawable(value: float | None) -> float:
    if value is None or not abs(value) <= MAX_MAGNITUDE:
        return nan
    return value if abs(value) >= 1 / MAX_MAGNITUDE else 0.0


def _extremes(snapshot: RunSnapshot, key: Key) -> tuple[list[float], list[float]]:
    trace = snapshot.traces[key]
    begin, end = trace.first_x or 0.0, trace.last_x or 0.0
    xs: list[float] = []
    ys: list[float] = []
    for index, column in enumerate(trace.columns(begin, end, COLUMNS)):
        if column is None:
            continue
        values = [nan] * column.gap + [column.first, column.minimum, column.maximum, column.last]
        xs += [begin + (index + 0.5) * (end - begin) / COLUMNS] * len(values)
        ys += map(_drawable, values)
    return xs, ys


def _figure(runs: Sequence[_Run]) -> "Figure":
    from matplotlib.figure import Figure

    several = len(runs) > 1
    kinds = sorted(dict.fromkeys((panel.x is not None, panel.title) for run in runs for panel in run.panels), key=itemgetter(0))
    num_over_steps = sum(not has_x for has_x, _ in kinds)
    height = 0.35 + PANEL_HEIGHT * len(kinds) + X_HEIGHT * (len(kinds) - num_over_steps) + (0.16 * len(runs) if several else 0.0)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    all_axes: list[Axes] = list(figure.subplots(len(kinds), 1, squeeze=False)[:, 0])
    _share_steps(all_axes[:num_over_steps])
    for kind, axes in zip(kinds, all_axes, strict=True):
        shown = [
            (run, panel, index) for index, run in enumerate(runs) for panel in run.panels if (panel.x is not None, panel.title) == kind
        ]
        lines = (_profiles if kind[0] else _lines)(shown, several=several)
        _draw_panel(axes, shown[0][1], list(lines), several=several)
    figure.align_ylabels(all_axes)
    if several:
        handles = [_handle(COLOURS[index % len(COLOURS)]) for index in range(len(runs))]
        figure.legend(handles, [_plain(run.label) for run in runs], loc="outside upper left")
    return figure


def _share_steps(all_axes: Sequence["Axes"]) -> None:
    """One axis of steps, written below the last of the panels."""
    for axes in all_axes[:-1]:
        axes.sharex(all_axes[-1])
        axes.tick_params(labelbottom=False)
    for axes in all_axes[-1:]:
        axes.set_xlabel("step")
        axes.margins(x=0.01)


def _lines(shown: Sequence[tuple[_Run, Panel, int]], *, several: bool) -> Iterator[_Line]:
    """A panel's lines of all runs. Colours tell the runs apart and dashes the series or, where there is one run, colours do."""
    others = list(dict.fromkeys(_label(panel, rank) for _, panel, _ in shown for rank in range(1, len(panel.series))))
    for run, panel, number in shown:
        colour = COLOURS[number % len(COLOURS)]
        for rank, curve in enumerate(panel.series):
            label = _label(panel, rank)
            own = colour if several else GREY if rank and label != curve.label else COLOURS[rank % len(COLOURS)]
            dash = OTHER_DASHES[others.index(label) % len(OTHER_DASHES)] if several and rank else "-"
            error = run.of(panel.error) if panel.error and not rank else None
            yield _Line(label, run.of(curve), own, dash=dash, order=10 - rank, error=error)
        for curve in panel.references:
            yield _Line(curve.label, run.of(curve), colour, dash=REFERENCE_DASH, order=1, is_reference=True)


def _label(panel: Panel, rank: int) -> str:
    """A series' label; of more than a legend has room for one for all but the first, which their order tells apart."""
    series = panel.series
    return f"{series[1].label} to {series[-1].label}" if rank and len(series) > MAX_LABELS else series[rank].label


def _profiles(shown: Sequence[tuple[_Run, Panel, int]], *, several: bool) -> Iterator[_Line]:
    """The lines of a panel with an x axis of its own: each run's last profile and, where there is one run, its first behind in grey."""
    for run, panel, number in shown:
        colour = COLOURS[number % len(COLOURS)]
        found = [(label, (_all_drawable(xs), _all_drawable(ys))) for label, (xs, ys) in profiles(run.snapshot, panel)]
        for rank, (label, (xs, ys)) in enumerate(found[:1] if several else found):
            error = _profile_error(run, panel, xs) if not rank else None
            words = panel.series[0].label if several else label
            yield _Line(words, (xs, ys), GREY if rank else colour, dash="-", order=10 - rank, error=error)
        places = [x for _, (xs, _) in found for x in xs if isfinite(x)]
        for curve in panel.references if places else ():
            if (value := last_value(run.snapshot, curve)) is not None and in_sight(min(places), max(places), [value]):
                points = (value, value), (0.0, 1.0)
                yield _Line(curve.label, points, colour, dash=REFERENCE_DASH, order=1, is_reference=True, is_upright=True)


def _profile_error(run: _Run, panel: Panel, xs: Sequence[float]) -> Points | None:
    values = getattr(run.snapshot.last.get(panel.error.record), panel.error.field, None) if panel.error else None
    return (xs, _all_drawable(values)) if isinstance(values, tuple) and len(values) == len(xs) else None


def _all_drawable(values: Sequence[float | None]) -> list[float]:
    return [_drawable(value) for value in values]


def _draw_panel(axes: "Axes", panel: Panel, lines: Sequence[_Line], *, several: bool) -> None:
    title = ", ".join(filter(None, (panel.title, panel.remark)))
    axes.set_ylabel(_plain(f"{title} ({panel.unit})" if panel.unit else title))
    if panel.x:
        axes.set_xlabel(_plain(panel.x.label))
        axes.margins(x=0.01)
    for line in lines:
        _draw_line(axes, line)
    values = [y for line in lines if not line.is_reference for y in line.points[1] if isfinite(y)]
    if not values:
        axes.text(0.5, 0.5, "nothing measured", transform=axes.transAxes, ha="center", va="center", color=GREY)
        axes.set_yticks([])
        return
    references = [y for line in lines if line.is_reference and not line.is_upright for y in line.points[1] if isfinite(y)]
    _scale(axes, values, references, panel=panel)
    legend = {line.label: line for line in reversed(lines) if line.points[0]}
    if len(legend) > 1:
        handles = [_handle(GREY if several else line.colour, line.dash) for line in reversed(legend.values())]
        axes.legend(handles, [_plain(label) for label in reversed(legend)], loc="best")


def _draw_line(axes: "Axes", line: _Line) -> None:
    xs, ys = line.points
    if line.is_upright:
        axes.axvline(xs[0], color=line.colour, linestyle=line.dash, linewidth=0.9, zorder=line.order)
        return
    marker = "o" if len(xs) <= FEW_POINTS and not line.is_reference else ""
    dense = len(xs) > MANY_POINTS and line.order < 10
    width = 0.9 if line.is_reference or dense else 1.2
    alpha = 0.55 if dense and not line.is_reference else 1.0
    axes.plot(xs, ys, color=line.colour, linestyle=line.dash, linewidth=width, alpha=alpha, marker=marker, markersize=2, zorder=line.order)
    if line.error and line.error[0] == xs:
        low, high = zip(*((y - e, y + e) for y, e in zip(ys, line.error[1], strict=True)), strict=True) if xs else ((), ())
        axes.fill_between(xs, low, high, color=line.colour, alpha=0.25, linewidth=0, zorder=line.order - 1)


def _scale(axes: "Axes", values: Sequence[float], references: Sequence[float], *, panel: Panel) -> None:
    """Linear or, where there is something above zero, log; high enough for the series and the references in sight."""
    positive = [value for value in values if value > 0]
    if panel.scale == "log" and positive:
        axes.set_yscale("log", nonpositive="clip" if panel.decades else "mask")
        if panel.decades:
            axes.set_ylim(bottom=max(floor(positive, panel.decades), 1 / MAX_MAGNITUDE))
            axes.minorticks_off()
        return
    top = max(values)
    seen = [reference for reference in references if reference <= IN_SIGHT * top]
    if references and len(seen) < len(references):
        low, high = min(values), max([top, *seen])
        margin = max(0.05 * (high - low), 1e-6 * abs(high)) or 1.0
        axes.set_ylim(low - margin, high + margin)


def _handle(colour: str, dash: Dash = "-") -> "Line2D":
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, linestyle=dash, linewidth=1.2)


def _plain(text: str) -> str:
    """The text as it is: a dollar sign begins no formula."""
    return text.replace("$", r"\$")
