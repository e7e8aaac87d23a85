"""Colours that everybody can tell apart, text that can be read on its background, and what is sent to which terminal."""

import itertools
import math
import re

import pytest
from textual.color import Color
from textual.theme import BUILTIN_THEMES

from eos_tui import palette
from eos_tui.app import EosApp
from eos_tui.display import Display, colors
from tests.eos_tui.fakes import NOW, FakeRun, filled
from tests.eos_tui.pilots import settled
from tests.eos_tui.test_viewer_terminal import Terminal

VISION = {
    "normal": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
}
"""Of linear RGB: Machado, Oliveira and Fernandes (2009), "A Physiologically-based Model for Simulation of Color Vision Deficiency",
severity 1."""
TO_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
WHITE = (0.95047, 1.0, 1.08883)
DISTINCT = 10.0
"""CIE 1976 distance of two colours: some four times what is just noticeable."""
TERMINALS = {
    "xterm": "000000 cd0000 00cd00 cdcd00 0000ee cd00cd 00cdcd e5e5e5 7f7f7f ff0000 00ff00 ffff00 5c5cff ff00ff 00ffff ffffff",
    "VGA": "000000 aa0000 00aa00 aa5500 0000aa aa00aa 00aaaa aaaaaa 555555 ff5555 55ff55 ffff55 5555ff ff55ff 55ffff ffffff",
    "Windows": "0c0c0c c50f1f 13a10e c19c00 0037da 881798 3a96dd cccccc 767676 e74856 16c60c f9f1a5 3b78ff b4009e 61d6d6 f2f2f2",
    "VS Code": "000000 cd3131 0dbc79 e5e510 2472c8 bc3fbc 11a8cd e5e5e5 666666 f14c4c 23d18b f5f543 3b8eea d670d6 29b8db e5e5e5",
    "macOS": "000000 990000 00a600 999900 0000b2 b200b2 00a6b2 bfbfbf 666666 e50000 00d900 e5e500 0000ff e500e5 00e5e5 e5e5e5",
    "Tango": "2e3436 cc0000 4e9a06 c4a000 3465a4 75507b 06989a d3d7cf 555753 ef2929 8ae234 fce94f 729fcf ad7fa8 34e2e2 eeeeec",
}
"""The sixteen colours that some terminals ship with; anybody may have changed theirs."""
NAMES = [
    f"ansi_{bright}{name}" for bright in ("", "bright_") for name in ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"]
]


def linear(color):
    return [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in color.normalized]


def times(matrix, vector):
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]


def lab(color, vision):
    """CIE L*a*b* of the colour as it is seen, for the white of sRGB."""
    seen = [min(max(value, 0.0), 1.0) for value in times(VISION[vision], linear(color))]
    shares = [value / white for value, white in zip(times(TO_XYZ, seen), WHITE, strict=True)]
    x, y, z = (share ** (1 / 3) if share > (6 / 29) ** 3 else share / (3 * (6 / 29) ** 2) + 4 / 29 for share in shares)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def nearest(found):
    """The smallest distance of two of the colours, to anybody."""
    pairs = itertools.combinations([Color.parse(color) for color in found], 2)
    return min(math.dist(lab(one, vision), lab(other, vision)) for one, other in pairs for vision in VISION)


@pytest.mark.parametrize("roles", [palette.DARK, palette.LIGHT], ids=["dark", "light"])
def test_series_and_thresholds_are_told_apart_by_anybody(roles):
    assert nearest(roles.values()) > DISTINCT


@pytest.mark.parametrize("terminal", TERMINALS)
def test_with_the_terminals_own_colours_a_series_its_threshold_and_text_are_told_apart_on_dark_and_on_light(terminal):
    own = dict(zip(NAMES, (f"#{color}" for color in TERMINALS[terminal].split()), strict=True))
    line, threshold = own[palette.ANSI["series-1"]], own[palette.ANSI["reference"]]

    for text, ground in ((own["ansi_white"], own["ansi_black"]), (own["ansi_black"], "#ffffff")):
        assert nearest([line, threshold, text]) > 25
        assert min(palette.contrast(Color.parse(color), Color.parse(ground)) for color in (line, threshold)) > 2.4


