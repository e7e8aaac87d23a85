"""Error and cost of the NTK trace of the presets, at initialisation and after some training steps.

The budget is a standard error of 2 % of the trace at 10 gradients of all measured examples. Each preset is measured exactly and from
probes, both by layer, and from the probes of groups, as models are that cannot be taken by layer. Every measurement has a
gradient timed right before it. Errors are held against the exact trace by layer, which itself is held against the explicit
Jacobian of some of the examples in float64.
Run `python benchmarks/ntk_trace.py [--data FOLDER] [--preset NAME ...] [--steps N] [--repeat N] [--json]`; the CIFAR-10 files are
looked for in FOLDER, else in $EOS_DATA.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import TypeVar
from unittest import mock

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from runners import data, models, objectives, spec_file
from runners.measure import example_gradients, operators
from runners.measure.eigenvalues import Accuracy
from runners.measure.ntk import Asked, NtkMeter
from runners.measure.operators import Problem
from runners.spec import Sgd, Train

Result = TypeVar("Result")
PRESETS = ("digits-gd", "cifar10-fc-tanh", "cifar10-cnn")
ERROR_BUDGET = 0.02
COST_BUDGET = 10.0
REFERENCE_EXAMPLES = 50


@dataclass(frozen=True)
class Measured:
    """The measurements by one method at one point of training; errors are relative to the exact trace."""

    preset: str
    step: int
    method: str
    num_probes: int
    trace: float
    """Exact, by layer."""
    reference_error: float
    """How far that of `REFERENCE_EXAMPLES` examples is from their explicit Jacobian in float64."""
    sem: float
    """As claimed: the median over the repeats; 0 when exact."""
    error: float
    """Root mean square over the repeats."""
    largest_error: float
    """In standard errors."""
    gradients: float
    """Median cost."""

    @property
    def is_within_budget(self) -> bool:
        """Whether both budgets hold."""
        return self.sem <= ERROR_BUDGET and self.gradients <= COST_BUDGET


class Experiment:
    """A preset's problem with its meters, trained by gradient descent."""

    def __init__(self, preset: str, folder: str | None) -> None:
        overrides = [f"data.dir={folder}"] if folder and preset.startswith("cifar10") else []
        self.preset = preset
        spec = spec_file.load(preset, overrides)
        assert isinstance(spec, Train)
        self.spec = spec
        assert isinstance(self.spec.optimizer, Sgd)
        assert isinstance(self.spec.optimizer.lr, float)
        seed = self.spec.run.seed
        examples = data.load(self.spec.data, seed=seed, precision="float32")
        shape, outputs = examples.description.input_shape, examples.description.num_outputs
        model = models.build(self.spec.model, input_shape=shape, num_outputs=outputs, seed=seed, dtype="float32")
        objective = objectives.build(self.spec.objective, examples)
        self._x, self._y = jnp.asarray(examples.x), jnp.asarray(examples.y)
        whole = Problem(model.apply, objective, len(self._x))
        chunk_size = operators.choose_chunk_size(whole, model.params, x=self._x, y=self._y)
        self._problem = Problem(model.apply, objective, chunk_size)
        self.params = model.params
        self._gradient = jax.jit(lambda params, x, y: operators.gradient(self._problem, params, x=x, y=y))
        self._lr = self.spec.optimizer.lr
        self._gradient_seconds()  # compiles
        self._exact = self._made("exact", self._x)
        self._few = self._made("exact", self._x[:REFERENCE_EXAMPLES])
        self._meters = [self._exact, self._made("hutchinson", self._x)]
        with mock.patch.object(example_gradients, "by_layer", return_value=None):
            self._meters.append(self._made("hutchinson", self._x))

    def train(self, steps: int) -> None:
        """So many updates."""
        flat, unravel = ravel_pytree(self.params)
        for _ in range(steps):
            flat = flat - self._lr * self._gradient(unravel(flat), self._x, self._y)
        self.params = unravel(flat)

    def measured(self, step: int, repeat: int) -> Iterator[Measured]:
        """The trace by each method with so many keys, and what it cost."""
        exact = self._trace(self._exact)
        reference_error = abs(self._trace(self._few) / self._reference() - 1)
        for meter in self._meters:
            found, costs = [], []
            for key in jax.random.split(jax.random.key(step), repeat):
                gradient = self._gradient_seconds()
                seconds, (one, _) = timed(partial(meter.measure, self.params, meter.start, key))
                found.append(one)
                costs.append(seconds / gradient)
            errors = [abs(one.trace - exact) for one in found]
            sems = [one.sem or 0.0 for one in found]
            yield Measured(
                preset=self.preset,
                step=step,
                method=found[0].method,
                num_probes=found[0].num_probes,
                trace=exact,
                reference_error=reference_error,
                sem=statistics.median(sems) / exact,
                error=statistics.fmean(error**2 for error in errors) ** 0.5 / exact,
                largest_error=max((error / sem for error, sem in zip(errors, sems, strict=True) if sem), default=0.0),
                gradients=statistics.median(costs),
            )

    def _trace(self, meter: NtkMeter) -> float:
        return meter.measure(self.params, meter.start, jax.random.key(0))[0].trace

    def _reference(self) -> float:
        """Mean of |S^T J|^2 over the first examples, from the explicit Jacobian of each in float64."""
        with jax.enable_x64(True):
            flat, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.asarray(leaf, float), self.params))

            @jax.jit
            def squares(flat: Array, x: Array) -> Array:
                def outputs(flat: Array) -> Array:
                    return jnp.asarray(self._problem.apply(unravel(flat), x[None]))

                root = self._problem.objective.output_hessian_root(outputs(flat))[0]
                return jnp.sum((root.T @ jax.jacobian(outputs)(flat)[0]) ** 2)

            return statistics.fmean(float(squares(flat, jnp.asarray(one, float))) for one in self._x[:REFERENCE_EXAMPLES])

    def _gradient_seconds(self) -> float:
        return timed(lambda: jax.block_until_ready(self._gradient(self.params, self._x, self._y)))[0]

    def _made(self, method: Asked, x: Array) -> NtkMeter:
        meter = NtkMeter(
            self._problem,
            self.params,
            x=x,
            method=method,
            num_probes=self.spec.measure.ntk_probes,
            num_eigenvalues=0,
            accuracy=Accuracy(tolerance=1.0, max_products=0),
            with_norms=False,
        )
        meter.program.wait()
        return meter


