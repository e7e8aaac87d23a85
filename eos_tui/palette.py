"""The colours of the app: themes that everybody can tell apart, and every theme's text made readable. Pure.

Series and thresholds have a colour each, beside the dashes that tell them apart without. In `eos-dark` these are of Okabe and Ito
(2008), "Color Universal Design"; in `eos-light` the same, those that are too light on white scaled down in linear light until
they have `CONTRAST`. Of the sixteen colours that belong to the terminal nobody knows what they look like. In the palettes that six
widespread ones ship with, bright red, bright blue and the foreground are the most distinct three, on dark as on light ground,
for readers with protanopia and deuteranopia as well; the tests compute it.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from rich.terminal_theme import TerminalTheme
from textual.color import Color
from textual.theme import BUILTIN_THEMES, Theme

CONTRAST = 4.5
"""Of text and its background at least, as W3C (2018), WCAG 2.1, success criterion 1.4.3, asks."""
SERIES = ("series-1", "series-2", "series-3", "series-4", "reference")
"""The roles that stand in a chart together."""
ANSI = dict(zip(SERIES, ("ansi_bright_blue", "ansi_default", "ansi_default", "ansi_green", "ansi_bright_red"), strict=True))
DARK = dict(zip(SERIES, ("#56B4E9", "#009E73", "#E0E0E0", "#D55E00", "#F0E442"), strict=True))
LIGHT = dict(zip(SERIES, ("#0072B2", "#008560", "#1A1A1A", "#A25F84", "#C15400"), strict=True))
SUBSTITUTES = dict(zip(SERIES, ("text-secondary", "text-success", "foreground", "text-error", "text-warning"), strict=True))
"""What these roles have in themes that are not ours."""
TEXTS = ("foreground", *(f"text-{name}" for name in ("primary", "secondary", "accent", "success", "warning", "error")))

THEMES = (
    replace(BUILTIN_THEMES["ansi-dark"], variables={**BUILTIN_THEMES["ansi-dark"].variables, **ANSI}),
    replace(BUILTIN_THEMES["ansi-light"], variables={**BUILTIN_THEMES["ansi-light"].variables, **ANSI}),
    Theme(
        name="eos-dark",
        primary="#56B4E9",
        secondary="#56B4E9",
        warning="#F0E442",
        error="#D55E00",
        success="#009E73",
        accent="#E69F00",
        foreground="#E0E0E0",
        background="#121212",
        variables=DARK,
    ),
    Theme(
        name="eos-light",
        primary="#0072B2",
        secondary="#0072B2",
        warning="#C15400",
        error="#A25F84",
        success="#008560",
        accent="#9D6B00",
        foreground="#1A1A1A",
        background="#FFFFFF",
        surface="#F4F4F4",
        panel="#EAEAEA",
        dark=False,
        variables=LIGHT,
    ),
)


def variables(theme: Theme, given: Mapping[str, str]) -> dict[str, str]:
    """A theme's variables for the style sheets, with those of charts, each text's colour readable on the background.

    Args:
        theme: The theme.
        given: What Textual makes of it.
    """
    found = {**given, **{role: given.get(role, given[name]) for role, name in SUBSTITUTES.items()}}
    if theme.ansi:
        return {**found, "axis": "ansi_default", "axis-style": "dim"}
    background = Color.parse(found["background"])
    for name in (*TEXTS, *SERIES):
        found[name] = readable(Color.parse(found[name]), background).hex
    faint = Color.parse(found["foreground"]).blend(background, 0.4)
    return {**found, "axis": readable(faint, background).hex, "axis-style": "none"}


def readable(color: Color, background: Color) -> Color:
    """The colour, or what of it and black or white is readable on the background."""
    extreme = background.get_contrast_text(1.0)
    shares = (color.blend(extreme, step / 20) for step in range(21))
    return next((mixed for mixed in shares if contrast(mixed, background) >= CONTRAST), extreme)


def contrast(one: Color, other: Color) -> float:
    """The ratio of two colours' relative luminances, 1 to 21, as WCAG 2.1 defines it."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def named(theme: Theme) -> TerminalTheme:
    """What the names red, green, yellow, blue, magenta and cyan mean in a theme that is not made of them."""
    return _named(theme.background or ("#121212" if theme.dark else "#EFEFEF"), theme.foreground, is_dark=theme.dark)


@lru_cache(maxsize=16)
def _named(ground: str, text: str | None, *, is_dark: bool) -> TerminalTheme:
    """Kept, as Textual asks for it with every strip that it draws."""
    background = Color.parse(ground)
    own = DARK if is_dark else LIGHT
    colors = ("#D55E00", own["series-2"], "#E69F00", own["series-1"], "#CC79A7", own["series-1"])
    rgb = [readable(Color.parse(color), background).rgb for color in colors]
    foreground = Color.parse(text) if text else background.inverse
    gray = foreground.blend(background, 0.5).rgb
    return TerminalTheme(background.rgb, foreground.rgb, [background.rgb, *rgb, foreground.rgb], [gray, *rgb, foreground.rgb])


def _luminance(color: Color) -> float:
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in color.normalized]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
