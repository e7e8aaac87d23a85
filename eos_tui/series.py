"""The numbers in records as series: by record kind and field, steps and values. Used by the snapshot, the export, the plots."""

import operator
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import compress, groupby
from typing import Any, TypeAlias, cast, get_args, get_origin

import msgspec
from msgspec import UNSET

from runners.records import SERIES_KINDS, AnyRecord, Eigenvalue

Key: TypeAlias = tuple[str, str]
"""Record kind and field path, such as ("sharpness", "value"), ("metrics", "values.test_loss") and ("sharpness", "values.0")."""
Points: TypeAlias = tuple[Sequence[float | None], Sequence[float | None]]
"""Positions, never decreasing, and as many values; None for what is not finite."""
Profile: TypeAlias = tuple[str, Points]
"""A label, and a curve over something else than the step."""


def kind_of(record: type[AnyRecord]) -> str:
    """The name of a record kind in the log."""
    return str(record.__struct_config__.tag)


def by_kind(records: Sequence[AnyRecord]) -> dict[str, list[AnyRecord]]:
    """The records apart by kind, each kind in its order."""
    found: defaultdict[type[AnyRecord], list[AnyRecord]] = defaultdict(list)
    for kind, same in groupby(records, type):
        found[kind].extend(same)
    return {kind_of(kind): same for kind, same in found.items()}


def points(kinds: Mapping[str, Sequence[AnyRecord]]) -> Iterator[tuple[Key, Sequence[int], Sequence[float | None]]]:
    """Each number of the records that come as series, with its steps and values.

    What was not measured has no point; the value of what is not finite is None.

    Args:
        kinds: Records, as `by_kind` gives them.

    Yields:
        The key, and as many steps as values.
    """
    for kind in SERIES_KINDS:
        if records := kinds.get(kind, ()):
            yield from _fields(kind, records)
            for name in _NAMED[kind]:
                yield from _named(kind, name, records)
            for name in _LISTED[kind]:
                yield from _listed(kind, name, records)


def _fields(kind: str, records: Sequence[AnyRecord]) -> Iterator[tuple[Key, list[int], list[Any]]]:
    steps = [record.step for record in records]
    for name in _NUMERIC[kind]:
        values = list(map(operator.attrgetter(name), records))
        if _are_numbers(values):
            yield (kind, name), steps, values
        elif any(measured := [value is not UNSET for value in values]):
            yield (kind, name), list(compress(steps, measured)), list(compress(values, measured))


def _are_numbers(values: Sequence[Any]) -> bool:
    """Whether there is a number everywhere; told by their sum, a third of the time that their types take."""
    try:
        sum(values)
    except TypeError:
        return False
    return True


def _named(kind: str, field: str, records: Sequence[AnyRecord]) -> Iterator[tuple[Key, list[int], list[float | None]]]:
    """The numbers of a field that holds them by name."""
    numbers = [(record.step, cast(dict[str, float | None], getattr(record, field))) for record in records]
    for name in dict.fromkeys(name for _, values in numbers for name in values):
        measured = [(step, values[name]) for step, values in numbers if name in values]
        yield (kind, f"{field}.{name}"), [step for step, _ in measured], [value for _, value in measured]


def _listed(kind: str, field: str, records: Sequence[AnyRecord]) -> Iterator[tuple[Key, list[int], list[float | None]]]:
    """The numbers of a field that holds a list, by their place in it."""
    lists = [(record.step, cast(tuple[float | None, ...], found)) for record in records if (found := getattr(record, field)) is not UNSET]
    for place in range(max((len(found) for _, found in lists), default=0)):
        measured = [(step, found[place]) for step, found in lists if place < len(found)]
        yield (kind, f"{field}.{place}"), [step for step, _ in measured], [value for _, value in measured]


def _numeric_fields(record: type[AnyRecord]) -> tuple[str, ...]:
    """The fields of a record kind that hold one number, and are not its place."""
    names = []
    for info in msgspec.structs.fields(record):
        types = (info.type, *get_args(info.type))
        if info.name not in ("step", "time") and (float in types or int in types):
            names.append(info.name)
    return tuple(names)


def _dictionaries(record: type[AnyRecord]) -> tuple[str, ...]:
    """The fields of a record kind that hold numbers by name."""
    return tuple(info.name for info in msgspec.structs.fields(record) if get_origin(info.type) is dict)


_NAMED = {kind_of(record): _dictionaries(record) for record in get_args(AnyRecord)}
_LISTED = {kind_of(record): ("values",) if issubclass(record, Eigenvalue) else () for record in get_args(AnyRecord)}
"""Of the lists those that are lines over the step. Others are curves over something else, or errors."""
_NUMERIC = {kind_of(record): _numeric_fields(record) for record in get_args(AnyRecord)}
