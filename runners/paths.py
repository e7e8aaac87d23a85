"""What the runners of SGD's iterates and of the diffusion that stands for them have in common: the problem, its records and panels.

The base of `sde` and `sgd_ensemble`. Many iterates of one least-squares problem go beside each other, each with its own start and draws;
what they do together is held against the expected loss and the tail index that the theory gives for the diffusion.
"""

import math
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Array, Float, Int, Key, PyTree
from msgspec import UNSET

from runners import data
from runners.blocks import Blocks
from runners.ensembles import Ensemble, seed_of
from runners.errors import DataError, SpecError
from runners.experiments import LeastSquaresSpec, Paths
from runners.measure import stable, tails
from runners.measure.operators import full_precision
from runners.programs import Program
from runners.records import AnyRecord, Curve, DataDescription, Edge, EventRecord, Header, MetricsRecord, Panel, StepRecord, TailsRecord
from runners.session import Clock
from runners.theory import homogenized, tail_index, volterra
from runners.theory.homogenized import HomogenizedSgd, LeastSquares

HILL_SHARE = 0.01
"""Of the paths, the largest, that Hill's estimate is from."""
START, DRAWS = 0, 1
"""Sets the random numbers of the starts and of the steps apart."""

BLOCK_BYTES = 2**26
"""Iterates beyond this are kept in a file, in blocks of about it, so that memory does not grow with their number."""
MOST_SAMPLES = 2**20
"""Paths, the first ones, whose tail is looked at: with these the standard error of an index of 3 is 0.3 %, as is the simulation's."""

Update = Callable[[Float[Array, "paths modes"], PyTree[Array], Key[Array, ""]], Float[Array, "paths modes"]]
"""(iterates, constants, the step's key) -> the iterates after it."""


class Problem(NamedTuple):
    """What the iterates descend."""

    matrix: Float[np.ndarray, "examples features"]
    targets: Float[np.ndarray, " examples"]
    description: DataDescription
    modes: LeastSquares
    sgd: HomogenizedSgd


class Seen(NamedTuple):
    """What is looked at of a block's iterates."""

    loss: Float[Array, ""]
    """Mean over the paths."""
    squares: Float[Array, ""]
    """Sum over the paths of the squared difference from it."""
    along: Float[Array, " paths"]
    """Coordinates along the first right singular vector of the data."""


def problem(spec: LeastSquaresSpec) -> Problem:
    """The problem that a spec asks for, read and decomposed.

    Raises:
        SpecError: If it is no problem of least squares in one number, or has no stationary law.
        DataError: If the data cannot be read.
    """
    lr, batch_size = spec.optimizer.lr, spec.optimizer.batch_size
    assert isinstance(lr, int | float)
    assert isinstance(batch_size, int)
    found = data.load(spec.data, seed=seed_of(spec.run.data_seed, spec.run.seed), precision="float64")
    matrix = np.asarray(found.x, np.float64).reshape(len(found.x), -1)
    targets = np.asarray(found.y, np.float64).reshape(len(found.y), -1)
    if targets.shape[1] != 1:
        raise SpecError(f"data: {targets.shape[1]} targets for each example; expected one number, or a class.")
    modes = homogenized.least_squares(matrix, spec.least_squares.target_scale * targets[:, 0])
    if modes.floor == 0 and spec.least_squares.ridge == 0:
        raise SpecError(
            "The examples can be fitted exactly, where the noise vanishes: without ridge there is no stationary law. Expected "
            "least_squares.ridge > 0, or more examples than features and targets with noise."
        )
    sgd = HomogenizedSgd(modes.eigenvalues, float(lr), batch_size=batch_size, ridge=spec.least_squares.ridge)
    return Problem(matrix, spec.least_squares.target_scale * targets[:, 0], found.description, modes, sgd)