def themes():
    return {**BUILTIN_THEMES, **{theme.name: theme for theme in palette.THEMES}}


@pytest.mark.parametrize("theme", [name for name, theme in themes().items() if not theme.ansi])
def test_text_is_readable_on_the_background_of_every_theme(theme):
    given = themes()[theme]
    found = palette.variables(given, {**given.to_color_system().generate(), **given.variables})
    background = Color.parse(found["background"])

    for name in (*palette.TEXTS, *palette.SERIES, "axis"):
        assert palette.contrast(Color.parse(found[name]), background) >= palette.CONTRAST - 0.05, name
    for number in range(1, 7):
        color = Color(*palette.named(given).ansi_colors[number])
        assert palette.contrast(color, Color.parse(given.background or found["background"])) >= palette.CONTRAST - 0.05


@pytest.mark.parametrize(
    ("environ", "known", "expected"),
    [
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, 256, "truecolor"),
        ({"TERM": "xterm-256color"}, 256, "256"),
        ({"TERM": "linux"}, 8, "16"),
        ({"TERM": "vt100"}, 0, "none"),
        ({"TERM": "xterm-direct"}, 1 << 24, "truecolor"),
        ({"TERM": "alien-256color"}, None, "256"),
        ({"TERM": "alien"}, None, "16"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor", "NO_COLOR": "1"}, 256, "none"),
        ({"TERM": "xterm-256color", "NO_COLOR": ""}, 256, "256"),
    ],
)
def test_a_terminal_gets_as_many_colours_as_it_is_said_to_take(environ, known, expected):
    assert colors("auto", environ=environ, known=known) == expected


def test_what_is_asked_for_goes_before_what_the_terminal_is_said_to_take():
    assert colors("16", environ={"NO_COLOR": "1"}, known=256) == "16"


def kinds(written):
    """Which kinds of colours the styles use that were sent."""
    found = set()
    for style in re.findall(rb"\x1b\[([0-9;]*)m", written):
        if re.search(rb"[34]8;2;", style):
            found.add("24-bit")
        elif re.search(rb"[34]8;5;", style):
            found.add("256")
        elif re.search(rb"(^|;)(3[0-7]|4[0-7]|9[0-7])(;|$)", style):
            found.add("16")
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environ", "sent"),
    [
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor", "TEXTUAL_THEME": "eos-dark"}, {"24-bit"}),
        pytest.param({"TERM": "screen-256color", "TEXTUAL_THEME": "eos-dark"}, {"256"}, marks=pytest.mark.slow),
        pytest.param({"TERM": "linux", "TEXTUAL_THEME": "eos-dark"}, {"16"}, marks=pytest.mark.slow),
        ({"TERM": "xterm-256color", "NO_COLOR": "1", "TEXTUAL_THEME": "eos-dark"}, set()),
    ],
)
def test_what_is_sent_is_what_the_terminal_takes(tmp_path, environ, sent, monkeypatch):
    for name in ("NO_COLOR", "COLORTERM", "TEXTUAL_THEME"):
        monkeypatch.delenv(name, raising=False)
    terminal = Terminal(filled(FakeRun(tmp_path)).folder.path, environ=environ)
    terminal.read_until("NTK trace")
    terminal.process.terminate()
    terminal.end()

    assert kinds(terminal.written) == sent


async def test_a_theme_can_be_changed_from_the_terminals_colours_and_back(tmp_path, monkeypatch):
    for name in ("NO_COLOR", "TEXTUAL_THEME"):
        monkeypatch.delenv(name, raising=False)
    app = EosApp(filled(FakeRun(tmp_path)).folder, poll_seconds=0, clock=lambda: NOW, display=Display(colors="truecolor"))

    def used():
        styles = [segment.style for strip in app.screen._compositor.render_strips() for segment in strip]
        return {style.color.is_system_defined for style in styles if style and style.color and not style.color.is_default}

    async with app.run_test(size=(100, 30)) as pilot:
        app.poll_now()
        await settled(pilot)
        before = used()
        app.theme = "eos-light"
        await settled(pilot)
        light = used()
        app.theme = "ansi-light"
        await settled(pilot)

        assert (before, light, used()) == ({True}, {False}, {True})
