"""What is known of a run at one moment, folded from its records. Frozen: a step of time gives a new snapshot.

Made by the watcher, shown by everything else. Pure: reads no file and no clock.
"""

import enum
import operator
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import cast

import msgspec

from eos_tui.cleaning import cleaned
from eos_tui.decimate import Trace
from eos_tui.output import one_line
from eos_tui.series import Key, Points, Profile, by_kind, points
from runners.records import AnyMeasurement, AnyRecord, Curve, EndRecord, EventRecord, Header, Panel

MAX_EVENTS = 200
"""Events that a snapshot keeps, the last ones."""
RATE_SECONDS = 30.0
"""Run time that the speed is taken over."""
TICK_SECONDS = 1.0
"""Run time from one tick to the next, at least."""
MAX_TICKS = 64
"""Ticks kept: the recent past, for the speed and for how long the log is usually silent."""
MAX_TIMES = 64
"""Records of those read at once whose times are kept: between them time runs evenly."""
STARTING_SECONDS = 60.0
"""How long a run may take to begin its log before a missing runner counts as a crash."""
SILENT_SECONDS = 60.0
"""A log that is silent for no longer than this is not stalled."""
SILENT_SECONDS_ELSEWHERE = 120.0
"""The same for a runner on another host, whose writes a shared file system shows late."""
SILENT_GAPS = 10.0
"""Nor is one that is silent for no longer than so many times its longest recent gap."""


class Status(enum.StrEnum):
    """How a run stands."""

    WAITING = "waiting"
    """No runner was ever started: a run of a sweep, before its turn."""
    STARTING = "starting"
    """No record yet."""
    RUNNING = "running"
    PAUSED = "paused"
    STALLED = "stalled"
    """The runner lives, or may live on another host, but has written nothing for far longer than it used to."""
    FINISHED = "finished"
    STOPPED = "stopped"
    DIVERGED = "diverged"
    FAILED = "failed"
    CRASHED = "crashed"
    """The runner is gone and left no `end`."""
    UNREADABLE = "unreadable"
    """Its log is none, or none from some line on."""


class Tick(msgspec.Struct, frozen=True):
    """A moment of the run."""

    time: float
    step: int
    gap: float
    """Longest time between two records since the tick before, in seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSnapshot:
    """A run, as far as its log has been read."""

    name: str
    folder: Path
    header: Header | None = None
    status: Status = Status.STARTING
    step: int = 0
    """Parameter updates applied, as far as the records go."""
    steps: int = 0
    """Updates that the run is asked for; 0 before the header."""
    time: float = 0.0
    """Run time of the last record, in seconds."""
    first: dict[str, AnyRecord] = field(default_factory=dict)
    """The first record of each kind."""
    last: dict[str, AnyRecord] = field(default_factory=dict)
    """The last record of each kind."""
    traces: dict[tuple[str, str], Trace] = field(default_factory=dict)
    """By record kind and field path, such as ("metrics", "values.test_loss"): each number that came as a series."""
    events: tuple[EventRecord, ...] = ()
    """The last 200."""
    end: EndRecord | None = None
    steps_per_second: float | None = None
    """Over the last 30 seconds of run time; None before there are two records."""
    seconds_left: float | None = None
    """At that speed; None when it is not known, or the run has ended."""
    measuring_share: float | None = None
    """Share of the run time that went into measurements, 0 to 1."""
    num_records: int = 0
    measured_seconds: Mapping[str, float] = field(default_factory=dict)
    """Sum of the measurements' durations, by kind of record."""
    paused: bool = False
    """The last word on it was that the run paused."""
    ticks: tuple[Tick, ...] = ()
    times: Trace = field(default_factory=Trace.empty)
    """Run time by step, of some of the records."""


def empty(folder: Path) -> RunSnapshot:
    """The snapshot of a run of which nothing has been read."""
    return RunSnapshot(name=one_line(folder.name), folder=folder)


