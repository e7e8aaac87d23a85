"""Users' code that a spec names as `package.module:attribute`: found without running it, or imported.

The working folder comes last on the module path, so that a file in it never hides an installed package. Standard
library only.
"""

import difflib
import importlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runners.errors import SpecError


def find(target: str, *, key: str, base: Path | None = None) -> None:
    """Check that the module of `target` exists; runs none of its code.

    Args:
        target: `package.module:attribute`.
        key: The spec's key that holds it, for messages.
        base: The folder that is searched beside Python's module path; the working folder when absent.

    Raises:
        SpecError: If there is no such module.
    """
    module = target.partition(":")[0]
    folder = base or Path.cwd()
    if not _exists(module, folder):
        raise SpecError(
            f'{key} = "{target}": there is no module {module!r}. Expected "package.module:attribute" of a module that Python can '
            f"import: an installed one, or a file in {folder}."
        )


_loaded: set[str] = set()


def has_loaded() -> bool:
    """Whether any users' code has been imported by this process."""
    return bool(_loaded)


def load(target: str, *, key: str) -> Callable[..., Any]:
    """The function or class that `target` names, imported; the working folder joins the end of the module path.

    Args:
        target: `package.module:attribute`.
        key: The spec's key that holds it, for messages.

    Raises:
        SpecError: If there is no such module or attribute, its import raises, or it cannot be called.
    """
    find(target, key=key)
    _loaded.add(target)
    name, _, attribute = target.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        module = importlib.import_module(name)
    except Exception as error:
        raise SpecError(f'{key} = "{target}": the import of {name} raised {type(error).__name__}: {error}') from error
    found = getattr(module, attribute, None)
    if not callable(found):
        close = difflib.get_close_matches(attribute, vars(module), n=1)
        hint = f" Did you mean {close[0]!r}?" if close and close[0] != attribute else ""
        problem = "is not a function or class" if hasattr(module, attribute) else "is not there"
        raise SpecError(f'{key} = "{target}": {attribute!r} {problem} in {getattr(module, "__file__", name)}.{hint}')
    function: Callable[..., Any] = found
    return function


def _exists(module: str, folder: Path) -> bool:
    # importlib.util.find_spec("a.b") would import a; only the top name goes through it.
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top) or importlib.machinery.PathFinder.find_spec(top, [str(folder)])
    if spec is None:
        return False
    locations = [Path(location) for location in spec.submodule_search_locations or ()]
    for depth, part in enumerate(rest, start=1):
        is_last = depth == len(rest)
        if is_last and any((place / f"{part}{suffix}").is_file() for place in locations for suffix in importlib.machinery.all_suffixes()):
            return True
        locations = [place / part for place in locations if (place / part).is_dir()]
    return bool(locations) or not rest