def timed(function: Callable[[], Result]) -> tuple[float, Result]:
    """Seconds that it took, and its result."""
    began = time.perf_counter()
    result = function()
    return time.perf_counter() - began, result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with CIFAR-10's binary version")
    parser.add_argument("--preset", action="append", choices=PRESETS, help="all when absent")
    parser.add_argument("--steps", type=int, default=150, help="of training before the second point")
    parser.add_argument("--repeat", type=int, default=5, help="measurements at a point")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    if not arguments.json:
        names = f"{'probes':>6}{'trace':>10}{'sem':>8}{'error':>8}{'most':>8}{'cost':>7}{'float64':>9}"
        print(f"{'preset':17}{'step':>5}  {'method':34}{names}")
    found = []
    for preset in arguments.preset or PRESETS:
        for one in measurements(preset, arguments.data, steps=arguments.steps, repeat=arguments.repeat):
            found.append(asdict(one) | {"within_budget": one.is_within_budget})
            if not arguments.json:
                print(row(one), flush=True)
    if arguments.json:
        print(json.dumps({"measured": found}))


def measurements(preset: str, folder: str | None, *, steps: int, repeat: int) -> Iterator[Measured]:
    """At initialisation and after the training steps."""
    experiment = Experiment(preset, folder)
    yield from experiment.measured(0, repeat)
    experiment.train(steps)
    yield from experiment.measured(steps, repeat)


def row(one: Measured) -> str:
    """A line of the table; `most` is the largest error in standard errors, `float64` the error of the exact trace."""
    return (
        f"{one.preset:17}{one.step:>5}  {one.method:34}{one.num_probes:>6}{one.trace:>10.5g}{one.sem:>8.2%}{one.error:>8.2%}"
        f"{one.largest_error:>7.1f}s{one.gradients:>7.1f}{one.reference_error:>9.0e}{'' if one.is_within_budget else '  over budget'}"
    )


if __name__ == "__main__":
    main()
