"""The user's settings: what a file may say, what counts, and what writing leaves alone."""

import fcntl
import os
import threading
from pathlib import Path

import msgspec
import pytest

from eos_tui import settings
from eos_tui.display import Display
from eos_tui.memory import Memory
from eos_tui.settings import Loaded, RunView, Settings
from runners.errors import SettingsError

MINE = """\
# what I like
[keys]
run.stop = "S"   # far from the other keys

[views.home]   # the list
sort = "loss"

[display]
mouse = true
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "eos" / "config.toml"


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_without_a_file_the_defaults_count(path):
    assert settings.load(path) == Loaded(path)


def test_a_file_says_only_what_differs_from_the_defaults(path):
    loaded = settings.read(written(path, MINE))

    assert loaded.settings.keys == {"run.stop": "S"}
    assert loaded.settings.views.home == settings.HomeView(sort="loss")
    assert loaded.settings.views.run == RunView()
    assert loaded.settings.display == Display(mouse=True)


@pytest.mark.parametrize("text", ['[keys]\n"run.stop" = "S"', '[keys]\nrun.stop = "S"', '[keys.run]\nstop = "S"', 'keys.run.stop = "S"'])
def test_the_name_of_an_action_may_be_written_as_toml_likes(path, text):
    assert settings.read(written(path, text)).settings.keys == {"run.stop": "S"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[displai]", r"displai is not a known key\. Did you mean 'display'\?"),
        ('[display]\nthem = "nord"', r"display\.them is not a known key\. Did you mean 'theme'\?"),
        ('[display]\nascii = "yes"', r'display\.ascii = "yes": expected true or false\.'),
        ("display = 3", r"display = 3: expected a table\."),
        ('keys = "q"', r'keys = "q": expected a table\.'),
        ("[keys]\nrun.stop = 3", r'keys\.run\.stop = 3: expected text, such as "s"'),
        ("[views.run]\nhidden = [1]", r"views\.run\.hidden = \[1\]: expected a list, each text\."),
        ('[views.run]\nunit = "hours"', r'views\.run\.unit = "hours": expected "examples", "lr x steps", "steps" or "time"\.'),
        ("[views.run]\nsmoothing = 2", r"views\.run\.smoothing = 2: expected a number >= 0 and < 1\."),
        ('[views.run.scales]\nloss = "cubic"', r'views\.run\.scales = {"loss": "cubic"}: expected of each key "linear" or "log"\.'),
        ("[display\n", r"not TOML: .*line 1"),
    ],
)
def test_what_is_wrong_is_said_with_file_key_and_what_was_expected(path, text, words):
    with pytest.raises(SettingsError, match=words):
        settings.read(written(path, text))

    loaded = settings.load(path)
    assert loaded.error.startswith(f"{path}: ")
    assert loaded.settings == Settings()


def test_a_file_that_is_not_text_or_not_readable_is_an_error_and_no_more(path):
    written(path, "").write_bytes(b"\xff\xfe")

    assert "not UTF-8" in settings.load(path).error
    assert "Is a directory" in settings.load(path.parent).error


def test_options_go_before_the_environment_before_the_file_before_the_terminal(path):
    loaded = settings.read(written(path, '[display]\ntheme = "nord"\nascii = false'))

    assert loaded.display({}, terminal={"ascii": True, "mouse": True}) == Display(theme="nord", ascii=False, mouse=True)
    assert loaded.display({"TEXTUAL_THEME": "gruvbox"}).theme == "gruvbox"
    assert loaded.display({"TEXTUAL_THEME": "gruvbox"}, options={"theme": "dracula"}).theme == "dracula"


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({"XDG_CONFIG_HOME": "/etc/xdg"}, Path("/etc/xdg/eos/config.toml")),
        ({"XDG_CONFIG_HOME": "relative"}, Path("~/.config/eos/config.toml").expanduser()),
        ({}, Path("~/.config/eos/config.toml").expanduser()),
    ],
)
def test_the_file_is_where_xdg_says(environ, place):
    assert settings.config_path(environ) == place


def test_writing_keeps_comments_order_and_all_else(path):
    written(path, MINE)

    settings.save(
        path, {("views", "home", "sort"): "age", ("views", "run", "scales", "NTK trace"): "log", ("views", "run", "hidden"): ("loss",)}
    )

    expected = [line for line in MINE.replace('"loss"', '"age"').splitlines() if line]
    assert [line for line in path.read_text().splitlines() if line in expected] == expected
    view = settings.read(path).settings.views.run
    assert view == RunView(scales={"NTK trace": "log"}, hidden=("loss",))


def test_writing_what_is_there_already_touches_nothing(path):
    written(path, MINE)
    before = path.stat()

    settings.save(path, {("views", "home", "sort"): "loss"})

    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_the_first_write_makes_the_folder(path):
    settings.save(path, {("views", "home", "filter"): "lr>0.1"})

    assert settings.read(path).settings.views.home.filter == "lr>0.1"


def test_a_file_that_is_not_toml_is_not_written_over(path):
    written(path, "[views\n")

    with pytest.raises(SettingsError, match="not TOML"):
        settings.save(path, {("views", "home", "filter"): "a"})

    assert path.read_text() == "[views\n"


def test_a_value_where_a_table_should_be_is_an_error_of_the_file(path):
    written(path, "views = 3\n")

    with pytest.raises(SettingsError, match="not TOML that values can be written into"):
        settings.save(path, {("views", "home", "filter"): "a"})

    assert path.read_text() == "views = 3\n"


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(SettingsError, match=r"config\.toml cannot be written"):
        settings.save(tmp_path / "file" / "config.toml", {("views", "home", "filter"): "a"})


def test_without_a_home_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(SettingsError, match="Set XDG_CONFIG_HOME"):
        settings.save(Path("~/.config/eos/config.toml"), {("views", "home", "filter"): "a"})

    assert list(tmp_path.iterdir()) == []


def test_viewers_that_write_at_once_lose_nothing_of_each_other(path):
    keys = [f"panel {number}" for number in range(8)]
    threads = [threading.Thread(target=settings.save, args=(path, {("views", "run", "scales", key): "log"})) for key in keys]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert settings.read(path).settings.views.run.scales == dict.fromkeys(keys, "log")


def test_a_viewer_that_hangs_while_writing_holds_nobody_up(path, monkeypatch):
    monkeypatch.setattr(settings, "LOCK_SECONDS", 0.05)
    written(path, "")
    held = os.open(path.with_name(".config.toml.lock"), os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        settings.save(path, {("views", "home", "filter"): "a"})
    finally:
        os.close(held)

    assert settings.read(path).settings.views.home.filter == "a"


def test_only_single_values_that_differ_are_changes():
    before = Settings()
    view = RunView(scales={"loss": "log"}, unit="time")
    after = msgspec.structs.replace(before, views=settings.Views(run=view))

    assert settings.changes(before, before) == {}
    assert settings.changes(before, after) == {("views", "run", "scales", "loss"): "log", ("views", "run", "unit"): "time"}


def test_what_is_remembered_is_written_at_the_latest_when_the_app_ends(path):
    memory = Memory(settings.load(path))

    memory.remember_run(unit="time")
    memory.remember_home(sort="loss", reverse=False)
    memory.remember_display(theme="nord")
    memory.close()

    found = settings.read(path).settings
    assert (found.views.run.unit, found.views.home.sort, found.views.home.reverse, found.display.theme) == ("time", "loss", False, "nord")


def test_two_viewers_remember_different_things_side_by_side(path):
    one, other = Memory(settings.load(path)), Memory(settings.load(path))

    one.remember_run(scales={"loss": "linear"})
    other.remember_run(scales={"sharpness": "log"})
    one.close()
    other.close()

    assert settings.read(path).settings.views.run.scales == {"loss": "linear", "sharpness": "log"}


def test_what_cannot_be_written_is_said_once_and_still_holds_in_this_app(tmp_path):
    (tmp_path / "file").write_text("")
    said: list[str] = []
    memory = Memory(Loaded(tmp_path / "file" / "config.toml"), failed=said.append)

    memory.remember_run(unit="time")
    memory.close()
    memory.remember_run(unit="examples")
    memory.close()

    assert memory.run.unit == "examples"
    assert len(said) == 1
    assert said[0].startswith("What you choose is not remembered: ")


def test_a_file_that_does_not_count_is_left_alone(path):
    memory = Memory(settings.load(written(path, "nonsense = 1\n")))

    memory.remember_run(unit="time")
    memory.close()

    assert path.read_text() == "nonsense = 1\n"
