"""The words that a run brings with it, made fit for a terminal: they may hold anything, and are shown as text. Pure."""

from typing import TypeVar

from msgspec.structs import replace

from eos_tui.output import one_line
from runners.records import Curve, Header, Panel

Known = TypeVar("Known", Curve, Curve | None)


def cleaned(header: Header) -> Header:
    """The header with panels whose words are single lines; what they are looked up by stays as it is."""
    return replace(header, panels=tuple(map(_panel, header.panels)))


def _panel(panel: Panel) -> Panel:
    return replace(
        panel,
        title=one_line(panel.title),
        remark=one_line(panel.remark),
        unit=one_line(panel.unit),
        series=tuple(map(_curve, panel.series)),
        references=tuple(map(_curve, panel.references)),
        notes=tuple(map(_curve, panel.notes)),
        x=_curve(panel.x),
        error=_curve(panel.error),
        ratio=_curve(panel.ratio),
        edge=replace(panel.edge, name=one_line(panel.edge.name), moved_by=one_line(panel.edge.moved_by)) if panel.edge else None,
    )


def _curve(curve: Known) -> Known:
    return replace(curve, label=one_line(curve.label)) if curve else curve
