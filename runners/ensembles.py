"""What the runners of simulated models have in common: many runs as one array, and what becomes of it between two records.

The base of `linear_model` and `quadratic_model`. Must not know what is simulated.
"""

import math
import os
import platform
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from runners import environment
from runners.experiments import Simulation
from runners.programs import Program
from runners.records import SCHEMA, AnyRecord, Header, Panel
from runners.run_folder import utc_now
from runners.sampling import Sampling, batch_indices
from runners.session import Clock
from runners.spec import Run, Table

CHUNK_SECONDS = 0.2
"""A chunk aims at this, so that a stop or a pause is answered at once in human terms."""


def batch_weights(
    keys: Key[Array, " paths"], step: Int[Array, ""], *, num_examples: int, batch_size: int, sampling: Sampling
) -> Float[Array, "paths examples"]:
    """The diagonal of S for each path's batch: D / B times how often it has the example, in the default precision.

    Args:
        keys: One for each path.
        step: Updates already applied; may be traced.
        num_examples: D.
        batch_size: B.
        sampling: As in `sampling.batch_indices`.
    """

    def one(key: Key[Array, ""]) -> Array:
        indices = batch_indices(key, step, num_examples=num_examples, batch_size=batch_size, sampling=sampling)
        return jnp.zeros(num_examples).at[indices].add(num_examples / batch_size)

    return jax.vmap(one)(keys)


class Ensemble(ABC):
    """Many simulated runs as one: see `session.Runner` for what the session asks of it."""

    def __init__(
        self,
        spec: Table,
        *,
        run: Run,
        simulation: Simulation,
        updates: Callable[..., PyTree[Array]],
        ensemble: PyTree[Array],
        constants: tuple[PyTree[Array], ...],
    ) -> None:
        """Compile the updates.

        Args:
            spec: What was asked for.
            run: Its table `run`.
            simulation: Its table `simulation`.
            updates: (ensemble, *constants, first, count) -> the ensemble after `count` updates, the first at step `first`.
            ensemble: At step 0.
            constants: What the updates take beside it.
        """
        self.step = 0
        self.steps = run.steps
        self.checkpoint_every = run.checkpoint_every
        self.first_loss: float | None = None
        self.diverged: str | None = None
        self._spec = spec
        self._run = run
        self._record_every = simulation.record_every
        self._ensemble: PyTree = ensemble
        self._constants = constants
        self._chunk = Program(updates, ensemble, *constants, np.int32(0), np.int32(1))
        self._step_seconds = 0.0
        self._recorded_step: int | None = None

    @abstractmethod
    def header(self, run: str) -> Header:
        """The log's first line."""

    @abstractmethod
    def _records(self, clock: Clock) -> Iterator[AnyRecord]:
        """What there is to say of the ensemble at the present step; judges its loss."""

    def measure(self, clock: Clock) -> Iterator[AnyRecord]:
        """Records due at the present step; nothing when called again."""
        is_due = self.step % self._record_every == 0 or self.step == self.steps
        if self.diverged or not is_due or self._recorded_step == self.step:
            return
        yield from self._records(clock)
        self._recorded_step = self.step

    def advance(self, _: Clock) -> Iterable[AnyRecord]:
        """One chunk of updates, at most to the next record or checkpoint; no records, which all belong to `measure`."""
        count = self._chunk_length()
        began = time.perf_counter()
        self._update(np.int32(self.step), np.int32(count))
        self._step_seconds = (time.perf_counter() - began) / count
        self.step += count
        return ()

    def state(self) -> PyTree:
        """The ensemble."""
        return self._ensemble

    def restore(self, state: PyTree, *, step: int, first_loss: float | None) -> None:
        """Go on from a state, at a step whose measurements are done."""
        self._ensemble = state
        self.step, self.first_loss, self._recorded_step = step, first_loss, step

    def _update(self, first: np.int32, count: np.int32) -> None:
        self._ensemble = jax.block_until_ready(self._chunk(self._ensemble, *self._constants, first, count))

    def _header(self, run: str, *, panels: tuple[Panel, ...], **own: Any) -> Header:
        return Header(
            step=0,
            time=0.0,
            schema=SCHEMA,
            run=run,
            runner=str(self._spec.__struct_config__.tag),
            created=utc_now(),
            steps=self.steps,
            spec=msgspec.to_builtins(self._spec),
            panels=panels,
            versions=environment.versions(),
            git=environment.git(),
            device=environment.device(),
            host=platform.node(),
            pid=os.getpid(),
            precision=self._run.precision,
            **own,
        )

    def _judge(self, loss: float, reason: str) -> None:
        """Declare the run diverged if this loss says so, with a sentence for the reason."""
        if self.first_loss is None and math.isfinite(loss):
            self.first_loss = loss
        bound = self._run.divergence_factor * max(1.0, self.first_loss or 0.0)
        if loss <= bound:
            return
        between = f"between steps {self._previous_record(self.step)} and {self.step}" if self.step else "at step 0"
        what = f"{loss:g}, above {bound:g}" if math.isfinite(loss) else f"{loss}"
        self.diverged = f"The loss became {what}, {between}. {reason}. Lower optimizer.lr."

    def _previous_record(self, step: int) -> int:
        """The last step before another that is recorded."""
        return (step - 1) // self._record_every * self._record_every

    def _chunk_length(self) -> int:
        """Updates to the next boundary, or as many as fit the time of a chunk."""
        intervals = (self._record_every, self.checkpoint_every)
        boundary = min([self.steps, *(self.step - self.step % every + every for every in intervals if every)])
        in_time = int(CHUNK_SECONDS / self._step_seconds) if self._step_seconds else 1
        return max(1, min(boundary - self.step, in_time))


def seed_of(own: int | None, common: int) -> int:
    """The seed of a part of the run: its own, else the common one."""
    return common if own is None else own
