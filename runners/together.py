"""Several training runs as one vectorised program: each is a lane of its arrays, and their updates are made side by side.

The program makes nothing but the updates. Measurements, records, checkpoints, requests and the judgement of divergence are each run's
own, by the code, and with the very programs, of a run alone. A lane whose run is over, or paused, stays in the arrays as a copy of
another, and what becomes of it is dropped: so nothing is ever compiled anew, and no number of a run depends on who else is there.
"""

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from runners import optimizers
from runners.programs import Program
from runners.records import SharpnessRecord, StepRecord
from runners.session import PAUSE_POLL_SECONDS, Clock, Session
from runners.sitting import Sitting
from runners.spec import Schedule
from runners.train import Inputs, Loop, State, Targets, TrainRunner, Update


class Own(NamedTuple):
    """What is a lane's own of what the updates follow from."""

    lr: Float[Array | np.ndarray, ""] | None
    """None where a schedule, the same for all, sets it."""
    state: State
    key: Key[Array, ""]
    """Of the order of its examples."""
    first: Int[Array | np.ndarray, ""]
    """The step that it stands at."""


class Lane(TrainRunner):
    """A training run whose updates a `Chunk` makes."""

    def own(self) -> Own:
        """Where it stands."""
        lr = self._spec.optimizer.lr
        rate = None if isinstance(lr, Schedule) else np.asarray(lr, self._spec.run.precision)
        return Own(rate, self._state, self._order_key, np.asarray(self.step, np.int32))

    @property
    def data(self) -> tuple[Inputs, Targets]:
        """All its training examples."""
        return self._x, self._y

    def loop(self, lr: Float[Array | np.ndarray, ""] | None) -> Loop:
        """Its updates at a learning rate, which may be traced."""
        optimizer = optimizers.build(self._table, self._model.params, self._factors, lr=lr)
        return Loop(self._model, self._objective, optimizer, self._table)

    def num_updates(self) -> int:
        """How many updates it can take in one chunk."""
        return self._chunk_length()

    def take(self, state: State, update: Update, *, count: int, seconds: float) -> None:
        """Go to where a chunk has led, in so many updates of so many seconds each; `advance` tells of them."""
        self._state, self._step_seconds = state, seconds
        self._taken = update, count

    def advance(self, clock: Clock) -> Iterator[StepRecord | SharpnessRecord]:
        """The records of the updates that were made last."""
        update, count = self._taken
        yield from self._recorded(update, count, began=clock() - count * self._step_seconds, seconds=self._step_seconds)

    def _programs(self) -> tuple[()]:
        return ()


class Chunk:
    """The updates of all lanes as one program."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        """Compile for these lanes, which `grouping.check` has let pass."""
        self._lanes = tuple(lanes)
        everybody = [lane.data for lane in lanes]
        x, y = everybody[0]
        self._is_shared = all(np.array_equal(x, other) and np.array_equal(y, targets) for other, targets in everybody[1:])
        self._x, self._y = (x, y) if self._is_shared else map(jnp.stack, zip(*everybody, strict=True))
        self._program = Program(self._run, *self._arguments(lanes), np.int32(1))
        self._program.wait()

    def advance(self, lanes: Sequence[Lane]) -> None:
        """Take these lanes on by as many updates as the one that can take fewest."""
        count = min(lane.num_updates() for lane in lanes)
        began = time.perf_counter()
        results = jax.block_until_ready(self._program(*self._arguments(lanes), np.int32(count)))
        seconds = (time.perf_counter() - began) / count
        for lane, (state, update) in zip(self._lanes, results, strict=True):
            if lane in lanes:
                lane.take(state, update, count=count, seconds=seconds)

    def _arguments(self, lanes: Sequence[Lane]) -> tuple[tuple[Own, ...], Inputs, Targets]:
        return tuple((lane if lane in lanes else lanes[0]).own() for lane in self._lanes), self._x, self._y

    def _run(self, owns: tuple[Own, ...], x: Inputs, y: Targets, count: Int[Array, ""]) -> tuple[tuple[State, Update], ...]:
        """Where each lane is after so many updates. Stacked in here: outside it were a dispatch for each array of each lane."""

        def lane(own: Own, x: Inputs, y: Targets) -> tuple[State, Update]:
            return self._lanes[0].loop(own.lr).run(own.state, x, y, own.key, jnp.asarray(own.first), count)

        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *owns)
        data_axis = None if self._is_shared else 0
        results = jax.vmap(lane, in_axes=(0, data_axis, data_axis))(stacked, x, y)
        return tuple(jax.tree.map(lambda leaf, place=place: leaf[place], results) for place in range(len(owns)))


def carry_out(sittings: Sequence[Sitting]) -> None:
    """See runs that train as one program to their ends; one that stops, diverges or fails leaves the others alone."""
    for sitting in sittings:
        sitting.open(Lane)
    going = [sitting for sitting in sittings if sitting.status is None]
    try:
        chunk = Chunk([_lane(sitting) for sitting in going]) if going else None
        while going := [sitting for sitting in going if sitting.status is None]:
            for sitting in going:
                sitting.go_on(Session.due)
            active = [sitting for sitting in going if sitting.status is None and not sitting.is_paused]
            if chunk and active:
                chunk.advance([_lane(sitting) for sitting in active])
                for sitting in active:
                    sitting.go_on(Session.advance)
            elif any(sitting.status is None for sitting in going):
                time.sleep(PAUSE_POLL_SECONDS)
    except Exception as error:
        # What goes wrong in the program that they share ends all of them.
        for sitting in going:
            if sitting.status is None:
                sitting.fail(error)


def _lane(sitting: Sitting) -> Lane:
    assert sitting.session is not None
    assert isinstance(sitting.session.runner, Lane)
    return sitting.session.runner
