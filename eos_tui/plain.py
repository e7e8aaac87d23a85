"""A run as plain lines, for where nothing can be drawn: a pipe, a batch job's output file, continuous integration.

Called by the command line. Which numbers stand in a line follows from the header's panels, as on the screen: each
panel's headline with its error, what it is held against, and its notes. No control codes; no line is taken back.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

from msgspec import UNSET, UnsetType

from eos_tui.cleaning import cleaned
from eos_tui.log_reader import LogReader
from eos_tui.output import one_line
from runners.records import AnyRecord, Curve, EndRecord, EventRecord, Header, MetricsRecord, Panel
from runners.run_folder import RunFolder

POLL_SECONDS = 0.1
PROGRESS_SECONDS = 10.0
"""Run time without a line after which a step gets one although nothing was measured at it."""

Cells = dict[str, str]
"""The parts of a line, by what keeps its column from line to line."""
Group = Mapping[str, AnyRecord]
"""The records of one step, by kind."""


class PlainLog:
    """Turns records, in the log's order, into lines. What was given before a resume cut the log is not given again."""

    def __init__(self) -> None:
        self.end: EndRecord | None = None
        """The log's last record, if that is its end."""
        self._panels: tuple[Panel, ...] = ()
        self._group: dict[str, AnyRecord] = {}
        self._group_step = 0
        self._quiet_since = 0.0
        self._widths: dict[str, int] = {}
        self._given: list[int] = []
        self._position = 0

    def lines(self, records: Iterable[AnyRecord]) -> Iterator[str]:
        """The lines that these records complete; a step's line is complete when the next step has begun.

        Args:
            records: The log's next records.

        Yields:
            Lines without the newline.
        """
        for record in records:
            self.end = record if isinstance(record, EndRecord) else None
            for cells in self._cells(record):
                if self._is_new(cells):
                    yield self._aligned(cells)

    def restart(self) -> None:
        """The log was cut, and its records come again from the first one."""
        self._position = 0
        self._group = {}
        self._quiet_since = 0.0

    def _cells(self, record: AnyRecord) -> Iterator[Cells]:
        if isinstance(record, Header):
            self._panels = cleaned(record).panels
            self._widths["step"] = len(f"step {record.steps}")
        elif isinstance(record, EventRecord):
            yield {"step": f"step {record.step}", "event": f"{one_line(record.event)}: {one_line(record.message)}"}
        elif isinstance(record, EndRecord):
            yield from self._complete()
            yield {"step": f"step {record.step}", "event": end_text(record)}
        else:
            if record.step > self._group_step:
                yield from self._complete()
            self._group_step = record.step
            self._group[str(record.__struct_config__.tag)] = record

    def _complete(self) -> Iterator[Cells]:
        """The line of the records that were gathered, and none gathered any more."""
        group, self._group = self._group, {}
        if not group:
            return
        now = next(reversed(group.values())).time
        if group.keys() == {"step"} and now < self._quiet_since + PROGRESS_SECONDS:
            return
        self._quiet_since = now
        yield {"step": f"step {self._group_step}", **numbers(self._panels, group)}

    def _is_new(self, cells: Cells) -> bool:
        mark = hash(tuple(cells.items()))
        position, self._position = self._position, self._position + 1
        if self._given[position : position + 1] == [mark]:
            return False
        self._given[position:] = [mark]
        return True

    def _aligned(self, cells: Cells) -> str:
        for key, text in cells.items():
            self._widths[key] = max(self._widths.get(key, 0), len(text))
        if "event" in cells:
            return f"{cells['step'].ljust(self._widths['step'])}  {cells['event']}"
        columns = (cells.get(key, "").ljust(width) for key, width in self._widths.items() if key != "event")
        return "  ".join(columns).rstrip()


