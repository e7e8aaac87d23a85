"""A preset's net, loss, examples and optimizer, and the parameters that training reaches: what several benchmarks share.

Not a script of its own.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree
from msgspec.structs import replace

from runners import data, models, objectives, optimizers, spec_file, thresholds
from runners.measure import operators
from runners.measure.operators import Problem
from runners.programs import Program
from runners.spec import Cifar10, Train
from runners.train import MAX_CHUNK_STEPS, Loop, State


class Preset:
    """What a preset trains and measures, in one precision; float64 is for callers in jax's x64 mode."""

    def __init__(self, spec: Train) -> None:
        loaded = data.load(spec.data, seed=spec.run.seed, precision=spec.run.precision)
        described = loaded.description
        self.spec = spec
        self.model = models.build(
            spec.model,
            input_shape=described.input_shape,
            num_outputs=described.num_outputs,
            seed=spec.run.seed,
            dtype=spec.run.precision,
            input_dtype=str(loaded.x.dtype),
        )
        self.objective = objectives.build(spec.objective, loaded)
        self.x, self.y = jax.device_put((loaded.x, loaded.y))
        whole = Problem(self.model.apply, self.objective, len(self.x))
        chunk_size = operators.choose_chunk_size(whole, self.model.params, x=self.x, y=self.y)
        self.problem = Problem(self.model.apply, self.objective, chunk_size)

    def matrix_products(self) -> list[tuple[int, int, int]]:
        """The forward pass as matrix products, a layer each: rows, inputs, outputs; a convolution as one of image patches."""
        kernels = [layer["kernel"].shape for layer in self.model.params.values()]
        shape = self.x.shape
        sizes = []
        for depth, kernel in enumerate(kernels):
            positions = (shape[1] >> depth) * (shape[2] >> depth) if len(kernel) == 4 else 1
            sizes.append((shape[0] * positions, int(np.prod(kernel[:-1])), kernel[-1]))
        return sizes


def spec_of(name: str, *, data_dir: str | None = None, precision: Literal["float32", "float64"] = "float32") -> Train:
    """The preset's spec; the folder counts only for those that read images from one."""
    spec = spec_file.load(name, [])
    assert isinstance(spec, Train)
    table = replace(spec.data, dir=data_dir) if data_dir and isinstance(spec.data, Cifar10) else spec.data
    return replace(spec, data=table, run=replace(spec.run, precision=precision))


class Training:
    """The preset's optimizer at work on its net."""

    def __init__(self, preset: Preset) -> None:
        """Begin to compile."""
        table = preset.spec.optimizer
        optimizer = optimizers.build(table)
        self.step = 0
        self.params: PyTree[Array] = preset.model.params
        self.threshold = thresholds.threshold(table, float(optimizer.lr(0))) or float("nan")
        """The optimizer's edge of the sharpness, at its first learning rate."""
        self._preset = preset
        self._state = optimizer.transformation.init(self.params)
        self._key = jax.random.key(preset.spec.run.seed)
        self._loop = Program(Loop(preset.model, preset.objective, optimizer, table).run, *self._arguments(1))

    def advance_to(self, step: int) -> PyTree[Array]:
        """The parameters after so many updates, which may not be fewer than there are by now."""
        while self.step < step:
            count = min(step - self.step, MAX_CHUNK_STEPS)
            state, _ = self._loop(*self._arguments(count))
            self.params, self._state = state.params, state.opt_state
            self.step += count
        return self.params

    def _arguments(self, count: int) -> tuple[object, ...]:
        return (
            State(self.params, self._state, followed=None, lr=None),
            self._preset.x,
            self._preset.y,
            self._key,
            np.int32(self.step),
            np.int32(count),
        )


def converted(params: PyTree[Array], precision: Literal["float32", "float64"]) -> PyTree[Array]:
    """The same parameters in another precision."""
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), precision), params)
