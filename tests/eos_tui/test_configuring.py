"""The command that shows, explains and begins the settings."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from eos_tui import keymap, settings
from eos_tui.app import EosApp
from eos_tui.display import Display
from tests.eos_tui.test_cli import eos

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("TEXTUAL_THEME", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "eos" / "config.toml"


def written(path, text):
    path.parent.mkdir()
    path.write_text(text)


def test_it_prints_where_the_file_is_and_no_more(path):
    assert eos("config", "--path").stdout == f"{path}\n"
    assert not path.exists()


def test_it_lists_every_setting_and_every_action_with_what_it_means(path):
    shown = eos("config").stdout

    assert "does not exist; `eos config --init` writes one" in shown
    assert all(f"\n  {name} = " in shown for name in (*Display.__struct_fields__, *settings.RunView.__struct_fields__))
    assert all(f"\n  {entry.name} " in shown and entry.binding.tooltip in shown for entry in keymap.catalog(EosApp))
    assert 'unit = "steps"                default     What the x axis counts; a run that does not know it has steps.' in shown


def test_it_says_where_each_value_is_from(path, monkeypatch):
    written(path, '[display]\nmouse = true\ntheme = "nord"\n[keys]\nrun.stop = "S"\nrun.smooth = ""\n')
    monkeypatch.setenv("TEXTUAL_THEME", "gruvbox")

    shown = eos("config").stdout

    assert re.search(r'theme = "gruvbox" +TEXTUAL_THEME ', shown)
    assert re.search(r"mouse = true +file ", shown)
    assert re.search(r"ascii = \S+ +default ", shown)
    assert re.search(r"run\.stop +S +file ", shown)
    assert re.search(r"run\.smooth +\(none\) +file ", shown)


def test_as_json_it_has_the_same(path):
    written(path, '[keys]\nrun.stop = "ctrl+x,S"\n[views.run.scales]\nloss = "linear"\n')

    document = json.loads(eos("config", "--json").stdout)

    assert (document["path"], document["exists"], document["error"]) == (str(path), True, None)
    stop = next(row for row in document["keys"] if row["id"] == "run.stop")
    assert (stop["keys"], stop["default"], stop["origin"], stop["screen"]) == ("Ctrl+x,S", "s", "file", "run")
    scales = next(row for row in document["settings"] if row["key"] == "scales")
    assert (scales["table"], scales["value"], scales["origin"]) == ("views.run", {"loss": "linear"}, "file")


@pytest.mark.parametrize(
    ("text", "words"), [("nonsense = 1", "nonsense is not a known key"), ('[keys]\nrun.stop = "l"', "the key of run.scale")]
)
def test_a_file_that_is_not_valid_is_said_and_the_defaults_are_shown(path, text, words):
    written(path, text)

    result = eos("config")
    document = json.loads(eos("config", "--json").stdout)

    assert result.exit_code == 2
    assert words in result.stderr
    assert words in document["error"]
    assert re.search(r"run\.stop +s +default", result.stdout)


def test_a_new_file_has_every_default_as_a_comment_and_changes_nothing(path, monkeypatch):
    monkeypatch.setenv("TEXTUAL_THEME", "nord")

    result = eos("config", "--init")

    assert result.stdout == f"{path}\n"
    loaded = settings.read(path)
    assert loaded.settings == settings.Settings()
    assert set(loaded.given) == {"display", "views", "keys"}
    assert "nord" not in path.read_text()


def test_a_new_file_without_its_comment_signs_says_the_defaults(path):
    eos("config", "--init")
    text = re.sub(r"^# (?=[\w.-]+ = (?!\.\.\.))", "", path.read_text(), flags=re.MULTILINE)
    path.write_text(text)

    found = settings.read(path).settings

    assert tomllib.loads(text)["keys"]["run"]["stop"] == "s"
    assert (found.display, found.views) == (Display(), settings.Views())
    assert keymap.checked(found.keys, keymap.catalog(EosApp), label="")
    assert set(found.keys) == {entry.name for entry in keymap.catalog(EosApp)}


def test_the_settings_of_the_page_on_the_terminal_are_valid(path):
    [text] = re.findall(r"^```toml\n(.*?)^```", (ROOT / "docs" / "terminal.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    written(path, text)

    assert eos("config").exit_code == 0


def test_a_file_that_is_there_is_not_written_over(path):
    written(path, "# mine\n")

    result = eos("config", "--init")

    assert result.exit_code == 2
    assert "is there already and stays as it is" in result.stderr
    assert path.read_text() == "# mine\n"


def test_a_folder_that_cannot_be_written_is_said(path):
    path.parent.write_text("")

    result = eos("config", "--init")

    assert result.exit_code == 2
    assert "cannot be written" in result.stderr
