"""Next-character prediction on a text."""

from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from runners.data_files import text_windows
from runners.errors import DataError
from runners.formats import text
from runners.formats.files import table_file
from runners.sources.raw import AnyArray, RawData
from runners.spec import Text


def windows(data: Text, *, base: Path | None) -> RawData:
    """Windows of numbered characters [examples, context] int32, and the number of the character behind each.

    Raises:
        DataError: If the file cannot be read, is not UTF-8, is too short, or has one character only.
    """
    path = table_file(data.path, base=base)
    content, size = text.read(path), text_windows(data)
    num_train, _ = text.split(path, content, size)
    codes, kept, num_others = _numbered(content, most=data.vocabulary)
    num_outputs = len(kept) + (num_others > 0)
    if num_outputs < 2:
        raise DataError(f"{path}: there is one character only, {kept!r}; expected at least two to tell apart.")
    others = f"the {num_others} others as one, " if num_others else ""
    x, y = _cut(codes[:num_train], size)
    x_test, y_test = _cut(codes[num_train:], size)
    source = f"{path}, {len(content):,} characters, of {len(kept)} kinds in the order of their code points, {others}the last tenth for test"
    return RawData(x=x, y=y, num_outputs=num_outputs, source=source, x_test=x_test, y_test=y_test, holds_codes=True)


def _numbered(content: str, *, most: int | None) -> tuple[AnyArray, str, int]:
    """Each character's number, the characters that have one of their own, and how many others there are, which share the next."""
    points = np.frombuffer(content.encode("utf-32-le"), np.uint32)
    kinds, places, counts = np.unique(points, return_inverse=True, return_counts=True)
    # The most frequent, of equally frequent ones those that come first.
    is_kept = np.zeros(len(kinds), bool)
    is_kept[np.argsort(-counts, kind="stable")[:most]] = True
    num_kept = int(is_kept.sum())
    numbers = np.where(is_kept, np.cumsum(is_kept) - 1, num_kept).astype(np.int32)
    return numbers[places], "".join(map(chr, kinds[is_kept])), len(kinds) - num_kept


def _cut(codes: AnyArray, windows: text.Windows) -> tuple[AnyArray, AnyArray]:
    if len(codes) < windows.size:
        return np.empty((0, windows.size - 1), np.int32), np.empty(0, np.int32)
    # A view: of windows that overlap only those are copied that are used.
    found = sliding_window_view(codes, windows.size)[:: windows.stride]
    return found[:, :-1], found[:, -1]
