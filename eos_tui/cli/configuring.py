"""The command that shows, explains and begins the user's settings."""

import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eos_tui.cli.group import Json, print_json, say, wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator

    import msgspec

    from eos_tui.settings import Loaded

INDENT = 2
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
    """Show the settings of the terminal app: their file, what counts, where it is from, what it means, and every key.

    They are TOML. [display] is how the app is drawn. [keys] puts actions on other keys: run.stop = "S", "a,b" for two keys, "" for
    none. [views] is what the app remembers by itself: panels, axes, the list's order. Ends with 2 when the file is not valid.
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
    from eos_tui.settings import Loaded, config_path

    loaded = Loaded(config_path({}))
    lines, table = [OPENING], ""
    for row in _settings(loaded, environ={}):
        if row.table != table:
            lines.append(f"[{row.table}]")
            table = row.table
        lines += [f"# {row.meaning}", f"# {row.key} = {_toml(row.value)}", ""]
    lines += ['[keys]  # one key, several as in "a,b", or "" for none', ""]
    screen = ""
    for action in _actions(loaded)[0]:
        if action.screen != screen:
            lines += [""] * bool(screen)
            screen = action.screen
        lines.append(f"# {f'{action.id} = {json.dumps(action.default, ensure_ascii=False)}':<32} # {action.meaning}")
    return "\n".join(lines) + "\n"


def _settings(loaded: "Loaded", environ: "os._Environ[str] | dict[str, str] | None" = None) -> "Iterator[Setting]":
    """Every key with its value, table by table; without those of keys."""
    environ = os.environ if environ is None else environ
    yield from _of_struct(loaded.display(environ), ("display",), loaded, environ)
    for name in loaded.settings.views.__struct_fields__:
        yield from _of_struct(getattr(loaded.settings.views, name), ("views", name), loaded, environ)


def _of_struct(struct: "msgspec.Struct", place: tuple[str, ...], loaded: "Loaded", environ: Any) -> "Iterator[Setting]":
    import msgspec

    from eos_tui.display import VARIABLES
    from runners.schemas import field_docs

    given: Any = loaded.given
    for table in place:
        given = given.get(table, {}) if isinstance(given, dict) else {}
    for key, meaning in field_docs(type(struct)).items():
        variable = VARIABLES.get(key, "") if place == ("display",) else ""
        origin = variable if environ.get(variable) else "file" if key in given else "default"
        yield Setting(".".join(place), key, msgspec.to_builtins(getattr(struct, key)), origin, meaning)


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
    rows = []
    for entry in sorted(bound, key=lambda entry: entry.screen):
        now = asked.get(entry.name, entry.binding.key)
        origin = "file" if entry.name in asked else "default"
        default = keys.typed(entry.binding.key)
        rows.append(Action(entry.screen, entry.name, keys.typed(now), default, origin, entry.binding.tooltip))
    return rows, error


def _print(loaded: "Loaded", found: list[Setting], actions: list[Action]) -> None:
    advice = "" if loaded.path.exists() else " (does not exist; `eos config --init` writes one)"
    typer.echo(f"{loaded.path}{advice}\nCommand line over environment over this file over default.")
    table = ""
    for row in found:
        if row.table != table:
            typer.echo(f"\n[{row.table}]")
            table = row.table
        left = f"{'':<{INDENT}}{f'{row.key} = {_toml(row.value)}':<28}  {row.origin:<10}  "
        typer.echo(wrapped(left + row.meaning, indent=len(left)))
    typer.echo('\n[keys]  such as run.stop = "S"')
    screen, width = "", max(len(action.id) for action in actions)
    for action in actions:
        if action.screen != screen:
            typer.echo()
            screen = action.screen
        left = f"{'':<{INDENT}}{action.id:<{width}}  {action.keys or 'none':<16}  {action.origin:<7}  "
        typer.echo(wrapped(left + action.meaning, indent=len(left)))


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        items = ", ".join(f"{json.dumps(key, ensure_ascii=False)} = {_toml(item)}" for key, item in value.items())
        return f"{{ {items} }}" if items else "{}"
    return json.dumps(value, ensure_ascii=False)
