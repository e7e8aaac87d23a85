"""What the spec's types allow: the kinds of a table, the keys of a kind, and the values of a key in words.

Read off `spec`'s structs, so that messages and overrides follow them. Called by `overrides`, `spec_problems` and
`spec_file`. Standard library and msgspec only.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeAlias

from msgspec import inspect

from runners.experiments import Spec

Document: TypeAlias = dict[str, Any]
"""A spec as TOML has it: tables are dicts."""
KeyPath: TypeAlias = tuple[str | int, ...]
"""A key and the tables that it is in, from the top; numbers count from 0 in lists."""


@cache
def root() -> inspect.Type:
    """The type of a whole spec."""
    return inspect.type_info(Spec)


def alternatives(of: inspect.Type) -> tuple[inspect.Type, ...]:
    """The members of a union, and of anything else itself; without null, which TOML does not have."""
    members = of.types if isinstance(of, inspect.UnionType) else (of,)
    return tuple(member for member in members if not isinstance(member, inspect.NoneType))


def kinds(of: inspect.Type) -> tuple[inspect.StructType, ...]:
    """The tables among the alternatives."""
    return tuple(member for member in alternatives(of) if isinstance(member, inspect.StructType))


def kind_key(of: inspect.Type) -> str | None:
    """The key that picks the kind of table: `name`, `kind` or `runner`; None where there is nothing to pick."""
    return next((kind.tag_field for kind in kinds(of)), None)


def kind_names(of: inspect.Type) -> tuple[str, ...]:
    """What the key that picks the kind may hold, but for `custom`, which is written as an import path."""
    return tuple(str(kind.tag) for kind in kinds(of) if kind.tag != "custom")


def import_pattern(of: inspect.Type) -> str | None:
    """The pattern of an import path, which the key that picks the kind may hold too; None where users add no kinds."""
    for kind in kinds(of):
        target = fields(kind).get("target")
        if kind.tag == "custom" and target is not None and isinstance(target.type, inspect.StrType):
            return target.type.pattern
    return None


def kind_of(of: inspect.Type, table: Mapping[str, Any]) -> inspect.StructType | None:
    """The kind that a table says it is; None when it says none, or an unknown one."""
    found = kinds(of)
    if found and found[0].tag_field is None:
        return found[0]
    name = table.get(kind_key(of) or "")
    if is_import_path(of, name):
        name = "custom"
    return next((kind for kind in found if kind.tag == name), None)


def is_import_path(of: inspect.Type, name: Any) -> bool:
    """Whether the value of the key that picks the kind is `package.module:attribute`, and may be."""
    pattern = import_pattern(of)
    return pattern is not None and isinstance(name, str) and re.search(pattern, name) is not None


def fields(kind: inspect.StructType) -> dict[str, inspect.Field]:
    """The keys of a kind of table, but for the one that picks the kind."""
    return {field.encode_name: field for field in kind.fields}


def with_kinds(document: Document) -> Document:
    """The document with the default kind in every table that says none, and import paths written as `custom` tables."""
    runner = kind_key(root())
    document = {runner: kind_names(root())[0], **document} if runner else document
    kind = kind_of(root(), document)
    return {key: _with_kind(fields(kind)[key], table) if kind and key in fields(kind) else table for key, table in document.items()}


def _with_kind(field: inspect.Field, table: Any) -> Any:
    key = kind_key(field.type)
    if key is None or not isinstance(table, dict):
        return table
    if key not in table:
        default = next((kind.tag for kind in kinds(field.type) if kind.cls is field.default_factory), None)
        return {key: default, **table} if default else table
    if is_import_path(field.type, table[key]) and "target" not in table:
        return {**table, key: "custom", "target": table[key]}
    return table


def value_at(document: Any, path: KeyPath) -> Any:
    """The value of a key; None when the document does not have it."""
    value = document
    for part in path:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def type_at(document: Document, path: KeyPath) -> inspect.Type | None:
    """The type of a key in a document with kinds; None when the tables that it is in have no such key.

    For a key that picks a kind it is text.
    """
    of = root()
    for depth, part in enumerate(path):
        found = _type_in(of, value_at(document, path[:depth]), part)
        if found is None:
            return None
        of = found
    return of


def _type_in(of: inspect.Type, value: Any, part: str | int) -> inspect.Type | None:
    if isinstance(part, int):
        return next((member.item_type for member in alternatives(of) if isinstance(member, inspect.VarTupleType)), None)
    if any(isinstance(member, inspect.DictType) for member in alternatives(of)):
        return inspect.AnyType()
    if part == kind_key(of):
        return inspect.StrType()
    kind = kind_of(of, value) if isinstance(value, dict) else None
    field = fields(kind).get(part) if kind else None
    return field.type if field else None


def in_words(of: inspect.Type) -> str:
    """What a value of a type may be: `a number > 0 or a table with kind = warmup, cosine or piecewise`."""
    return listed([word for member in alternatives(of) for word in _in_words(member)] + _table_in_words(of))


def kind_choices(of: inspect.Type) -> list[str]:
    """What the key that picks the kind may hold, in words."""
    return [*(f'"{name}"' for name in kind_names(of)), *(['"package.module:attribute"'] if import_pattern(of) else [])]


def _table_in_words(of: inspect.Type) -> list[str]:
    if not kinds(of):
        return []
    return [f"a table with {kind_key(of)} = {listed(kind_choices(of))}" if kind_key(of) else "a table"]


def _in_words(of: inspect.Type) -> list[str]:
    match of:
        case inspect.StructType():
            return []
        case inspect.BoolType():
            return ["true", "false"]
        case inspect.IntType() | inspect.FloatType():
            return [("an integer" if isinstance(of, inspect.IntType) else "a number") + _limits(of)]
        case inspect.LiteralType():
            return [f'"{value}"' for value in of.values]
        case inspect.VarTupleType():
            at_least = f" of at least {of.min_length}" if of.min_length else ""
            return [f"a list{at_least}, each {in_words(of.item_type)}"]
        case inspect.DictType():
            return ["a table"]
        case inspect.StrType(pattern=str()):
            return ['text like "package.module:attribute"']
        case _:
            return ["text"]


def _limits(of: inspect.IntType | inspect.FloatType) -> str:
    limits = {">": of.gt, ">=": of.ge, "<": of.lt, "<=": of.le}
    return " and".join(f" {sign} {limit}" for sign, limit in limits.items() if limit is not None)


def listed(words: list[str]) -> str:
    """The words as a choice: `a, b or c`."""
    return ", ".join(words[:-1]) + " or " + words[-1] if len(words) > 1 else words[0]
