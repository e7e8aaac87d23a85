"""What a sharpness measurement costs, by solver: products, seconds and error on three nets, before, during and at the edge.

Each preset is really trained, with its own optimizer. Solvers are asked for a relative error of 1e-3, as far as each can be
asked, and take turns at the same parameters, every 10 steps, so that the machine's noise hits all alike; ratios are medians over
these points: on CIFAR-10 one a phase, and ours alone at four more. Errors are relative to ARPACK in float64 at tolerance
1e-5, from a random vector: its residual bounds the error of the eigenvalue by 1e-5, and as the error goes with the square of the
residual it is mostly far smaller; a fixed number of Lanczos steps would bound nothing.

  eos                 warm-started, as a run measures; seconds include the linearisation
  scipy eigsh, JAX    ARPACK from a random vector, the product linearised anew at each call
  jax lobpcg          `lobpcg_standard` from the last eigenvector, on a product linearised once; its stopping rule is
                      rescaled to ARPACK's, residual <= 1e-3 of the value
  matfree Lanczos     full reorthogonalisation, from a random vector, on a product linearised once; it takes a number of
                      steps and no tolerance, so it gets the smallest that suffices where the phase begins
  torch eigsh         double backward, the graph built anew at each product, as published codes do; ARPACK
  torch eigsh, kept   the same with one graph for all products
  curvlinops eigsh    `HessianLinearOperator`, ARPACK

Budgets: >= 10 times fewer seconds than torch eigsh; products at >= 70 % of the machine's rate of float32 matrix products; at the
edge <= 7 products at the median, with no error above 1e-3.

Run `python benchmarks/curvature_table.py [--data-dir cifar-10-batches-bin] [--quick] [--problem NAME] [--json]`; the last four solvers
need `pip install -e '.[bench]'` and are left out without it. Meant for 20 minutes on two idle cores; --quick takes one point a phase.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import hessian_products
from presets import Preset, Training, spec_of
from solvers import AGAINST, OURS, SOLVERS, TOLERANCE, Found, Reference, Solver, available

EVERY = 10
WARM_UP = 2
"""Measurements before the first that counts, for the solvers that start from the last one."""
SPEEDUP_BUDGET = 10.0
PRODUCTS_BUDGET = 7
NOT_INSTALLED = "not installed: pip install -e '.[bench]'"


@dataclass(frozen=True)
class Task:
    """A preset, at which steps its phases begin, and how many measurements each has."""

    preset: str
    sharpening: int
    edge: int
    points: int
    """Measurements by our solver."""
    compared: int
    """The first of them, at which the others measure too, and float64."""

    @property
    def phases(self) -> dict[str, int]:
        """First measured step of each."""
        return {"initialisation": 0, "sharpening": self.sharpening, "edge": self.edge}


TASKS = (
    Task("digits-gd", sharpening=100, edge=500, points=9, compared=9),
    Task("cifar10-fc-tanh", sharpening=500, edge=900, points=5, compared=1),
    Task("cifar10-cnn", sharpening=40, edge=150, points=5, compared=1),
)


@dataclass(frozen=True)
class Row:
    """A solver in one phase of one preset; medians over the points, and the largest error."""

    preset: str
    phase: str
    ratio_to_edge: float
    """Sharpness over the optimizer's edge."""
    solver: str
    products: float
    seconds: float
    error: float
    """Median of the relative errors."""
    largest_error: float
    times_ours: float
    """Seconds over ours at the same point."""


class Measured(NamedTuple):
    """One measurement by one solver."""

    products: int
    seconds: float
    error: float | None
    """Relative; None where no reference was computed."""


def phase_rows(task: Task, phase: str, *, training: Training, solvers: list[Solver], reference: Reference, is_quick: bool) -> list[Row]:
    """Train on to the phase, and measure at each of its points: at the first ones by all solvers in turn, then by ours alone."""
    first = task.phases[phase]
    for step in range(max(training.step, first - WARM_UP * EVERY), first, EVERY):
        for solver in solvers:
            if solver.is_warm:
                solver.prepared(training.advance_to(step))()
    for solver in solvers:
        solver.begin(training.advance_to(first))
    found: dict[str, list[Measured]] = {solver.name: [] for solver in solvers}
    exacts = []
    for point in range(1 if is_quick else task.points):
        params = training.advance_to(first + point * EVERY)
        if point < task.compared:
            exacts.append(reference.value(params))
        turn = point % len(solvers)
        for solver in solvers[turn:] + solvers[:turn]:
            if point < task.compared or solver.name == OURS:
                found[solver.name].append(timed(solver.prepared(params), exacts[point] if point < task.compared else None))
    ratio = statistics.median(exacts) / training.threshold
    return [summarised(task.preset, phase, ratio, name, own=own, ours=found[OURS]) for name, own in found.items()]


def timed(measure: Callable[[], Found], exact: float | None) -> Measured:
    """One measurement, held against the reference if there is one."""
    began = time.perf_counter()
    value, products = measure()
    seconds = time.perf_counter() - began
    return Measured(products, seconds, None if exact is None else abs(value / exact - 1))


