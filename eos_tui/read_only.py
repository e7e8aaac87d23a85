"""An app that may be told to show and do nothing else, as for a page in a browser that others can open.

Every key, click and link of a Textual app leads to an action. Read-only, the app carries out those that are listed here and refuses
all others, so an action that nobody has thought about is refused.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from textual.app import App
from textual.dom import DOMNode

Result = TypeVar("Result")
HARMLESS: Mapping[str, frozenset[str]] = {
    "App": frozenset({"focus_next", "focus_previous"}),
    "Screen": frozenset({"dismiss"}),
    "Widget": frozenset(
        {
            *("scroll_up", "scroll_down", "scroll_left", "scroll_right", "scroll_home", "scroll_end"),
            *("page_up", "page_down", "page_left", "page_right"),
        }
    ),
    "Input": frozenset(
        {
            *("cursor_left", "cursor_right", "cursor_left_word", "cursor_right_word", "home", "end", "select_all", "submit"),
            *("delete_left", "delete_right", "delete_left_word", "delete_right_word", "delete_left_all", "delete_right_all"),
            *("cut", "copy", "paste"),
        }
    ),
    "EosApp": frozenset({"detach", "leave", "quit"}),
    "HomeScreen": frozenset({"open", "filter", "sort", "reverse", "select", "move", "clear", "compare", "copy", "sweeps", "help"}),
    "CompareScreen": frozenset(
        {
            *("unit", "toggle_ratio", "toggle_scale", "differences", "cursor", "zoom", "pan", "whole", "follow", "smooth", "leave_out"),
            *("alone", "back", "help"),
        }
    ),
    "SweepScreen": frozenset({"move", "open", "compare", "list", "help"}),
    "RunScreen": frozenset(
        {
            *("toggle_scale", "cursor", "zoom", "pan", "whole", "follow", "unit", "smooth"),
            *("zoom_panel", "drawer", "back", "help"),
        }
    ),
}
"""Names of the actions that write nothing and reach nothing outside the app, by the name of the class that defines them. A class that
overrides one has to be listed with it."""


class GuardedApp(App[Result]):
    """Base of an app that may be read-only."""

    read_only = False
    """Refuse every action but the harmless ones, and hide its key."""

    def allows(self, action: str, namespace: DOMNode) -> bool:
        """Whether an action would be carried out.

        Args:
            action: As bindings name it, such as `app.detach` or `cursor(-1)`.
            namespace: The screen or widget whose it is where it does not say so.
        """
        target, name, _ = self._parse_action(action, namespace)
        return not self.read_only or _is_harmless(target, name)

    async def run_action(
        self, action: Any, default_namespace: DOMNode | None = None, namespaces: Mapping[str, DOMNode] | None = None
    ) -> bool:
        """Carry out an action, if it may be.

        Args:
            action: As Textual gives it.
            default_namespace: Whose it is where it does not say so; the app's where None.
            namespaces: Others that it may name.

        Returns:
            Whether something was done.
        """
        if self.read_only:
            target, name, _ = self._parse_action(action, default_namespace or self, namespaces)
            if not _is_harmless(target, name):
                return False
        return await super().run_action(action, default_namespace, namespaces)

    def open_url(self, url: str, *, new_tab: bool = True) -> None:
        """Open an address in a browser; not when read-only."""
        if not self.read_only:
            super().open_url(url, new_tab=new_tab)

    def deliver_text(self, *arguments: Any, **options: Any) -> str | None:
        """Save or send a file; not when read-only."""
        return None if self.read_only else super().deliver_text(*arguments, **options)

    def deliver_binary(self, *arguments: Any, **options: Any) -> str | None:
        """Save or send a file; not when read-only."""
        return None if self.read_only else super().deliver_binary(*arguments, **options)

    def _check_action_state(self, action: str, default_namespace: DOMNode) -> bool | None:
        """What the footer and the keys ask."""
        return super()._check_action_state(action, default_namespace) if self.allows(action, default_namespace) else False


def _is_harmless(target: object, name: str) -> bool:
    """Whether the method that Textual would call is one of those listed."""
    methods = (f"_action_{name}", f"action_{name}")
    for method in methods:
        for kind in type(target).__mro__:
            if method in vars(kind):
                return name in HARMLESS.get(kind.__name__, ())
    return False
