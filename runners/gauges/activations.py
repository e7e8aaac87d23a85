"""What the layers give out."""

import time

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from runners.gauges.gauge import At, Gauge, Setting, State
from runners.measure import activations
from runners.measure.activations import Activations
from runners.programs import Program
from runners.records import ActivationsRecord

MOST_EXAMPLES = 256
"""Examples that are looked at: a mean over so many, and over all units, is sure enough."""


class ActivationsGauge(Gauge):
    """Size and change of every layer's outputs."""

    name = "activations"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        # A copy: the training loop takes the memory of what it is given.
        self._first = jax.tree.map(jnp.copy, setting.params)
        self._x = setting.x[:MOST_EXAMPLES]
        self._program = Program(self._measure, setting.params, self._first, self._x)
        self.programs = (self._program,)

    def read(self, at: At, start: State) -> tuple[ActivationsRecord, State]:
        """The record; nothing is random."""
        began = time.perf_counter()
        found = self._program(at.params, self._first, self._x)
        record = ActivationsRecord(
            step=at.step,
            time=at.time,
            sizes={name: float(value) for name, value in found.sizes.items()},
            changes={name: float(value) for name, value in found.changes.items()},
            num_examples=len(self._x),
            seconds=time.perf_counter() - began,
        )
        return record, start

    def _measure(self, params: PyTree[Array], first: PyTree[Array], x: Array) -> Activations:
        assert self.setting.layers is not None
        return activations.activations(self.setting.layers, params, first, x=x)
