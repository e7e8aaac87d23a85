"""What a gauge is: it joins an estimator of `measure/`, which knows nothing of records, with one kind of record.

Called by `curvature`, which keeps what the gauges start from and gives them their random numbers.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Key, PyTree, Shaped
from msgspec import UNSET

from runners.experiments import Descent
from runners.measure.eigenvalues import METHOD, Accuracy, Eigenvalues
from runners.measure.operators import Problem
from runners.programs import Program
from runners.records import AnyMeasurement

State: TypeAlias = PyTree[Array]
"""What one reading of a gauge leaves to the next."""


class Setting(NamedTuple):
    """What a gauge is made for."""

    spec: Descent
    problem: Problem
    params: PyTree[Array]
    """The first ones; they are taken away once training has begun."""
    x: Shaped[Array, "examples *input"]
    """Inputs of the measured examples."""
    y: Shaped[Array, "examples *target"]
    num_train: int
    """Examples that batches are drawn from."""
    layers: Callable[[Any, Array], dict[str, Array]] | None = None
    """(params, x) -> what each layer gives out; None where there are none."""

    @property
    def accuracy(self) -> Accuracy:
        """What is asked of eigenvalues."""
        return Accuracy(self.spec.measure.tolerance, self.spec.measure.max_hvps)


class At(NamedTuple):
    """Where and when a gauge is read."""

    params: PyTree[Array]
    lr: float
    step: int
    time: float
    key: Key[Array, ""]
    sharpness: Eigenvalues | None
    """That of these parameters, where it has been measured at this step."""
    velocity: Callable[[], PyTree[Array] | None]
    """Gives the optimizer's momentum buffer v at these parameters, if it has one."""


class Gauge(ABC):
    """Measures one quantity on fixed examples; made once, read whenever it is due."""

    name: ClassVar[str]
    """The kind of its records, and with `_every` behind it the key in `[measure]`."""
    start: State
    """What the first reading starts from."""
    programs: tuple[Program[Any], ...]
    """What the readings run."""

    def __init__(self, setting: Setting) -> None:
        """Begin to compile."""
        self.setting = setting
        self.every: int = getattr(setting.spec.measure, f"{self.name}_every")
        """Steps from one reading to the next; 0 for never."""
        self.first_step = 0
        """Before it there is nothing to read."""
        flat = jax.eval_shape(lambda params: ravel_pytree(params)[0], setting.params)
        self.dim, self.dtype = flat.size, flat.dtype
        """Of the flat parameters."""
        self.start = jnp.zeros(0, flat.dtype)
        self.programs = ()

    @abstractmethod
    def read(self, at: At, start: State) -> tuple[AnyMeasurement, State]:
        """The record, and what the next reading starts from."""


def told(found: Eigenvalues) -> dict[str, Any]:
    """The fields of an `Eigenvalue` record but for step, time and examples; lists where there is more than one value."""
    has_several = len(found.values) > 1
    return {
        "value": found.values[0],
        "values": found.values if has_several else UNSET,
        "errors": found.errors if has_several else UNSET,
        "residual": found.residuals[0],
        "error": found.errors[0],
        "num_hvps": found.num_products,
        "converged": found.converged,
        "method": METHOD,
        "seconds": found.seconds,
    }
