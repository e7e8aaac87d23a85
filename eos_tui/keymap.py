"""Every binding of the app, and the keys that the user puts them on, checked. Loads all screens, so it is asked only when there is need."""

import importlib
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from textual.app import App
from textual.binding import Binding
from textual.dom import DOMNode
from textual.screen import ModalScreen

from eos_tui import keys, screens, widgets
from eos_tui.settings import did_you_mean
from runners.errors import SettingsError

APP = "app"
"""Bindings that hold on every screen; but for those that go before all others not while a question is open."""
NEVER_WITHOUT_KEY = frozenset({"leave", "help", "close", "yes", "no"})
"""Actions that a user without them would be caught by."""


class Bound(NamedTuple):
    """A binding, and where it is."""

    place: type[DOMNode]
    name: str
    """Its id: `SCREEN.word`."""
    binding: Binding

    @property
    def screen(self) -> str:
        """The first part of its id."""
        return self.name.partition(".")[0]


def catalog(app: type[App[Any]]) -> list[Bound]:
    """The bindings of the app, of its screens and of their widgets."""
    return [Bound(place, binding.id, binding) for place in (app, *_places()) for binding in keys.own_bindings(place) if binding.id]


def checked(asked: Mapping[str, str], bound: Sequence[Bound], *, label: str) -> dict[str, str]:
    """Textual's keymap for what the settings ask for.

    Args:
        asked: Keys by the names of bindings.
        bound: All bindings.
        label: Where the settings are from.

    Raises:
        SettingsError: If there is no such binding or key, two actions of one screen were on the same key, or none led back.
    """
    names = [entry.name for entry in bound]
    keymap = {}
    for name, text in asked.items():
        if name not in names:
            raise SettingsError(f"{label}: keys.{name}: there is no such action.{did_you_mean(name, names)} `eos config` lists all.")
        keymap[name] = ",".join(_normal(name, key.strip(), label=label) for key in text.split(",")) if text.strip() else keys.NO_KEY
        if keymap[name] == keys.NO_KEY and name.partition(".")[2] in NEVER_WITHOUT_KEY:
            raise SettingsError(f'{label}: keys.{name} = "": expected a key, as there would be no way to {_does(name, bound)}')
    for key, one, other in _clashes(keymap, bound):
        message = f'{label}: keys.{one} = "{asked[one]}": {keys.shown(key)} is the key of {other}'
        raise SettingsError(f"{message}. Give one of them another key.")
    return keymap


def _places() -> Iterator[type[DOMNode]]:
    """The classes that may bind keys, package by package and module by module."""
    for package in (screens, widgets):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            for place in vars(importlib.import_module(module.name)).values():
                if isinstance(place, type) and issubclass(place, DOMNode) and place.__module__ == module.name:
                    yield place


def _normal(name: str, key: str, *, label: str) -> str:
    if found := keys.normal(key):
        return found
    near = keys.nearest(key)
    hint = f" Did you mean '{near}'?" if near else ' Expected a character, or a name such as "space", "f2" or "ctrl+x".'
    raise SettingsError(f'{label}: keys.{name} = "{key}": there is no such key.{hint}')


def _does(name: str, bound: Sequence[Bound]) -> str:
    tooltip = next(entry.binding.tooltip for entry in bound if entry.name == name)
    return tooltip[0].lower() + tooltip[1:]


def _clashes(keymap: Mapping[str, str], bound: Sequence[Bound]) -> Iterator[tuple[str, str, str]]:
    """Keys that the keymap puts a second action on, with the name of the one that it puts there and of the other."""
    for place in dict.fromkeys(entry.place for entry in bound):
        taken: dict[str, str] = {}
        for entry in _together(place, bound):
            usual = keys.names(entry.binding)
            for key in keymap[entry.name].split(",") if entry.name in keymap else usual:
                other = taken.setdefault(key, entry.name)
                moved = [name for name in (entry.name, other) if name in keymap]
                if other != entry.name and key != keys.NO_KEY and moved:
                    yield key, moved[0], other if moved[0] == entry.name else entry.name


def _together(place: type[DOMNode], bound: Sequence[Bound]) -> list[Bound]:
    """The bindings that hold where those of this class do: its own and its bases', those of its screen, the app's."""
    screen = next(entry.screen for entry in bound if entry.place is place)
    inherited = {binding.id for binding in keys.bindings_of(place)}
    is_modal = issubclass(place, ModalScreen)
    return [
        entry
        for entry in bound
        if entry.name in inherited
        or (entry.screen == screen and not issubclass(place, entry.place))
        or (entry.screen == APP and (entry.binding.priority or not is_modal))
    ]
