"""`key.path=value` from the command line, put into a spec document before it is checked.

The schema says how a value is read: a key that holds text takes the characters as they are, so that `data.dir=2024` is
the folder 2024; any other is a TOML value (`lr={kind="cosine", peak=0.3, steps=100}`), and a bare word is text.
Standard library and msgspec only.
"""

import copy
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import inspect

from runners import schema
from runners.errors import SpecError
from runners.schema import Document, KeyPath


@dataclass(frozen=True)
class Override:
    """A key with another value: one `--set`, or one value of a grid."""

    path: tuple[str, ...]
    text: str
    """The value as it was typed."""
    option: str = "--set"
    """What gave it, for messages."""

    @property
    def key(self) -> str:
        """The path as it was typed."""
        return ".".join(self.path)


def parse_override(argument: str, *, option: str = "--set", example: str = "optimizer.lr=0.1") -> Override:
    """The override that `key.path=value` asks for.

    Args:
        argument: As it was typed.
        option: What it was given to, for messages.
        example: What would have been right, for messages.

    Raises:
        SpecError: If there is no `=`, or no key before it.
    """
    key, separator, text = argument.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    if not separator or not all(path):
        raise SpecError(f"{option} {argument}: expected key=value, like {example}.")
    return Override(path=path, text=text.strip(), option=option)


def with_overrides(document: Document, overrides: Sequence[Override]) -> Document:
    """The document with the overrides put in, in order, but those that pick a table's kind first.

    Another kind of table keeps the keys that both kinds have; the old kind's other keys are dropped.

    Raises:
        SpecError: If a value is not TOML, or a key lies in something that is not a table.
    """
    document = copy.deepcopy(document)
    for override in sorted(overrides, key=lambda override: override.path[-1] not in {"runner", "name", "kind"}):
        table = _table(document, override)
        complete = schema.with_kinds(document)
        value = _value(override, schema.type_at(complete, override.path))
        parent = schema.root() if len(override.path) == 1 else schema.type_at(complete, override.path[:-1])
        if parent is not None and override.path[-1] == schema.kind_key(parent):
            old = schema.value_at(complete, override.path[:-1])
            _change_kind(table, parent, old=old, new={override.path[-1]: value})
        table[override.path[-1]] = value
    return document


def is_about(override: Override, path: KeyPath) -> bool:
    """Whether the override gave the value of a key, or a part of it, or a table that it is in."""
    shared = min(len(path), len(override.path))
    return override.path[:shared] == path[:shared]


def _table(document: Document, override: Override) -> Document:
    """The table that holds the override's key; made when absent."""
    table = document
    for depth, part in enumerate(override.path[:-1]):
        inner = table.setdefault(part, {})
        if not isinstance(inner, dict):
            where = ".".join(override.path[: depth + 1])
            raise SpecError(
                f"{override.option} {override.key}={override.text}: {where} is not a table here. Set all of it: {where}={{...}}."
            )
        table = inner
    return table


def _change_kind(table: Document, parent: inspect.Type, *, old: Document, new: Document) -> None:
    """Drop from the table what only its old kind has."""
    before, after = schema.kind_of(parent, old), schema.kind_of(parent, new)
    if before is None or after is None:
        return
    is_named_anew = {"target"} if any(schema.is_import_path(parent, name) for name in new.values()) else set()
    for key in schema.fields(before).keys() - (schema.fields(after).keys() - is_named_anew):
        table.pop(key, None)


def _value(override: Override, of: inspect.Type | None) -> Any:
    types = schema.alternatives(of) if of is not None else ()
    takes_text = any(isinstance(member, inspect.StrType) for member in types)
    try:
        value = _toml_value(override.text)
    except ValueError as error:
        if not takes_text and override.text.startswith(("[", "{", '"', "'")):
            reason = re.sub(r" \(at .*\)$", "", str(error))
            raise SpecError(f"{override.option} {override.key}={override.text}: the value is not TOML ({reason}).") from error
        return override.text
    is_wanted = isinstance(value, str) or (isinstance(value, list) and any(isinstance(member, inspect.VarTupleType) for member in types))
    return override.text if takes_text and not is_wanted else value


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"] if "\n" not in text else text
    except ValueError:
        if re.fullmatch(r"[+-]?(\d+\.|\.\d+)([eE][+-]?\d+)?", text):  # .3 and 3., which TOML does not take
            return float(text)
        raise
