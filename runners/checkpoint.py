"""Checkpoints of a run: all that the runner needs to go on with the same bits. Called by the runner process alone.

Orbax writes each one to a temporary folder and renames it when it is whole, so that a checkpoint is complete or
absent, never half.
"""

import logging
from pathlib import Path
from typing import Any

import jax
import msgspec
import numpy as np
import orbax.checkpoint as ocp
from msgspec import Struct, to_builtins

from runners.errors import CheckpointError

KEEP = 2
"""Checkpoints kept: the newest, and the one before it."""


class Progress(Struct, frozen=True, kw_only=True):
    """Where the run stood, beside its arrays."""

    step: int
    time: float
    """Seconds since the first step, pauses left out."""
    measure_seconds: float
    first_loss: float | None
    log_bytes: int
    """Length of the log when the checkpoint was taken: a resumed run continues it from there."""
    past: tuple[str, ...] = ()
    """Names of the edges that it was past."""


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, folder: Path) -> None:
        logging.getLogger("absl").setLevel(logging.WARNING)
        options = ocp.CheckpointManagerOptions(max_to_keep=KEEP, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def save(self, progress: Progress, state: Any) -> None:
        """Write one, complete when this returns.

        Args:
            progress: Where the run stands.
            state: Pytree of arrays.
        """
        self._manager.save(
            progress.step,
            args=ocp.args.Composite(state=ocp.args.StandardSave(_to_dict(state)), progress=ocp.args.JsonSave(to_builtins(progress))),
            force=True,
        )
        self._manager.wait_until_finished()

    def restore(self, like: Any) -> tuple[Progress, Any] | None:
        """The newest checkpoint, or None when there is none yet.

        Args:
            like: Pytree of arrays with the structure, shapes and types of the one saved: a freshly built state.

        Returns:
            Where the run stood, and its state.

        Raises:
            CheckpointError: If it cannot be read, or its arrays are not those of `like`.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        where = f"{self._manager.directory}/{step}"
        try:
            saved = self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(), progress=ocp.args.JsonRestore()))
        except (ValueError, KeyError, OSError) as error:
            raise CheckpointError(
                f"{where}: the checkpoint cannot be read ({error}). Remove that folder to go on from an earlier one."
            ) from error
        return msgspec.convert(saved.progress, Progress), _unflatten(saved.state, like, where)

    def close(self) -> None:
        """Wait for what is being written."""
        self._manager.close()


def _to_dict(state: Any) -> dict[str, np.ndarray]:
    """The leaves by number, so that nothing depends on how optimizers nest their tuples; orbax refuses empty ones."""
    leaves = (np.asarray(leaf) for leaf in jax.tree.leaves(state))
    return {f"{index:04d}": leaf for index, leaf in enumerate(leaves) if leaf.size}


def _unflatten(saved: dict[str, np.ndarray], like: Any, where: str) -> Any:
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(like)]
    expected = {name: (leaf.shape, leaf.dtype) for name, leaf in _to_dict(like).items()}
    found = {name: (leaf.shape, leaf.dtype) for name, leaf in saved.items()}
    if found != expected:
        name = next(name for name in sorted({*found, *expected}) if found.get(name) != expected.get(name))
        raise CheckpointError(
            f"{where}: the checkpoint is not of this run's spec: array {name} is {_words(found.get(name))}, "
            f"and the spec asks for {_words(expected.get(name))}."
        )
    arrays = [saved.get(f"{index:04d}", leaf) for index, leaf in enumerate(leaves)]
    return jax.tree.unflatten(jax.tree.structure(like), arrays)


def _words(array: tuple[tuple[int, ...], np.dtype[Any]] | None) -> str:
    return "absent" if array is None else f"{array[1]} of shape {array[0]}"
