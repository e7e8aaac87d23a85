"""Checkpoints of a run: all that the runner needs to go on with the same bits. Called by the runner process alone.

Orbax writes each one to a temporary folder and renames it when it is whole, so that a checkpoint is complete or
absent, never half.
"""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import msgspec
import numpy as np
import orbax.checkpoint as ocp
from msgspec import Struct, to_builtins

from runners.blocks import Blocks
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
            state: Pytree of arrays and `Blocks`.
        """
        arrays, blocks = _to_dicts(state)
        items: dict[str, Any] = {"progress": ocp.args.JsonSave(to_builtins(progress))}
        # Orbax refuses what is empty.
        items |= {"state": ocp.args.StandardSave(arrays)} if arrays else {}
        items |= {"blocks": _BlocksArgs(blocks)} if blocks else {}
        self._manager.save(progress.step, args=ocp.args.Composite(**items), force=True)
        self._manager.wait_until_finished()

    def restore(self, like: Any) -> tuple[Progress, Any] | None:
        """The newest checkpoint, or None when there is none yet.

        Args:
            like: Pytree of arrays and `Blocks` with the structure, shapes and types of the one saved: a freshly built state.

        Returns:
            Where the run stood, and its state. `Blocks` are those of `like`, which have taken on what was saved.

        Raises:
            CheckpointError: If it cannot be read, or its arrays are not those of `like`.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        where = f"{self._manager.directory}/{step}"
        arrays, blocks = _to_dicts(like)
        items: dict[str, Any] = {"progress": ocp.args.JsonRestore()}
        items |= {"state": ocp.args.StandardRestore()} if arrays else {}
        items |= {"blocks": _BlocksArgs(blocks)} if blocks else {}
        try:
            saved = self._manager.restore(step, args=ocp.args.Composite(**items))
        except (ValueError, KeyError, OSError) as error:
            raise CheckpointError(
                f"{where}: the checkpoint cannot be read ({error}). Remove that folder to go on from an earlier one."
            ) from error
        return msgspec.convert(saved.progress, Progress), _unflatten(saved.state if arrays else {}, like, where)

    def close(self) -> None:
        """Wait for what is being written."""
        self._manager.close()


class _BlocksHandler(ocp.CheckpointHandler):  # type: ignore[misc] # Orbax has no types.
    """One `.npy` file for each: they do not fit in memory, where Orbax takes arrays from and puts them."""

    def save(self, directory: "os.PathLike[str]", args: "_BlocksArgs") -> None:
        for name, blocks in args.blocks.items():
            blocks.save(Path(directory) / f"{name}.npy")

    def restore(self, directory: "os.PathLike[str]", args: "_BlocksArgs") -> None:
        for name, blocks in args.blocks.items():
            blocks.load(Path(directory) / f"{name}.npy")


@ocp.args.register_with_handler(_BlocksHandler, for_save=True, for_restore=True)
@dataclass
class _BlocksArgs(ocp.args.CheckpointArgs):  # type: ignore[misc] # The same.
    blocks: dict[str, Blocks]


def _to_dicts(state: Any) -> tuple[dict[str, np.ndarray], dict[str, Blocks]]:
    """The leaves by number, so that nothing depends on how optimizers nest their tuples, but for empty ones: arrays, and blocks."""
    leaves = {f"{index:04d}": leaf for index, leaf in enumerate(jax.tree.leaves(state))}
    blocks = {name: leaf for name, leaf in leaves.items() if isinstance(leaf, Blocks)}
    arrays = {name: np.asarray(leaf) for name, leaf in leaves.items() if name not in blocks}
    return {name: array for name, array in arrays.items() if array.size}, blocks


def _unflatten(saved: dict[str, np.ndarray], like: Any, where: str) -> Any:
    leaves, structure = jax.tree.flatten(like)
    expected = {name: (leaf.shape, leaf.dtype) for name, leaf in _to_dicts(like)[0].items()}
    found = {name: (leaf.shape, leaf.dtype) for name, leaf in saved.items()}
    if found != expected:
        name = next(name for name in sorted({*found, *expected}) if found.get(name) != expected.get(name))
        raise CheckpointError(
            f"{where}: the checkpoint is not of this run's spec: array {name} is {_words(found.get(name))}, "
            f"and the spec asks for {_words(expected.get(name))}."
        )
    return jax.tree.unflatten(structure, [saved.get(f"{index:04d}", leaf) for index, leaf in enumerate(leaves)])


def _words(array: tuple[tuple[int, ...], np.dtype[Any]] | None) -> str:
    return "absent" if array is None else f"{array[1]} of shape {array[0]}"
