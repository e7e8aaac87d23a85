"""The commands that say what a sweep's runs show together: transfer, coord-check, consistency."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eos_tui.cli.group import ForAllRuns, Jobs, Json, RunsDir, print_json, print_table, say, wrapped
from eos_tui.numerals import NOTHING, or_nothing
from runners.errors import ExitCode

if TYPE_CHECKING:
    from eos_tui.figures import Chart
    from eos_tui.reports import consistency as consistencies
    from eos_tui.reports import coordinates, transfer
    from runners.sweeps import SweepFolder


Sweep = Annotated[str, typer.Argument(metavar="SWEEP", help="A sweep's name, the beginning of one, or its folder.", show_default=False)]
Figure = Annotated[
    Path | None, typer.Option("-o", "--output", metavar="FILE", help="Draw a figure, .png, .svg or .pdf.", show_default=False)
]
Sizes = Annotated[
    list[str] | None,
    typer.Option("--size", metavar="KEY", help="What makes the size. [default: model.width, model.depth]", show_default=False),
]


def transfer_(
    sweep: Sweep,
    *,
    tolerance: Annotated[float, typer.Option(metavar="STEPS", min=0, help="Steps of the grid that the best learning rate may move.")] = 1.0,
    loss: Annotated[
        str | None,
        typer.Option(
            metavar="RECORD.FIELD", help="What is to be low at the end. [default: the loss, over the last tenth]", show_default=False
        ),
    ] = None,
    size: Sizes = None,
    output: Figure = None,
    runs_dir: RunsDir = None,
    as_json: Json = False,
) -> None:
    """Say whether the best learning rate stays as the net grows.

    For a sweep over optimizer.lr and model.width or model.depth, with several seeds for its error; what else varies
    makes a group of its own. Ends with 0 when it stays in all groups, with 1 when it moves in one, or that is open
    because a best one lies at an end of the grid, or because the seeds' noise may shift it as much.
    """
    import msgspec

    from eos_tui.reports import transfer

    folder = _find(sweep, runs_dir, output)
    report, charts = transfer.report(folder, tolerance=tolerance, loss=loss, sizes=size or ())
    _say_missing(folder, report.num_missing)
    if as_json:
        print_json(_finite(msgspec.to_builtins(report)))
    else:
        for group in report.groups:
            _print_transfer(group, tolerance)
    _draw(charts, output)
    if any(group.verdict != "stays" for group in report.groups):
        raise typer.Exit(int(ExitCode.FAILED))


def _print_transfer(group: "transfer.Group", tolerance: float) -> None:
    from eos_tui.reports import members, transfer

    keys = [key.rsplit(".", 1)[-1] for key in group.bests[0].values]
    rows = [
        (
            *map(str, best.values.values()),
            _plain(best.lr),
            _range(best.by_seed),
            _with_error(best.between, best.between_error and best.between and best.between * best.between_error),
            _with_error(best.loss, best.loss_error),
            _plain(best.diverges_from),
        )
        for best in group.bests
    ]
    if group.values:
        typer.echo(f"\n{members.label(group.values)}")
    print_table((*keys, "best lr", "of the seeds", "between", "loss", "diverges from"), rows)
    typer.echo(wrapped(transfer.words(group, tolerance=tolerance), indent=0))
    for warning in group.warnings:
        say(warning)


def coord_check(
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="A preset's name or a TOML file; or a sweep that a check made.")],
    *,
    widths: Annotated[str, typer.Option(metavar="VALUES", help="64,128,256 or 64:1024:x2.")] = "64:512:x2",
    key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="What the width is. [default: model.width, or a module's argument]", show_default=False),
    ] = None,
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="Runs of each width.")] = 3,
    steps: Annotated[int, typer.Option(metavar="N", min=1, help="Steps of each run.")] = 5,
    tolerance: Annotated[float, typer.Option(metavar="SLOPE", min=0, help="Exponent of the width that passes, up or down.")] = 0.1,
    overrides: ForAllRuns = None,
    jobs: Jobs = None,
    output: Figure = None,
    runs_dir: RunsDir = None,
    as_json: Json = False,
) -> None:
    """Check that layers move as far in wide nets as in narrow ones.

    Makes short runs of several widths, a sweep, and fits b in change ~ width^b for each layer after each step: 0 for a
    parametrization that is right for the width. Ends with 0 when all layers pass, with 1 when one does not.
    """
    import msgspec

    from eos_tui import figures
    from eos_tui.reports import coordinates
    from runners import run_folder, sweeps

    if output is not None:
        figures.check()
    place = run_folder.runs_dir(runs_dir)
    folder = sweeps.named(place, spec)
    if folder is None:
        asked = [f"run.steps={steps}", *coordinates.SETTINGS, *(overrides or [])]
        folder = _carried_out(spec, f"{key or _width_key(spec, asked)}={widths}", asked, seeds=seeds, jobs=jobs, place=place)
    report, charts = coordinates.report(folder, tolerance=tolerance)
    if as_json:
        print_json(_finite(msgspec.to_builtins(report)))
    else:
        _print_coordinates(report)
    _draw(charts, output)
    if not report.passes:
        raise typer.Exit(int(ExitCode.FAILED))


def _width_key(spec: str, overrides: Sequence[str]) -> str:
    """Where the spec has the width: in its own place, or among the arguments of a user's module."""
    from runners import spec_file
    from runners.spec import CustomModel, Train

    found = spec_file.load(spec, overrides)
    if isinstance(found, Train) and isinstance(found.model, CustomModel):
        return f"model.arguments.{found.model.width_argument}"
    return "model.width"


