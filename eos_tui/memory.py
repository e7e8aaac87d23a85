"""The settings while the app runs: screens take their views from here, and what they change is written from a thread.

A home folder may be slow, read-only or gone, and none of that may hold up a screen. Used by the app and its screens.
"""

import threading
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from eos_tui import settings
from eos_tui.settings import HomeView, Loaded, Place, RunView, Settings
from runners.errors import SettingsError

WRITE_SECONDS = 0.5
"""How long changes are gathered before they are written."""
LAST_SECONDS = 1.0
"""How long leaving waits for the last ones."""


class Memory:
    """What is remembered; without a file only as long as the app runs."""

    def __init__(self, loaded: Loaded | None = None, *, failed: Callable[[str], None] = lambda _: None) -> None:
        """Remember what was loaded.

        Args:
            loaded: The settings and their file, which is left alone if it did not count.
            failed: Called, from a thread and once, with why nothing can be written.
        """
        self.failed = failed
        self._settings = loaded.settings if loaded else Settings()
        self._path = loaded.path if loaded and not loaded.error else None
        self._changed: dict[Place, Any] = {}
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._timer: threading.Timer | None = None

    @property
    def run(self) -> RunView:
        """How runs are shown."""
        return self._settings.views.run

    @property
    def home(self) -> HomeView:
        """How the list of runs is shown."""
        return self._settings.views.home

    def remember_run(self, **values: Any) -> None:
        """Show runs so from now on."""
        self._remember(replace(self._settings, views=replace(self._settings.views, run=replace(self.run, **values))))

    def remember_home(self, **values: Any) -> None:
        """Show the list of runs so from now on."""
        self._remember(replace(self._settings, views=replace(self._settings.views, home=replace(self.home, **values))))

    def remember_display(self, **values: Any) -> None:
        """Draw so from now on."""
        self._remember(replace(self._settings, display=replace(self._settings.display, **values)))

    def write(self) -> None:
        """Write what has changed."""
        with self._writing:
            with self._lock:
                changed, self._changed, self._timer = self._changed, {}, None
            if self._path is None or not changed:
                return
            try:
                settings.save(self._path, changed)
            except SettingsError as error:
                self._path = None
                self.failed(f"What you choose is not remembered: {error}")

    def close(self) -> None:
        """Write what has changed, if that can be done at once."""
        if self._timer is not None:
            self._timer.cancel()
        last = threading.Thread(target=self.write, name="eos-settings", daemon=True)
        last.start()
        last.join(LAST_SECONDS)

    def _remember(self, after: Settings) -> None:
        before, self._settings = self._settings, after
        changed = settings.changes(before, after)
        if not changed or self._path is None:
            return
        with self._lock:
            self._changed |= changed
            if self._timer is None:
                self._timer = threading.Timer(WRITE_SECONDS, self.write)
                self._timer.daemon = True
                self._timer.start()
