"""The command that checks a paper's claims on runs of its own: reproduce."""

import resource
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eos_tui.cli.group import Json, RunsDir, print_json, say
from runners.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eos_tui.claims.statements import Claim, PlannedRun
    from runners.run_folder import RunFolder

FOLDER = "reproduce"
"""Below the folder of the runs: where claims have theirs, in a folder of each claim's name."""


def reproduce(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A claim; --list shows them.", show_default=False)] = None,
    *,
    list_claims: Annotated[bool, typer.Option("--list", help="List the claims, or with NAME what it states; run nothing.")] = False,
    as_json: Json = False,
    jobs: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Runs at the same time. [default: one a core]", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FOLDER", help="Write NAME.json and a figure NAME.svg there.", show_default=False),
    ] = None,
    markdown: Annotated[
        Path | None,
        typer.Option("--markdown", metavar="FILE", help="Put the table into a Markdown page, as the section NAME.", show_default=False),
    ] = None,
    runs_dir: RunsDir = None,
) -> None:
    """Check a paper's claims on runs of this machine.

    Each claim is listed with what was measured, what was expected, and why where it does not hold. Runs that have
    finished are not made again, interrupted ones go on. Ends with 0 when all runs ended by themselves, whether the
    claims hold or not; with 1 when one failed.
    """
    from eos_tui.claims import catalog

    if name is None:
        if not list_claims:
            raise typer.BadParameter(f"Name a claim: {', '.join(catalog.CLAIMS)}. `eos reproduce --list` says what each is about.")
        _list_all(as_json=as_json)
    elif list_claims:
        _list_one(catalog.find(name), as_json=as_json)
    else:
        _reproduce(catalog.find(name), as_json=as_json, jobs=jobs, output=output, markdown=markdown, runs_dir=runs_dir)


def _list_all(*, as_json: bool) -> None:
    from eos_tui.claims.catalog import CLAIMS

    if as_json:
        print_json(
            [{"name": claim.name, "summary": claim.summary, "source": claim.source, "cost": claim.cost} for claim in CLAIMS.values()]
        )
        return
    for claim in CLAIMS.values():
        typer.echo(f"{claim.name}\n    {claim.summary}\n    {claim.source}\n    {claim.cost}")


def _list_one(claim: "Claim", *, as_json: bool) -> None:
    if as_json:
        statements = claim.statements
        print_json(
            [{"claim": each.claim, "source": each.source, "tolerance": str(each.tolerance), "runs": each.runs} for each in statements]
        )
        return
    typer.echo(f"{claim.summary} {claim.cost}")
    for statement in claim.statements:
        typer.echo(f"- {statement.claim} Expected: {statement.tolerance}. [{statement.source}]")
    typer.echo(f"Runs: {', '.join(run.name for run in claim.runs)}.")


def _reproduce(
    claim: "Claim", *, as_json: bool, jobs: int | None, output: Path | None, markdown: Path | None, runs_dir: Path | None
) -> None:
    import msgspec

    from eos_tui import evidence, figures, launch, scheduling
    from eos_tui.claims import execution, report, statements
    from runners import run_folder

    if output is not None:
        figures.check()
    missing = execution.check_data(claim.runs, claim=claim.name, optional=claim.optional)
    if missing:
        say(f"{len(missing)} of {len(claim.runs)} runs are left out, their data is not here: {', '.join(missing)}.")
    folder = run_folder.runs_dir(runs_dir) / FOLDER / claim.name
    plan = [planned for planned in claim.runs if planned.name not in missing]
    folders, cpu_seconds = _carried_out(claim.name, plan, folder, jobs=jobs or scheduling.num_cores())
    runs = {name: evidence.read(found) for name, found in folders.items()}
    rows = statements.rows(claim, runs, missing)
    if as_json:
        print_json(msgspec.to_builtins(rows))
    else:
        typer.echo("\n".join(report.table(rows, width=shutil.get_terminal_size().columns)))
    if output is not None:
        report.write_json(rows, output / f"{claim.name}.json")
    if markdown is not None:
        report.put_section(markdown, report.section(claim, rows, runs, machine=execution.machine()))
    spent = f" They took {cpu_seconds:.0f} s of processor time." if cpu_seconds else ""
    say(f"{sum(row.holds for row in rows)} of {len(rows)} statements hold. The runs are in {folder}.{spent}")
    failed = {name: found for name, found in folders.items() if runs[name].snapshot.status not in execution.FINAL}
    for name, found in failed.items():
        end = runs[name].snapshot.end
        say(f"{name} {end.status}: {end.reason}" if end else launch.death(found))
    if failed:
        say(f"Did not come to their end: {', '.join(failed)}. The same command tries them again.")
        raise typer.Exit(int(ExitCode.FAILED))
    if output is not None:
        figures.draw(claim.charts(runs), output / f"{claim.name}.svg")


def _carried_out(name: str, plan: "Sequence[PlannedRun]", folder: Path, *, jobs: int) -> "tuple[dict[str, RunFolder], float]":
    """The claim's run folders, and the processor time that went into those that were not there yet."""
    from eos_tui.claims import execution
    from eos_tui.cli.progress import Bars, Lines

    reporter = Bars(len(plan)) if sys.stderr.isatty() else Lines(len(plan))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        with reporter:
            folders = execution.carry_out(plan, folder, jobs=jobs, reporter=reporter)
    except KeyboardInterrupt:
        say(f"Interrupted; the runs have taken a checkpoint. `eos reproduce {name}` goes on from there.")
        raise typer.Exit(int(ExitCode.INTERRUPTED)) from None
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return folders, spent
