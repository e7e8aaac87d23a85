"""What a list says of a run, from the head and the tail of its log: a thousand runs are read in a second.

Called by the commands that look at many runs, or that want to know only how one stands.
"""

import re
from collections.abc import Collection
from datetime import datetime
from pathlib import Path

import msgspec

from eos_tui import snapshot
from eos_tui.course import KERNEL_KINDS
from eos_tui.log_reader import KINDS, UNDECODABLE
from eos_tui.snapshot import RunSnapshot, Status
from runners.errors import LogError
from runners.records import SCHEMA, AnyRecord
from runners.run_folder import RunFolder

TAIL_BYTES = 65_536
"""Of the end of a log: some 500 records. The header, a line of up to as many bytes, is read from the beginning."""
ROW_KINDS = frozenset({"step", "sharpness", "event", "end", *KERNEL_KINDS})
"""What a row is made of, beside the header."""
EVENTS = 20
"""Last events that are looked at: enough to tell whether a run is paused."""


class _Kind(msgspec.Struct):
    kind: str
    schema: int = 0


_KIND = msgspec.json.Decoder(_Kind)
_BEGINS = b'\n{"kind":"'
"""How a runner begins a line."""
_KIND_BEGINS = re.compile(_BEGINS.replace(b"{", rb"\{") + rb'(\w+)"')
_RECORD: msgspec.json.Decoder[AnyRecord] = msgspec.json.Decoder(AnyRecord)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A run in a list; null is not measured, or not known yet."""

    run: str
    path: str
    status: str
    step: int
    steps: int
    loss: float | None = None
    sharpness: float | None = None
    ratio: float | None = None
    """Sharpness over the optimizer's threshold."""
    noise_kernel: float | None = None
    """K, measured of a net or, of a simulated least squares, given."""
    created: str | None = None
    """UTC, ISO 8601."""
    age_seconds: float | None = None


def look(folder: RunFolder, *, now: float, kinds: Collection[str] = KINDS) -> RunSnapshot:
    """How a run stands: header, status and the last record of each kind; without traces, rates and early events.

    Args:
        folder: The run.
        now: Seconds since 1970.
        kinds: The records wanted, beside the header and the last one.

    Returns:
        A kind whose last record lies before the tail is missing from it.

    Raises:
        LogError: If a line that was looked at is not a record, or the log is of a later schema.
    """
    modified, seen = _read(folder, kinds)
    if seen.end:
        return snapshot.with_status(seen, held=False, modified=modified, now=now)
    # The lock before the log: a runner that was gone by then has written its last word.
    held = folder.is_held()
    modified, seen = _read(folder, kinds)
    was_started = seen.header is not None or folder.was_started()
    return snapshot.with_status(seen, held=held, modified=modified, now=now, was_started=was_started)


def row(folder: RunFolder, *, now: float) -> Row:
    """The run's row; its status is `unreadable` when its log is.

    Args:
        folder: The run.
        now: Seconds since 1970.
    """
    try:
        return row_of(look(folder, now=now, kinds=ROW_KINDS), now=now)
    except LogError:
        return unreadable(folder)


def unreadable(folder: RunFolder) -> Row:
    """The row of a run whose log is no log."""
    return Row(run=folder.name, path=str(folder.path.absolute()), status=Status.UNREADABLE, step=0, steps=0)


def row_of(seen: RunSnapshot, *, now: float) -> Row:
    """The row of a run that was looked at for `ROW_KINDS` at least.

    Args:
        seen: How it stands.
        now: Seconds since 1970.
    """
    created = seen.header.created if seen.header else None
    return Row(
        run=seen.name,
        path=str(seen.folder.absolute()),
        status=seen.status,
        step=seen.step,
        steps=seen.steps,
        loss=_number(seen.last.get("step"), "loss"),
        sharpness=_number(seen.last.get("sharpness"), "value"),
        ratio=_number(seen.last.get("sharpness"), "ratio"),
        noise_kernel=next((_number(seen.last[kind], "noise_kernel") for kind in KERNEL_KINDS if kind in seen.last), None),
        created=created,
        age_seconds=None if created is None else seconds_since(created, now),
    )


def seconds_since(created: str, now: float) -> float | None:
    """How long ago that was, 0 for what is still to come; None where it is no time.

    Args:
        created: UTC, ISO 8601, as a log says it.
        now: Seconds since 1970.
    """
    try:
        return max(0.0, now - datetime.fromisoformat(created).timestamp())
    except (ValueError, OverflowError, OSError):
        return None


