"""The command that does a run again: the preset nearest to its spec with what differs, or its own resolved spec."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from eos_tui.labels import leaves
from runners import spec_file
from runners.errors import SpecError
from runners.run_folder import RunFolder

MOST = 8
"""Keys that may differ from a preset; with more the run's own spec is shorter."""


def command(folder: RunFolder) -> str:
    """A line that starts the run again from a shell in this folder.

    Args:
        folder: The run.

    Raises:
        SpecError: If its spec is not one.
        OSError: If its spec cannot be read.
    """
    spec = spec_file.from_json(folder.spec.read_bytes())
    wanted = dict(leaves(json.loads(spec_file.to_json(spec))))
    found = [(overrides, preset.name) for preset in spec_file.presets() if (overrides := _overrides(preset.name, wanted)) is not None]
    for overrides, name in sorted(found, key=lambda one: (len(one[0]), one[1])):
        if _gives(name, overrides, wanted):
            return shlex.join(["eos", "run", name, *(part for override in overrides for part in ("--set", override))])
    return shlex.join(["eos", "run", str(folder.spec.absolute())])


def _overrides(preset: str, wanted: Mapping[str, Any]) -> list[str] | None:
    """What has to be overridden of a preset; None where that is too much, or another kind of experiment."""
    base = _resolved(preset, [])
    if base.get("runner") != wanted.get("runner"):
        return None
    changed = [f"{key}={_written(value)}" for key, value in wanted.items() if value is not None and base.get(key) != value]
    return changed if len(changed) <= MOST else None


def _gives(preset: str, overrides: list[str], wanted: Mapping[str, Any]) -> bool:
    """Whether the preset with the overrides is the spec that is wanted."""
    try:
        return _resolved(preset, overrides) == wanted
    except SpecError:
        return False


def _resolved(preset: str, overrides: list[str]) -> dict[str, Any]:
    spec = spec_file.with_absolute_paths(spec_file.load(preset, overrides))
    return dict(leaves(json.loads(spec_file.to_json(spec))))


def _written(value: Any) -> str:
    """The value as `--set` reads it."""
    return value if isinstance(value, str) else json.dumps(value)