def _carried_out(spec: str, grid: str, overrides: Sequence[str], *, seeds: int, jobs: int | None, place: Path) -> "SweepFolder":
    """The sweep over this grid, with all its runs done."""
    from eos_tui import launch, scheduling
    from eos_tui.cli import sweeping
    from eos_tui.reports.coordinates import FEWEST_WIDTHS
    from runners import sweeps
    from runners.errors import SpecError

    document, found, _, label = sweeping.asked(spec, [grid], overrides, seeds=seeds)
    num_widths = len(found[0].values)
    if num_widths < FEWEST_WIDTHS:
        raise SpecError(f"--widths has {num_widths}: expected {FEWEST_WIDTHS} or more, for the errors of the slopes. Nothing was started.")
    runs = sweeping.planned(document, found, label=label, yes=False)
    texts = {axis.key: [value.text for value in axis.values] for axis in found}
    together = jobs or scheduling.default_jobs(len(runs))
    name = f"{launch.name_of(spec)}-widths"
    folder = sweeps.create(place, name, runs, source=spec, document=document, grid=texts, jobs=together)
    try:
        sweeping.attend(folder, jobs=None, prints=False)
    except typer.Exit as end:
        if end.exit_code:
            raise
    return folder


def _print_coordinates(report: "coordinates.CoordinateCheck") -> None:
    steps = [slope.step for slope in report.layers[0].slopes]
    rows = [
        (layer.layer, layer.verdict.upper() if layer.verdict != "pass" else "pass", *(_slope(slope) for slope in layer.slopes), layer.why)
        for layer in report.layers
    ]
    widths = ", ".join(str(width) for width in report.widths)
    seeds = f"{report.num_seeds} seed{'s' if report.num_seeds > 1 else ''}"
    typer.echo(f"b in change ~ width^b, after each step; widths {widths}, {seeds}; |b| up to {_plain(report.tolerance)} passes")
    print_table(("layer", "", *(f"step {step}" for step in steps), ""), rows)
    failed = [layer.layer for layer in report.layers if layer.verdict != "pass"]
    typer.echo(f"Does not pass: {', '.join(failed)}." if failed else "All layers pass.")


def _slope(slope: "coordinates.Slope") -> str:
    return f"{slope.value:+.2f}" if slope.error is None else f"{slope.value:+.2f} ± {slope.error:.2f}"


def consistency(
    sweep: Sweep,
    *,
    size: Sizes = None,
    output: Figure = None,
    runs_dir: RunsDir = None,
    as_json: Json = False,
) -> None:
    """Say how far apart nets of different sizes are in training.

    For a sweep over model.width or model.depth: the distance of loss, eigenvalues and traces to those of the largest
    net, early and late, and the exponent with which it grows. What else varies, learning rates too, makes a group.
    """
    import msgspec

    from eos_tui.reports import consistency as consistencies

    folder = _find(sweep, runs_dir, output)
    report, charts = consistencies.report(folder, sizes=size or ())
    _say_missing(folder, report.num_missing)
    if as_json:
        print_json(_finite(msgspec.to_builtins(report)))
    else:
        for group in report.groups:
            _print_consistency(group)
    _draw(charts, output)


def _print_consistency(group: "consistencies.Group") -> None:
    from eos_tui.reports import members

    alike = f"{members.label(group.values)}: " if group.values else ""
    left_out = f"; {group.num_diverged} runs diverged and are left out" if group.num_diverged else ""
    typer.echo(f"\n{alike}distance to {members.label(group.largest)}{left_out}")
    rows = [
        (
            compared.quantity if not index else "",
            members.label(distance.values),
            _percent(distance.early),
            _percent(distance.late) + (f" ± {_percent(distance.late_error)}" if distance.late_error is not None else ""),
            _with_error(distance.exponent, distance.exponent_error),
        )
        for compared in group.quantities
        for index, distance in enumerate(compared.distances)
    ]
    print_table(("", "", "first third", "last third", "grows like step^"), rows)


def _find(sweep: str, runs_dir: Path | None, output: Path | None) -> "SweepFolder":
    from eos_tui import figures
    from runners import run_folder, sweeps

    if output is not None:
        figures.check()
    return sweeps.find(run_folder.runs_dir(runs_dir), sweep)


def _say_missing(folder: "SweepFolder", num_missing: int) -> None:
    from runners import sweeps

    if num_missing:
        runs = "1 run has not finished and is" if num_missing == 1 else f"{num_missing} runs have not finished and are"
        say(f"{runs} left out. `eos sweep --continue {sweeps.reference(folder)}` goes on.")


def _draw(charts: "Sequence[Chart]", output: Path | None) -> None:
    from eos_tui import figures

    if output is not None:
        figures.draw(charts, output)
        say(f"Drew {output}.")


def _finite(value: Any) -> Any:
    """The value with null for numbers that are not finite."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and value - value != 0 else value


def _plain(value: float | None) -> str:
    """A number that was chosen, in as many digits as it has."""
    return NOTHING if value is None else f"{value:.4g}"


def _with_error(value: float | None, error: float | None) -> str:
    return or_nothing(value) if value is None or error is None else f"{or_nothing(value)} ± {error:.1g}"


def _range(values: Sequence[float]) -> str:
    low, high = _plain(min(values)), _plain(max(values))
    return low if low == high else f"{low} to {high}"


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.3g} %"
