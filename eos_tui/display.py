"""How the terminal app is drawn: what the user asks of colours, characters, rate and mouse, and what follows where nothing was asked."""

import os

import msgspec

THEME = "ansi-dark"
"""The terminal's own colours: readable on dark and light ones, and a sixth of the bytes of 24-bit colour."""


class Display(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be chosen of how the app looks."""

    theme: str = msgspec.field(default_factory=lambda: os.environ.get("TEXTUAL_THEME", "") or THEME)
    """Name of a theme; one that there is not counts as the default."""
    ascii: bool = False
    """Draw with ASCII characters only."""
    mouse: bool = False
    """Take the mouse; else it is the terminal's, so that text can be selected and copied."""
