"""Keys and their names: which there are, how they are shown, and what the user has put an action on.

Textual names keys (`question_mark`, `ctrl+x`); people type them (`?`). Every binding has an `id`, `SCREEN.word`, by which `[keys]` of the
settings puts it on other keys: Textual's keymap does that, but knows no way to take a key away and does not tell which keys there are.
"""

import difflib
import re
from collections.abc import Iterator
from typing import Any

from textual.app import App
from textual.binding import Binding
from textual.dom import DOMNode
from textual.keys import Keys
from textual.screen import Screen

NO_KEY = "no_key"
"""What an action that the user wants on no key is put on: no terminal sends it."""
MODIFIERS = frozenset({"ctrl", "shift", "alt", "super", "hyper", "meta"})
NAMED = (
    frozenset(
        base
        for key in Keys
        if re.fullmatch(r"[a-z0-9_+]+", key.value) and len(base := key.value.rpartition("+")[2]) > 1 and base != "return"
    )
    - MODIFIERS
)
CHARACTERS = {
    "comma" if character == "," else next(iter(Binding.make_bindings([Binding(character, "")]))).key: character
    for character in map(chr, range(33, 127))
    if not character.isalnum()
}
"""Punctuation by Textual's names for it."""
SHOWN = {"escape": "Esc", "enter": "Enter", "tab": "Tab", "pageup": "PgUp", "pagedown": "PgDn", "home": "Home", "end": "End"}
"""What is written on keys, where it is not their name."""
SYNONYMS = {"esc": "escape", "return": "enter", "pgup": "pageup", "pgdn": "pagedown", "page_up": "pageup", "page_down": "pagedown"}


def normal(key: str) -> str | None:
    """Textual's name of a key, such as `question_mark` for `?` and `escape` for `Esc`; None where there is no such key."""
    *modifiers, base = key.split("+") if len(key) > 1 else [key]
    modifiers = [modifier.lower() for modifier in modifiers]
    if not MODIFIERS.issuperset(modifiers) or len(set(modifiers)) < len(modifiers):
        return None
    name = _named(base)
    if name is None or name in NAMED or not modifiers:
        return "+".join([*modifiers, name]) if name else None
    if modifiers == ["shift"]:
        return name.upper() if name.isalpha() and len(name) == 1 else None
    # A terminal does not tell Ctrl with an upper-case letter from Ctrl with a lower-case one.
    return "+".join([*modifiers, name.lower()])


def nearest(key: str) -> str | None:
    """The key that was most likely meant by one that there is not."""
    *modifiers, base = key.split("+")
    close = difflib.get_close_matches(base.lower().replace(" ", "_"), [*sorted(NAMED), *CHARACTERS], n=1)
    return "+".join([*(part.lower() for part in modifiers), *close]) if close else None


def _named(base: str) -> str | None:
    """The name of a key without modifiers."""
    if len(base) == 1:
        return base if base.isalnum() else next((name for name, character in CHARACTERS.items() if character == base), None)
    name = SYNONYMS.get(base.lower(), base.lower())
    return name if name in NAMED or name in CHARACTERS else None


def shown(keys: str) -> str:
    """Keys as they are typed: `?` for `question_mark`, and with a comma between several."""
    return ", ".join(filter(None, (_shown(key.strip()) for key in keys.split(","))))


def typed(keys: str) -> str:
    """Keys as the settings may have them: as they are typed, and `comma` for what separates them."""
    return ",".join("comma" if key == "comma" else shown(key) for key in keys.split(","))


def on_keys(binding: Binding, app: App[Any]) -> str:
    """The keys that the binding is on in this app, as they are typed; empty where the user wants none."""
    asked = app._keymap.get(binding.id or "")
    return shown(asked) if asked else binding.key_display or shown(binding.key)


def first_keys(screen: Screen[Any]) -> dict[str, str]:
    """The first key of each action of the screen, as it is typed, by the action's name."""
    return {binding.id: on_keys(binding, screen.app).split(", ")[0] for binding in bindings_of(type(screen)) if binding.id}


def bindings_of(*places: type[DOMNode]) -> Iterator[Binding]:
    """What these classes and their bases bind keys to, as far as it has a name; what a class puts on a key goes before its bases."""
    for place in places:
        taken: set[str] = set()
        for base in place.__mro__:
            found = [binding for binding in own_bindings(base) if not taken.issuperset(names(binding))]
            yield from found
            taken.update(name for binding in found for name in names(binding))


def own_bindings(place: type) -> list[Binding]:
    """What the class itself binds keys to, as far as it has a name."""
    return [binding for binding in vars(place).get("BINDINGS", ()) if isinstance(binding, Binding) and binding.id]


def names(binding: Binding) -> list[str]:
    """Textual's names of the binding's keys."""
    return [single.key for single in Binding.make_bindings([binding])]


def _shown(key: str) -> str:
    *modifiers, base = key.split("+") if len(key) > 1 else [key]
    word = SHOWN.get(base) or CHARACTERS.get(base, "" if base == NO_KEY else base)
    return "+".join([*(modifier.capitalize() for modifier in modifiers), word])
