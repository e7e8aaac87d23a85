"""Short names that tell several runs apart, for legends. Used by the plots and by what compares runs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from eos_tui.snapshot import RunSnapshot
from runners.run_folder import stem

MAX_KEYS = 3
"""More keys of the spec than this make no label."""


def run_labels(snapshots: Sequence[RunSnapshot]) -> list[str]:
    """A label for each run: what tells their specs apart when that is short, else their names.

    Args:
        snapshots: Of runs that have a header, where they have one.

    Returns:
        As many labels: such as `lr = 0.3`; or the names without time stamp where these differ, else the whole names.
    """
    specs = [dict(leaves(snapshot.header.spec)) if snapshot.header else {} for snapshot in snapshots]
    keys = dict.fromkeys(key for spec in specs for key in spec)
    differing = [key for key in keys if any(spec.get(key) != specs[0].get(key) for spec in specs)]
    by_spec = [", ".join(f"{key.rpartition('.')[2]} = {spec.get(key, 'none')}" for key in differing) for spec in specs]
    if 0 < len(differing) <= MAX_KEYS and len(set(by_spec)) == len(by_spec):
        return by_spec
    short = [stem(snapshot.name) for snapshot in snapshots]
    return short if len(set(short)) == len(short) else [snapshot.name for snapshot in snapshots]


def leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The keys of nested tables, joined by dots, and their values."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
