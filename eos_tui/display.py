"""How the terminal app is drawn: what the user asks of colours, characters, rate and mouse, and what follows where nothing was asked."""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import msgspec

Colors: TypeAlias = Literal["none", "16", "256", "truecolor"]
THEME = "ansi-dark"
"""The terminal's own colours: readable on dark and light ones, and a sixth of the bytes of 24-bit colour."""
VARIABLES = {"theme": "TEXTUAL_THEME"}
"""Environment variables that go before the settings, by what they set."""


class Display(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be chosen of how the app looks."""

    theme: str = THEME
    """Name of a theme; one that there is not counts as the default."""
    colors: Literal["auto"] | Colors = "auto"
    """How many colours to send; auto: what the terminal is said to take."""
    ascii: bool | None = None
    """Draw with ASCII characters only; null: where the terminal's encoding has no others."""
    low_bandwidth: bool | None = None
    """Look every two seconds, and send 16 colours; null: once the terminal is slow to take what it is sent."""
    mouse: bool = False
    """Take the mouse; else it is the terminal's, so that text can be selected and copied."""


def from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """What the environment asks for, by what it sets."""
    return {name: environ[variable] for name, variable in VARIABLES.items() if environ.get(variable)}


def colors(asked: Literal["auto"] | Colors, *, environ: Mapping[str, str], known: int | None) -> Colors:
    """How many colours to send to a terminal.

    Args:
        asked: By the user.
        environ: NO_COLOR set to anything but nothing means none; COLORTERM and the end of TERM say what the terminal takes.
        known: Colours of the terminal as its description says, which goes before its name; None where it has none.
    """
    if asked != "auto":
        return asked
    if environ.get("NO_COLOR"):
        return "none"
    if environ.get("COLORTERM", "").strip().lower() in ("truecolor", "24bit"):
        return "truecolor"
    if known is None:
        name = environ.get("TERM", "").strip().lower()
        known = 256 if name.endswith("-256color") else 1 << 24 if name.endswith("-direct") else 16
    return "none" if known < 8 else "16" if known < 256 else "256" if known < 1 << 24 else "truecolor"
