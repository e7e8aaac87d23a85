"""What a sharpness measurement costs, by solver: products, seconds and error on three nets, before, during and at the edge.

Each preset is really trained, with its own optimizer. Solvers are asked for a relative error of 1e-3, as far as each can be
asked, and take turns at the same parameters, every 10 steps, so that the machine's noise hits all alike; ratios are medians over
these points. Errors are relative to ARPACK in float64 at tolerance 1e-5, from a random vector: its residual bounds the error of
the eigenvalue by 1e-5, and as the error goes with the square of the residual it is mostly far smaller; 200 steps of plain
Lanczos would cost more and bound nothing.

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
need `pip install -e '.[bench]'` and are left out without it. On two idle cores about 20 minutes; --quick takes one point a phase.
"""

import argparse
import importlib.util
import json
import os
import statistics
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import hessian_products
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.sparse.linalg import lobpcg_standard
from jaxtyping import Array, PyTree
from numpy.typing import NDArray
from presets import Preset, Training, converted, spec_of
from scipy.sparse.linalg import LinearOperator, eigsh

from runners.measure import operators, sharpness
from runners.measure.eigenvalues import Accuracy, EigenMeter
from runners.programs import Program

TOLERANCE = 1e-3
MAX_PRODUCTS = 300
EVERY = 10
WARM_UP = 2
"""Measurements before the first that counts, for the solvers that start from the last one."""
REFERENCE_TOLERANCE = 1e-5
LONGEST = 80
"""Steps of Lanczos among which matfree's number is found."""
SPEEDUP_BUDGET = 10.0
PRODUCTS_BUDGET = 7
OURS, AGAINST = "eos", "torch eigsh"
NOT_INSTALLED = "not installed: pip install -e '.[bench]'"

Vector = NDArray[np.floating]


@dataclass(frozen=True)
class Task:
    """A preset, at which steps its phases begin, and how many measurements each has."""

    preset: str
    sharpening: int
    edge: int
    points: int

    @property
    def phases(self) -> dict[str, int]:
        """First measured step of each."""
        return {"initialisation": 0, "sharpening": self.sharpening, "edge": self.edge}


TASKS = (
    Task("digits-gd", sharpening=80, edge=500, points=9),
    Task("cifar10-fc-tanh", sharpening=500, edge=900, points=2),
    Task("cifar10-cnn", sharpening=50, edge=150, points=3),
)


class Found(NamedTuple):
    """What a solver says."""

    value: float
    products: int


class Solver(ABC):
    """A way to the largest eigenvalue of a preset's Hessian."""

    name: str
    is_warm = False
    """Whether it starts from what the last measurement found."""

    def __init__(self, preset: Preset) -> None:
        self.preset = preset
        self.dim = preset.model.num_params
        self.start = np.random.default_rng(0).standard_normal(self.dim, dtype=np.float32)

    def begin(self, params: PyTree[Array]) -> None:  # noqa: B027
        """What is done once at the beginning of a phase, untimed."""

    @abstractmethod
    def prepared(self, params: PyTree[Array]) -> Callable[[], Found]:
        """The measurement at these parameters, to be timed: nothing in it compiles or converts parameters."""

    def by_arpack(self, product: Callable[[Vector], Vector]) -> Found:
        """ARPACK from the random vector on a product that is counted."""
        calls: list[None] = []

        def counted(v: Vector) -> Vector:
            calls.append(None)
            return product(v.ravel())

        operator = LinearOperator((self.dim, self.dim), matvec=counted, dtype=np.float32)
        values = eigsh(operator, k=1, which="LA", tol=TOLERANCE, v0=self.start)[0]
        return Found(float(values[0]), len(calls))


class Eos(Solver):
    """Ours."""

    name = OURS
    is_warm = True

    def __init__(self, preset: Preset) -> None:
        super().__init__(preset)
        accuracy = Accuracy(TOLERANCE, MAX_PRODUCTS)
        operator = sharpness.hessian(preset.problem)
        self._meter = EigenMeter(operator, preset.model.params, x=preset.x, y=preset.y, top_k=1, accuracy=accuracy)
        self._meter.program.wait()
        self._last = self._meter.start
        self._count = 0

    def prepared(self, params: PyTree[Array]) -> Callable[[], Found]:
        """Warm-started from the last measurement."""
        self._count += 1
        key = jax.random.key(self._count)

        def measure() -> Found:
            found, self._last = self._meter.measure(params, self._last, key)
            return Found(found.values[0], found.num_products)

        return measure


