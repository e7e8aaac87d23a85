"""What the user has chosen for all runs: the file config.toml, read, checked, and written back with its comments kept.

`[display]` is how the app is drawn, `[keys]` which keys do what, `[views]` what the screens remember. Command line over environment
over file over default. Must not import anything that draws, and tomlkit only to write: each start of the app reads the file.
"""

import difflib
import fcntl
import json
import os
import re
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import inspect

from eos_tui.display import Display, from_environment
from eos_tui.replacing import replacing
from eos_tui.ticks import Scale
from eos_tui.window import Unit
from runners.errors import OutputError, SettingsError

Document = dict[str, Any]
Place = tuple[str, ...]
"""A key and the tables that it is in, from the top."""
LOCK_SECONDS = 1.0
"""How long another viewer that writes is waited for. After that the file is still never torn, but may lack the other's last change."""


class RunView(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How runs are shown. Panels are known by their titles, so that it holds for all runs."""

    hidden: tuple[str, ...] = ()
    """Titles of the panels that are not shown."""
    order: tuple[str, ...] = ()
    """Titles of panels in the order in which they are shown; the others follow in the run's own."""
    scales: dict[str, Scale] = {}
    """The y axis of panels, by title: linear or log; the others have the run's own."""
    unit: Unit = "steps"
    """What the x axis counts; a run that does not know it has steps."""
    smoothing: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0
    """Share of the window that moving averages go back; 0 for none."""


class HomeView(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the list of runs is shown."""

    sort: str = "age"
    """The column that it is sorted by."""
    reverse: bool = True
    """Whether the largest comes first."""
    filter: str = ""
    """What is typed after /."""


class Views(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the screens remember."""

    run: RunView = RunView()
    """How runs are shown."""
    home: HomeView = HomeView()
    """How the list of runs is shown."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that the file may hold."""

    display: Display = msgspec.field(default_factory=Display)
    """How the app is drawn."""
    keys: dict[str, str] = {}
    """Keys of an action by its name, such as run.stop: one, several as in "a,b", or none as in ""."""
    views: Views = Views()
    """What the screens remember."""


@dataclass(frozen=True)
class Loaded:
    """The settings, and where they are from."""

    path: Path
    settings: Settings = field(default_factory=Settings)
    given: Document = field(default_factory=dict)
    """What the file says; keys by their whole names."""
    error: str = ""
    """Why the file does not count, if there is one that does not."""

    def display(
        self, environ: Mapping[str, str], *, terminal: Mapping[str, Any] | None = None, options: Mapping[str, Any] | None = None
    ) -> Display:
        """How to draw.

        Args:
            environ: The environment, which goes before the file.
            terminal: What is known of the terminal, which the file goes before.
            options: Of the command line, which go before all.
        """
        chosen = {**(terminal or {}), **self.given.get("display", {}), **from_environment(environ), **(options or {})}
        return msgspec.convert(chosen, Display)


def config_path(environ: Mapping[str, str]) -> Path:
    """Where the settings are: $XDG_CONFIG_HOME/eos/config.toml, by default ~/.config/eos/config.toml."""
    asked = environ.get("XDG_CONFIG_HOME", "")
    return Path(asked if os.path.isabs(asked) else os.path.expanduser("~/.config")) / "eos" / "config.toml"


def load(path: Path) -> Loaded:
    """The settings; the defaults, with the reason, where the file cannot be read or is not valid."""
    try:
        return read(path)
    except SettingsError as error:
        return Loaded(path, error=str(error))


def read(path: Path) -> Loaded:
    """The settings; the defaults where there is no file.

    Raises:
        SettingsError: If there is one that cannot be read or is not valid; says which key, what was expected, and what is nearest.
    """
    document = _parsed(_text(path), label=str(path))
    document = {**document, **_with_whole_names(document, label=str(path))}
    try:
        settings = msgspec.convert(document, Settings)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{path}: {_in_words(error, document)}") from error
    return Loaded(path, settings, document)


def changes(before: Settings, after: Settings) -> dict[Place, Any]:
    """What the second says otherwise than the first, each single value by its place."""
    return dict(_differences(msgspec.to_builtins(before), msgspec.to_builtins(after), ()))


def save(path: Path, changed: Mapping[Place, Any]) -> None:
    """Write these values into the file; the rest of it stays as it is at this moment, comments and order included.

    Raises:
        SettingsError: If it cannot be written, or what is there is not TOML.
    """
    if not path.is_absolute():
        raise SettingsError(f"{path}: there is no home folder to keep settings in. Set XDG_CONFIG_HOME.")
    try:
        with _locked(path):
            text = _text(path)
            written = _with(text, changed, label=str(path))
            if written != text:
                _replace(path, written)
    except (OSError, OutputError) as error:
        reason = error if isinstance(error, OSError) else error.__cause__
        raise SettingsError(f"{path} cannot be written ({getattr(reason, 'strerror', None) or error}).") from error


def create(path: Path, text: str) -> None:
    """Make the file.

    Raises:
        SettingsError: If there is one already, or it cannot be written.
    """
    if path.exists():
        raise SettingsError(f"{path} is there already and stays as it is. Edit it, or move it away first.")
    try:
        _replace(path, text)
    except OutputError as error:
        raise SettingsError(f"{path} cannot be written ({getattr(error.__cause__, 'strerror', None) or error}).") from error


def did_you_mean(word: str, words: list[str]) -> str:
    """The nearest of the words as a question, and all of them where none is near and they are few."""
    if near := difflib.get_close_matches(word, words, n=1):
        return f" Did you mean '{near[0]}'?"
    return f" Expected one of: {', '.join(words)}." if words and len(words) <= 12 else ""


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise SettingsError(f"{path}: the settings cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not UTF-8 (byte {error.start}), expected settings in TOML.") from error


def _parsed(text: str, *, label: str) -> Document:
    try:
        return tomllib.loads(text)
    except ValueError as error:
        raise SettingsError(f"{label}: not TOML: {error}.") from error


def _with_whole_names(document: Document, *, label: str) -> Document:
    """The table of keys with `run.stop` as one name, whichever way TOML puts it."""
    keys = document.get("keys")
    if not isinstance(keys, dict):
        return {}
    nested = {screen: words for screen, words in keys.items() if isinstance(words, dict)}
    flat = {name: value for name, value in keys.items() if name not in nested}
    flat |= {f"{screen}.{word}": value for screen, words in nested.items() for word, value in words.items()}
    for name, value in flat.items():
        if not isinstance(value, str):
            raise SettingsError(f'{label}: keys.{name} = {_shown(value)}: expected text, such as "s", "a,b", or "" for no key.')
    return {"keys": flat}


def _in_words(error: msgspec.ValidationError, document: Document) -> str:
    """What msgspec found wrong."""
    from runners import schema

    text, _, where = str(error).partition(" - at `$")
    place = re.findall(r"\.([^.\[\]`]+)", where)
    of: inspect.Type = inspect.type_info(Settings)
    value: Any = document
    for part in place:
        of, value = schema.fields(of)[part].type if isinstance(of, inspect.StructType) else of, value[part]
    name = ".".join(place)
    if unknown := re.match(r"Object contains unknown field `(.*)`", text):
        known = list(schema.fields(of)) if isinstance(of, inspect.StructType) else []
        return f"{'.'.join([*place, unknown[1]])} is not a known key.{did_you_mean(unknown[1], known)}"
    if isinstance(of, inspect.DictType) and isinstance(value, dict):
        return f"{name} = {_shown(value)}: expected of each key {schema.in_words(of.value_type)}."
    return f"{name} = {_shown(value)}: expected {schema.in_words(of)}."


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _differences(before: Any, after: Any, place: Place) -> Iterator[tuple[Place, Any]]:
    if isinstance(after, dict):
        for key, value in after.items():
            yield from _differences(before.get(key) if isinstance(before, dict) else None, value, (*place, key))
    elif before != after:
        yield place, after


def _with(text: str, changed: Mapping[Place, Any], *, label: str) -> str:
    """The TOML with other values at these places."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        document = tomlkit.parse(text)
        for (*tables, key), value in changed.items():
            table: Any = document
            for depth, name in enumerate(tables):
                if name not in table:
                    table[name] = tomlkit.table(is_super_table=depth + 1 < len(tables))
                table = table[name]
            table[key] = list(value) if isinstance(value, tuple) else value
        written = tomlkit.dumps(document)
    except (TOMLKitError, TypeError) as error:
        raise SettingsError(f"{label}: not TOML that values can be written into: {error}") from error
    _parsed(written, label=label)
    return written


def _replace(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other viewers from writing meanwhile, where the file system knows locks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        deadline = time.monotonic() + LOCK_SECONDS
        while not _acquired(descriptor) and time.monotonic() < deadline:
            time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


def _acquired(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
