"""What can be wrong with a document that is to be a spec, in words: which key, what it holds, what was expected, the likeliest remedy.

msgspec finds the first key that does not fit the schema; `of_error` says it in a user's terms. `of_document` looks for what types
cannot express; keys that contradict each other are for `spec_conflicts`. Called by `spec_file`, which adds where the key came from.
Standard library and msgspec only.
"""

import difflib
import json
import math
import re
from collections.abc import Iterator
from datetime import date, time
from typing import Any, NamedTuple

from msgspec import ValidationError, inspect

from runners import schema
from runners.schema import Document, KeyPath

SYNONYMS = {
    "learning_rate": "lr",
    "step_size": "lr",
    "eta": "lr",
    "epochs": "steps",
    "num_steps": "steps",
    "iterations": "steps",
    "batch": "batch_size",
    "minibatch": "batch_size",
    "hidden_size": "width",
    "hidden": "width",
    "channels": "width",
    "layers": "depth",
    "num_layers": "depth",
    "nonlinearity": "activation",
    "beta": "momentum",
    "b1": "beta1",
    "b2": "beta2",
    "epsilon": "eps",
    "l2": "weight_decay",
    "shuffle": "sampling",
    "normalize": "standardize",
    "sharpness": "sharpness_every",
    "hessian_every": "sharpness_every",
    "ntk": "ntk_every",
    "eval_every": "evaluate_every",
    "tol": "tolerance",
    "num_eigenvalues": "top_k",
    "n_train": "num_train",
    "n_test": "num_test",
    "folder": "dir",
    "file": "path",
    "dtype": "precision",
    "dataset": "data",
    "network": "model",
    "net": "model",
    "loss": "objective",
    "training": "run",
    "train": "run",
    "double": "float64",
    "single": "float32",
    "gd": "sgd",
    "gradient_descent": "sgd",
    "momentum": "heavy_ball",
    "polyak": "heavy_ball",
    "nag": "nesterov",
    "ema": "ema_momentum",
    "ngd": "normalized_gd",
    "signgd": "sign_descent",
    "sign_sgd": "sign_descent",
    "ce": "cross_entropy",
    "xent": "cross_entropy",
    "softmax": "cross_entropy",
    "squared": "mse",
    "fc": "mlp",
    "dense": "mlp",
    "conv": "cnn",
    "vgg": "vgg11",
    "resnet": "residual-cnn",
    "gpt": "transformer",
    "num_heads": "heads",
    "vocab_size": "vocabulary",
    "context_length": "context",
    "multistep": "piecewise",
}
"""Other words for keys and kinds; only those count that name something possible where they stand."""
SHOWN_CHARACTERS = 60
"""Longer values are cut in messages."""
CLOSE_ENOUGH = 0.7
"""difflib's similarity from which a word counts as a misspelling of another."""


class Problem(NamedTuple):
    """What is wrong, and the keys that it hangs on: where they came from is where it is to be mended."""

    keys: tuple[KeyPath, ...]
    message: str


