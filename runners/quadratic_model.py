"""Minibatch training of quadratic models with random second derivatives: the runner behind `runner = "quadratic-model"`.

Several batch sizes train the same draws of the model. How the eigenvalues of the NTK grow under each stands beside what
`theory.sharpening` predicts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from runners.ensembles import Ensemble, batch_weights, seed_of
from runners.experiments import QuadraticModel
from runners.linear_model import spectrum
from runners.measure import noise_kernel
from runners.measure.operators import full_precision
from runners.programs import Program
from runners.records import AnyRecord, Curve, Header, MetricsRecord, Panel, StepRecord
from runners.session import Clock
from runners.sources.synthetic import orthogonal
from runners.spec import Sgd
from runners.theory import sharpening
from runners.theory.sharpening import Linear

MODEL, RESIDUAL = 0, 1
"""Sets the random numbers of the parts of a model apart that have the same seed."""
SIGNS = (1.0, -1.0)
"""Of the second derivatives: each draw is trained with both."""


class Models(NamedTuple):
    """The draws of the model z(theta) = z0 + J theta + Q(theta, theta) / 2, which share J."""

    values: Float[Array, " examples"]
    """Eigenvalues of T = J J^T / D."""
    vectors: Float[Array, "examples examples"]
    jacobian: Float[Array, "examples params"]
    second: Float[Array, "draws examples params params"]
    """Q."""
    residuals: Float[Array, "draws examples"]


class Paths(NamedTuple):
    """The parameters of all simulated runs, and what is predicted of their mean."""

    params: Float[Array, "sizes signs draws params"]
    linear: tuple[Linear, ...]
    """Of each batch size."""


class Seen(NamedTuple):
    """What is to be seen of each draw, the mean over its signs."""

    loss: Float[Array, "sizes draws"]
    largest: Float[Array, "sizes draws"]
    """Largest eigenvalue of T(theta)."""
    first: Float[Array, "sizes draws"]
    """|J(theta)^T w|^2 / D for the first eigenvector w of T(0)."""
    others: Float[Array, "sizes draws"]
    """The mean of the same over the other eigenvectors."""


@dataclass(frozen=True)
class Updates:
    """Simulated updates, and what predicts them, as one program."""

    lr: float
    batch_sizes: tuple[int, ...]

    @full_precision
    def run(self, paths: Paths, models: Models, keys: Key[Array, " draws"], first: Int[Array, ""], count: Int[Array, ""]) -> Paths:
        """The paths after `count` updates, the first at step `first`."""
        result: Paths = jax.lax.fori_loop(0, count, lambda turn, before: self._update(before, models, keys, first + turn), paths)
        return result

    def _update(self, paths: Paths, models: Models, keys: Key[Array, " draws"], step: Int[Array, ""]) -> Paths:
        size = len(models.values)
        weights = jnp.stack(
            [
                batch_weights(keys, step, num_examples=size, batch_size=batch_size, sampling="without_replacement")
                for batch_size in self.batch_sizes
            ]
        )
        jacobians, residuals = _at(paths.params, models)
        gradients = jnp.einsum("bsnip,bsni->bsnp", jacobians, weights[:, None] * residuals) / size
        linear = tuple(
            sharpening.advanced(before, models.values, models.vectors, lr=self.lr, p=variance_factor(size, batch_size))
            for before, batch_size in zip(paths.linear, self.batch_sizes, strict=True)
        )
        return Paths(paths.params - self.lr * gradients, linear)


def variance_factor(num_examples: int, batch_size: int) -> float:
    """The batches' p."""
    return noise_kernel.variance_factor(Sgd(batch_size=batch_size), num_examples)


@full_precision
def seen(params: Float[Array, "sizes signs draws params"], models: Models) -> Seen:
    """What there is to see of the models at these parameters."""
    jacobians, residuals = _at(params, models)
    kernels = jnp.einsum("bsnip,bsnjp->bsnij", jacobians, jacobians) / len(models.values)
    along = jnp.einsum("ia,bsnij,ja->bsna", models.vectors, kernels, models.vectors)
    losses, largest = jnp.mean(jnp.square(residuals), axis=-1) / 2, jnp.linalg.eigvalsh(kernels)[..., -1]
    found = (losses, largest, along[..., 0], jnp.mean(along[..., 1:], axis=-1))
    return Seen(*(jnp.mean(each, axis=1) for each in found))


