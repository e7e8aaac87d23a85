"""That the published schemas are those of the structs, and say what logs and specs hold."""

import json
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from jsonschema import Draft202012Validator

from runners import schemas
from runners.records import AnyRecord, Panel, Request
from runners.spec import Train

ROOT = Path(__file__).parents[2]
GOLDEN = (ROOT / "tests" / "golden" / "log-schema-1.jsonl").read_text().splitlines()


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((ROOT / "docs" / "schemas" / name).read_text()))


@pytest.mark.parametrize("name", schemas.schemas())
def test_the_published_schemas_are_up_to_date(name: str) -> None:
    published = ROOT / "docs" / "schemas" / name

    assert published.read_text() == schemas.text(schemas.schemas()[name]), "stale: run `python -m runners.schemas`"


def test_nothing_else_is_published() -> None:
    assert {path.name for path in (ROOT / "docs" / "schemas").iterdir()} == set(schemas.schemas())


def test_writing_makes_the_folder_and_the_files(tmp_path: Path) -> None:
    paths = schemas.write(tmp_path / "docs" / "schemas")

    assert [path.name for path in paths] == list(schemas.schemas())
    assert all(json.loads(path.read_text())["$schema"] == schemas.DIALECT for path in paths)


@pytest.mark.parametrize("name", schemas.schemas())
def test_a_schema_is_one(name: str) -> None:
    Draft202012Validator.check_schema(schemas.schemas()[name])


@pytest.mark.parametrize("line", GOLDEN[:20] + GOLDEN[-1:])
def test_every_line_of_a_log_is_valid(line: str) -> None:
    validator("log.schema.json").validate(json.loads(line))


@pytest.mark.parametrize("change", [{"loss": "high"}, {"kind": "step", "lr": "fast"}, {"step": 1.5}, {"time": None}])
def test_a_wrong_line_is_not_valid(change: dict[str, Any]) -> None:
    line = {"kind": "step", "step": 1, "time": 0.0, "loss": 1.0, "lr": 0.1}
    assert validator("log.schema.json").is_valid(line)

    assert not validator("log.schema.json").is_valid(line | change)


def test_the_default_spec_is_valid_and_an_unknown_key_is_not() -> None:
    resolved = msgspec.to_builtins(Train())

    assert validator("spec.schema.json").is_valid(resolved)
    assert not validator("spec.schema.json").is_valid(resolved | {"optimiser": {}})
    assert not validator("spec.schema.json").is_valid(resolved | {"optimizer": {"name": "sgd", "lr": -1}})


def test_a_request_is_valid() -> None:
    request = msgspec.to_builtins(Request(request="stop", created="2026-01-01T00:00:00Z"))

    assert validator("control.schema.json").is_valid(request)
    assert not validator("control.schema.json").is_valid(request | {"request": "explode"})


def test_what_the_code_says_of_a_field_the_schema_says() -> None:
    ntk = schemas.schemas()["log.schema.json"]["$defs"]["NtkRecord"]["properties"]

    assert ntk["sem"]["description"] == "Standard error of the trace; null when it is exact."
    assert ntk["step"]["description"] == "Parameter updates already applied."


@pytest.mark.parametrize("struct", [*get_args(AnyRecord), Panel])
def test_field_docs_name_fields_only(struct: type) -> None:
    assert schemas.field_docs(struct).keys() <= set(struct.__struct_fields__)
