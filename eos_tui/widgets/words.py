"""What a run's numbers say in words: pure functions of a snapshot, with no arithmetic beyond rounding.

Used by the run screen's text widgets. Thresholds and ratios come from the records; nothing here derives one.
"""

from dataclasses import dataclass

from eos_tui.numerals import format_number
from eos_tui.output import printable
from eos_tui.snapshot import RunSnapshot, Status, trace
from runners.records import Curve, Panel

NOT_MEASURED = "not measured yet"
NOT_FINITE = "not finite"
AT_EDGE = (0.9, 1.1)
"""Ratios to the threshold between which a quantity is said to be at its edge: it oscillates around 1 there."""


@dataclass(frozen=True)
class Standing:
    """How a quantity stands to its threshold."""

    title: str
    ratio: float
    words: str
    """The ratio and what it is a ratio of."""
    notes: str

    @property
    def place(self) -> str:
        """Where it stands."""
        low, high = AT_EDGE
        return "below its edge" if self.ratio < low else "at its edge" if self.ratio <= high else "past its edge"

    @property
    def long(self) -> str:
        """A sentence."""
        return f"{self.title} {self.place}: {self.words}{self.notes}"

    @property
    def short(self) -> str:
        """The same where there is less room."""
        return f"{self.title} {self.words}{self._place}{self.notes}"

    @property
    def bare(self) -> str:
        """The ratio alone, where there is hardly any."""
        return f"{self.title} {format_number(self.ratio)}{self._place}"

    @property
    def _place(self) -> str:
        return "" if self.ratio < AT_EDGE[0] else f", {self.place.replace(' its', '')}"


def duration(seconds: float) -> str:
    """Seconds in the one or two units that matter: 4 s, 3 min 20 s, 2 h 5 min, 3 d 4 h."""
    whole = max(0, round(seconds))
    for size, unit, smaller, smaller_unit in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit} {rest} {smaller_unit}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def reading(snapshot: RunSnapshot, curve: Curve) -> str:
    """The curve's last value, or why there is none."""
    last = trace(snapshot, curve).last
    if last is None:
        return NOT_MEASURED
    return NOT_FINITE if last[1] is None else format_number(last[1])


def last_value(snapshot: RunSnapshot, curve: Curve | None) -> float | None:
    """The curve's last value; None when there is none or it is not finite."""
    last = trace(snapshot, curve).last if curve else None
    return None if last is None else last[1]


def panel_words(snapshot: RunSnapshot, panel: Panel) -> str:
    """A panel in one line: headline number, what it is held against, notes."""
    head = f"{panel.headline} {reading(snapshot, panel.series[0])}"
    if panel.x and (record := snapshot.last.get(panel.series[0].record)):
        head = f"{panel.title} of step {record.step:,}"
    elif panel.unit and last_value(snapshot, panel.series[0]) is not None:
        head += f" {panel.unit}"
    ratio = last_value(snapshot, panel.ratio)
    if panel.ratio and ratio is not None:
        head += f" = {format_number(ratio)} {panel.ratio.label}"
    return head + _notes(snapshot, panel)


def edges(snapshot: RunSnapshot) -> list[Standing]:
    """How the panels that have a threshold stand to it: the one nearest to its edge, or farthest past it, first."""
    panels = snapshot.header.panels if snapshot.header else ()
    found = [
        Standing(panel.title, ratio, f"{format_number(ratio)} {panel.ratio.label}", _notes(snapshot, panel))
        for panel in panels
        if panel.ratio and (ratio := last_value(snapshot, panel.ratio)) is not None
    ]
    return sorted(found, key=lambda edge: -edge.ratio)


def binding_edge(snapshot: RunSnapshot, *, short: bool = False) -> str:
    """Which limit of stability the run stands at, or is nearest to, and, unless short, what would move it; empty where none is known."""
    panels = snapshot.header.panels if snapshot.header else ()
    known = [(ratio, panel.edge) for panel in panels if panel.edge and (ratio := last_value(snapshot, panel.edge.ratio)) is not None]
    if not known:
        return ""
    ratio, edge = max(known, key=lambda one: one[0])
    words = f"{edge.name} at {format_number(ratio)}" + ("" if short else f" (moved by {edge.moved_by})")
    if short and ratio < AT_EDGE[0]:
        return f"nearest edge: {words}"
    if ratio >= AT_EDGE[0]:
        return f"binding edge: {words}"
    # A lone edge whose panel has a threshold stands beside this already.
    is_told = len(known) == 1 and any(panel.ratio for panel in panels)
    return "binding edge: none" if is_told else f"binding edge: none, nearest {words}"


def _notes(snapshot: RunSnapshot, panel: Panel) -> str:
    values = ((note.label, last_value(snapshot, note)) for note in panel.notes)
    return "".join(f", {label} {format_number(value)}" for label, value in values if value is not None)


def ending(snapshot: RunSnapshot, *, run: str) -> str:
    """What the status means and what can be done; empty while the run simply goes on.

    Args:
        snapshot: The run.
        run: How to name it on the command line.
    """
    reason = printable(snapshot.end.reason) if snapshot.end else ""
    is_compiling = snapshot.status is Status.RUNNING and snapshot.num_records <= 1
    match Status.STARTING if is_compiling else snapshot.status:
        case Status.WAITING:
            return "It waits for its turn in its sweep."
        case Status.STARTING:
            return "The first step comes once the model is compiled: seconds for a small one, a minute or more for a large one."
        case Status.PAUSED:
            return "Paused; space lets it go on."
        case Status.STALLED:
            return "Nothing new for a while, though the process is still there: a long compilation or measurement, or a full or slow disk."
        case Status.FINISHED:
            return f"{reason} Keep the numbers with `eos export {run}`, the figure with `eos plot {run}`."
        case Status.STOPPED:
            return f"{reason} `eos resume {run}` goes on from here."
        case Status.DIVERGED | Status.FAILED:
            return reason
        case Status.CRASHED:
            return (
                "The process is gone and did not say why: it was killed, or the machine went down. "
                f"`eos resume {run}` goes on from the last checkpoint."
            )
        case _:
            return ""


def farewell(snapshot: RunSnapshot, *, run: str) -> str:
    """What to print when the viewer is left: how the run is, and how to come back."""
    if snapshot.status in ENDED:
        return (
            f"{snapshot.name}: {snapshot.status} at step {snapshot.step:,}. {ending(snapshot, run=run)} Look again with `eos watch {run}`."
        )
    return (
        f"{snapshot.name} goes on ({snapshot.status}, step {snapshot.step:,} of {snapshot.steps:,}). "
        f"Come back with `eos watch {run}`, stop it with `eos stop {run}`."
    )


ENDED = frozenset({Status.FINISHED, Status.STOPPED, Status.DIVERGED, Status.FAILED, Status.CRASHED})
"""No process works on the run any more."""