def fold(snapshot: RunSnapshot, records: Sequence[AnyRecord], *, with_traces: bool = True) -> RunSnapshot:
    """The snapshot after further records; the status is `with_status`'s to bring up to date.

    Args:
        snapshot: What the records before them gave.
        records: In the order of the log.
        with_traces: Whether the series are kept; without them it takes half as long.

    Cost: 0.1 us a record and about as much for each of its numbers.
    """
    if not records:
        return snapshot
    kinds = by_kind(records)
    newest = {kind: found[-1] for kind, found in kinds.items()}
    header = cleaned(cast(Header, newest["header"])) if "header" in newest else snapshot.header
    events = cast(list[EventRecord], kinds.get("event", []))
    return _with_rates(
        replace(
            snapshot,
            header=header,
            step=max(snapshot.step, *(record.step for record in newest.values())),
            steps=max(header.steps, 0) if header else 0,
            time=max(snapshot.time, *(record.time for record in newest.values())),
            first={kind: found[0] for kind, found in kinds.items()} | snapshot.first,
            last=snapshot.last | newest,
            traces=snapshot.traces | _extensions(snapshot.traces, kinds) if with_traces else snapshot.traces,
            events=(*snapshot.events, *events)[-MAX_EVENTS:],
            end=_end(records, before=snapshot.end) if events or "end" in kinds else snapshot.end,
            num_records=snapshot.num_records + len(records),
            measured_seconds={**snapshot.measured_seconds, **_spent(kinds, before=snapshot.measured_seconds)},
            paused=_paused(events, before=snapshot.paused),
            ticks=_ticked(snapshot.ticks, records),
            times=_timed(snapshot.times, records),
        )
    )


def _extensions(traces: Mapping[Key, Trace], kinds: Mapping[str, Sequence[AnyRecord]]) -> dict[Key, Trace]:
    """The series that go on, with what came."""
    return {key: _extended(traces.get(key), xs, ys) for key, xs, ys in points(kinds)}


def _spent(kinds: Mapping[str, Sequence[AnyRecord]], *, before: Mapping[str, float]) -> dict[str, float]:
    """Seconds that measuring took, by kind of record, of those kinds that came."""
    measured = {kind: cast(Sequence[AnyMeasurement], found) for kind, found in kinds.items() if isinstance(found[0], AnyMeasurement)}
    return {kind: before.get(kind, 0.0) + sum(record.seconds for record in found) for kind, found in measured.items()}


def with_status(snapshot: RunSnapshot, *, held: bool | None, modified: float | None, now: float, was_started: bool = True) -> RunSnapshot:
    """The snapshot with the status that follows from its records and from whether the runner lives.

    The first rule that applies decides:

    1. An `end` record: its status.
    2. No header: waiting when no runner was ever started; else starting, and crashed when nobody holds the run and nothing
       was written for 60 s.
    3. Nobody holds the run: crashed.
    4. The last of the events paused, unpaused and resumed is paused: paused.
    5. The log was silent for more than 60 s (120 s when the runner is on another host) and for more than 10 times the
       longest gap of the recent past: stalled.
    6. Running.

    Args:
        snapshot: Of all records that there are.
        held: Whether a runner holds the run's lock; None when that cannot be told from this host.
        modified: When the log was last written to (before there is one: when the folder was made), in seconds since
            1970; None when that is not known, which counts as now.
        now: The present, in seconds since 1970.
        was_started: Whether there ever was a runner.
    """
    if snapshot.end is None and snapshot.header is None and not was_started:
        return replace(snapshot, status=Status.WAITING)
    status = _status(snapshot, held=held, silent=0.0 if modified is None else now - modified)
    return snapshot if status is snapshot.status else replace(snapshot, status=status)


def trace(snapshot: RunSnapshot, curve: Curve) -> Trace:
    """All points of a panel's curve; none when the log has no such number."""
    return snapshot.traces.get((curve.record, curve.field)) or Trace.empty()


def value(snapshot: RunSnapshot, curve: Curve) -> float | None:
    """The last value of a panel's curve; None when there is none, or it is not finite."""
    last = trace(snapshot, curve).last
    return last[1] if last else None


