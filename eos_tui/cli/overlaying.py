"""The command that compares runs with each other: compare."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eos_tui.cli.drawing import Ascii, LowBandwidth, Mouse, Once, Theme, drawing
from eos_tui.cli.group import Json, RunsDir, print_json, print_table, say
from eos_tui.numerals import or_nothing
from runners.errors import LogError, RunFolderError

if TYPE_CHECKING:
    from eos_tui.comparison import SharedPanel
    from eos_tui.snapshot import RunSnapshot
    from runners.run_folder import RunFolder


def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Names of runs, beginnings of names, or folders; two or more.")],
    *,
    runs_dir: RunsDir = None,
    as_json: Json = False,
    plain: Annotated[bool, typer.Option("--plain", help="Print the table, also in a terminal.")] = False,
    once: Once = False,
    ascii_only: Ascii = False,
    low_bandwidth: LowBandwidth = None,
    theme: Theme = None,
    mouse: Mouse = False,
) -> None:
    """Compare runs: their curves, and in what their specs differ.

    Without a terminal, or with --plain, prints a table of how they stand and of the keys of their specs that differ.
    """
    from eos_tui.cli import attending
    from runners import run_folder

    folders = _found(run_folder.runs_dir(runs_dir), runs)
    options = drawing(ascii_only=ascii_only, low_bandwidth=low_bandwidth, theme=theme, mouse=mouse)
    if once:
        attending.print_screen(folders, options=options)
    elif as_json or plain or not attending.is_terminal():
        _print(folders, as_json=as_json)
    else:
        attending.show_live(folders, options=options)


def _found(place: Path, names: Sequence[str]) -> "list[RunFolder]":
    """The runs that the names stand for, each once."""
    from eos_tui.strokes import RUN_TAGS
    from runners import run_folder

    found = {folder.path.resolve(): folder for folder in (run_folder.find(place, name) for name in names)}
    if len(found) < 2:
        raise RunFolderError(f"{' '.join(names)}: expected two runs or more to compare. `eos list` shows what is there.")
    if len(found) > len(RUN_TAGS):
        raise RunFolderError(f"{len(found)} runs: expected {len(RUN_TAGS)} at most, which is what one chart can tell apart.")
    return list(found.values())


def _print(folders: "Sequence[RunFolder]", *, as_json: bool) -> None:
    """How the runs stand, and in what their specs differ; runs that cannot be read are named on stderr."""
    from eos_tui import comparison
    from eos_tui.snapshot import empty
    from eos_tui.watcher import RunWatcher

    runs: dict[str, RunSnapshot] = {}
    problems: dict[str, str] = {}
    for folder in folders:
        key = str(folder.path)
        try:
            runs[key] = RunWatcher(folder).catch_up()
        except LogError as error:
            runs[key], problems[key] = empty(folder.path), str(error)
            say(str(error))
    panels = comparison.shared_panels(runs)
    values = {key: {panel.title: _values(panel, key, snapshot) for panel in panels} for key, snapshot in runs.items()}
    statuses = {key: "unreadable" if key in problems else str(snapshot.status) for key, snapshot in runs.items()}
    differences = comparison.differences(comparison.specs(runs))
    if as_json:
        told = [
            {
                "run": snapshot.name,
                "path": key,
                "status": statuses[key],
                "step": snapshot.step,
                "steps": snapshot.steps,
                "problem": problems.get(key),
                "values": values[key],
            }
            for key, snapshot in runs.items()
        ]
        print_json(
            {"runs": told, "differences": [{"key": one.key, "values": [one.values.get(key) for key in runs]} for one in differences]}
        )
        return
    names = comparison.names(runs)
    rows = [("status", *statuses.values()), ("step", *(f"{snapshot.step:,}" for snapshot in runs.values()))]
    for panel in panels:
        rows.append((panel.title, *(or_nothing(values[key][panel.title]["value"]) for key in runs)))
        if panel.ratio_label:
            rows.append((f"{panel.title} {panel.ratio_label}", *(or_nothing(values[key][panel.title]["ratio"]) for key in runs)))
    rows += [(one.key, *(comparison.value_words(one.values.get(key)) for key in runs)) for one in differences]
    print_table(("", *(names[key] for key in runs)), rows)


def _values(panel: "SharedPanel", key: str, snapshot: "RunSnapshot") -> dict[str, float | None]:
    """The last headline number and its ratio; null where there is none."""
    from eos_tui.snapshot import value

    curves = {"value": panel.curves(ratio=False).get(key), "ratio": panel.curves(ratio=True).get(key)}
    return {name: value(snapshot, curve) if curve else None for name, curve in curves.items()}
