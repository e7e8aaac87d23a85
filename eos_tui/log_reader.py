"""Reads a run's log while it is being written: from a byte offset, whole lines only, bounded by bytes and by time.

Called by the watcher, the export and the plots. Knows nothing of what the records mean, and must never write.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import msgspec

from eos_tui.series import kind_of
from runners.errors import LogError
from runners.records import SCHEMA, AnyRecord, Header

MAX_BYTES = 8 << 20
"""Bytes that one read takes from the file, at most."""
MAX_SECONDS = 0.1
"""Seconds after which one read takes no further block."""
BLOCK = 1 << 20
"""Bytes that are decoded at once."""
MAX_LINE = 64 << 20
"""Bytes of one line, at most: far above any record, and a bound on memory for a file that is no log."""
MARK = 256
"""Bytes before the offset that are compared at each read: they differ when the file was cut and has grown again."""

UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What a line that is no record leads to."""
KINDS = frozenset(map(kind_of, get_args(AnyRecord)))
"""The record kinds of this schema."""

_DECODER: msgspec.json.Decoder[AnyRecord] = msgspec.json.Decoder(AnyRecord)


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """What one read found."""

    records: list[AnyRecord]
    """In the order of the file."""
    restarted: bool = False
    """The file is not the one read before, or was cut: what was read before no longer holds, and reading began anew."""
    at_end: bool = True
    """No whole line is left to read."""
    modified: float | None = None
    """When the file was last written to, seconds since 1970; None when there is no file."""


class _Stub(msgspec.Struct, frozen=True):
    """The two keys that tell whether a line that does not decode is of a later version."""

    kind: str
    schema: int = SCHEMA


class LogReader:
    """A position in one log.

    Holds no more than the position between reads: a torn last line is read again, whole, when it has its end.
    """

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path = path
        self._restarted = False
        self._offset, self._num_lines, self._inode = offset, 0, 0
        self._mark = b""

    @property
    def offset(self) -> int:
        """Bytes read so far, all of them whole lines."""
        return self._offset

    def read(self, *, max_bytes: int = MAX_BYTES, max_seconds: float = MAX_SECONDS) -> Batch:
        """The records since the last read; none while the file does not exist.

        The file is opened at each call, for that is when NFS asks its server for the present size.

        Args:
            max_bytes: Bytes to take at most; a longer line is still read whole.
            max_seconds: No further block is begun after this time, in seconds.

        Raises:
            LogError: If a line is not a record of this schema, at the first read that begins with it: what stands
                before it is returned by the read before. Or if the file cannot be read.
        """
        deadline = time.monotonic() + max_seconds
        try:
            with open(self.path, "rb", buffering=0) as file:
                return self._read(file.fileno(), max_bytes, deadline)
        except FileNotFoundError:
            self._begin_anew()
            return self._batch([], at_end=True, modified=None)
        except OSError as error:
            raise LogError(f"{self.path}: the log cannot be read ({error.strerror}).") from error

    def _read(self, descriptor: int, max_bytes: int, deadline: float) -> Batch:
        status = os.fstat(descriptor)
        if not self._continues(descriptor, status):
            self._begin_anew()
        self._inode = status.st_ino
        records: list[AnyRecord] = []
        stop = self._offset + max_bytes
        at_end = False
        while not at_end and self._offset < stop and (not records or time.monotonic() < deadline):
            lines, at_end = self._whole_lines(descriptor, min(BLOCK, stop - self._offset))
            count = lines.count(b"\n")
            found, taken = self._decode(lines, count, may_stop=bool(records))
            self._advance(lines if taken == len(lines) else lines[:taken], count if taken == len(lines) else lines.count(b"\n", 0, taken))
            records += found
            if taken < len(lines):
                at_end = False
                break
        return self._batch(records, at_end=at_end, modified=status.st_mtime)

    def _batch(self, records: list[AnyRecord], *, at_end: bool, modified: float | None) -> Batch:
        restarted, self._restarted = self._restarted, False
        return Batch(records=records, restarted=restarted, at_end=at_end, modified=modified)

    def _continues(self, descriptor: int, status: os.stat_result) -> bool:
        """Whether the file still is what was read before, with or without more lines."""
        if not self._inode:
            return True
        same = status.st_ino == self._inode and status.st_size >= self._offset
        return same and os.pread(descriptor, len(self._mark), self._offset - len(self._mark)) == self._mark

    def _begin_anew(self) -> None:
        """Go back to the beginning; the next batch says so when something had been read."""
        self._restarted = self._restarted or self._offset > 0
        self._offset = self._num_lines = self._inode = 0
        self._mark = b""

    def _whole_lines(self, descriptor: int, size: int) -> tuple[bytes, bool]:
        """Lines from the offset on, of `size` bytes or one line, and whether the file has no further whole line."""
        block = os.pread(descriptor, size, self._offset)
        end = block.rfind(b"\n") + 1
        while len(block) == size and not end:
            if size > MAX_LINE:
                raise LogError(f"{self._place(0)}: the line is longer than {MAX_LINE >> 20} MiB. This is not a run's log.")
            size *= 2
            block = os.pread(descriptor, size, self._offset)
            end = block.find(b"\n") + 1
        return block[:end], len(block) < size

    def _decode(self, lines: bytes, count: int, *, may_stop: bool) -> tuple[list[AnyRecord], int]:
        """The records in so many lines, and how many bytes they took: fewer when a bad line follows good ones."""
        try:
            records = _DECODER.decode_lines(lines)
        except UNDECODABLE:
            return self._decode_each(lines, may_stop=may_stop)
        if len(records) != count:
            return self._decode_each(lines, may_stop=may_stop)
        for record in records[:1]:
            self._check_schema(record, 0)
        return records, len(lines)

    def _decode_each(self, lines: bytes, *, may_stop: bool) -> tuple[list[AnyRecord], int]:
        records: list[AnyRecord] = []
        taken = 0
        for number, line in enumerate(lines.split(b"\n")[:-1]):
            try:
                if line.strip() and (record := self._decode_line(line, number)) is not None:
                    records.append(record)
            except LogError:
                if records or may_stop:
                    break
                raise
            taken += len(line) + 1
        return records, taken

    def _decode_line(self, line: bytes, number: int) -> AnyRecord | None:
        """The line's record; None when its kind is one that this version does not know."""
        try:
            record = _DECODER.decode(line)
        except UNDECODABLE as error:
            stub = _stub(line)
            if stub is None or (stub.kind in KINDS and stub.schema <= SCHEMA):
                message = f"{self._place(number)}: not a record ({error}). Expected one JSON object of a known kind a line."
                raise LogError(message) from error
            if stub.schema > SCHEMA:
                raise self._too_new(stub.schema, number) from error
            return None
        self._check_schema(record, number)
        return record

    def _check_schema(self, record: AnyRecord, number: int) -> None:
        if isinstance(record, Header) and record.schema > SCHEMA:
            raise self._too_new(record.schema, number)

    def _too_new(self, schema: int, number: int) -> LogError:
        return LogError(f"{self._place(number)}: the log has schema {schema}, this version reads up to {SCHEMA}. Install a newer eos-tui.")

    def _place(self, number: int) -> str:
        return f"{self.path}: line {self._num_lines + number + 1}"

    def _advance(self, lines: bytes, count: int) -> None:
        self._offset += len(lines)
        self._num_lines += count
        self._mark = (self._mark + lines[-MARK:])[-MARK:]


