"""JSON Schemas of what is read and written: the spec, a line of the log, a line of `control.jsonl`; a sweep's files.

Made from the structs and their docstrings: `python -m runners.schemas` writes them to docs/schemas. Must not import jax.
"""

import ast
import functools
import inspect
import json
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from runners import experiments, records, spec, sweeps

FOLDER = Path("docs") / "schemas"
MODULES = (records, spec, experiments, sweeps)
"""Where the structs are defined."""
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schemas() -> dict[str, dict[str, Any]]:
    """The schemas by file name."""
    return {
        "spec.schema.json": _schema(
            experiments.Spec,
            "A resolved spec, as in spec.json and in the log's header. In a TOML file every key may be absent, and a function of "
            'yours is written as name = "package.module:attribute" instead of name = "custom" with target.',
        ),
        "log.schema.json": _schema(
            records.AnyRecord, f"A line of log.jsonl, schema {records.SCHEMA}. A reader passes over kinds and fields that it does not know."
        ),
        "control.schema.json": _schema(records.Request, "A line of control.jsonl."),
        "sweep.schema.json": _schema(sweeps.Sweep, f"The content of sweep.json, schema {sweeps.SCHEMA}."),
        "sweep-table.schema.json": _schema(sweeps.SweepTable, "The table [sweep] of a spec file."),
        "sweep-log.schema.json": _schema(
            sweeps.AnySweepRecord, f"A line of sweep.jsonl, schema {sweeps.SCHEMA}. A reader passes over fields that it does not know."
        ),
    }


def write(folder: Path) -> list[Path]:
    """Write the schemas into a folder, which is made when absent; the files written."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, schema in schemas().items():
        (folder / name).write_text(text(schema), encoding="utf-8")
    return [folder / name for name in schemas()]


def text(schema: dict[str, Any]) -> str:
    """A schema as it stands in its file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def field_docs(struct: type) -> dict[str, str]:
    """What the docstrings below a struct's fields say, those of its bases included."""
    found: dict[str, str] = {}
    for base in reversed(struct.__mro__):
        if issubclass(base, msgspec.Struct) and base is not msgspec.Struct:
            found |= _module_docs(base.__module__).get(base.__name__, {})
    return found


def _schema(type_: Any, description: str) -> dict[str, Any]:
    schema = msgspec.json.schema(type_)
    for name, definition in schema["$defs"].items():
        struct = next(getattr(module, name) for module in MODULES if hasattr(module, name))
        definition["description"] = " ".join((struct.__doc__ or "").split())
        for field, text in field_docs(struct).items():
            definition["properties"][field]["description"] = text
    return {"$schema": DIALECT, "description": description} | schema


@functools.cache
def _module_docs(module: str) -> dict[str, dict[str, str]]:
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {node.name: dict(_class_docs(node)) for node in tree.body if isinstance(node, ast.ClassDef)}


def _class_docs(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for statement, below in pairwise(node.body):
        match statement, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, " ".join(text.split())


if __name__ == "__main__":
    for path in write(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER):
        sys.stdout.write(f"{path}\n")