def _at(
    params: Float[Array, "sizes signs draws params"], models: Models
) -> tuple[Float[Array, "sizes signs draws examples params"], Float[Array, "sizes signs draws examples"]]:
    """Jacobian and residuals."""
    signs = jnp.asarray(SIGNS, params.dtype)[:, None, None, None]
    curved = signs * jnp.einsum("nipq,bsnq->bsnip", models.second, params)
    residuals = models.residuals + params @ models.jacobian.T + jnp.einsum("bsnip,bsnp->bsni", curved, params) / 2
    return models.jacobian + curved, residuals


class QuadraticModelRunner(Ensemble):
    """Simulated runs of quadratic models: see `session.Runner` for what the session asks of it."""

    def __init__(self, spec: QuadraticModel) -> None:
        """Draw the models, compile the updates."""
        run, table = spec.run, spec.quadratic_model
        self._table, self._optimizer = table, spec.optimizer
        self._models = _models(spec)
        keys = jax.random.split(jax.random.key(seed_of(run.order_seed, run.seed)), spec.simulation.num_paths)
        sizes = spec.optimizer.batch_sizes
        params = jnp.zeros((len(sizes), len(SIGNS), spec.simulation.num_paths, table.num_params), run.precision)
        paths = Paths(params, tuple(sharpening.start(self._models.values) for _ in sizes))
        updates = Updates(spec.optimizer.lr, sizes).run
        super().__init__(spec, run=run, simulation=spec.simulation, updates=updates, ensemble=paths, constants=(self._models, keys))
        self._seen = Program(seen, params, self._models)
        for program in (self._chunk, self._seen):
            program.wait()

    def header(self, run: str) -> Header:
        """The log's first line."""
        return self._header(
            run,
            panels=_panels(self._optimizer.batch_sizes),
            num_params=self._table.num_params,
            num_examples=self._table.num_examples,
            loss_convention="1/2 squared residual, mean over examples",
        )

    def _records(self, clock: Clock) -> Iterator[AnyRecord]:
        found = self._seen(self._ensemble.params, self._models)
        losses = np.asarray(found.loss, float).mean(axis=1)
        yield StepRecord(step=self.step, time=clock(), loss=float(losses[0]), lr=self._optimizer.lr)
        values: dict[str, float | None] = {}
        for place, size in enumerate(self._optimizer.batch_sizes):
            values |= self._grown(found, place, size)
        if self.step == 0:
            values |= self._differences(found)
        yield MetricsRecord(step=self.step, time=clock(), values=values)
        self._judge(float(losses.max()), "The quadratic model has left the range where its linear part rules")

    def _grown(self, found: Seen, place: int, size: int) -> dict[str, float | None]:
        """Growth with one batch size, simulated and predicted."""
        start = np.asarray(self._models.values, float)
        first, others = _split(start)
        along, rest = _split(self._predicted(self._ensemble.linear[place]))
        largest, grown, other = (np.asarray(each[place], float) for each in (found.largest, found.first, found.others))
        return {
            f"loss_{size}": float(np.asarray(found.loss[place]).mean()),
            **_mean(f"largest_{size}", largest),
            **_mean(f"growth_{size}", grown - first),
            f"predicted_growth_{size}": along - first,
            **_mean(f"lead_{size}", grown - first - (other - others)),
            f"predicted_lead_{size}": along - first - (rest - others),
        }

    def _predicted(self, linear: Linear) -> Float[np.ndarray, " examples"]:
        table = self._table
        found = sharpening.eigenvalues(
            linear, self._models.values, lr=self._optimizer.lr, num_params=table.num_params, curvature=table.curvature
        )
        return np.asarray(found, float)

    def _differences(self, none: Seen) -> dict[str, float | None]:
        """First and second difference of the first two steps, simulated and predicted."""
        after = [self._chunk(self._ensemble, *self._constants, np.int32(0), np.int32(count)) for count in (1, 2)]
        one, two = (self._seen(paths.params, self._models) for paths in after)
        values: dict[str, float | None] = {}
        for place, size in enumerate(self._optimizer.batch_sizes):
            first, others = ([np.asarray(getattr(each, name)[place], float) for each in (none, one, two)] for name in ("first", "others"))
            values |= _mean(f"first_difference_{size}", first[1] - first[0])
            values |= _mean(f"second_difference_{size}", np.diff(first, 2, axis=0)[0])
            values |= _mean(f"second_difference_lead_{size}", np.diff(np.subtract(first, others), 2, axis=0)[0])
            values |= self._predicted_differences(size)
        return values

    def _predicted_differences(self, size: int) -> dict[str, float | None]:
        models, table, p = self._models, self._table, variance_factor(self._table.num_examples, size)
        lr, params, curvature = self._optimizer.lr, table.num_params, table.curvature
        once = sharpening.first_difference(models.values, lr=lr, p=p, num_params=params, curvature=curvature)
        twice = sharpening.second_difference(models.values, models.vectors, lr=lr, p=p, num_params=params, curvature=curvature)
        first, others = _split(np.asarray(twice, float))
        return {
            f"predicted_first_difference_{size}": float(once),
            f"predicted_second_difference_{size}": first,
            f"predicted_second_difference_lead_{size}": first - others,
        }


