"""How tests see the application's screens, and wait for them."""

from functools import reduce
from pathlib import Path

from textual._context import visible_screen_stack
from textual.app import App
from textual.pilot import Pilot
from textual.strip import Strip

from eos_tui.app import EosApp
from tests.eos_tui.fakes import NOW, FakeRun

GOLDEN = Path(__file__).parents[1] / "golden"


def app_of(run: FakeRun) -> EosApp:
    return EosApp(run.folder, poll_seconds=0, clock=lambda: NOW)


async def look(pilot: Pilot[str]) -> str:
    """Poll once; the screen's text after it."""
    app = pilot.app
    assert isinstance(app, EosApp)
    app.poll_now()
    return await settled(pilot)


async def settled(pilot: Pilot[str]) -> str:
    """The screen's text once all of it is drawn, with what stands behind a box, and its layout no longer changes."""
    before, now = None, screen(pilot)
    while now != before or not _is_drawn(pilot.app):
        await pilot.pause()
        await pilot.wait_for_scheduled_animations()
        # As pausing does for a box: what was to be laid out behind it while it held frames back waits for the next message there.
        for behind in pilot.app._background_screens:
            if behind._layout_required:
                behind._on_timer_update()
        before, now = now, screen(pilot)
    return now


def _is_drawn(app: App[str]) -> bool:
    """Whether no frame is held back, as a box does until it is filled, and no screen in sight has anything left to draw."""
    top = app.screen
    if app._batch_count or top._repaint_required or top._dirty_widgets:
        return False
    # What screens behind a box have to repaint they hand on to it, and keep their own marks of it.
    return not any(one._layout_required for one in (*app._background_screens, top))


def screen(pilot: Pilot[str]) -> str:
    """The rows of the screen, as a terminal would show them."""
    # Else a box is drawn over nothing, and that is what Textual keeps of it.
    visible_screen_stack.set(pilot.app._background_screens)
    strips = pilot.app.screen._compositor.render_strips()
    return "\n".join(strip.text.rstrip() for strip in strips)


def filtered(pilot: Pilot[str]) -> list[Strip]:
    """The screen's rows as they are sent: after the app's filters."""
    background = pilot.app.screen.background_colors[0]
    strips = pilot.app.screen._compositor.render_strips()
    return [reduce(lambda strip, line_filter: strip.apply_filter(line_filter, background), pilot.app._filters, strip) for strip in strips]


async def watch_until_it_ends(app: EosApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        while app.is_running:
            await pilot.pause()
