"""How the terminal app is drawn: what the user asks of colours, characters, rate and mouse, and what follows where nothing was asked."""

from collections.abc import Mapping
from typing import Any

import msgspec

THEME = "ansi-dark"
"""The terminal's own colours: readable on dark and light ones, and a sixth of the bytes of 24-bit colour."""
VARIABLES = {"theme": "TEXTUAL_THEME"}
"""Environment variables that go before the settings, by what they set."""


class Display(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be chosen of how the app looks."""

    theme: str = THEME
    """Name of a theme; one that there is not counts as the default."""
    ascii: bool = False
    """Draw with ASCII characters only."""
    mouse: bool = False
    """Take the mouse; else it is the terminal's, so that text can be selected and copied."""


def from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """What the environment asks for, by what it sets."""
    return {name: environ[variable] for name, variable in VARIABLES.items() if environ.get(variable)}
