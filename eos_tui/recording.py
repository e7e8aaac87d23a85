"""What the app sends to its terminal as a file that terminal players play: asciinema's format, version 2. Called by the app."""

import json
import os
import shutil
import time
from collections.abc import Callable
from typing import TextIO

from textual.driver import Driver


class Recorder:
    """Writes a recording."""

    def __init__(self, file: TextIO, *, title: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Write nothing yet: the size is known once something is drawn.

        Args:
            file: Where to.
            title: What it shows.
            clock: Seconds, never going back.
        """
        self._file = file
        self._title = title
        self._clock = clock
        self._began = 0.0
        self._size: tuple[int, int] | None = None

    def write(self, data: str, *, size: tuple[int, int]) -> None:
        """Record what was sent to a terminal of so many columns and rows."""
        if self._size is None:
            self._began = self._clock()
            environment = {"TERM": os.environ.get("TERM", "")}
            header = {"version": 2, "width": size[0], "height": size[1], "timestamp": int(time.time()), "title": self._title}
            self._line({**header, "env": environment})
        elif size != self._size:
            self._event("r", f"{size[0]}x{size[1]}")
        self._size = size
        self._event("o", data)

    def _event(self, kind: str, data: str) -> None:
        self._line([round(self._clock() - self._began, 6), kind, data])

    def _line(self, value: object) -> None:
        self._file.write(json.dumps(value, ensure_ascii=False) + "\n")


def recorded(driver: type[Driver], recorder: Recorder) -> type[Driver]:
    """A driver that also records what it sends."""

    class Recorded(driver):  # type: ignore[valid-type, misc]
        def write(self, data: str) -> None:
            recorder.write(data, size=self._size or shutil.get_terminal_size())
            super().write(data)

    return Recorded