class Arpack(Solver):
    """SciPy's ARPACK on the JAX product."""

    name = "scipy eigsh, JAX"

    def __init__(self, preset: Preset) -> None:
        super().__init__(preset)
        self._product = jax.jit(lambda params, x, y, v: operators.hessian(preset.problem, params, x=x, y=y)[1](v))
        self._product(preset.model.params, preset.x, preset.y, self.start).block_until_ready()

    def prepared(self, params: PyTree[Array]) -> Callable[[], Found]:
        """From a random vector."""
        x, y = self.preset.x, self.preset.y
        return lambda: self.by_arpack(lambda v: np.asarray(self._product(params, x, y, v)))


class Lobpcg(Solver):
    """JAX's LOBPCG."""

    name = "jax lobpcg"
    is_warm = True

    def __init__(self, preset: Preset) -> None:
        super().__init__(preset)
        self._last: Array = jnp.asarray(self.start)[:, None]
        self._program = Program(self._solve, preset.model.params, preset.x, preset.y, self._last)
        self._program.wait()

    def prepared(self, params: PyTree[Array]) -> Callable[[], Found]:
        """Warm-started from the last eigenvector; a turn takes four products, and one comes before the first."""

        def measure() -> Found:
            values, self._last, turns = self._program(params, self.preset.x, self.preset.y, self._last)
            return Found(float(values[0]), 1 + 4 * int(turns))

        return measure

    def _solve(self, params: PyTree[Array], x: Array, y: Array, start: Array) -> tuple[Array, Array, Array]:
        _, product = operators.hessian(self.preset.problem, params, x=x, y=y)
        # It stops at |r| < tol * 10 dim (|A v| + value), in which the bracket is twice the value.
        found: tuple[Array, Array, Array] = lobpcg_standard(
            jax.vmap(product, in_axes=1, out_axes=1), start, m=MAX_PRODUCTS // 4, tol=TOLERANCE / (20 * self.dim)
        )
        return found


class Matfree(Solver):
    """matfree's Lanczos."""

    name = "matfree Lanczos"

    def begin(self, params: PyTree[Array]) -> None:
        """Find how many steps it takes to come within the tolerance of many steps, and compile that many."""
        from matfree import decomp, eig

        arguments = params, self.preset.x, self.preset.y, self.start

        def tridiagonal(params: PyTree[Array], x: Array, y: Array, start: Array) -> Array:
            matrix: Array = decomp.tridiag_sym(LONGEST)(operators.hessian(self.preset.problem, params, x=x, y=y)[1], start)[1]
            return matrix

        full = np.asarray(jax.jit(tridiagonal)(*arguments), np.float64)
        tops = np.array([np.linalg.eigvalsh(full[:size, :size])[-1] for size in range(1, LONGEST + 1)])
        self._steps = 1 + int(np.argmax(tops >= (1 - TOLERANCE) * tops[-1]))

        def solve(params: PyTree[Array], x: Array, y: Array, start: Array) -> tuple[Array, Array]:
            solver = eig.eigh_partial(decomp.tridiag_sym(self._steps))
            found: tuple[Array, Array] = solver(operators.hessian(self.preset.problem, params, x=x, y=y)[1], start)
            return found

        self._program = Program(solve, *arguments)
        self._program.wait()

    def prepared(self, params: PyTree[Array]) -> Callable[[], Found]:
        """From a random vector, with the phase's number of steps."""
        return lambda: Found(float(self._program(params, self.preset.x, self.preset.y, self.start)[0].max()), self._steps)


class Torch(Solver):
    """Double backward in PyTorch, under SciPy's ARPACK."""

    name = AGAINST
    keeps_graph = False

    def __init__(self, preset: Preset) -> None:
        super().__init__(preset)
        from torch_twin import Twin

        self._twin = Twin(preset)
        self._twin.load(preset.model.params)
        self._twin.check(self._twin.product, preset.model.params)

    def prepared(self, params: PyTree[Array]) -> Callable[[], Found]:
        """From a random vector."""
        self._twin.load(params)

        def measure() -> Found:
            gradient = self._twin.gradient() if self.keeps_graph else None
            return self.by_arpack(lambda v: self._twin.product(v, gradient=gradient))

        return measure


class TorchKept(Torch):
    """The same on one graph."""

    name = f"{AGAINST}, kept"
    keeps_graph = True


