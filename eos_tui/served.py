"""The app of one browser page: `python -m eos_tui.served run|runs FOLDER`, started by the server of `serving` for each page that is opened.

Reads what the page sends and writes what it is to draw, as textual-serve frames it. Read-only. Ends with its page or its server.
"""

import os
import select
import signal
import sys
import threading
from pathlib import Path

from textual.events import AppBlur

from eos_tui.app import EosApp
from runners.run_folder import RunFolder


class ServedApp(EosApp):
    """The app in a page."""

    def on_app_blur(self, event: AppBlur) -> None:
        """Stay as with the focus.

        The driver begins with a blur of its own, which may come after the page's focus, and Textual draws no footer without focus.
        """
        event.prevent_default()


def main(kind: str, folder: str) -> None:
    """Show a run, or the runs of a folder, until the page is closed.

    Args:
        kind: `run` or `runs`.
        folder: Its path.
    """
    # Ctrl-C in the server's terminal reaches this process too; the server ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_server, name="eos-server", daemon=True).start()
    path = Path(folder)
    ServedApp(RunFolder(path) if kind == "run" else path, read_only=True).run()


def _end_with_server() -> None:
    """End at once when nobody can read any more what is written, as when the server was killed; Textual would not notice."""
    pipe = select.poll()
    pipe.register(sys.__stdout__.fileno() if sys.__stdout__ else 1, 0)
    pipe.poll()
    os._exit(128 + signal.SIGHUP)


if __name__ == "__main__":
    main(*sys.argv[1:])