class PathsRunner(Ensemble):
    """Iterates beside each other: see `session.Runner` for what the session asks of it."""

    def __init__(self, spec: LeastSquaresSpec, found: Problem, *, update: Update, constants: PyTree[Array], in_steps: bool) -> None:
        """Draw the starts, compile the steps.

        Args:
            spec: What was asked for.
            found: The problem.
            update: One step.
            constants: What it takes beside the iterates.
            in_steps: Whether the expected loss is that of steps, as far as that stays finite, and not of continuous time.
        """
        run, simulation = spec.run, spec.simulation
        self._problem, self._num_paths, self._is_warned = found, simulation.num_paths, False
        num_blocks, shape = _divided(simulation, len(found.modes.eigenvalues), np.dtype(run.precision).itemsize)
        start_key, key = (
            jax.random.key(seed_of(own, run.seed) * 2 + part) for own, part in ((run.init_seed, START), (run.order_seed, DRAWS))
        )
        deviation = spec.least_squares.start
        begin = Program(lambda key, first: self._first(key, first, shape, deviation=deviation, dtype=run.precision), start_key, np.int32(0))
        self._chunks, self._paths = shape[0], shape[0] * shape[1]
        starts = (begin(start_key, np.int32(index * self._chunks)) for index in range(num_blocks))
        block = next(starts)
        super().__init__(
            spec,
            run=run,
            simulation=simulation,
            updates=_stepper(update),
            ensemble=(jnp.int32(0), block),
            constants=(jax.tree.map(lambda array: jnp.asarray(array, run.precision), constants), key),
        )
        self._see = Program(self._seen, block, np.int32(0))
        for program in (self._chunk, self._see):
            program.wait()
        self._ensemble: list[Array] | Blocks = [block]
        if num_blocks > 1:
            self._ensemble = Blocks((num_blocks, *shape), run.precision)
            for index, start in enumerate(chain([block], starts)):
                self._ensemble[index] = start
        begins = found.modes.about(found.sgd.ridge)._replace(variance=deviation**2)
        self._limit_words = _beyond(found.sgd, in_steps=in_steps)
        # In steps K can be above 1 where SGD itself is stable: where one eigenvalue stands out, the kernel counts too much of its noise.
        expected_in_steps = in_steps and volterra.noise_kernel(found.sgd, in_steps=True) < 1
        self._volterra = "Volterra" if expected_in_steps == in_steps else "Volterra, of the diffusion"
        self._expected = volterra.expected_loss(found.sgd, begins, in_steps=expected_in_steps)
        self._bounds, self._exact = tail_index.bounds(found.sgd), self._index()

    @abstractmethod
    def _index(self) -> float | None:
        """The exact tail index of what is simulated, where it is known."""

    @abstractmethod
    def _coordinates(self, paths: Float[Array, "paths modes"]) -> Float[Array, "paths modes"]:
        """Of the iterates, in the eigenbasis of the Hessian, about the solution."""

    @abstractmethod
    def _from_coordinates(self, coordinates: Float[Array, "paths modes"]) -> Float[Array, "paths modes"]:
        """What stands for iterates with these coordinates."""

    def header(self, run: str) -> Header:
        """The log's first line."""
        return self._header(
            run,
            panels=_panels(self._volterra, has_exact=self._exact is not None, has_lower=self._bounds.lower_holds),
            num_params=self._problem.matrix.shape[1],
            num_examples=len(self._problem.matrix),
            batch_size=self._problem.sgd.batch_size,
            loss_convention="1/2 squared residual, mean over examples",
            data=self._problem.description,
        )

    def _update(self, first: np.int32, count: np.int32) -> None:
        for index, block in enumerate(self._ensemble):
            numbered = (jnp.int32(index * self._chunks), block)
            self._ensemble[index] = jax.block_until_ready(self._chunk(numbered, *self._constants, first, count))

    def _records(self, clock: Clock) -> Iterator[AnyRecord]:
        loss, sem, along = self._looked_at()
        yield StepRecord(step=self.step, time=clock(), loss=loss, lr=self._problem.sgd.lr)
        yield MetricsRecord(step=self.step, time=clock(), values=self._expectations() | {"loss_sem": sem})
        if self.step == 0:
            yield EventRecord(step=0, time=clock(), event="theory", message=self._sentence())
        if math.isfinite(loss) and np.ptp(along) > 0:
            try:
                yield self._tails(along, clock)
            except DataError as error:
                yield from self._warning(f"No tail index: {error}", clock)
        self._judge(loss, self._limit_words or f"K is {self._problem.sgd.noise_kernel:.3g}, below 1: its mean has a limit")

    def _warning(self, message: str, clock: Clock) -> Iterator[EventRecord]:
        """The event, once for all steps."""
        if not self._is_warned:
            self._is_warned = True
            yield EventRecord(step=self.step, time=clock(), event="warning", message=message)

    def _looked_at(self) -> tuple[float, float, Float[np.ndarray, " samples"]]:
        """The mean loss, its standard error over the paths, and coordinates of the first paths along the first right singular vector."""
        n = self._num_paths
        counts = [min(self._paths, n - index * self._paths) for index in range(len(self._ensemble))]
        losses, squares = np.zeros(len(counts)), np.zeros(len(counts))
        samples: list[np.ndarray] = []
        room = MOST_SAMPLES
        for index, (block, count) in enumerate(zip(self._ensemble, counts, strict=True)):
            found: Seen = self._see(block, np.int32(count))
            losses[index], squares[index] = found.loss, found.squares
            samples.append(np.asarray(found.along)[: min(count, room)].astype(np.float64))
            room -= len(samples[-1])
        loss = float(np.dot(counts, losses)) / n
        with np.errstate(invalid="ignore"):
            variance = float(np.sum(squares) + np.dot(counts, (losses - loss) ** 2)) / (n - 1)
        return loss, math.sqrt(variance / n), np.concatenate(samples)

    def _expectations(self) -> dict[str, float | None]:
        values: dict[str, float | None] = {"expected_loss": float(self._expected.at(np.array([float(self.step)])).values[0])}
        return values | ({"expected_limit": self._expected.limit} if self._expected.noise_kernel < 1 else {})

    def _sentence(self) -> str:
        """Where the learning rate stands."""
        sgd, bounds = self._problem.sgd, self._bounds
        lower = f"{bounds.lower:.3g} to " if bounds.lower_holds else "at most "
        exact = f", exactly {self._exact:.3g}" if self._exact is not None else ""
        return (
            f"At lr {sgd.lr:g} K is {sgd.noise_kernel:.3g} and lr times the largest eigenvalue {sgd.theta[0]:.3g}; "
            f"the diffusion's tail index is {lower}{bounds.upper:.3g}{exact}." + (f" {self._limit_words}." if self._limit_words else "")
        )

    def _tails(self, along: Float[np.ndarray, " paths"], clock: Clock) -> TailsRecord:
        began = time.perf_counter()
        centred, bounds = along - np.median(along), self._bounds
        fit, hill, stable_fit = tails.student_t(centred), tails.hill(centred, HILL_SHARE), _stable(centred)
        beyond, ranks = tails.survival(centred), tails.quantiles(centred, fit)
        levels = np.array(beyond.levels) / fit.scale
        return TailsRecord(
            step=self.step,
            time=clock(),
            lower=bounds.lower if bounds.lower_holds else UNSET,
            upper=bounds.upper,
            exact=UNSET if self._exact is None else self._exact,
            noise_kernel=self._problem.sgd.noise_kernel,
            index=fit.index if fit.is_bounded else None,
            error=fit.error,
            scale=fit.scale,
            distance=fit.distance,
            stable=stable_fit.index if stable_fit else UNSET,
            stable_distance=stable_fit.distance if stable_fit else UNSET,
            hill=hill.index,
            hill_error=hill.error or 0.0,
            levels=tuple(map(float, np.log10(levels))),
            survival=tuple(map(float, np.log10(beyond.shares))),
            survival_fit=tuple(map(float, np.log10(2 * scipy.special.stdtr(fit.index, -levels)))),
            quantiles=tuple(value / fit.scale for value in ranks.sample),
            quantiles_fit=tuple(value / fit.scale for value in ranks.fit),
            num_paths=len(along),
            seconds=time.perf_counter() - began,
        )

    def _first(
        self, key: Key[Array, ""], first: Int[Array, ""], shape: tuple[int, int, int], *, deviation: float, dtype: str
    ) -> Float[Array, "chunks paths modes"]:
        """Iterates with independent normal entries; those along directions that no example has play no part."""

        def chunk(index: Int[Array, ""]) -> Array:
            draws = deviation * jax.random.normal(jax.random.fold_in(key, index), shape[1:], dtype)
            return self._from_coordinates(draws - jnp.asarray(self._problem.modes.solution, dtype))

        return jnp.asarray(jax.lax.map(chunk, first + jnp.arange(shape[0])))

    @full_precision
    def _seen(self, block: Float[Array, "chunks paths modes"], count: Int[Array, ""]) -> Seen:
        """Of the block's first `count` paths; `along` has the others as well."""
        modes = self._problem.modes

        def chunk(paths: Float[Array, "paths modes"]) -> tuple[Array, Array]:
            flat = self._coordinates(paths)
            return modes.floor + jnp.square(flat) @ jnp.asarray(modes.eigenvalues, flat.dtype) / 2, flat[:, 0]

        losses, along = (found.ravel() for found in jax.lax.map(chunk, block))
        is_there = jnp.arange(len(losses)) < count
        loss = jnp.mean(losses, where=is_there)
        return Seen(loss, jnp.sum(jnp.square(losses - loss), where=is_there), along)


