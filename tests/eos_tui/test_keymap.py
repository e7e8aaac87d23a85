"""Keys: their names, what every binding has to say, and what the user may put where."""

from collections import Counter, defaultdict

import pytest
from textual.binding import Binding

from eos_tui import keymap, keys
from eos_tui.app import EosApp
from runners.errors import SettingsError

BOUND = keymap.catalog(EosApp)
SWALLOWED = {"ctrl+a", "ctrl+b", "ctrl+f", "ctrl+p", "ctrl+w", "ctrl+s", "ctrl+j", "ctrl+k", "ctrl+at", "ctrl+circumflex_accent"}
"""By tmux, screen, VS Code, mosh and flow control."""


def checked(asked: dict[str, str]) -> dict[str, str]:
    return keymap.checked(asked, BOUND, label="config.toml")


def test_every_binding_has_a_name_that_begins_with_its_screen_and_says_what_it_does():
    bindings = [binding for place in (EosApp, *keymap._places()) for binding in vars(place).get("BINDINGS", ())]

    assert bindings
    assert [binding for binding in bindings if not (isinstance(binding, Binding) and binding.tooltip.endswith("."))] == []
    assert [binding for binding in bindings if not (binding.id and binding.id.count(".") == 1)] == []


def test_no_two_bindings_have_the_same_name():
    assert [name for name, count in Counter(entry.name for entry in BOUND).items() if count > 1] == []


def test_no_screen_has_two_actions_on_one_key():
    at = defaultdict(list)
    for entry in BOUND:
        for key in keys.names(entry.binding):
            at[entry.screen, key].append(entry.name)

    assert [names for names in at.values() if len(names) > 1] == []


def test_no_action_is_on_a_key_that_terminals_and_editors_keep_to_themselves():
    taken = {key for entry in BOUND for key in keys.names(entry.binding)}

    assert taken & SWALLOWED == set()
    assert not [key for key in taken if key[0] == "f" and key[1:].isdigit()]


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("?", "question_mark"),
        ("K", "K"),
        ("shift+k", "K"),
        ("Ctrl+X", "ctrl+x"),
        ("Esc", "escape"),
        ("PgUp", "pageup"),
        ("return", "enter"),
        ("+", "plus"),
        ("ctrl+?", "ctrl+question_mark"),
        ("comma", "comma"),
        ("F2", "f2"),
        ("shift+up", "shift+up"),
        ("ü", "ü"),
    ],
)
def test_keys_are_known_by_what_is_typed_and_by_their_names(written, name):
    assert keys.normal(written) == name


@pytest.mark.parametrize("written", ["spcae", "ctrl+ctrl+a", "shift+1", "hyperspace+a", "qq", "ctrl+"])
def test_what_no_key_is_called_is_none(written):
    assert keys.normal(written) is None


@pytest.mark.parametrize("entry", BOUND, ids=lambda entry: entry.name)
def test_keys_as_they_are_shown_can_be_written_into_the_settings(entry):
    written = keys.typed(entry.binding.key)

    assert ",".join(filter(None, map(keys.normal, written.split(",")))) == ",".join(keys.names(entry.binding))


def test_actions_are_put_on_keys_and_taken_off_them():
    assert checked({"run.stop": "S, ctrl+x", "run.smooth": ""}) == {"run.stop": "S,ctrl+x", "run.smooth": keys.NO_KEY}


def test_two_actions_may_change_places():
    assert checked({"run.stop": "l", "run.scale": "s"}) == {"run.stop": "l", "run.scale": "s"}


def test_the_same_key_may_do_different_things_on_different_screens():
    assert checked({"home.delete": "x"}) == {"home.delete": "x"}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"run.sotp": "S"}, r"config\.toml: keys\.run\.sotp: there is no such action\. Did you mean 'run\.stop'\?"),
        ({"run.stop": "spcae"}, r"keys\.run\.stop = \"spcae\": there is no such key\. Did you mean 'space'\?"),
        ({"run.stop": "zzzzzz"}, r"Expected a character, or a name"),
        ({"run.stop": "a,,b"}, r"keys\.run\.stop = \"\": there is no such key"),
        ({"run.stop": "l"}, r"keys\.run\.stop = \"l\": l is the key of run\.scale\. Give one of them another key\."),
        ({"run.leave": "?", "run.help": "q,?"}, r"keys\.run\.help = \"q,\?\": \? is the key of run\.leave"),
        ({"run.stop": ":"}, r": is the key of app\.palette"),
        ({"run.stop": "up"}, r"up is the key of run\.scroll_up"),
        ({"confirm.yes": "ctrl+c"}, r"Ctrl\+c is the key of app\.leave"),
        ({"run.leave": ""}, r"keys\.run\.leave = \"\": expected a key, as there would be no way to leave the viewer\."),
        ({"help.close": " "}, r"expected a key, as there would be no way to close this\."),
        ({"home.help": ""}, r"expected a key"),
    ],
)
def test_keys_that_cannot_be_are_refused_with_what_would_be_right(asked, words):
    with pytest.raises(SettingsError, match=words):
        checked(asked)


def test_a_question_may_use_a_key_that_the_app_has_elsewhere():
    assert checked({"confirm.yes": ":"}) == {"confirm.yes": "colon"}