class Curvlinops(Solver):
    """curvlinops, under SciPy's ARPACK."""

    name = "curvlinops eigsh"

    def __init__(self, preset: Preset) -> None:
        super().__init__(preset)
        from torch_twin import Twin

        self._twin = Twin(preset)
        self._twin.load(preset.model.params)
        self._twin.check(self._operator(), preset.model.params)

    def prepared(self, params: PyTree[Array]) -> Callable[[], Found]:
        """From a random vector."""
        self._twin.load(params)
        return lambda: self.by_arpack(self._operator())

    def _operator(self) -> Callable[[Vector], Vector]:
        from curvlinops import HessianLinearOperator
        from torch import nn

        twin = self._twin
        data = [(twin.x, twin.y)]
        # Its mean is over examples and outputs, ours half the sum over outputs.
        scale = np.float32(twin.y.shape[1] / 2)
        found = HessianLinearOperator(twin.net, nn.MSELoss(), twin.parameters, data, check_deterministic=False).to_scipy(np.float32)
        return lambda v: scale * (found @ v)


SOLVERS: dict[type[Solver], tuple[str, ...]] = {
    Eos: (),
    Arpack: (),
    Lobpcg: (),
    Matfree: ("matfree",),
    Torch: ("torch",),
    TorchKept: ("torch",),
    Curvlinops: ("torch", "curvlinops"),
}
"""Each solver and the libraries that it needs beside ours."""


class Reference:
    """The sharpness in float64."""

    def __init__(self, task: Task, data_dir: str | None) -> None:
        with jax.enable_x64(True):
            preset = self._preset = Preset(spec_of(task.preset, data_dir=data_dir, precision="float64"))
            self._product = jax.jit(lambda params, x, y, v: operators.hessian(preset.problem, params, x=x, y=y)[1](v))

    def value(self, params: PyTree[Array]) -> float:
        """By ARPACK from a random vector."""
        dim = self._preset.model.num_params
        with jax.enable_x64(True):
            exact = converted(params, "float64")
            operator = LinearOperator(
                (dim, dim),
                matvec=lambda v: np.asarray(self._product(exact, self._preset.x, self._preset.y, v.ravel())),
                dtype=np.float64,
            )
            start = np.random.default_rng(1).standard_normal(dim)
            values = eigsh(operator, k=1, which="LA", tol=REFERENCE_TOLERANCE, v0=start, return_eigenvectors=False)
        return float(values[0])


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


def available(preset: Preset) -> list[Solver]:
    """The solvers whose libraries are there."""
    return [make(preset) for make, needs in SOLVERS.items() if not missing(needs)]


def missing(needs: tuple[str, ...]) -> list[str]:
    """Those of these libraries that are not installed."""
    return [name for name in needs if importlib.util.find_spec(name) is None]


def phase_rows(task: Task, phase: str, *, points: int, training: Training, solvers: list[Solver], reference: Reference) -> list[Row]:
    """Train on to the phase, and let the solvers measure in turn at each of its points."""
    first = task.phases[phase]
    for step in range(max(training.step, first - WARM_UP * EVERY), first, EVERY):
        for solver in solvers:
            if solver.is_warm:
                solver.prepared(training.advance_to(step))()
    for solver in solvers:
        solver.begin(training.advance_to(first))
    found: dict[str, list[tuple[int, float, float]]] = {solver.name: [] for solver in solvers}
    exacts = []
    for point in range(points):
        params = training.advance_to(first + point * EVERY)
        exacts.append(reference.value(params))
        turn = point % len(solvers)
        for solver in solvers[turn:] + solvers[:turn]:
            measure = solver.prepared(params)
            began = time.perf_counter()
            value, products = measure()
            seconds = time.perf_counter() - began
            found[solver.name].append((products, seconds, abs(value - exacts[-1]) / abs(exacts[-1])))
    ours = [seconds for _, seconds, _ in found[OURS]]
    ratio = statistics.median(exacts) / training.threshold
    return [_row(task.preset, phase, ratio, name, measured=measured, ours=ours) for name, measured in found.items()]


def _row(preset: str, phase: str, ratio: float, solver: str, *, measured: list[tuple[int, float, float]], ours: list[float]) -> Row:
    products, seconds, errors = zip(*measured, strict=True)
    return Row(
        preset=preset,
        phase=phase,
        ratio_to_edge=ratio,
        solver=solver,
        products=statistics.median(products),
        seconds=statistics.median(seconds),
        error=statistics.median(errors),
        largest_error=max(errors),
        times_ours=statistics.median(other / own for other, own in zip(seconds, ours, strict=True)),
    )


def measured(task: Task, *, data_dir: str | None, is_quick: bool) -> tuple[list[Row], dict[str, float]]:
    """All rows of a preset, and the rate of our products beside the machine's."""
    began = time.perf_counter()
    preset = Preset(spec_of(task.preset, data_dir=data_dir))
    training, solvers, reference = Training(preset), available(preset), Reference(task, data_dir)
    rows: list[Row] = []
    for phase in task.phases:
        points = 1 if is_quick else task.points
        rows += phase_rows(task, phase, points=points, training=training, solvers=solvers, reference=reference)
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
