"""A spec as TOML text: written from a document, and the line in a text where a key stands. Standard library only."""

import json
import re
from collections.abc import Sequence
from typing import Any

from runners.schema import Document, KeyPath

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_KEY = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')"""
_KEYS = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_LINE = re.compile(rf"\s*(?:\[\[?\s*(?P<table>{_KEYS})\s*\]|(?P<key>{_KEYS})\s*=)")


def to_toml(document: Document) -> str:
    """The document as TOML, which `tomllib` reads as the same but for keys without a value: TOML has no null, they are left out.

    Args:
        document: A spec as JSON has it: text, numbers, true and false, lists, and tables.
    """
    values = {key: value for key, value in document.items() if not isinstance(value, dict)}
    tables = {key: value for key, value in document.items() if isinstance(value, dict)}
    parts = [_lines(values), *(f"[{_key(name)}]\n{_lines(table)}" for name, table in tables.items())]
    return "\n".join(part for part in parts if part)


def line_of(text: str, path: KeyPath) -> int | None:
    """The line, counted from 1, of a key in TOML, or else of what comes nearest above it: a key or table that it is in.

    Args:
        text: TOML, which need not be valid; what looks like a key within text of several lines counts as one.
        path: The key, and the tables that it is in.

    Returns:
        None where not even its table stands in the text.
    """
    table: tuple[str, ...] = ()
    best: tuple[int, int | None] = (0, None)
    for number, line in enumerate(text.splitlines(), 1):
        found = _LINE.match(line)
        if found is None:
            continue
        if found["table"]:
            here = table = _parts(found["table"])
        else:
            here = (*table, *_parts(found["key"]))
        if here == path[: len(here)] and len(here) > best[0]:
            best = (len(here), number)
    return best[1]


def _parts(keys: str) -> tuple[str, ...]:
    return tuple(key.strip("\"'") for key in re.findall(_KEY, keys))


def _lines(table: Document) -> str:
    return "".join(f"{_key(key)} = {_value(value)}\n" for key, value in table.items() if value is not None)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _text(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_value(of)}" for key, of in value.items() if of is not None) + " }" if value else "{}"
    if isinstance(value, Sequence):
        return f"[{', '.join(map(_value, value))}]"
    return repr(value)


def _text(text: str) -> str:
    # JSON's escapes are TOML's, which has DEL escaped too.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
