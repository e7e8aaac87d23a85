"""The command palette: everything that can be done on the screen below it, searched by name. Made from the bindings, like the help."""

from collections.abc import Callable, Coroutine, Iterator
from typing import Any, ClassVar, NamedTuple

from textual import actions
from textual.binding import Binding, BindingType
from textual.command import CommandInput, CommandPalette, DiscoveryHit, Hit, Hits, Provider
from textual.content import Content
from textual.dom import DOMNode

from eos_tui import keys
from eos_tui.widgets.frugal import IS_SUPPORTED, NarrowCompositor

KEY_CELLS = 12
"""The column of keys before the names."""


class Command(NamedTuple):
    """Something that can be done now."""

    keys: str
    name: str
    run: Callable[[], Coroutine[Any, Any, object]]


class Actions(Provider):
    """The actions of the screen's bindings and of the app's, and the themes."""

    async def discover(self) -> Hits:
        """All of them, in the order of the bindings."""
        for command in self._commands():
            yield DiscoveryHit(_line(command, Content(command.name)), command.run, text=command.name)

    async def search(self, query: str) -> Hits:
        """Those whose names have the letters of the query in this order.

        Args:
            query: What was typed.
        """
        matcher = self.matcher(query)
        for command in self._commands():
            if (score := matcher.match(command.name)) > 0:
                yield Hit(score, _line(command, matcher.highlight(command.name)), command.run, text=command.name)

    def _commands(self) -> Iterator[Command]:
        for place in (self.screen, self.app):
            for binding in keys.bindings_of(type(place)):
                space, action, parameters = actions.parse(binding.action)
                target = self.app if space == "app" else place
                if action != "palette" and target.check_action(action, parameters):
                    name = binding.tooltip.partition(". ")[0].rstrip(".")
                    yield Command(keys.on_keys(binding, self.app), name, self._runner(binding.action, place))
        for theme in sorted(self.app.available_themes):
            yield Command("", f"Theme {theme}", self._runner(f"choose_theme({theme!r})", self.app))

    def _runner(self, action: str, place: DOMNode) -> Callable[[], Coroutine[Any, Any, object]]:
        return lambda: self.app.run_action(action, default_namespace=place)


def _line(command: Command, name: Content) -> Content:
    return Content.assemble((f"{command.keys:<{KEY_CELLS}}", "dim"), name)


class Palette(CommandPalette, inherit_bindings=False):
    """Textual's command palette, without what blinks or spins."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "cursor_down", tooltip="The next command.", id="palette.down"),
        Binding("up", "command_list('cursor_up')", tooltip="The command before.", id="palette.up"),
        Binding("pagedown", "command_list('page_down')", tooltip="A page down.", id="palette.page_down"),
        Binding("pageup", "command_list('page_up')", tooltip="A page up.", id="palette.page_up"),
        Binding("escape", "escape", tooltip="Leave without doing anything.", id="palette.close"),
    ]

    def __init__(self) -> None:
        """Offer the actions of the screen that it is opened over."""
        super().__init__([Actions], placeholder="what to do: type letters of it, up and down choose, Enter does it")
        if IS_SUPPORTED:
            self._compositor = NarrowCompositor()

    def on_mount(self) -> None:
        """Let nothing blink."""
        self.query_one(CommandInput).cursor_blink = False
