"""Appends records to a run's log: one line, one `write`, in order. Called by the runner process alone."""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from runners.records import AnyRecord, EventRecord

BLOCK_BYTES = 65_536
"""Read at a time, backwards from a log's end."""


class LogWriter:
    """The open log of a run.

    Each record goes out in one `os.write` on a descriptor opened with O_APPEND, so a reader never sees two records
    mixed, and a crash leaves at most one torn line at the end. What is appended after a crash takes its place.
    """

    def __init__(self, path: Path) -> None:
        _cut_torn_line(path)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._encoder = msgspec.json.Encoder()

    def write(self, record: AnyRecord) -> None:
        """Append the record, and an event that names its numbers that are not finite, for JSON holds them as null.

        Args:
            record: Any kind; its numbers are Python floats and ints.
        """
        self._append(record)
        names = [f"{name} is {value}" for name, value in _not_finite("", msgspec.to_builtins(record))]
        if names:
            message = f"Not finite at step {record.step}, null in the log: {', '.join(names)}."
            self._append(EventRecord(step=record.step, time=record.time, event="not_finite", message=message))

    def sync(self) -> int:
        """The log's length in bytes, all of which is on the disk when this returns."""
        os.fsync(self._descriptor)
        return os.fstat(self._descriptor).st_size

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _append(self, record: AnyRecord) -> None:
        line = self._encoder.encode(record) + b"\n"
        while line:
            line = line[os.write(self._descriptor, line) :]


def _cut_torn_line(path: Path) -> None:
    """Cut what a crash, or an incomplete copy, left behind the log's last whole line."""
    if not path.exists():
        return
    with open(path, "r+b") as log:
        end = size = log.seek(0, os.SEEK_END)
        while end:
            begin = max(0, end - BLOCK_BYTES)
            log.seek(begin)
            if (last := log.read(end - begin).rfind(b"\n")) >= 0:
                end = begin + last + 1
                break
            end = begin
        if end < size:
            log.truncate(end)


def cut(path: Path, length: int) -> None:
    """Cut the log to its first `length` bytes, which must end a line.

    Args:
        path: The log.
        length: Bytes to keep; at most the file's size.

    Raises:
        ValueError: If the file is shorter, or the cut would leave a torn line.
    """
    with open(path, "r+b") as log:
        if length:
            log.seek(length - 1)
            if log.read(1) != b"\n":
                raise ValueError(f"{path}: no line ends at byte {length}")
        log.truncate(length)
        os.fsync(log.fileno())


def _not_finite(name: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, float) and not math.isfinite(value):
        yield name, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _not_finite(f"{name}.{key}" if name else str(key), item)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _not_finite(f"{name}[{index}]", item)
