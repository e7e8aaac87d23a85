"""The top of the run screen: name, status, how far, how fast. Pure; changes only when the run does."""

import math
from collections.abc import Iterator, Mapping, Sequence

from eos_tui.numerals import format_number
from eos_tui.snapshot import RunSnapshot, Status
from eos_tui.widgets.text_rows import Part, Row, row_length
from eos_tui.widgets.words import ENDED, duration
from runners.run_folder import stem

STATUS_STYLES: Mapping[str, str] = {
    Status.WAITING: "dim",
    Status.STARTING: "bold cyan",
    Status.RUNNING: "bold green",
    Status.PAUSED: "bold yellow",
    Status.STALLED: "bold yellow",
    Status.FINISHED: "bold green",
    Status.STOPPED: "bold yellow",
    Status.DIVERGED: "bold red",
    Status.FAILED: "bold red",
    Status.CRASHED: "bold red",
    Status.UNREADABLE: "bold red",
}
BAR_CELLS = (6, 24)
"""Shortest and longest progress bar."""
DROPPED_FIRST = ("measuring", "speed", "left", "bar", "step")
"""What is left out where there is no room, in this order."""


def header_rows(snapshot: RunSnapshot, width: int, height: int, *, mode: str = "") -> Sequence[Row]:
    """The header in one row, or two where there are as many, without what does not fit.

    Args:
        snapshot: The run.
        width: Cells in a row.
        height: Rows there are.
        mode: What this is a view of, if not of the run as it is now.
    """
    shown: Row = [(f"   {mode}", "bold magenta")] if mode else []
    long, short = ([*_head(name, snapshot.status), *shown] for name in (snapshot.name, stem(snapshot.name)))
    parts = _parts(snapshot)
    if height > 1:
        share = parts.pop("measuring", [])
        heads = [*([_joined([head, share]) for head in (long, short)] if share else []), long, short]
        return [_first_that_fits(heads, width), _first_that_fits(_progress([], snapshot, parts, width), width)]
    rows = [row for head in (long, short, short[2:]) for row in _progress([head], snapshot, parts, width)]
    return [_first_that_fits(sorted(rows, key=len, reverse=True), width)]


def _head(name: str, status: Status) -> list[Part]:
    return [("eos  ", "dim"), (f"{name}  ", "bold"), (str(status), STATUS_STYLES[status])]


def _progress(before: list[Row], snapshot: RunSnapshot, parts: dict[str, Row], width: int) -> Iterator[Row]:
    """Rows that go on from `before`, each without one more of the parts that are dropped first."""
    for count in range(len(DROPPED_FIRST) + 1):
        kept = {name: row for name, row in parts.items() if name not in DROPPED_FIRST[:count]}
        if "bar" in kept:
            room = width - row_length(_joined([*before, *kept.values()]))
            kept["bar"] = _bar(snapshot, min(max(room, BAR_CELLS[0]), BAR_CELLS[1]))
        yield _joined([*before, *kept.values()])


def _parts(snapshot: RunSnapshot) -> dict[str, Row]:
    if not snapshot.steps:
        return {}
    parts: dict[str, Row] = {"step": [(f"step {snapshot.step:,} of {snapshot.steps:,}", "")], "bar": []}
    parts["percent"] = [(f"{math.floor(100 * snapshot.step / snapshot.steps)} %", "bold")]
    if snapshot.steps_per_second is not None:
        parts["speed"] = [(f"{format_number(snapshot.steps_per_second)} steps/s", "")]
    if snapshot.seconds_left is not None and snapshot.status not in ENDED:
        parts["left"] = [(f"{duration(snapshot.seconds_left)} left", "")]
    if snapshot.measuring_share is not None:
        parts["measuring"] = [(f"measuring {round(100 * snapshot.measuring_share)} %", "")]
    return parts


def _bar(snapshot: RunSnapshot, cells: int) -> Row:
    half_cells = math.floor(2 * cells * min(1.0, snapshot.step / snapshot.steps))
    full, half = divmod(half_cells, 2)
    done = "━" * full + "╸" * half
    return [(done, "green"), ("─" * (cells - len(done)), "dim")]


def _joined(rows: Sequence[Row]) -> Row:
    joined: list[Part] = []
    for index, row in enumerate(rows):
        joined += [("   ", ""), *row] if index else row
    return joined


def _first_that_fits(rows: Sequence[Row] | Iterator[Row], width: int) -> Row:
    row: Row = []
    for row in rows:
        if row_length(row) <= width:
            return row
    return row
