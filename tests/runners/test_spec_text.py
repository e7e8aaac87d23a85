"""Specs as text: documents written as TOML, and where keys stand in it."""

import json
import tomllib

import msgspec
import pytest

from runners import spec_file
from runners.errors import SpecError
from runners.spec_text import line_of, to_toml

TEXT = """\
# A comment with [brackets] and key = value
runner = "train"
measure.top_k = 3

[optimizer]
name = "sgd"
lr = { kind = "cosine", peak = 0.1, steps = 10 }

  [ data ]
"num_train" = 5

[data.arguments]
n = 3
"""


@pytest.mark.parametrize("preset", spec_file.presets(), ids=lambda preset: preset.name)
def test_the_spec_of_a_run_is_the_same_spec_as_toml(preset):
    spec = spec_file.read(preset.name)

    assert spec_file.from_toml(to_toml(json.loads(spec_file.to_json(spec)))) == spec


def test_what_needs_quotes_or_escapes_gets_them():
    document = {"a b": 'x"\\\n\t\x7f\u00e9\U0001f600', "t": {"list": [1, 2.5e-07, True, "s", [], {"k": 1}], "inline": {"a.b": {}}}}

    assert tomllib.loads(to_toml(document)) == document


def test_keys_without_a_value_are_left_out():
    assert to_toml({"a": None, "t": {"b": None, "c": {"d": None, "e": 1}}}) == "[t]\nc = { e = 1 }\n"


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("runner",), 2),
        (("measure", "top_k"), 3),
        (("optimizer", "name"), 6),
        (("optimizer", "lr", "peak"), 7),
        (("optimizer", "momentum"), 5),
        (("data", "num_train"), 10),
        (("data", "arguments", "n"), 13),
        (("data", "arguments", "m"), 12),
        (("model", "width"), None),
    ],
)
def test_the_line_of_a_key_or_of_the_table_that_lacks_it_is_found(path, line):
    assert line_of(TEXT, path) == line


def test_text_that_is_not_toml_is_an_error_with_its_line():
    with pytest.raises(SpecError, match="spec:3:") as error:
        spec_file.from_toml("[run]\nsteps = 5\nseed 3\n")

    assert error.value.line == 3
    assert error.value.reason == "not TOML: Expected '=' after a key in a key/value pair."


def test_an_error_about_a_key_says_which_one():
    with pytest.raises(SpecError, match=r"spec: optimizer.lr = -1: expected") as error:
        spec_file.from_toml("[optimizer]\nlr = -1")

    assert error.value.keys == (("optimizer", "lr"),)
    assert error.value.reason.startswith("optimizer.lr = -1: expected a number > 0")


def test_every_key_of_a_spec_can_be_written():
    resolved = msgspec.to_builtins(spec_file.read("digits-gd"))

    assert set(tomllib.loads(to_toml(resolved))["measure"]) == {key for key, value in resolved["measure"].items() if value is not None}