def _read(folder: RunFolder, kinds: Collection[str]) -> tuple[float | None, RunSnapshot]:
    """When the log was last written to, and what its ends say."""
    modified, head, tail = _ends(folder)
    records = _first_record(folder.log, head) + _last_records(folder.log, tail, kinds)
    return modified, snapshot.fold(snapshot.empty(folder.path), records, with_traces=False)


def _ends(folder: RunFolder) -> tuple[float | None, bytes, bytes]:
    """When the log was last written to, its head, and the whole lines of its tail that are not in the head."""
    try:
        with folder.log.open("rb") as log:
            head = log.readline(TAIL_BYTES)
            start = log.tell()
            size = log.seek(0, 2)
            if size - TAIL_BYTES > start:
                log.seek(size - TAIL_BYTES)
                log.readline()
            else:
                log.seek(start)
            tail = log.read()
            return folder.log.stat().st_mtime, head, tail[: tail.rfind(b"\n") + 1]
    except FileNotFoundError:
        return folder.path.stat().st_mtime, b"", b""


def _first_record(log: Path, line: bytes) -> list[AnyRecord]:
    """The header, as a rule; a run that failed before it knew what to write there has only an end."""
    if not line.endswith(b"\n"):
        return []
    kind = _kind(log, line)
    if kind.schema > SCHEMA:
        raise LogError(f"{log}: the log has schema {kind.schema}, this version reads up to {SCHEMA}. Install a newer eos-tui.")
    return [_record(log, line)] if kind.kind in KINDS else []


def _last_records(log: Path, tail: bytes, kinds: Collection[str]) -> list[AnyRecord]:
    """The last record of each of these kinds, the last events, and the last record of all, in the log's order."""
    lines = b"\n" + tail
    places = _places(lines, kinds) if tail.startswith(_BEGINS[1:]) else None
    if places is None:
        return _decoded(log, tail, kinds)
    return [_record(log, lines[place + 1 : lines.index(b"\n", place + 1)]) for place in sorted(places)]


def _places(lines: bytes, kinds: Collection[str]) -> set[int] | None:
    """Where the lines begin that are wanted, found without decoding; None where the last one is not written as the runners write.

    Args:
        lines: Whole ones, with a newline before the first.
        kinds: Of the records wanted.
    """
    last = lines.rfind(b"\n", 0, -1)
    found = _KIND_BEGINS.match(lines, last)
    if found is None:
        return None
    places = {last} if found[1].decode() in KINDS else set()
    for kind in kinds:
        place = len(lines)
        for _ in range(EVENTS if kind == "event" else 1):
            place = lines.rfind(b'%s%s"' % (_BEGINS, kind.encode()), 0, place)
            if place < 0:
                break
            places.add(place)
    return places


def _decoded(log: Path, tail: bytes, kinds: Collection[str]) -> list[AnyRecord]:
    """The same of a log that another program has written."""
    lines = [line for line in tail.split(b"\n") if line]
    found = _kinds(log, lines)
    last = {kind: index for index, kind in enumerate(found) if kind in kinds or index == len(found) - 1}
    events = [index for index, kind in enumerate(found) if kind == "event"][-EVENTS:]
    wanted = {index for kind, index in last.items() if kind in KINDS}.union(events)
    return [_record(log, lines[index]) for index in sorted(wanted)]


def _kinds(log: Path, lines: list[bytes]) -> list[str]:
    try:
        return [stub.kind for stub in _KIND.decode_lines(b"\n".join(lines))]
    except UNDECODABLE:
        return [_kind(log, line).kind for line in lines]


def _kind(log: Path, line: bytes) -> _Kind:
    try:
        return _KIND.decode(line)
    except UNDECODABLE as error:
        raise LogError(f"{log}: not a record ({error}): {line[:60]!r}.") from error


def _record(log: Path, line: bytes) -> AnyRecord:
    try:
        return _RECORD.decode(line)
    except UNDECODABLE as error:
        raise LogError(f"{log}: not a record ({error}): {line[:60]!r}.") from error


def _number(record: AnyRecord | None, name: str) -> float | None:
    value = getattr(record, name, None)
    return float(value) if isinstance(value, (int, float)) else None