def dotted(path: KeyPath) -> str:
    """The path as TOML writes it, with list places in brackets."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def of_document(document: Document, path: KeyPath = ()) -> Iterator[Problem]:
    """Values that no key can hold: numbers that are not finite or too large, dates and times."""
    value = schema.value_at(document, path)
    if isinstance(value, dict | list):
        for part in value if isinstance(value, dict) else range(len(value)):
            yield from of_document(document, (*path, part))
    elif isinstance(value, float) and not math.isfinite(value):
        yield wrong_value(path, value, "a finite number")
    elif isinstance(value, int) and abs(value) >= 2**63:
        yield wrong_value(path, value, "an integer of 64 bits")
    elif isinstance(value, date | time):
        yield wrong_value(path, value, "no date or time; write it in quotes to make it text")


def of_error(error: ValidationError, document: Document) -> Problem:
    """What msgspec found wrong when it converted the document, which has its kinds."""
    text, _, place = str(error).partition(" - at `$")
    path: KeyPath = tuple(int(index) if index else name for name, index in re.findall(r"\.([^.\[\]`]+)|\[(\d+)\]", place))
    if unknown := re.match(r"Object contains unknown field `(.*)`", text):
        return _unknown_key(document, path, unknown[1])
    if missing := re.match(r"Object missing required field `(.*)`", text):
        return _missing_key(document, path, missing[1])
    parent, value = schema.type_at(document, path[:-1]), schema.value_at(document, path)
    if parent is not None and path and path[-1] == schema.kind_key(parent):
        return wrong_value(path, value, listed_choices(parent), hint=_did_you_mean(value, list(schema.kind_names(parent))))
    of = schema.type_at(document, path)
    if of is None:
        return Problem((path,), f"{dotted(path)}: {text}.")
    if isinstance(value, str) and schema.kind_key(of) == "name":
        hint = f" To choose its kind set {dotted(path)}.name."
        return wrong_value(path, value, "a table", hint=hint)
    words = [str(word) for member in schema.alternatives(of) if isinstance(member, inspect.LiteralType) for word in member.values]
    return wrong_value(path, value, _expected(of, value), hint=_did_you_mean(value, words))


def listed_choices(of: inspect.Type) -> str:
    """The kinds of a table as a choice."""
    return schema.listed(schema.kind_choices(of))


def wrong_value(path: KeyPath, value: Any, expected: str, *, hint: str = "") -> Problem:
    """A key whose value is not what it may be."""
    return Problem((path,), f"{dotted(path)} = {shown(value)}: expected {expected}.{hint}")


def _expected(of: inspect.Type, value: Any) -> str:
    """What a value of the type may be in words; for a number that cannot be, only which numbers can."""
    numbers = [member for member in schema.alternatives(of) if isinstance(member, inspect.IntType | inspect.FloatType)]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return schema.in_words(numbers[0] if is_number and numbers else of)


def shown(value: Any) -> str:
    """A value as the spec has it, cut where it is long."""
    text = str(value) if isinstance(value, float | date | time) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."


def _missing_key(document: Document, table: KeyPath, key: str) -> Problem:
    parent = schema.type_at(document, table)
    path = (*table, key)
    choosing = (*table, schema.kind_key(parent) or "") if parent is not None else table
    of = schema.type_at(document, path)
    if parent is not None and key == schema.kind_key(parent):
        return Problem((path, table), f"{dotted(path)} is missing: expected {listed_choices(parent)}.")
    expected = f": expected {schema.in_words(of)}" if of is not None else ""
    kind = schema.value_at(document, choosing)
    return Problem((path, choosing), f"{dotted(path)} is missing, which {shown(kind)} needs{expected}.")


def _unknown_key(document: Document, table: KeyPath, key: str) -> Problem:
    path = (*table, key)
    return Problem((path,), f"{dotted(path)} is not a known key.{_remedy(document, table, key)}")


def _remedy(document: Document, table: KeyPath, key: str) -> str:
    """Where the key, or one like it, would be known: by its very name before a likeness, and here before elsewhere."""
    parent = schema.type_at(document, table)
    kind = schema.kind_of(parent, schema.value_at(document, table)) if parent is not None else None
    here = list(schema.fields(kind)) if kind is not None else []
    owners = [str(other.tag) for other in schema.kinds(parent) if key in schema.fields(other)] if parent is not None else []
    if owners and parent is not None:
        return f" It belongs to {dotted((*table, schema.kind_key(parent) or ''))} = {schema.listed(owners)}."
    everywhere = _keys_by_table()
    elsewhere = [f"{name}.{key}" for name, keys in everywhere.items() if key in keys]
    if SYNONYMS.get(key) not in here and elsewhere:
        return f" Did you mean {elsewhere[0]}?"
    if near := _nearest(key, here):
        return f" Did you mean '{near}'?"
    tables = {known: name for name, keys in reversed(everywhere.items()) for known in keys}
    if near := _nearest(key, list(tables)):
        return f" Did you mean {tables[near]}.{near}?"
    return f" Expected one of: {', '.join(here)}." if here else ""


def _keys_by_table() -> dict[str, list[str]]:
    """All keys of all kinds of each top-level table."""
    keys: dict[str, dict[str, None]] = {}
    for runner in schema.kinds(schema.root()):
        for name, field in schema.fields(runner).items():
            keys.setdefault(name, {}).update(dict.fromkeys(key for kind in schema.kinds(field.type) for key in schema.fields(kind)))
    return {name: list(of) for name, of in keys.items()}


def _did_you_mean(value: Any, words: list[str]) -> str:
    near = _nearest(value, words) if isinstance(value, str) else None
    return f" Did you mean '{near}'?" if near else ""


def _nearest(word: str, words: list[str]) -> str | None:
    """The one of the words that another was most likely meant to be, by spelling or meaning."""
    candidates = {**{synonym: meant for synonym, meant in SYNONYMS.items() if meant in words}, **{known: known for known in words}}
    close = difflib.get_close_matches(word.lower(), candidates, n=1, cutoff=CLOSE_ENOUGH)
    return candidates[close[0]] if close else None
