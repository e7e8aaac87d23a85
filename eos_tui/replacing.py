"""Writes a file under a temporary name and renames it when it is whole. Used by the export and the plots."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runners.errors import OutputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write in the body; the file takes the place of `path` after it, and vanishes when the body fails.

    A device or pipe, such as /dev/stdout, is written to as it is. Missing folders are made.

    Args:
        path: What is to be written.

    Yields:
        A path in the same folder.

    Raises:
        OutputError: If `path` is a folder, or cannot be written.
    """
    target = path.resolve()
    if target.is_dir():
        raise OutputError(f"{path} is a folder. Name a file to write.")
    if target.exists() and not target.is_file():
        yield target
        return
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror}). Choose another file.") from error
