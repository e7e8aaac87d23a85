"""Where a run crosses an edge of stability, as events. Called by the session with each record that it writes.

A run at an edge oscillates about it, so that a crossing is the first ratio above 1, and again the first above 1 after one below
`BACK`. What an edge is, and which number tells how far it is, the header's panels say.
"""

from collections.abc import Iterable, Iterator, Sequence

from runners.records import AnyRecord, Edge, EventRecord, Panel

BACK = 0.9
"""Ratio below which a run has left its edge: from here on up the screen says that the edge binds."""


class Crossings:
    """Which edges a run is past."""

    def __init__(self, panels: Sequence[Panel], past: Iterable[str] = ()) -> None:
        """Begin, or go on.

        Args:
            panels: The header's.
            past: The names of the edges that the run is past, as far as it has come.
        """
        self._edges: dict[str, list[Edge]] = {}
        self._past = set(past)
        for edge in (panel.edge for panel in panels if panel.edge):
            self._edges.setdefault(edge.ratio.record, []).append(edge)

    @property
    def past(self) -> tuple[str, ...]:
        """The names of the edges that the run is past: all that decides which events are still to come."""
        return tuple(sorted(self._past))

    def crossed(self, record: AnyRecord) -> Iterator[EventRecord]:
        """An event for each edge that this record shows to be crossed."""
        for edge in self._edges.get(str(record.__struct_config__.tag), ()):
            ratio = getattr(record, edge.ratio.field, None)
            if not isinstance(ratio, float):
                continue
            if ratio < BACK:
                self._past.discard(edge.name)
            elif ratio > 1.0 and edge.name not in self._past:
                self._past.add(edge.name)
                message = f"Past the {edge.name} edge, at {ratio:.3g}."
                data = {"edge": edge.name, "ratio": ratio}
                yield EventRecord(step=record.step, time=record.time, event="edge_crossed", message=message, data=data)
