"""Ways to the largest eigenvalue of a preset's Hessian, each as its users would call it; and the float64 reference.

Not a script: `curvature_table.py` compares them, and its docstring describes them.
"""

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.sparse.linalg import lobpcg_standard
from jaxtyping import Array, PyTree
from numpy.typing import NDArray
from presets import Preset, converted, spec_of
from scipy.sparse.linalg import LinearOperator, eigsh

from runners.measure import operators, sharpness
from runners.measure.eigenvalues import Accuracy, EigenMeter
from runners.programs import Program

TOLERANCE = 1e-3
MAX_PRODUCTS = 300
REFERENCE_TOLERANCE = 1e-5
LONGEST = 60
"""Steps of Lanczos among which matfree's number is found."""
OURS, AGAINST = "eos", "torch eigsh"

Vector = NDArray[np.floating]


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

    def begin(self, params: PyTree[Array]) -> None:  # noqa: B027 - a hook, which most do without
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

    def __init__(self, name: str, data_dir: str | None) -> None:
        with jax.enable_x64(True):
            preset = self._preset = Preset(spec_of(name, data_dir=data_dir, precision="float64"))
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


def available(preset: Preset) -> list[Solver]:
    """The solvers whose libraries are there."""
    return [make(preset) for make, needs in SOLVERS.items() if not missing(needs)]


def missing(needs: tuple[str, ...]) -> list[str]:
    """Those of these libraries that are not installed."""
    return [name for name in needs if importlib.util.find_spec(name) is None]
