"""The command that sets a training run beside its flows, or beside what is predicted of it at the edge: compare-flow."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eos_tui.cli.group import Json, Run, RunsDir, print_json, print_table, say
from eos_tui.numerals import or_nothing
from runners.errors import ExitCode

if TYPE_CHECKING:
    from eos_tui.beside import PlannedFlow, PredictedRow, Row
    from runners.run_folder import RunFolder

ROWS = 20
"""Of the table."""


def compare_flow(
    run: Run,
    *,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Draw them: a .png, .svg or .pdf.", show_default=False)
    ] = None,
    from_step: Annotated[
        int, typer.Option(metavar="STEP", min=0, help="Let the flows begin at this step of the run, and not at its first.")
    ] = 0,
    predict: Annotated[
        str | None,
        typer.Option(
            metavar="FROM:TO",
            help="Instead: these steps of gradient descent beside what self-stabilisation predicts of them.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Set a training run beside its flows, or its prediction.

    Shows loss and sharpness of all. The gradient flow and, for gradient descent and RMSProp with the full batch, the
    central flow begin at the run's own first parameters and go as far. Normalised gradient descent and gradient descent
    on the root of the loss have their limiting flow instead, after the same warm start. They are runs of their own; those
    that are there already are taken as they are.

    With --predict, full-batch gradient descent is made again to step TO; from the first step, FROM or later, that stands at
    2/lr, its loss and sharpness are predicted to the end (Damian et al. 2022). Begin where the loss starts to oscillate: an
    oscillation that is too small to be seen is not predicted well.
    """
    import msgspec

    from eos_tui import beside, figures, plots
    from eos_tui.claims import execution
    from runners import run_folder

    if output is not None:
        plots.check_ending(output)
        figures.check()
    place = run_folder.runs_dir(runs_dir)
    folder = run_folder.find(place, run)
    if predict is not None:
        _predict(folder, place, predict=predict, from_step=from_step, output=output, as_json=as_json)
        return
    folders = _carried_out(beside.plan(folder, from_step=from_step), place)
    series = beside.read({beside.RUN: folder, **folders})
    rows, apart = beside.rows(series, most=ROWS), beside.apart(series)
    if as_json:
        told = {"run": folder.name, "flows": {kind: flow.name for kind, flow in folders.items()}, "rows": msgspec.to_builtins(rows)}
        print_json(told | ({} if apart is None else {"sharpness_difference": apart}))
    else:
        _print(rows, kinds=list(folders))
        if apart is not None:
            say(f"The sharpness of the limiting flow is within {apart:.1%} of the run's, from where the flow begins.")
    failed = [flow.name for kind, flow in folders.items() if series[kind].snapshot.status not in execution.FINAL]
    if failed:
        say(f"Did not come to their end: {', '.join(failed)}. `eos show` says why; the same command tries again.")
        raise typer.Exit(int(ExitCode.FAILED))
    if output is not None:
        figures.draw(beside.charts(series), output)
        say(f"The figure is {output}.")


def _predict(folder: "RunFolder", place: Path, *, predict: str, from_step: int, output: Path | None, as_json: bool) -> None:
    """Make the run with its prediction, and tell of it."""
    import msgspec

    from eos_tui import beside, evidence, figures
    from eos_tui.claims import execution

    if from_step:
        raise typer.BadParameter("it does not go with --predict, which has its own first step.", param_hint="--from-step")
    planned = beside.plan_prediction(folder, **_range(predict))
    found = _carried_out({beside.PREDICTION: planned}, place)[beside.PREDICTION]
    run = evidence.read(found)
    rows, followed = beside.predicted_rows(run, most=ROWS), beside.followed(run)
    if as_json:
        print_json({"run": folder.name, "prediction": found.name, **msgspec.to_builtins({"followed": followed, "rows": rows})})
    else:
        _print_predicted(rows)
    for event in run.snapshot.events:
        if event.event == beside.PREDICTION:
            say(f"Step {event.step}: {event.message}")
    if followed:
        say(
            f"From step {followed.begins} on {followed.predicted} steps are predicted: the loss within {beside.CLOSE:.0%} for "
            f"{followed.loss}, the sharpness within {beside.CLOSE:.0%} of its excursion for {followed.sharpness}."
        )
    if run.snapshot.status not in execution.FINAL:
        say(f"{found.name} did not come to its end. `eos show` says why; the same command tries again.")
        raise typer.Exit(int(ExitCode.FAILED))
    say(f"`eos watch {found.name}` shows it.")
    if output is not None:
        figures.draw(beside.predicted_charts(run), output)
        say(f"The figure is {output}.")


def _range(text: str) -> dict[str, int]:
    """FROM:TO as first and last step."""
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if match is None or int(match[1]) >= int(match[2]):
        raise typer.BadParameter(f"{text!r}: expected two steps, the first before the last, such as 430:500.", param_hint="--predict")
    return {"first": int(match[1]), "last": int(match[2])}


def _carried_out(plan: "dict[str, PlannedFlow]", place: Path) -> "dict[str, RunFolder]":
    """The flows' run folders, by kind, once each has ended."""
    from eos_tui import scheduling
    from eos_tui.claims import execution
    from eos_tui.cli.progress import Bars, Lines

    reporter = Bars(len(plan)) if sys.stderr.isatty() else Lines(len(plan))
    try:
        with reporter:
            folders = execution.carry_out(list(plan.values()), place, jobs=min(len(plan), scheduling.num_cores()), reporter=reporter)
    except KeyboardInterrupt:
        say("Interrupted; the flows have taken a checkpoint. The same command goes on from there.")
        raise typer.Exit(int(ExitCode.INTERRUPTED)) from None
    return {kind: folders[planned.name] for kind, planned in plan.items()}


def _print_predicted(rows: "list[PredictedRow]") -> None:
    titles = ["step", "loss", "predicted", "constrained", "sharpness", "predicted", "oscillation", "predicted"]

    table = []
    for row in rows:
        numbers = [row.loss, row.predicted_loss, row.constrained_loss, row.sharpness, row.predicted_sharpness]
        table.append((f"{row.step:,}", *map(or_nothing, [*numbers, row.oscillation, row.predicted_oscillation])))
    print_table(titles, table)


def _print(rows: "list[Row]", *, kinds: list[str]) -> None:
    has_central = "central" in kinds
    time = "lr^2 x step" if "limiting" in kinds else "lr x step"
    titles = [
        "step",
        time,
        "loss",
        "mean loss",
        *(["predicted mean"] if has_central else []),
        *(f"of {kind} flow" for kind in kinds),
    ]
    titles += ["sharpness", *(f"of {kind} flow" for kind in kinds)]
    table = []
    for row in rows:
        predicted = [row.averaged_loss] if has_central else []
        numbers = [row.time, row.loss["run"], row.run_average, *predicted, *(row.loss[kind] for kind in kinds)]
        numbers += [row.sharpness["run"], *(row.sharpness[kind] for kind in kinds)]
        table.append((f"{row.step:,}", *map(or_nothing, numbers)))
    print_table(titles, table)
