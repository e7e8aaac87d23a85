"""A claim's rows as text: a table for a terminal, and a section of a Markdown page. Pure but for what writes files."""

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

import msgspec

from eos_tui.claims.statements import Claim, Row, Runs, listed
from eos_tui.replacing import replacing
from runners.errors import OutputError

COLUMNS = ("holds", "measured", "expected")
VERSIONS = ("eos-tui", "jax")
"""Packages whose versions a page names."""
SMALLEST_WIDTH = 40
"""Of a claim's own column."""
PAGE = """# Claims

What papers say of the edge of stability, checked at the scale of two cores. `eos reproduce` carries the runs out and writes this page:
each row is one statement that could have been false, and one that does not hold stands here with the reason. `measured` is, of several
values, the one that is farthest out; ± is the error of measuring, and of a mean also its standard error. `derived` are statements that
follow from the formulas in [measuring](measuring.md). Seconds are those of the runs that a row needs, which rows share.
"""
"""The page's beginning, for a page that is not there yet."""


def table(rows: Sequence[Row], *, width: int) -> list[str]:
    """The rows as lines of text.

    Args:
        rows: A claim's.
        width: Characters in a line.
    """
    cells = [("yes" if row.holds else "NO", measured(row), row.tolerance) for row in rows]
    widths = [max(map(len, column)) for column in zip(COLUMNS, *cells, strict=True)]
    indent = sum(widths) + 2 * len(widths)
    lines = ["  ".join([*(title.ljust(size) for title, size in zip(COLUMNS, widths, strict=True)), "claim"])]
    for row, row_cells in zip(rows, cells, strict=True):
        text = textwrap.wrap(f"{row.claim} [{row.source}]", max(width - indent, SMALLEST_WIDTH))
        text += textwrap.wrap(f"Why not: {row.why}", max(width - indent, SMALLEST_WIDTH)) if row.why else []
        lines.append("  ".join([*(cell.ljust(size) for cell, size in zip(row_cells, widths, strict=True)), text[0]]))
        lines += [" " * indent + line for line in text[1:]]
    return lines


def measured(row: Row) -> str:
    """The measured number to three digits, with its error where that would show in them; a dash when there is no number."""
    if row.measured is None:
        return "-"
    error = f" ±{row.error:.1g}" if row.error and row.error >= 5e-4 * abs(row.measured) else ""
    return f"{row.measured:.3g}{error}"


def section(claim: Claim, rows: Sequence[Row], runs: Runs, *, machine: str) -> str:
    """The claim's section of a Markdown page, its title included.

    Args:
        claim: The claim.
        rows: What became of its statements.
        runs: The evidence of its runs: date, versions, seconds.
        machine: What the runs were made on.
    """
    headers = [run.snapshot.header for run in runs.values() if run.snapshot.header]
    seconds = sum(run.snapshot.end.wall_seconds for run in runs.values() if run.snapshot.end)
    made = f"{len(runs)} runs, {seconds:.0f} s of run time together, on {machine}"
    if headers:
        newest = max(headers, key=lambda header: header.created)
        versions = [f"{name} {newest.versions[name]}" for name in VERSIONS if name in newest.versions]
        made = ", ".join([made, newest.device, *versions, newest.created[:10]])
    lines = [f"## {claim.name}", "", f"{claim.summary} Source: {claim.source}.", "", f"`eos reproduce {claim.name}`: {made}.", ""]
    lines += ["| holds | claim | measured | expected | source | s |", "|---|---|---|---|---|---|"]
    for row in rows:
        details = f" **Why not:** {row.why}" if row.why else f" *{listed(row.values)}*" if len(row.values) > 1 else ""
        cells = ("yes" if row.holds else "**no**", row.claim + details, measured(row), row.tolerance, row.source, f"{row.seconds:.0f}")
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join([*lines, ""])


def write_json(rows: Sequence[Row], path: Path) -> None:
    """Write the rows as a JSON list.

    Args:
        rows: A claim's.
        path: The file, replaced if it exists.

    Raises:
        OutputError: If it cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(rows), indent=2) + b"\n")


def put_section(page: Path, text: str) -> None:
    """Put a section into a page, in place of the one with the same title; the page is made when it is not there.

    Args:
        page: A Markdown file.
        text: The section, beginning with its `## ` title.

    Raises:
        OutputError: If the page cannot be read or written.
    """
    try:
        content = page.read_text(encoding="utf-8") if page.exists() else PAGE
    except (OSError, UnicodeDecodeError) as error:
        raise OutputError(f"{page}: the page cannot be read ({error}).") from error
    head, *sections = re.split(r"(?m)^(?=## )", content)
    title = text.partition("\n")[0]
    titles = [old.partition("\n")[0] for old in sections]
    kept = [text if old.partition("\n")[0] == title else old for old in sections] + ([] if title in titles else [text])
    with replacing(page) as path:
        path.write_text("\n".join(part.rstrip("\n") + "\n" for part in [head, *kept]), encoding="utf-8")
