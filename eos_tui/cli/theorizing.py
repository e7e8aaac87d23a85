"""The commands that say what papers predict, and what numbers say of it, without a run: theory."""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from eos_tui.cli.group import Json, print_json, print_table, say, wrapped
from eos_tui.numerals import NOTHING

theory = typer.Typer(
    help="Say what papers predict of a data set or a spectrum, and how heavy the tails of numbers are.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
NUMERICS = (sys.executable, "-P", "-m")
"""A process of its own, as the numerics are no part of the viewer."""


@theory.command("tail-index")
def tail_index(
    *,
    lr: Annotated[float, typer.Option("--lr", metavar="RATE", help="The learning rate of SGD.", show_default=False)],
    data: Annotated[
        str | None, typer.Option("--data", metavar="NAME", help="A data set, as data.name in a spec.", show_default=False)
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A key of [data], such as data.standardize=min-max.", show_default=False),
    ] = None,
    spectrum: Annotated[
        Path | None,
        typer.Option("--spectrum", metavar="FILE", help="Eigenvalues of the Hessian A^T A / n: text, JSON or .npy.", show_default=False),
    ] = None,
    kind: Annotated[
        Literal["eigenvalues", "singular-values"], typer.Option("--kind", help="What the file holds; singular values are those of A.")
    ] = "eigenvalues",
    num_examples: Annotated[
        int | None, typer.Option("--num-examples", metavar="N", min=1, help="n, for a file of singular values.", show_default=False)
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", metavar="B", help="Examples in a batch, drawn independently.")] = 1,
    ridge: Annotated[float, typer.Option("--ridge", metavar="R", help="Adds R/2 |x|^2 to the loss: the paper's delta is n R.")] = 0.0,
    as_json: Json = False,
) -> None:
    """Bound the tail index of homogenised SGD on least squares.

    The loss is |A x - b|^2 / (2n), with an example in each row of A; the targets b do not matter. The paper scales A with
    --set data.standardize=min-max. The index is that of the diffusion in continuous time, not of SGD, whose tails are lighter.
    Formulas and what is proved of them: docs/heavy-tails.md.
    """
    if (data is None) == (spectrum is None):
        raise typer.BadParameter("Expected one of --data NAME and --spectrum FILE.")
    if overrides and data is None:
        raise typer.BadParameter("--set is for --data.")
    request = {
        "data": data,
        "overrides": overrides or [],
        "spectrum": None if spectrum is None else str(spectrum),
        "singular_values": kind == "singular-values",
        "num_examples": num_examples,
        "lr": lr,
        "batch_size": batch_size,
        "ridge": ridge,
    }
    found = _computed("runners.tails", request)
    if as_json:
        print_json(found)
        return
    rows = list(_rows(found))
    _print_named((name, value) for name, value, meaning in rows if not meaning)
    print_table(("quantity", "value", "what it is"), [row for row in rows if row[2]])
    _print_notes(found["notes"])


@theory.command("tail-fit")
def tail_fit(
    path: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="Numbers: text, one a line, JSON, .npy, or a column of a .csv.", show_default=False),
    ],
    *,
    column: Annotated[
        str | None,
        typer.Option("--column", metavar="C", help="Of a .csv, by name; by number from 0 where it has no header.", show_default=False),
    ] = None,
    center: Annotated[
        bool, typer.Option("--center/--no-center", help="Subtract the mean, as all estimators take the centre to be 0.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Estimate the tail index of numbers, each way with its error.

    The index is the largest power whose mean is finite. The numbers should be independent, such as a coordinate of the last parameters
    of many runs. What each estimator cannot see stands beside it. With --json also the survival function and the quantiles beside
    those of Student's t. Two estimators need pip install 'eos-tui[tails]'.
    """
    found = _computed("runners.tail_fit", {"path": str(path), "column": column, "center": center})
    if as_json:
        print_json(found)
        return
    _print_named(_of_sample(found))
    rows = [row for row in found["estimates"] if not row["why"]]
    print_table(
        ("estimator", "index", "error", "rests on", "", "cannot see"),
        [
            (row["estimator"], _number(row["index"], 4), _number(row["error"], 2), f"{row['num_used']:,}", row["used"], row["blind"])
            for row in rows
        ],
    )
    _print_notes([*(f"{row['estimator']}: {row['why']}" for row in found["estimates"] if row["why"]), *found["notes"]])


def _of_sample(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and value."""
    fit = found["student_t"]
    yield "numbers of", found["source"]
    yield "how many", f"{found['num_samples']:,}"
    yield "mean", f"{_number(found['mean'])}, {'subtracted' if found['centered'] else 'not subtracted'}"
    if fit:
        yield "scale of t", f"{_number(fit['scale'])} +- {_number(fit['scale_error'], 2)}"
    for name, law in (("fit of t", fit), ("stable law", found["stable"])):
        if law:
            yield name, f"distance {_number(law['distance'], 3)}, p {_number(law['p'], 2)}, too large as it was fitted to these numbers"


def _print_named(pairs: Iterable[tuple[str, str]]) -> None:
    for name, value in pairs:
        typer.echo(wrapped(f"{name:<15}{value}", indent=15))


def _print_notes(notes: Iterable[str]) -> None:
    for note in notes:
        typer.echo(wrapped(f"- {note}", indent=2))


def _computed(module: str, request: dict[str, Any]) -> Any:
    done = subprocess.run([*NUMERICS, module, json.dumps(request)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        say(done.stderr.strip())
        raise typer.Exit(done.returncode)
    return json.loads(done.stdout)


def _rows(found: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Name, value and meaning; learning rates stand beside the one that was asked for."""
    source, critical = found["source"], found["critical"]
    sizes = (source["num_examples"], source["num_features"], found["rank"])
    yield "spectrum of", source["source"], ""
    if source["standardization"]:
        yield "scaled", source["standardization"], ""
    yield "n, d, rank", ", ".join(NOTHING if size is None else f"{size:,}" for size in sizes), "examples, inputs, eigenvalues above 0"
    yield "lr, B, ridge", f"{found['lr']:g}, {found['batch_size']:,}, {found['ridge']:g}", "the paper's gamma, B and delta / n"
    yield "h_1", _number(found["eigenvalue"]), "largest eigenvalue of the Hessian A^T A / n"
    yield "lambda_1", _number(found["singular_value"]), "largest singular value of A"
    yield "r_eff", _number(found["effective_rank"]), "trace of the Hessian / h_1"
    yield "K", _number(found["noise_kernel"]), "noise kernel norm in continuous time; the index is 2 where it is 1"
    yield "K in steps", _number(found["noise_kernel_in_steps"]), "the same with steps of this size, by the Volterra equation in steps"
    yield (
        "eta_*",
        _number(found["lower"]),
        "lower bound of the index" if found["lower_holds"] else "no bound here: lr is not below lr_lower",
    )
    yield "eta^*", _number(found["upper"]), "upper bound of the index"
    known = " to ".join(map(_number, found["known"])) if found["known"] else NOTHING
    yield "known range", known, "of the index, by bounds and moments" if found["known"] else "there is no stationary law"
    if found["exact"] is not None:
        yield "exact index", f"{_number(found['exact'])} +- {found['exact_error']:.0e}", found["exact_because"]
    yield "rho", _number(found["contraction_rate"]), "rate a step at which distributions come together"
    yield "lr_lower", _number(critical["lower_bound"]), "eta_* is a bound below; the paper's gamma-bar"
    yield "lr_2", _number(critical["second_moment"]), "the index is 2: second moments and mean loss are finite below"
    yield "lr_2 in steps", _number(found["critical_in_steps"]), "K in steps is 1"
    yield "lr_4", _number(critical["fourth_moment"]), "the index is 4"
    yield "lr_W", _number(critical["wasserstein"]), "the paper's condition to contract, lr_2 / 4"
    yield "lr_GD", _number(critical["gradient_descent"]), "2 / (h_1 + ridge): full-batch steps are stable below"


def _number(value: float | None, digits: int = 6) -> str:
    return NOTHING if value is None else f"{value:.{digits}g}"