def _stub(line: bytes) -> _Stub | None:
    try:
        return msgspec.json.decode(line, type=_Stub)
    except UNDECODABLE:
        return None


def whole_length(path: Path) -> int:
    """Bytes of the log's whole lines as it is now, without a torn last one.

    Raises:
        LogError: If there is no such log.
    """
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            while end > 0:
                begin = max(end - BLOCK, 0)
                file.seek(begin)
                newline = file.read(end - begin).rfind(b"\n")
                if newline >= 0:
                    return begin + newline + 1
                end = begin
    except FileNotFoundError:
        raise LogError(f"{path}: there is no log yet. The run has not begun, or its folder is not complete.") from None
    except OSError as error:
        raise LogError(f"{path}: the log cannot be read ({error.strerror}).") from error
    return 0


def read_whole(path: Path, length: int | None = None) -> Iterator[list[AnyRecord]]:
    """All records of the log as it is now, some at a time; what is appended in the meantime is left out.

    Args:
        path: The log.
        length: Bytes to read, the end of a line; `whole_length` when None.

    Yields:
        Records in the order of the file, at most those of one block.

    Raises:
        LogError: If there is no such log, a line of it is not a record, or it is cut while it is read.
    """
    yield from read_between(path, 0, whole_length(path) if length is None else length)


def read_between(path: Path, begin: int, end: int) -> Iterator[list[AnyRecord]]:
    """The records of a part of the log, some at a time.

    Args:
        path: The log.
        begin: Where to begin, at the beginning of a line.
        end: Where to end, at the end of a line.

    Yields:
        As `read_whole`.

    Raises:
        LogError: As `read_whole`.
    """
    reader = LogReader(path, begin)
    while reader.offset < end:
        before = reader.offset
        batch = reader.read(max_bytes=min(BLOCK, end - reader.offset))
        if batch.restarted or reader.offset == before:
            raise LogError(f"{path}: the log was cut while it was being read, as a resume does. Try again.")
        yield batch.records
