"""Descent of a function of a few parameters under measurement: the runner behind `runner = "function"`.

It is a training run with one example, whose output, and whose loss, is the function's value.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from msgspec import UNSET
from msgspec.structs import replace

from runners import imports
from runners.data import Dataset
from runners.errors import SpecError
from runners.experiments import AnyFunction, CustomFunction, Function, Quadratic, Valley
from runners.models import Model
from runners.panels import parameters_panel
from runners.records import AnyRecord, DataDescription, Header, MetricsRecord
from runners.session import Clock
from runners.train import DescentRunner

Value: TypeAlias = Callable[[Float[Array, " dim"]], Float[Array, ""]]


class FunctionRunner(DescentRunner):
    """A run down a function."""

    def __init__(self, spec: Function) -> None:
        """Build the function, compile the updates and the measurements.

        Raises:
            SpecError: If a user's function cannot be used.
        """
        self._every = spec.measure.parameters_every
        self._names = _names(spec.function)
        start = np.asarray(spec.function.start, spec.run.precision)
        value = _value(spec.function, start)

        def apply(params: dict[str, Array], x: Float[Array, "examples 1"]) -> Float[Array, "examples 1"]:
            return jnp.broadcast_to(value(params[PARAMETERS]), (len(x), 1))

        model = Model(apply=apply, params={PARAMETERS: jnp.asarray(start)}, num_params=len(start))
        super().__init__(spec, data=_one_example(start.dtype), model=model)

    def header(self, run: str) -> Header:
        """The log's first line, without what belongs to examples."""
        header = super().header(run)
        panels = (*header.panels, parameters_panel(self._names)) if self._every else header.panels
        absent = dict.fromkeys(("num_examples", "num_measured", "chunk_size", "batch_size", "data"), UNSET)
        return replace(header, panels=panels, **absent)

    def measure(self, clock: Clock) -> Iterator[AnyRecord]:
        """Curvature due at the present step, and the parameters; nothing when called again."""
        if self.diverged or self._measured_step == self.step:
            return
        yield from super().measure(clock)
        if self._is_due(self._every):
            values = np.asarray(self._state.params[PARAMETERS]).tolist()
            yield MetricsRecord(step=self.step, time=clock(), values=dict(zip(self._names, values, strict=True)))

    @property
    def _intervals(self) -> tuple[int, ...]:
        return *super()._intervals, self._every


PARAMETERS = "parameters"
"""The only entry of the pytree of parameters."""


def _names(function: AnyFunction) -> tuple[str, ...]:
    """Of the parameters, in the log."""
    return ("x", "y") if isinstance(function, Valley) else tuple(f"x{index}" for index in range(1, len(function.start) + 1))


def _value(function: AnyFunction, start: Float[np.ndarray, " dim"]) -> Value:
    match function:
        case Quadratic(spectrum=spectrum):
            eigenvalues = np.asarray(spectrum, start.dtype)
            return lambda x: jnp.vdot(eigenvalues * x, x) / 2
        case Valley():
            return lambda x: (1 + x[0] ** 2) * x[1] ** 2
        case CustomFunction():
            return _custom(function, start)


def _custom(function: CustomFunction, start: Float[np.ndarray, " dim"]) -> Value:
    made = imports.load(function.target, key="function.name")

    def value(x: Float[Array, " dim"]) -> Any:
        return made(x, **function.arguments)

    try:
        found = jax.eval_shape(value, jax.ShapeDtypeStruct(start.shape, start.dtype))
    except Exception as error:
        raise SpecError(f"{function.target} raised {type(error).__name__} on {len(start)} parameters: {error}") from error
    shape, dtype = getattr(found, "shape", None), getattr(found, "dtype", None)
    if (shape, dtype) != ((), start.dtype):
        what = f"{dtype} {shape}" if dtype is not None else type(found).__name__
        raise SpecError(f"{function.target} maps {start.dtype} {start.shape} to {what}, expected a single {start.dtype}: shape ().")
    return value


def _one_example(dtype: np.dtype[np.floating]) -> Dataset:
    """What stands for the data: one example, of which nothing depends."""
    described = DataDescription(
        name="function",
        source="none",
        task="regression",
        num_train=1,
        num_test=0,
        input_shape=(1,),
        num_outputs=1,
        standardization="none",
    )
    one, none = np.zeros((1, 1), dtype), np.zeros((0, 1), dtype)
    return Dataset(x=one, y=one, x_test=none, y_test=none, description=described)
