"""What a run is, beside its numbers: spec, data, versions, machine, what measuring cost, files, how to run it again.

Called by `eos show` and, through the follower, by the run screen's drawer. Looks at files, so that it is not for the thread that draws.
"""

import json
from collections.abc import Iterator
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeAlias

from msgspec import UNSET

from eos_tui.numerals import NOTHING, format_number, or_nothing
from eos_tui.output import aligned, last_lines, printable
from eos_tui.snapshot import RunSnapshot
from runners.errors import EosError
from runners.records import Header, StepRecord
from runners.run_folder import RunFolder

Paragraph: TypeAlias = tuple[str, str]
"""A title and a text, fit for a terminal; a text without a title belongs to the title before it."""
MAX_LINES = 200
"""Of what the process printed, as far as they are among the bytes that `output` looks at."""
UNITS = ("B", "kB", "MB", "GB", "TB")


def paragraphs(folder: RunFolder, seen: RunSnapshot) -> tuple[Paragraph, ...]:
    """All that there is to say of a run that was read from its log's beginning.

    Args:
        folder: The run.
        seen: As it stands.

    Raises:
        OSError: If its spec is neither in the log nor in the folder.
    """
    found = (("run", _flat(folder.name)), *origin(seen), *cost(seen), *files(folder), ("again", again(folder.path)))
    return *found, *tables(folder, seen), *parameters(seen)


def printed(folder: RunFolder) -> tuple[Paragraph, ...]:
    """The last lines that the run's process printed."""
    lines = last_lines(folder.output, count=MAX_LINES)
    return tuple(("", line) for line in lines) or (("", f"Nothing was printed to {folder.output.name}."),)


def origin(seen: RunSnapshot) -> Iterator[Paragraph]:
    """Where and on what the run runs; nothing before its header."""
    if seen.header:
        yield from ((title, _flat(text)) for title, text in _header(seen.header))


def tables(folder: RunFolder, seen: RunSnapshot) -> Iterator[Paragraph]:
    """The spec, a paragraph a table."""
    for table, keys in spec(folder, seen).items():
        given = (f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in keys.items() if value is not None)
        yield _flat(f"[{table}]"), _flat(", ".join(given))


def parameters(seen: RunSnapshot) -> Iterator[Paragraph]:
    """What the parametrization makes of each parameter, a line each; nothing where the header has none.

    The learning rate is the parameter's own: that of the spec, or of the last step where it has a schedule, times the parameter's factor.
    """
    described = seen.header.parameters if seen.header else UNSET
    if seen.header is None or described is UNSET or not described:
        return
    lr, words = seen.header.spec.get("optimizer", {}).get("lr"), "lr"
    if not isinstance(lr, int | float):
        lr, words = (last.lr, f"lr at step {last.step:,}") if isinstance(last := seen.last.get("step"), StepRecord) else (None, "lr")
    rows = [
        (
            one.name,
            one.role,
            NOTHING if one.fan_in is None else f"{one.fan_in:,}",
            format_number(one.init_std),
            format_number(one.multiplier),
            or_nothing(None if lr is None else lr * one.lr),
        )
        for one in described
    ]
    lines = aligned([("name", "role", "fan-in", "first rms", "multiplier", words), *rows])
    yield from zip_longest(("parameters",), lines, fillvalue="")


def spec(folder: RunFolder, seen: RunSnapshot) -> dict[str, Any]:
    """The resolved spec's tables."""
    tables = seen.header.spec if seen.header else json.loads(folder.spec.read_bytes())
    return {name: table for name, table in tables.items() if isinstance(table, dict)}


def cost(seen: RunSnapshot) -> Iterator[Paragraph]:
    """What each kind of measurement took so far, the dearest first: seconds, their share of the run time, how many."""
    spent = sorted(seen.measured_seconds.items(), key=lambda kind: -kind[1])
    lines = []
    for kind, seconds in spent:
        count = len(found) if (found := seen.traces.get((kind, "seconds"))) else 0
        share = f", {100 * min(seconds / seen.time, 1.0):.1f} %" if seen.time > 0 else ""
        each = f", {_seconds(seconds / count)} each" if count else ""
        lines.append(f"{kind} {_seconds(seconds)}{share}, {count:,} time{'' if count == 1 else 's'}{each}")
    if seen.measuring_share is not None and len(lines) > 1:
        lines.append(f"all {_seconds(sum(seconds for _, seconds in spent))}, {100 * seen.measuring_share:.1f} %")
    yield from zip_longest(("measuring",), lines or ["nothing yet"], fillvalue="")


def files(folder: RunFolder) -> Iterator[Paragraph]:
    """How large the files in the run's folder are."""
    whole = [folder.log, folder.spec, folder.output, folder.control]
    sizes = [f"{path.name} {_bytes(size)}" for path in whole if (size := _size(path)) is not None]
    kept = sorted(path for path in folder.checkpoints.iterdir() if path.name.isdigit()) if folder.checkpoints.is_dir() else []
    if kept:
        size = sum(_size(path) or 0 for path in folder.checkpoints.rglob("*") if path.is_file())
        sizes.append(f"checkpoints {_bytes(size)} ({len(kept)})")
    yield "folder", _flat(str(folder.path.resolve()))
    yield "files", ", ".join(sizes) or "none"


@lru_cache(maxsize=8)
def again(path: Path) -> str:
    """The command that does the run in this folder again, kept, since finding it takes longer than all else here; empty without a spec."""
    # Presets are not needed before the first frame.
    from eos_tui import reproduction

    try:
        return _flat(reproduction.command(RunFolder(path)))
    except (EosError, OSError):
        return ""


def _header(header: Header) -> Iterator[Paragraph]:
    yield "began", f"{header.created} on {header.host}, process {header.pid}"
    yield "device", header.device
    if header.data:
        yield "data", f"{header.data.name} from {header.data.source}: {header.data.num_train:,} to train, {header.data.num_test:,} to test"
        yield "", f"standardization: {header.data.standardization}"
    yield "model", f"{header.num_params:,} parameters, {header.precision}"
    if header.loss_convention:
        yield "loss", header.loss_convention
    if header.threshold_formula:
        yield "edge", f"sharpness = {header.threshold_formula}"
    yield "versions", ", ".join(f"{name} {version}" for name, version in header.versions.items())
    if header.git:
        yield "git", f"{header.git.commit}{', with changes' if header.git.dirty else ''}"


def _flat(text: str) -> str:
    """What came from a log or a file name, in one printable line."""
    return " ".join(printable(text).split())


def _seconds(seconds: float) -> str:
    return f"{format_number(1000 * seconds)} ms" if 0 < seconds < 1 else f"{format_number(seconds)} s"


def _bytes(size: float) -> str:
    """In the unit that leaves one to three digits before the point."""
    unit = 0
    while size >= 1000 and unit + 1 < len(UNITS):
        size, unit = size / 1000, unit + 1
    return f"{size:.0f} {UNITS[unit]}" if unit == 0 or size >= 100 else f"{size:.1f} {UNITS[unit]}"


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