def follow(
    folder: RunFolder,
    *,
    write: Callable[[str], None],
    lives: Callable[[], bool | None],
    log: PlainLog,
    sleep: Callable[[float], None] = time.sleep,
) -> EndRecord | None:
    """Write a run's lines as they come, until its log has ended and its runner has gone.

    Args:
        folder: The run.
        write: Takes one line, and sees to it that it arrives.
        lives: Whether the runner may still write, None where that cannot be told; asked before each look at the log.
        log: New, or what has been given already.
        sleep: Waits so many seconds between looks.

    Returns:
        The log's end; None when the runner went without one.

    Raises:
        LogError: If the log does not follow the schema.
    """
    reader = LogReader(folder.log)
    while True:
        alive = lives()
        batch = reader.read()
        if batch.restarted:
            log.restart()
        for line in log.lines(batch.records):
            write(line)
        if batch.at_end and (alive is False or (alive is None and log.end)):
            return log.end
        if batch.at_end and not batch.records:
            sleep(POLL_SECONDS)


def number(value: float | None, *, digits: int = 4) -> str:
    """A number as it stands in a line: so many significant digits, zeros too; words for what is not finite."""
    return "not finite" if value is None else f"{value:#.{digits}g}".rstrip(".")


def numbers(panels: Iterable[Panel], group: Group) -> Cells:
    """What records say, in the panels' terms: headlines first, then further curves and notes, then metrics that no panel shows.

    Of a panel with an x axis of its own, which takes more than a line, only that it was measured and its notes.

    Args:
        panels: The header's.
        group: Records, by kind.

    Returns:
        Texts such as `sharpness 2.53 ±0.001 = 0.38 of 2/lr` and `K 0.71`; nothing for what the records do not have.
    """
    panels = tuple(panels)
    cells: Cells = {}
    for panel in panels:
        if panel.x and panel.series[0].record in group:
            cells[panel.title] = f"{panel.title} measured"
        elif (value := _at(group, panel.series[0])) is not UNSET:
            cells[panel.title] = f"{panel.headline} {number(value)}{_error(panel, group)}{_ratio(panel, group)}"
    for panel in panels:
        for curve, name in _further(panel):
            if (value := _at(group, curve)) is not UNSET:
                cells[f"{panel.title} {curve.label}"] = f"{name} {number(value)}"
    shown = {curve.field for panel in panels for curve in (*panel.series, *panel.references, *panel.notes, panel.error) if curve}
    metrics = group.get("metrics")
    values = metrics.values if isinstance(metrics, MetricsRecord) else {}
    return cells | {
        field: f"{one_line(name)} {number(value)}" for name, value in values.items() if (field := f"values.{name}") not in shown
    }


def _error(panel: Panel, group: Group) -> str:
    error = _at(group, panel.error) if panel.error else None
    if not isinstance(error, float) or error <= 0:
        return ""
    return f" ±{error:.0f}" if 9.5 <= error < 1e6 else f" ±{error:.1g}"


def _ratio(panel: Panel, group: Group) -> str:
    ratio = _at(group, panel.ratio) if panel.ratio else UNSET
    return "" if ratio is UNSET or panel.ratio is None else f" = {number(ratio, digits=3)} {panel.ratio.label}"


def _further(panel: Panel) -> Iterator[tuple[Curve, str]]:
    """Curves beside the headline, with the words that they go by; a note that is one of the series once."""
    if not panel.x:
        yield from ((curve, f"{curve.label} {panel.title}") for curve in panel.series[1:])
    yield from ((curve, curve.label) for curve in panel.notes if curve not in panel.series)


def _at(group: Group, curve: Curve) -> float | UnsetType | None:
    """The curve's number in these records: None when it is not finite, UNSET when it was not measured."""
    name, _, key = curve.field.partition(".")
    value: Any = getattr(group.get(curve.record), name, UNSET)
    if isinstance(value, tuple):
        return UNSET  # a list is more than a line takes
    if key and isinstance(value, dict):
        return cast("float | None", value.get(key, UNSET))
    return cast("float | None", value)


def end_text(end: EndRecord) -> str:
    """How a run ended, in one line."""
    took = ""
    if end.wall_seconds > 0:
        took = f" after {end.wall_seconds:.3g} s, {end.measure_seconds / end.wall_seconds:.0%} of it measuring"
    return f"{end.status}{took}: {one_line(end.reason)}"
