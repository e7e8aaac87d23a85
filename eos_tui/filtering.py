"""The small language in which a list of runs is filtered: words, numbers and keys of the spec. Pure.

    sgd                 the name holds it, whatever the case
    /b(8|16)-/          the name matches the regular expression
    status:running      the field is this word; `optimizer=adam` is the same, `!=` its opposite
    lr>0.1  loss<=1e-3  numbers: < <= > >= = !=
    -status:failed      not this

Several terms hold together. A field is one of the list's own or a key of the spec: whole, `optimizer.lr`, or its last part where only
one table has it, `lr`; of a table the name stands for it: `optimizer=adam`.
"""

import difflib
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Test: TypeAlias = Callable[["Candidate"], bool]

COMPARISON = re.compile(r"([\w.]+)(!=|<=|>=|[:=<>])(.*)", re.DOTALL)
ORDER: Mapping[str, Callable[[float, float], bool]] = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


class FilterError(ValueError):
    """What is wrong with a filter."""


@dataclass(frozen=True)
class Candidate:
    """What a run is told by."""

    name: str
    fields: Mapping[str, float | str | None] = field(default_factory=dict)
    """Of the list; None for what is not known."""
    spec: Mapping[str, Any] = field(default_factory=dict)
    """Tables of the resolved spec."""

    def values(self, key: str) -> list[Any]:
        """What the key stands for; several where several tables have it, none where none has."""
        if key == "name":
            return [self.name]
        if key in self.fields:
            return [self.fields[key]]
        if "." not in key:
            table = self.spec.get(key)
            if isinstance(table, Mapping):
                return [table[name] for name in ("name", "kind") if name in table]
            found = [table[key] for table in self.spec.values() if isinstance(table, Mapping) and key in table]
            return found if table is None else [table]
        value: Any = self.spec
        for part in key.split("."):
            if not isinstance(value, Mapping) or part not in value:
                return []
            value = value[part]
        return [value]

    def keys(self) -> set[str]:
        """All that `values` knows, but for the last parts of keys that several tables have."""
        tables = {name: table for name, table in self.spec.items() if isinstance(table, Mapping)}
        return {"name", *self.fields, *self.spec, *(key for table in tables.values() for key in table)} | {
            f"{name}.{key}" for name, table in tables.items() for key in table
        }


def parse(text: str) -> Callable[[Candidate], bool]:
    """Whether a run is wanted.

    Args:
        text: The filter; an empty one wants all.

    Raises:
        FilterError: If a term is not one, with the term and what was expected.
    """
    tests = [_term(term) for term in text.split()]
    return lambda run: all(test(run) for test in tests)


def unknown(text: str, known: set[str]) -> str:
    """A word on the first key that no run has, with the nearest one; empty when there is none.

    Args:
        text: A filter that parses.
        known: The keys of all runs.
    """
    for term in text.split():
        match = COMPARISON.fullmatch(term.removeprefix("-"))
        if match and not _is_pattern(term.removeprefix("-")) and match[1] not in known:
            near = difflib.get_close_matches(match[1], sorted(known), n=1)
            return f"No run has {match[1]!r}." + (f" Did you mean {near[0]!r}?" if near else "")
    return ""


def _term(term: str) -> Test:
    if len(term) > 1 and term.startswith("-"):
        wanted = _term(term[1:])
        return lambda run: not wanted(run)
    if _is_pattern(term):
        try:
            pattern = re.compile(term[1:-1])
        except re.error as error:
            raise FilterError(f"{term}: not a regular expression ({error}).") from error
        return lambda run: pattern.search(run.name) is not None
    if match := COMPARISON.fullmatch(term):
        key, relation, value = match.groups()
        if not value:
            raise FilterError(f"{term}: expected something behind {relation}, as in status:running or lr>0.1.")
        return _comparison(key, relation, value)
    word = term.casefold()
    return lambda run: word in run.name.casefold()


def _comparison(key: str, relation: str, value: str) -> Test:
    if relation in ORDER:
        holds, bound = ORDER[relation], _number(value)
        if bound is None:
            raise FilterError(f"{key}{relation}{value}: expected a number behind {relation}, as in lr>0.1.")
        return lambda run: any(number is not None and holds(number, bound) for number in map(_number, run.values(key)))
    is_wanted = relation != "!="
    return lambda run: any(_is(found, value) for found in run.values(key)) is is_wanted


def _is(found: Any, wanted: str) -> bool:
    """Whether a value is what was written: the same number, or the same word whatever the case."""
    number, other = _number(found), _number(wanted)
    if number is not None and other is not None:
        return math.isclose(number, other, rel_tol=1e-9)
    words = {True: "true", False: "false", None: "none"}.get(found, found) if isinstance(found, bool | None) else found
    return str(words).casefold() == wanted.casefold()


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return None if math.isnan(number) else number


def _is_pattern(term: str) -> bool:
    return len(term) > 2 and term.startswith("/") and term.endswith("/")