def profiles(snapshot: RunSnapshot, panel: Panel) -> list[Profile]:
    """What a panel with an x axis of its own draws: the series of the last record, and of the first one behind.

    Args:
        snapshot: The run.
        panel: One with `x`.

    Returns:
        By label, which says the step, the lists of one record; none of a record without them.
    """
    assert panel.x is not None
    found: dict[str, Points] = {}
    for records in (snapshot.last, snapshot.first):
        for curve in panel.series:
            record = records.get(curve.record)
            xs, ys = (getattr(record, name, None) for name in (panel.x.field, curve.field))
            if record and isinstance(xs, tuple) and isinstance(ys, tuple) and len(xs) == len(ys):
                found[(f"{curve.label}, " if len(panel.series) > 1 else "") + f"step {record.step:,}"] = (xs, ys)
    return list(found.items())


def _status(snapshot: RunSnapshot, *, held: bool | None, silent: float) -> Status:
    if snapshot.end is not None:
        return Status(snapshot.end.status)
    if snapshot.header is None:
        return Status.CRASHED if held is False and silent > STARTING_SECONDS else Status.STARTING
    if held is False:
        return Status.CRASHED
    if snapshot.paused:
        return Status.PAUSED
    usual = max((tick.gap for tick in snapshot.ticks), default=0.0)
    patience = SILENT_SECONDS if held else SILENT_SECONDS_ELSEWHERE
    return Status.STALLED if silent > max(patience, SILENT_GAPS * usual) else Status.RUNNING


def _extended(before: Trace | None, steps: Sequence[int], values: Sequence[float | None]) -> Trace:
    return (before or Trace.empty()).extended(steps, values)


def _paused(events: Sequence[EventRecord], *, before: bool) -> bool:
    for record in reversed(events):
        if record.event in ("paused", "unpaused", "resumed"):
            return record.event == "paused"
    return before


def _end(records: Sequence[AnyRecord], *, before: EndRecord | None) -> EndRecord | None:
    """The end, unless a runner took the run up again after it."""
    for record in reversed(records):
        if isinstance(record, EndRecord):
            return record
        if isinstance(record, EventRecord) and record.event == "resumed":
            return None
    return before


def _ticked(ticks: tuple[Tick, ...], records: Sequence[AnyRecord]) -> tuple[Tick, ...]:
    """The ticks with those of further records: at least a second apart, so that they reach back whatever the speed."""
    kept = list(ticks) or [Tick(records[0].time, records[0].step, 0.0)]
    times = [kept[-1].time, *[record.time for record in records]]
    first = min(bisect_left(times, times[-1] - MAX_TICKS * TICK_SECONDS), len(times) - 1 - MAX_TICKS)
    first = max(first, 0)
    while first < len(records):
        last = min(bisect_left(times, times[first] + TICK_SECONDS, first + 1), len(records)) - 1
        gap = max(map(operator.sub, times[first + 1 : last + 2], times[first : last + 1]))
        if len(kept) > 1 and kept[-1].time - kept[-2].time < TICK_SECONDS:
            gap = max(gap, kept.pop().gap)
        kept.append(Tick(records[last].time, records[last].step, gap))
        first = last + 1
    return tuple(kept[-MAX_TICKS:])


def _timed(times: Trace, records: Sequence[AnyRecord]) -> Trace:
    """With the times of some further records, the last one among them."""
    some = records[:: -max(1, len(records) // MAX_TIMES)][::-1]
    return times.extended([record.step for record in some], [record.time for record in some])


def _with_rates(snapshot: RunSnapshot) -> RunSnapshot:
    newest = snapshot.ticks[-1]
    before = [tick for tick in snapshot.ticks if tick.time <= newest.time - RATE_SECONDS]
    start = before[-1] if before else snapshot.ticks[0]
    seconds, steps = newest.time - start.time, newest.step - start.step
    speed = steps / seconds if seconds > 0 and steps > 0 else None
    spent, total = (
        (snapshot.end.measure_seconds, snapshot.end.wall_seconds)
        if snapshot.end
        else (sum(snapshot.measured_seconds.values()), snapshot.time)
    )
    return replace(
        snapshot,
        steps_per_second=_finite(speed),
        seconds_left=_finite(max(snapshot.steps - snapshot.step, 0) / speed) if speed and snapshot.header and not snapshot.end else None,
        measuring_share=_finite(min(max(spent / total, 0.0), 1.0)) if total > 0 else None,
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None
