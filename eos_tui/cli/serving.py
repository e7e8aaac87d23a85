"""The command that shows runs in a browser: serve."""

from typing import Annotated

import typer

from eos_tui.cli.group import RunsDir, say


def serve(
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="A run's name, the beginning of one, or its folder. [default: all of them]", show_default=False),
    ] = None,
    *,
    host: Annotated[str, typer.Option(metavar="HOST", help="Where to listen; other machines need a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="PORT", min=0, max=65535, help="The port; 0 for any that is free.")] = 8000,
    token: Annotated[bool, typer.Option("--token", help="Ask for a token on this machine too, for its other users.")] = False,
    runs_dir: RunsDir = None,
) -> None:
    """Show runs in a browser, read-only.

    The page is the view of `eos watch`, without the keys that would touch a run. It loads nothing from elsewhere.
    """
    from runners import run_folder
    from runners.errors import OutputError

    place = run_folder.runs_dir(runs_dir)
    shown = run_folder.find(place, run) if run else place
    try:
        from eos_tui.serving import serve as serve_page
    except ImportError:
        raise OutputError("A page needs the package textual-serve, which is not here. Install it: pip install 'eos-tui[serve]'") from None
    serve_page(shown, host=host, port=port, with_token=token, say=say)
