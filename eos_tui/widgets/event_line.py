"""The rows of the run screen that are sentences: which edge is near, the panels where no chart fits, the latest events. Pure."""

from collections.abc import Iterable, Iterator, Sequence

from eos_tui.output import one_line
from eos_tui.snapshot import RunSnapshot
from eos_tui.widgets.text_rows import Part, Row, row_length
from eos_tui.widgets.words import AT_EDGE, binding_edge, edges, panel_words
from runners.records import EventRecord

TOO_SMALL = "Charts need 60x15 cells."
QUIET_EVENTS = frozenset({"checkpoint", "overtaken"})
"""Events that come all the time: between two others the line shows the newest of each kind."""
WORDLESS_EVENTS = frozenset({"checkpoint"})
"""Events whose names say it all."""
EVENT_STYLES = {"warning": "bold yellow", "diverged": "bold red"}
MAX_EVENTS_SHOWN = 12
"""More than any terminal is wide enough for."""
SEPARATOR: Part = (" · ", "dim")


def edge_rows(snapshot: RunSnapshot, width: int, height: int) -> Sequence[Row]:  # noqa: ARG001 - one row whatever the height
    """Which edge binds, and what is nearest to its threshold, or farthest past it, first; what moves the edge where there is room."""
    found = edges(snapshot)
    binding = [(words, "bold") for words in (binding_edge(snapshot), binding_edge(snapshot, short=True)) if words]
    head, brief = ([words, SEPARATOR] if found else [words] for words in binding) if binding else ([], [])
    long, short = _edge_row([(edge.long, edge.ratio) for edge in found]), _edge_row([(edge.short, edge.ratio) for edge in found])
    bare = _edge_row([(edge.bare, edge.ratio) for edge in found])
    rows = [[*head, *long], [*head, *short], [*brief, *short], [*brief, *bare]]
    return [next((row for row in rows if row_length(row) <= width), rows[-1])]


def _edge_row(sentences: Sequence[tuple[str, float]]) -> Row:
    return list(_separated((words, _edge_style(ratio, first=not index)) for index, (words, ratio) in enumerate(sentences)))


def panel_rows(snapshot: RunSnapshot, width: int, height: int) -> Sequence[Row]:  # noqa: ARG001 - a row for each panel
    """For a terminal that is too small for charts: a row of text for each panel, and what charts need."""
    panels = snapshot.header.panels if snapshot.header else ()
    return [*([(panel_words(snapshot, panel), "")] for panel in panels), [(TOO_SMALL, "dim")]]


def event_rows(snapshot: RunSnapshot, width: int, height: int) -> Sequence[Row]:  # noqa: ARG001 - one row, cut where needed
    """The latest events, newest first."""
    return [list(_separated(_event(event) for event in _notable(snapshot.events)))]


def _notable(events: Sequence[EventRecord]) -> list[EventRecord]:
    kept: list[EventRecord] = []
    told: set[str] = set()
    for event in reversed(events):
        if event.event not in QUIET_EVENTS:
            told.clear()
        elif event.event in told:
            continue
        told.add(event.event)
        kept.append(event)
        if len(kept) == MAX_EVENTS_SHOWN:
            break
    return kept


def _event(event: EventRecord) -> Part:
    words = event.event if event.event in WORDLESS_EVENTS or not event.message else event.message
    return f"{event.step:,} {one_line(words)}", EVENT_STYLES.get(event.event, "")


def _edge_style(ratio: float, *, first: bool) -> str:
    if ratio > AT_EDGE[1]:
        return "bold red"
    if ratio >= AT_EDGE[0]:
        return "bold yellow"
    return "bold" if first else ""


def _separated(parts: Iterable[Part]) -> Iterator[Part]:
    for index, part in enumerate(parts):
        if index:
            yield SEPARATOR
        yield part