def summarised(preset: str, phase: str, ratio: float, solver: str, *, own: list[Measured], ours: list[Measured]) -> Row:
    """The medians of a solver's measurements, and of its seconds over ours at the same points."""
    errors = [one.error for one in own if one.error is not None]
    return Row(
        preset=preset,
        phase=phase,
        ratio_to_edge=ratio,
        solver=solver,
        products=statistics.median(one.products for one in own),
        seconds=statistics.median(one.seconds for one in own),
        error=statistics.median(errors),
        largest_error=max(errors),
        times_ours=statistics.median(one.seconds / other.seconds for one, other in zip(own, ours, strict=False)),
    )


def measured(task: Task, *, data_dir: str | None, is_quick: bool) -> tuple[list[Row], dict[str, float]]:
    """All rows of a preset, and the rate of our products beside the machine's."""
    began = time.perf_counter()
    preset = Preset(spec_of(task.preset, data_dir=data_dir))
    training, solvers, reference = Training(preset), available(preset), Reference(task.preset, data_dir)
    rows: list[Row] = []
    for phase in task.phases:
        rows += phase_rows(task, phase, training=training, solvers=solvers, reference=reference, is_quick=is_quick)
        print(f"{task.preset}, {phase}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    chain = hessian_products.hessian_products(preset.problem, training.params, x=preset.x, y=preset.y)
    operations = hessian_products.product_operations(preset.matrix_products())
    return rows, hessian_products.rates(chain, operations, repeat=1 if is_quick else 5)


def verdicts(rows: list[Row], rates: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """Each budget, what was found for it, and whether it is kept."""
    found: list[dict[str, Any]] = []
    for preset, rate in rates.items():
        against = [row for row in rows if row.preset == preset and row.solver == AGAINST]
        ours = next(row for row in rows if (row.preset, row.phase, row.solver) == (preset, "edge", OURS))
        found += [
            _verdict(f"{preset}, {row.phase}: seconds of {AGAINST} over ours", row.times_ours, at_least=SPEEDUP_BUDGET) for row in against
        ]
        found.append(_verdict(f"{preset}: products over the matrix rate", rate["ratio"], at_least=hessian_products.BUDGET))
        found.append(_verdict(f"{preset}, edge: products", ours.products, at_most=PRODUCTS_BUDGET))
        found.append(_verdict(f"{preset}, edge: largest relative error", ours.largest_error, at_most=TOLERANCE))
    return found


def _verdict(what: str, value: float, *, at_least: float | None = None, at_most: float | None = None) -> dict[str, Any]:
    holds = value >= at_least if at_least is not None else at_most is not None and value <= at_most
    return {"what": what, "found": value, "at_least": at_least, "at_most": at_most, "holds": holds}


def table(rows: list[Row]) -> str:
    """The rows as text; a solver that could not run says what it lacks."""
    lines = [f"{'':16}{'':16}{'':20}{'products':>9}{'seconds':>10}{'error':>9}{'largest':>9}{'x ours':>8}"]
    for preset, phase in dict.fromkeys((row.preset, row.phase) for row in rows):
        own = {row.solver: row for row in rows if (row.preset, row.phase) == (preset, phase)}
        lines.append(f"{preset}, {phase}: sharpness {next(iter(own.values())).ratio_to_edge:.3g} of the edge")
        for make in SOLVERS:
            row = own.get(make.name)
            numbers = (
                f"{row.products:>9.3g}{row.seconds:>10.3g}{row.error:>9.1e}{row.largest_error:>9.1e}{row.times_ours:>8.3g}"
                if row
                else f"  {NOT_INSTALLED}"
            )
            lines.append(f"{'':32}{make.name:20}{numbers}")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", default=os.environ.get("EOS_DATA"), help="CIFAR-10's folder; $EOS_DATA when absent")
    parser.add_argument("--problem", action="append", choices=[task.preset for task in TASKS], help="only this preset; may be repeated")
    parser.add_argument("--quick", action="store_true", help="one point a phase")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    rows: list[Row] = []
    rates: dict[str, dict[str, float]] = {}
    for task in TASKS:
        if not arguments.problem or task.preset in arguments.problem:
            new, rates[task.preset] = measured(task, data_dir=arguments.data_dir, is_quick=arguments.quick)
            rows += new
    budgets = verdicts(rows, rates)
    if arguments.json:
        print(json.dumps({"rows": [asdict(row) for row in rows], "rates": rates, "budgets": budgets}))
        return
    print(table(rows), end="\n\n")
    for verdict in budgets:
        bound = f">= {verdict['at_least']:g}" if verdict["at_least"] is not None else f"<= {verdict['at_most']:g}"
        print(f"{'holds' if verdict['holds'] else 'FAILS':7}{verdict['what']:60}{verdict['found']:>10.3g}  {bound}")


if __name__ == "__main__":
    main()
