"""Arrays too large to be held: equal blocks, one after the other in a file, of which one at a time is in memory."""

import math
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Array
from numpy.lib import format as npy

from runners.errors import OutputError

COPIED_BYTES = 2**20
"""At one time."""


class Blocks:
    """Blocks by number, in a file without a name in the system's folder for such: it is gone with the process, however that ends."""

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        """Open the file; all is 0 until it is set.

        Args:
            shape: Number of blocks, then of each.
            dtype: Of the entries.

        Raises:
            OutputError: If there is no room for it.
        """
        self.shape, self.dtype = shape, np.dtype(dtype)
        folder = tempfile.gettempdir()
        free, needed = shutil.disk_usage(folder).free, self._num_bytes
        if needed > free:
            raise OutputError(
                f"{folder}: {free / 2**30:.1f} GiB are free, and {needed / 2**30:.1f} GiB are needed for arrays too large for memory. "
                "Set TMPDIR to a folder with more room, or ask for less."
            )
        self._file = tempfile.TemporaryFile(prefix="eos-")  # noqa: SIM115 - the next line closes it
        weakref.finalize(self, self._file.close)

    def __len__(self) -> int:
        """Number of blocks."""
        return self.shape[0]

    def __getitem__(self, index: int) -> np.ndarray:
        """A copy of a block."""
        block = np.zeros(self.shape[1:], self.dtype)
        self._seek(index)
        self._file.readinto(block.data)
        return block

    def __setitem__(self, index: int, block: Array | np.ndarray) -> None:
        """Replace a block."""
        assert block.shape == self.shape[1:]
        self._seek(index)
        self._file.write(np.ascontiguousarray(block, self.dtype).data)

    def __iter__(self) -> Iterator[np.ndarray]:
        """All blocks, in order."""
        return (self[index] for index in range(len(self)))

    def save(self, path: Path) -> None:
        """Copy them to a file, as NumPy's `.npy` of all blocks."""
        with path.open("wb") as target:
            npy.write_array_header_2_0(target, {"descr": npy.dtype_to_descr(self.dtype), "fortran_order": False, "shape": self.shape})
            self._file.seek(0)
            shutil.copyfileobj(self._file, target, COPIED_BYTES)

    def load(self, path: Path) -> None:
        """Copy them from a file that `save` wrote.

        Raises:
            ValueError: If it is not one of this shape and type, or is cut short.
        """
        with path.open("rb") as source:
            if npy.read_magic(source) != (2, 0):
                raise ValueError(f"{path} is of another version of NumPy's format")
            shape, _, dtype = npy.read_array_header_2_0(source)
            if (shape, dtype) != (self.shape, self.dtype):
                raise ValueError(f"{path} has {dtype} of shape {shape}, and the spec asks for {self.dtype} of shape {self.shape}")
            if os.fstat(source.fileno()).st_size - source.tell() != self._num_bytes:
                raise ValueError(f"{path} is cut short")
            self._file.seek(0)
            shutil.copyfileobj(source, self._file, COPIED_BYTES)

    @property
    def _num_bytes(self) -> int:
        return math.prod(self.shape) * int(self.dtype.itemsize)

    def _seek(self, index: int) -> None:
        if not 0 <= index < len(self):
            raise IndexError(index)
        self._file.seek(index * self._num_bytes // len(self))
