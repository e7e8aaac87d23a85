"""Which panels of a run are shown, and in which order. Pure; panels are known by their titles, so that a choice holds for all runs."""

from collections.abc import Sequence
from typing import NamedTuple

from eos_tui.settings import RunView
from runners.records import Panel


class Choice(NamedTuple):
    """A panel in the order in which panels are chosen."""

    title: str
    is_shown: bool


def choices(panels: Sequence[Panel], view: RunView) -> tuple[Choice, ...]:
    """All panels of a run as the view has them; the first is shown where it would show none."""
    titles = list(dict.fromkeys(panel.title for panel in panels))
    known = [title for title in view.order if title in titles]
    order = [*known, *(title for title in titles if title not in known)]
    hidden = set(view.hidden) if set(titles) - set(view.hidden) else set(view.hidden) - set(order[:1])
    return tuple(Choice(title, title not in hidden) for title in order)


def arranged(panels: Sequence[Panel], view: RunView) -> list[Panel]:
    """The panels that are shown, in their order."""
    return [panel for choice in choices(panels, view) if choice.is_shown for panel in panels if panel.title == choice.title]


def remembered(view: RunView, chosen: Sequence[Choice]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What a choice makes of a view: titles that are hidden, and titles in order. Panels that this run does not have stay as they are.

    In the order these keep their places, and the run's own take the other ones as they were chosen.
    """
    titles = [choice.title for choice in chosen]
    hidden = [title for title in view.hidden if title not in titles] + [choice.title for choice in chosen if not choice.is_shown]
    waiting = list(titles)
    order = [waiting.pop(0) if title in titles else title for title in view.order]
    return tuple(hidden), (*order, *waiting)
