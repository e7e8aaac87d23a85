"""The command that shows, explains and begins the user's settings."""

import json
import os
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eos_tui.cli.group import Json, print_json, say, wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator

    import msgspec

    from eos_tui.settings import Loaded

OPENING = """\
# Settings of eos. `eos config` shows what counts now, and where it is from.
# A line that begins with "# " and a key shows the default: take the "# " away and change it.
# Command line over environment over this file. Comments and order stay when eos writes what it remembers into [views] and display.theme.
"""


@dataclass(frozen=True)
class Setting:
    """A key of the settings as it counts now."""

    table: str
    key: str
    value: Any
    origin: str
    """default, file, or the environment variable."""
    meaning: str
    expected: str
    """What it may be."""


@dataclass(frozen=True)
class Action:
    """A binding as it counts now."""

    screen: str
    id: str
    keys: str
    """As they are typed; empty for none."""
    default: str
    origin: str
    """default or file."""
    meaning: str


def config(
    *,
    path: Annotated[bool, typer.Option("--path", help="Print where the file is, and no more.")] = False,
    init: Annotated[bool, typer.Option("--init", help="Write the file with all defaults, commented; never over another.")] = False,
    as_json: Json = False,
) -> None:
    """Show the settings and the keys of the terminal app.

    What counts, where it is from, what it means. The file is TOML. [display] is how the app is drawn. [keys] puts actions on
    other keys: run.stop = "S", "a,b" for two keys, "" for none. [views] is what the app remembers by itself: panels, axes, the
    list's order. Ends with 2 when the file is not valid.
    """
    from eos_tui import settings
    from runners.errors import SettingsError

    place = settings.config_path(os.environ)
    if path:
        typer.echo(place)
        return
    if init:
        settings.create(place, template())
        typer.echo(place)
        say("Written with all defaults as comments.")
        return
    loaded = settings.load(place)
    actions, error = _actions(loaded)
    error = loaded.error or error
    found = list(_settings(loaded))
    if as_json:
        exists = place.exists()
        described = {"settings": [asdict(row) for row in found], "keys": [asdict(row) for row in actions]}
        print_json({"path": str(place), "exists": exists, "error": error or None, **described})
    else:
        _print(loaded, found, actions)
    if error:
        raise SettingsError(error)


def template() -> str:
    """The file with every default as a comment."""
    from eos_tui.settings import Loaded

    loaded = Loaded(Path())
    lines = [OPENING]
    for table, rows in groupby(_settings(loaded, environ={}), lambda row: row.table):
        lines.append(f"[{table}]")
        for row in rows:
            lines += [f"# {row.meaning} {row.expected[0].upper()}{row.expected[1:]}.", f"# {row.key} = {_toml(row.value)}", ""]
    lines.append('[keys]  # one key, several as in "a,b", or "" for none')
    for _, actions in groupby(_actions(loaded)[0], lambda action: action.screen):
        lines.append("")
        for action in actions:
            lines.append(f"# {f'{action.id} = {_toml(action.default)}':<34} # {action.meaning}")
    return "\n".join(lines) + "\n"


def _settings(loaded: "Loaded", environ: "os._Environ[str] | dict[str, str] | None" = None) -> "Iterator[Setting]":
    """Every key with its value, table by table; without those of keys."""
    environ = os.environ if environ is None else environ
    yield from _of_struct(loaded.display(environ), ("display",), loaded, environ)
    for name in loaded.settings.views.__struct_fields__:
        yield from _of_struct(getattr(loaded.settings.views, name), ("views", name), loaded, environ)


def _of_struct(struct: "msgspec.Struct", place: tuple[str, ...], loaded: "Loaded", environ: Any) -> "Iterator[Setting]":
    import msgspec
    from msgspec import inspect, structs

    from eos_tui.display import VARIABLES
    from runners import schema
    from runners.schemas import field_docs

    given: Any = loaded.given
    for table in place:
        given = given.get(table, {}) if isinstance(given, dict) else {}
    docs = field_docs(type(struct))
    for field in structs.fields(struct):
        key, expected = field.name, schema.in_words(inspect.type_info(field.type))
        variable = VARIABLES.get(key, "") if place == ("display",) else ""
        origin = variable if environ.get(variable) else "file" if key in given else "default"
        yield Setting(".".join(place), key, msgspec.to_builtins(getattr(struct, key)), origin, docs[key], expected)


def _actions(loaded: "Loaded") -> tuple[list[Action], str]:
    """Every binding, screen by screen, and what is wrong with the keys asked for."""
    from eos_tui import keymap, keys
    from eos_tui.app import EosApp
    from runners.errors import SettingsError

    bound, error, asked = keymap.catalog(EosApp), "", {}
    try:
        asked = keymap.checked(loaded.settings.keys, bound, label=str(loaded.path))
    except SettingsError as problem:
        error = str(problem)
    rows: list[Action] = []
    for entry in sorted(bound, key=lambda entry: entry.screen):
        now = asked.get(entry.name, entry.binding.key)
        origin = "file" if entry.name in asked else "default"
        default = keys.typed(entry.binding.key)
        rows.append(Action(entry.screen, entry.name, keys.typed(now), default, origin, entry.binding.tooltip))
    return rows, error


def _print(loaded: "Loaded", found: list[Setting], actions: list[Action]) -> None:
    advice = "" if loaded.path.exists() else " (does not exist; `eos config --init` writes one)"
    typer.echo(f"{loaded.path}{advice}\nCommand line over environment over this file over default.")
    for table, rows in groupby(found, lambda row: row.table):
        typer.echo(f"\n[{table}]")
        for row in rows:
            _print_row(f"  {f'{row.key} = {_toml(row.value)}':<28}  {row.origin:<10}  ", f"{row.meaning} ({row.expected})")
    typer.echo('\n[keys]  such as run.stop = "S"')
    width = max(len(action.id) for action in actions)
    for _, bound in groupby(actions, lambda action: action.screen):
        typer.echo()
        for action in bound:
            _print_row(f"  {action.id:<{width}}  {action.keys or '(none)':<16}  {action.origin:<7}  ", action.meaning)


def _print_row(left: str, meaning: str) -> None:
    typer.echo(wrapped(left + meaning, indent=len(left)))


def _toml(value: Any) -> str:
    """A value as TOML has it; what is not set, which it cannot say, as three dots."""
    if value is None:
        return "..."
    if isinstance(value, dict):
        items = ", ".join(f"{json.dumps(key, ensure_ascii=False)} = {_toml(item)}" for key, item in value.items())
        return f"{{ {items} }}" if items else "{}"
    return json.dumps(value, ensure_ascii=False)
