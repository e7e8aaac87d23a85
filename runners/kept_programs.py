"""Traced programs kept from one start to the next, each known by all that it follows from, so that none has to be traced again.

jax keeps what it has compiled, and knows it by its operations: a function has to be traced to tell those. Here it is known by the
run's spec and data, the source of this package, the versions of what that stands on, the device, and its place among the programs of
a start. Used by `programs`; the runner process turns it on, and users' own code is left alone.
"""

import functools
import hashlib
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

import jax
import msgspec
from jax import export

from runners import environment, imports

MOST = 2000
"""Programs that are kept; those used longest ago go first. One takes 10 to 60 kB."""


Kept: TypeAlias = tuple[export.Exported, jax.tree_util.PyTreeDef]
"""A traced program from the leaves of its arguments to those of its results, and the structure of the results."""


@dataclass
class Shelf:
    """Where the programs of one start are kept."""

    folder: Path
    known: bytes
    """A digest of what they all follow from."""
    _numbers: Iterator[int] = field(default_factory=count)

    def place(self, function: Any, arguments: tuple[Any, ...]) -> Path:
        """The file of the next program of this start."""
        name = getattr(function, "__qualname__", type(function).__qualname__)
        what = (next(self._numbers), name, jax.eval_shape(lambda *given: given, *arguments))
        return self.folder / hashlib.sha256(self.known + repr(what).encode()).hexdigest()[:32]


_folder: Path | None = None
_shelf: ContextVar[Shelf | None] = ContextVar("shelf", default=None)


def keep_in(folder: Path | None) -> None:
    """Keep programs there, from now on in this process; nowhere when None, which is how a process begins."""
    global _folder
    _folder = folder


@contextmanager
def known_by(*parts: msgspec.Struct) -> Iterator[None]:
    """Inside, the programs follow from these structs and the code of this package, in the order in which they are made.

    Nothing is kept where users' code has been imported, since what that stands on is not known, nor with several devices.
    """
    if _folder is None or imports.has_loaded() or jax.device_count() > 1:
        yield
        return
    token = _shelf.set(Shelf(_folder, hashlib.sha256(_surroundings() + b"".join(map(msgspec.json.encode, parts))).digest()))
    try:
        yield
    finally:
        _shelf.reset(token)


def lowered(
    function: Any, arguments: tuple[Any, ...], *, donate: tuple[int, ...]
) -> tuple[jax.stages.Lowered, jax.tree_util.PyTreeDef] | None:
    """The program for the leaves of its arguments, and the structure of its results; None where it cannot be kept, or none are.

    A program is lowered from what is kept when it has just been traced as well, so that XLA gets the same operations at each start.

    Args:
        function: As for `jax.jit`.
        arguments: Pytrees of arrays or of their shapes.
        donate: Numbers of the arguments whose memory the results may take.
    """
    shelf = _shelf.get()
    if shelf is None:
        return None
    place = shelf.place(function, arguments)
    kept = _load(place) or _trace(function, arguments, place)
    if kept is None:
        return None
    exported, results = kept
    of_leaves = (number for number, argument in enumerate(arguments) for _ in jax.tree.leaves(argument))
    donated = tuple(leaf for leaf, number in enumerate(of_leaves) if number in donate)
    return jax.jit(exported.call, donate_argnums=donated).lower(*jax.tree.leaves(arguments)), results


def _load(place: Path) -> Kept | None:
    """The program that is kept there; None where there is none, or none that can be used."""
    try:
        if place.stat().st_uid != os.getuid():  # in a folder that others write to: a pickle does what it says
            return None
        exported, results = pickle.loads(place.read_bytes())
        os.utime(place)
        return export.deserialize(exported), results
    except Exception:  # a file that was cut short can raise anything, and the program can always be traced again
        return None


def _trace(function: Any, arguments: tuple[Any, ...], place: Path) -> Kept | None:
    """The program, kept at the place; None if it cannot be kept.

    That is where it calls what jax does not answer for in another process, Python among it, and where it holds arrays: they may
    come from the data, of whose numbers the place knows nothing.
    """
    leaves, structure = jax.tree.flatten(arguments)
    trees: list[jax.tree_util.PyTreeDef] = []

    def flat(*leaves: Any) -> list[Any]:
        found, tree = jax.tree.flatten(function(*jax.tree.unflatten(structure, leaves)))
        trees.append(tree)
        return found

    jitted = jax.jit(flat)
    if jitted.trace(*leaves).jaxpr.consts:
        return None
    try:
        exported = export.export(jitted)(*leaves)
    except (NotImplementedError, ValueError):
        return None
    # A full disk or a folder that cannot be written is no reason to end a run.
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        new = place.with_suffix(f".{os.getpid()}")
        new.write_bytes(pickle.dumps((bytes(exported.serialize()), trees[0])))
        new.replace(place)
        _clear(place.parent)
    return exported, trees[0]


def _clear(folder: Path) -> None:
    """Remove what was used longest ago."""
    programs = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in programs[MOST:]:
        path.unlink(missing_ok=True)


@functools.cache
def _surroundings() -> bytes:
    """A digest of what any program of this process follows from beside its run."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    device = jax.devices()[0]
    settings = sorted(jax.config.values.items(), key=str)
    flags = sorted((name, value) for name, value in os.environ.items() if name.startswith(("XLA_", "JAX_")))
    digest.update(repr((environment.versions(), settings, device.platform, device.device_kind, flags)).encode())
    return digest.digest()
