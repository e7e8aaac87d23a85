"""The options of how the terminal app is drawn, the same on every command that opens it."""

import difflib
from typing import Annotated, Any

import typer

Once = Annotated[bool, typer.Option("--once", help="Print the screen as text, as it is now and as large as the terminal.")]
Ascii = Annotated[bool, typer.Option("--ascii", help="Draw with ASCII characters only.")]
LowBandwidth = Annotated[
    bool | None,
    typer.Option(
        "--low-bandwidth/--no-low-bandwidth",
        help="A frame every two seconds in 16 colours, or never. [default: once the terminal is slow]",
        show_default=False,
    ),
]
Theme = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Colours: ansi-dark, ansi-light, eos-dark, eos-light, textual-dark, ...", show_default=False),
]

Mouse = Annotated[
    bool, typer.Option("--mouse", help="Let clicks and the wheel read and zoom charts; text is then selected with Shift held, as a rule.")
]


def drawing(*, ascii_only: bool, low_bandwidth: bool | None, theme: str | None, mouse: bool) -> dict[str, Any]:
    """What of how to draw the command line says, by the keys of the settings' table `display`.

    Args:
        ascii_only: Whether --ascii was given.
        low_bandwidth: As --low-bandwidth or --no-low-bandwidth says; None without.
        theme: As --theme says; None without.
        mouse: Whether --mouse was given.

    Raises:
        typer.BadParameter: If there is no such theme.
    """
    given = {
        "ascii": ascii_only or None,
        "low_bandwidth": low_bandwidth,
        "theme": None if theme is None else _known(theme),
        "mouse": mouse or None,
    }
    return {key: value for key, value in given.items() if value is not None}


def _known(theme: str) -> str:
    from textual.theme import BUILTIN_THEMES

    from eos_tui.palette import THEMES

    names = {**BUILTIN_THEMES, **{own.name: own for own in THEMES}}
    if theme not in names:
        near = difflib.get_close_matches(theme, names, n=1)
        guess = f" Did you mean {near[0]!r}?" if near else ""
        raise typer.BadParameter(f"{theme!r} is not a theme.{guess} There are {', '.join(sorted(names))}.", param_hint="--theme")
    return theme