def _stable(samples: Float[np.ndarray, " samples"]) -> stable.Stable | None:
    try:
        return stable.stable(samples)
    except DataError:
        return None


def _beyond(sgd: HomogenizedSgd, *, in_steps: bool) -> str:
    """Which limit of stability this is beyond, of steps or of the diffusion; empty within."""
    if in_steps and sgd.theta[0] >= 2:
        return f"lr times the largest eigenvalue is {sgd.theta[0]:.3g}, from 2 on full-batch gradient descent itself is unstable"
    return f"K is {sgd.noise_kernel:.3g}, from 1 on the loss grows without end" if sgd.noise_kernel >= 1 else ""


def _divided(simulation: Paths, num_modes: int, itemsize: int) -> tuple[int, tuple[int, int, int]]:
    """How many blocks there are, and of each how many chunks of how many paths of how many modes."""
    fitting = max(1, BLOCK_BYTES // (num_modes * itemsize))
    chunks = math.ceil(simulation.num_paths / min(simulation.chunk, fitting))
    paths = math.ceil(simulation.num_paths / chunks)
    blocks = math.ceil(chunks / (fitting // paths))
    return blocks, (math.ceil(chunks / blocks), paths, num_modes)


def _stepper(update: Update) -> Callable[..., Any]:
    """Steps of a block, chunk by chunk, given with the number of its first chunk: each has random numbers of its own."""

    @full_precision
    def run(
        block: tuple[Int[Array, ""], Float[Array, "chunks paths modes"]],
        constants: PyTree[Array],
        key: Key[Array, ""],
        first: Int[Array, ""],
        count: Int[Array, ""],
    ) -> Float[Array, "chunks paths modes"]:
        first_chunk, paths = block

        def chunk(own: tuple[Array, Array]) -> Array:
            index, iterates = own
            keyed = jax.random.fold_in(key, index)
            result: Array = jax.lax.fori_loop(
                0, count, lambda turn, before: update(before, constants, jax.random.fold_in(keyed, first + turn)), iterates
            )
            return result

        return jnp.asarray(jax.lax.map(chunk, (first_chunk + jnp.arange(len(paths)), paths)))

    return run


def _panels(expected: str, *, has_exact: bool, has_lower: bool) -> tuple[Panel, ...]:
    def tail(field: str, label: str) -> Curve:
        return Curve(record="tails", field=field, label=label)

    def metric(field: str, label: str) -> Curve:
        return Curve(record="metrics", field=f"values.{field}", label=label)

    bounds = [tail("lower", "lower bound")] * has_lower + [tail("upper", "upper bound")] + [tail("exact", "exact")] * has_exact
    loss = Panel(
        title="loss",
        scale="log",
        series=(Curve(record="step", field="loss", label="mean of the paths"),),
        references=(metric("expected_loss", expected), metric("expected_limit", "its limit")),
        error=metric("loss_sem", "standard error"),
    )
    index = Panel(
        title="tail index",
        scale="log",
        series=(tail("index", "Student t"), tail("hill", "Hill, 1 %")),
        references=tuple(bounds),
        error=tail("error", "standard error"),
        notes=(tail("noise_kernel", "K"),),
        edge=Edge(name="second moment", ratio=tail("noise_kernel", "K"), moved_by="a larger batch, a smaller lr or more ridge"),
    )
    survival = Panel(
        title="tail",
        unit="log10 of the share beyond",
        series=(tail("survival", "paths"), tail("survival_fit", "Student t")),
        x=tail("levels", "log10 of |x| over the scale"),
    )
    quantiles = Panel(
        title="quantiles",
        series=(tail("quantiles", "paths"), tail("quantiles_fit", "Student t")),
        x=tail("quantiles_fit", "of the fitted Student t"),
        notes=(tail("distance", "KS of t"), tail("stable_distance", "KS of stable")),
    )
    return loss, index, survival, quantiles