def _split(values: Float[np.ndarray, " examples"]) -> tuple[float, float]:
    """The first of the eigenvalues, and the mean of the others."""
    return float(values[0]), float(values[1:].mean())


def _mean(name: str, draws: Float[np.ndarray, " draws"]) -> dict[str, float | None]:
    """The mean over the draws, and its standard error."""
    return {name: float(draws.mean()), f"{name}_sem": float(draws.std(ddof=1) / np.sqrt(len(draws)))}


def _models(spec: QuadraticModel) -> Models:
    run, table, num_draws = spec.run, spec.quadratic_model, spec.simulation.num_paths
    rng = np.random.default_rng([seed_of(run.data_seed, run.seed), MODEL])
    values, size, num_params = spectrum(table), table.num_examples, table.num_params
    vectors, rows = orthogonal(rng, size), orthogonal(rng, num_params)[:size]
    jacobian = np.sqrt(size) * (vectors * np.sqrt(values)) @ rows
    second = np.empty((num_draws, size, num_params, num_params), run.precision)
    for draw in second:
        half = np.sqrt(table.curvature / 2) * rng.standard_normal(draw.shape)
        draw[:] = half + half.swapaxes(1, 2)
    residuals = np.random.default_rng([seed_of(run.init_seed, run.seed), RESIDUAL]).standard_normal((num_draws, size))
    return Models(*(jnp.asarray(array, run.precision) for array in (values, vectors, jacobian, second, residuals)))


def _panels(batch_sizes: tuple[int, ...]) -> tuple[Panel, ...]:
    def curves(name: str, label: str = "") -> tuple[Curve, ...]:
        return tuple(Curve(record="metrics", field=f"values.{name}_{size}", label=f"{label}B {size}") for size in batch_sizes)

    def error(name: str) -> Curve:
        return Curve(record="metrics", field=f"values.{name}_{batch_sizes[0]}_sem", label="standard error")

    return (
        Panel(title="largest NTK eigenvalue", series=curves("largest"), error=error("largest")),
        Panel(
            title="growth along the first eigenvector",
            series=curves("growth"),
            references=curves("predicted_growth", "predicted, "),
            error=error("growth"),
        ),
        Panel(
            title="lead over the others, on average",
            series=curves("lead"),
            references=curves("predicted_lead", "predicted, "),
            error=error("lead"),
        ),
        Panel(title="loss", scale="log", series=curves("loss")),
    )
