"""The list of runs: what it says, and what its keys do."""

import json
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from textual.events import Key

from eos_tui import launch
from eos_tui.app import EosApp, once
from eos_tui.runs import RunsWatcher
from eos_tui.screens.ask import AskScreen
from eos_tui.screens.help import HelpScreen
from eos_tui.screens.home import HomeScreen
from eos_tui.screens.run import RunScreen
from eos_tui.widgets.runs_table import age
from runners import spec_file
from runners.run_folder import RunFolder
from tests.eos_tui.fakes import NOW, FakeRun, live, requests
from tests.eos_tui.pilots import screen, settled

LIVE = "digits-sgd-20270115T075000Z-00aa"
OLD = "digits-gd-20270114T080000Z-00bb"
ADAM = "adam-20270115T070000Z-00cc"


def made(runs, name, *, optimizer, lr, created, until=200, end=None, ratio=0.5):
    run = FakeRun(runs, name=name)
    spec = {"optimizer": {"name": optimizer, "lr": lr}, "model": {"name": "mlp", "width": 64}}
    run.folder.spec.write_text(json.dumps(spec))
    run.header(created=created, spec=spec)
    run.progress(range(until))
    run.sharpness(until, 6.667 * ratio)
    if end:
        run.end(until, status=end)
    return run


@pytest.fixture
def runs(surroundings):
    """One that lives and two that have ended."""
    made(surroundings, OLD, optimizer="sgd", lr=0.3, created="2027-01-14T08:00:00Z", end="finished", ratio=1.02)
    made(surroundings, ADAM, optimizer="adam", lr=0.01, created="2027-01-15T07:00:00Z", until=100, end="diverged")
    with live(made(surroundings, LIVE, optimizer="sgd", lr=0.1, created="2027-01-15T07:50:00Z")):
        yield surroundings


def app_of(runs):
    return EosApp(runs, poll_seconds=0, clock=lambda: NOW)


async def look(pilot):
    pilot.app.poll_now()
    return await settled(pilot)


def names(shown):
    """The runs in the order in which they are listed."""
    words = [line.removeprefix(">").replace("•", " ").split() for line in shown.splitlines()]
    return [line[0] for line in words if line and line[0] in ("digits-gd", "digits-sgd", "adam")]


async def test_the_list_says_how_each_run_stands_the_newest_first(runs):
    async with app_of(runs).run_test(size=(120, 20)) as pilot:
        shown = await look(pilot)

    assert "3 runs in" in shown
    assert "1 live" in shown
    assert names(shown) == ["digits-sgd", "adam", "digits-gd"]
    old = next(line for line in shown.splitlines() if "digits-gd" in line)
    assert old.split()[:2] == ["digits-gd", "finished"]
    assert "━━━━━ 1.02" in old
    assert "1 d" in old


async def test_a_run_is_opened_and_q_comes_back_to_the_list(runs):
    async with app_of(runs).run_test(size=(120, 40)) as pilot:
        await look(pilot)
        await pilot.press("down", "enter")
        await pilot.pause()
        opened = pilot.app.screen
        assert isinstance(opened, RunScreen)
        run = await look(pilot)
        await pilot.press("q")
        back = await settled(pilot)

    assert "adam" in run
    assert "diverged" in run
    assert "3 runs in" in back


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "left"),
    [("sgd", ["digits-sgd"]), ("lr>0.05", ["digits-sgd", "digits-gd"]), ("optimizer=adam", ["adam"]), ("status:finished", ["digits-gd"])],
)
async def test_a_filter_holds_while_it_is_typed_and_until_it_is_cleared(runs, typed, left):
    async with app_of(runs).run_test(size=(120, 20)) as pilot:
        await look(pilot)
        await pilot.press("slash", *({">": "greater_than_sign", "=": "equals_sign", ":": "colon"}.get(key, key) for key in typed), "enter")
        filtered = await settled(pilot)
        await pilot.press("escape")
        cleared = await settled(pilot)

    assert names(filtered) == left
    assert len(names(cleared)) == 3


async def test_letters_that_are_keys_of_the_list_are_typed_into_a_filter(runs):
    async with app_of(runs).run_test(size=(120, 20)) as pilot:
        await look(pilot)
        await pilot.press("slash", *"qrsdoOkj")
        shown = await settled(pilot)
        assert pilot.app.is_running

    assert "0 of them: qrsdoOkj" in shown


async def test_a_filter_that_is_none_is_said_and_hides_nothing(runs):
    async with app_of(runs).run_test(size=(120, 20)) as pilot:
        await look(pilot)
        await pilot.press("slash", "l", "r", "greater_than_sign")
        shown = await settled(pilot)

    assert "expected something behind >" in shown
    assert len(names(shown)) == 3


async def test_rows_are_sorted_by_the_next_column_and_the_other_way_round(runs):
    async with app_of(runs).run_test(size=(120, 20)) as pilot:
        await look(pilot)
        await pilot.press("o", "o")
        by_name = names(await settled(pilot))
        await pilot.press("O")
        reversed_ = names(await settled(pilot))

    assert by_name == ["adam", "digits-gd", "digits-sgd"]
    assert reversed_ == by_name[::-1]


async def test_a_run_is_stopped_after_a_yes_and_one_that_has_ended_is_not(runs):
    async with app_of(runs).run_test(size=(120, 20)) as pilot:
        await look(pilot)
        await pilot.press("s", "y")
        asked = await settled(pilot)
        await pilot.press("down", "s")
        refused = await settled(pilot)

    assert requests(SimpleNamespace(folder=RunFolder(runs / LIVE))) == ["stop"]
    assert "asked to stop" in asked
    assert "Nothing to stop" in refused


async def test_runs_that_have_ended_go_to_the_trash_after_a_yes_and_live_ones_stay(runs):
    async with app_of(runs).run_test(size=(120, 20)) as pilot:
        await look(pilot)
        await pilot.press("space", "space", "space", "d")
        question = await settled(pilot)
        await pilot.press("y")
        after = await settled(pilot)

    assert "Delete 2 runs?" in question
    assert names(after) == ["digits-sgd"]
    assert sorted(path.name for path in (runs / "trash").iterdir()) == sorted([ADAM, OLD])


async def test_what_was_stopped_goes_on_and_what_has_diverged_does_not(runs, monkeypatch):
    made(runs, "half-20270115T074000Z-00ee", optimizer="sgd", lr=0.1, created="2027-01-15T07:40:00Z", end="stopped")
    again = []
    monkeypatch.setattr(launch, "restart", lambda folder: again.append(folder.name))
    async with app_of(runs).run_test(size=(120, 20)) as pilot:
        await look(pilot)
        await pilot.press("down", "r")
        asked = await settled(pilot)
        await pilot.press("down", "r")
        refused = await settled(pilot)

    assert again == ["half-20270115T074000Z-00ee"]
    assert "started again" in asked
    assert "Nothing to resume" in refused


async def test_a_no_leaves_everything(runs):
    async with app_of(runs).run_test(size=(120, 20)) as pilot:
        await look(pilot)
        await pilot.press("end", "d", "n")
        shown = await settled(pilot)

    assert len(names(shown)) == 3
    assert not (runs / "trash").exists()


async def test_an_empty_folder_says_how_to_begin(tmp_path):
    async with app_of(tmp_path).run_test(size=(80, 24)) as pilot:
        shown = await look(pilot)

    assert "no runs in" in shown
    assert "`eos run` starts one" in " ".join(shown.split())


@pytest.mark.slow
@pytest.mark.parametrize("size", [(60, 15), (80, 24), (200, 60), (20, 5), (1, 1)])
async def test_the_list_fits_any_terminal(runs, size):
    async with app_of(runs).run_test(size=size) as pilot:
        shown = await look(pilot)
        await pilot.press("down", "down", "space", "up", "pagedown", "home")
        await settled(pilot)

    if size[0] >= 60:
        assert names(shown) == ["digits-sgd", "adam", "digits-gd"]
        assert "0.500" in shown


@pytest.mark.parametrize("known", [("sharpness/edge", "K"), ("sharpness/edge",), ("K",)])
async def test_names_that_are_cut_take_the_room_of_columns_that_say_nothing(tmp_path, known):
    name = "width-256_depth-8_lr-0.125_seed-1"
    run = FakeRun(tmp_path, name=f"{name}-20270115T075000Z-00aa")
    run.header()
    if "K" in known:
        run.ntk(100, 120.0)
    if "sharpness/edge" in known:
        run.sharpness(100, 2.0)
    async with app_of(tmp_path).run_test(size=(80, 24)) as pilot:
        shown = await look(pilot)

    titles = next(line for line in shown.splitlines() if "status" in line).split()
    assert {"sharpness/edge", "K"} & {*titles} == {*known}
    assert (name in shown) == (len(known) == 1)


async def test_what_a_run_is_named_or_says_is_text_and_no_markup(tmp_path):
    FakeRun(tmp_path, name="[bold red]x\x1b]0;title\x07").header()
    async with app_of(tmp_path).run_test(size=(120, 20)) as pilot:
        shown = await look(pilot)

    assert "[bold red]x" in shown
    assert "\x1b" not in shown


async def test_the_help_names_every_key(runs):
    async with app_of(runs).run_test(size=(120, 50)) as pilot:
        await look(pilot)
        await pilot.press("question_mark")
        await pilot.pause()
        assert isinstance(pilot.app.screen, HelpScreen)
        shown = " ".join(screen(pilot).replace("│", " ").split())

    for binding in HomeScreen.BINDINGS:
        assert " ".join(binding.tooltip.split())[:40] in shown


def test_the_list_is_printed_once(runs):
    assert names(once(runs, width=120, height=20)) == ["digits-sgd", "adam", "digits-gd"]


def test_a_list_in_which_nothing_changed_is_not_given_again(runs):
    watcher = RunsWatcher(runs, clock=lambda: NOW)
    first, second = watcher.poll(), watcher.poll()
    FakeRun(runs, name="new-20270115T075500Z-00dd").header()
    third = watcher.poll()

    assert first is not None
    assert second is None
    assert third is not None
    assert len(third) == 4


def test_an_unreadable_log_is_a_row_as_well(runs):
    (runs / OLD / "log.jsonl").write_bytes(b"{nonsense}\n")
    found = RunsWatcher(runs, clock=lambda: NOW).poll()

    assert found is not None
    assert next(run for run in found if run.row.run == OLD).row.status == "unreadable"


async def test_a_run_whose_log_is_unreadable_is_not_counted_as_live(runs):
    (runs / OLD / "log.jsonl").write_bytes(b"{nonsense}\n")
    async with app_of(runs).run_test(size=(120, 20)) as pilot:
        shown = await look(pilot)

    assert "1 live" in shown
    assert "unreadable" in shown


@pytest.mark.parametrize(("seconds", "words"), [(5, "now"), (90, "1 min"), (7300, "2 h"), (200_000, "2 d"), (-5, "now")])
def test_an_age_has_one_unit(seconds, words):
    assert age(datetime.fromtimestamp(NOW - seconds, UTC).isoformat(), NOW) == words


def test_an_age_that_is_not_known_is_a_dash():
    assert age(None, NOW) == "-"


@pytest.mark.slow
async def test_a_run_that_has_ended_is_renamed_and_keeps_its_stamp(runs):
    async with app_of(runs).run_test(size=(120, 20)) as pilot:
        await look(pilot)
        await pilot.press("end", "R")
        await pilot.pause()
        await pilot.press(*["backspace"] * len("digits-gd"), "a", "slash")
        bad = await settled(pilot)
        await pilot.press("enter")
        assert isinstance(pilot.app.screen, AskScreen)
        await pilot.press("backspace", "b", "enter")
        shown = await settled(pilot)

    assert "is not a name for a run" in " ".join(bad.split())
    assert f"{OLD} is called ab now" in shown
    assert (runs / OLD.replace("digits-gd", "ab") / "log.jsonl").is_file()
    assert not (runs / OLD).exists()
    assert any(line.startswith("> ab") for line in shown.splitlines())


async def test_a_run_that_goes_on_is_not_renamed(runs):
    async with app_of(runs).run_test(size=(120, 20)) as pilot:
        await look(pilot)
        await pilot.press("home", "R")
        shown = await settled(pilot)

    assert f"{LIVE} is still running" in shown


async def test_what_is_chosen_is_exported_into_the_folder_that_eos_was_started_in(runs, tmp_path_factory, monkeypatch):
    here = tmp_path_factory.mktemp("here")
    monkeypatch.chdir(here)
    async with app_of(runs).run_test(size=(120, 20)) as pilot:
        await look(pilot)
        await pilot.press("end", "space", "home", "space", "e")
        question = await settled(pilot)
        await pilot.press("l")
        while "Wrote" not in (shown := await settled(pilot)):
            pass

    assert "Export 2 runs" in question
    assert f"2 files in {here}" in " ".join(shown.split())
    assert sorted(path.name for path in here.iterdir()) == sorted([f"{OLD}.jsonl", f"{LIVE}.jsonl"])
    assert (here / f"{OLD}.jsonl").read_bytes() == (runs / OLD / "log.jsonl").read_bytes()


async def test_an_export_overwrites_nothing_and_says_so(runs, tmp_path_factory, monkeypatch):
    here = tmp_path_factory.mktemp("here")
    monkeypatch.chdir(here)
    (here / f"{OLD}.json").write_text("mine")
    async with app_of(runs).run_test(size=(160, 20)) as pilot:
        await look(pilot)
        await pilot.press("end", "e")
        await settled(pilot)
        await pilot.press("j")
        while "exists already" not in await settled(pilot):
            pass

    assert (here / f"{OLD}.json").read_text() == "mine"


async def test_the_command_that_does_a_run_again_is_copied(runs):
    spec = spec_file.with_absolute_paths(spec_file.load("digits-gd", ["optimizer.lr=0.4"]))
    (runs / OLD / "spec.json").write_bytes(spec_file.to_json(spec))
    async with app_of(runs).run_test(size=(120, 20)) as pilot:
        await look(pilot)
        await pilot.press("end", "y")
        shown = await settled(pilot)

        assert pilot.app.clipboard == "eos run digits-gd --set optimizer.lr=0.4"
    assert "Copied: eos run digits-gd --set optimizer.lr=0.4" in shown


async def test_a_spec_that_is_none_has_no_command_and_the_reason_is_said(runs):
    (runs / LIVE / "spec.json").write_text("{")
    async with app_of(runs).run_test(size=(120, 20)) as pilot:
        await look(pilot)
        await pilot.press("home", "y")
        shown = await settled(pilot)

    assert f"{LIVE}: spec.json:" in " ".join(shown.split())


async def test_a_filter_that_arrives_in_one_piece_is_typed_and_no_key_of_it_does_anything_else(runs):
    async with app_of(runs).run_test(size=(100, 30)) as pilot:
        await look(pilot)

        for key in ("slash", *"sd", "enter"):
            pilot.app.post_message(Key(key, key if len(key) == 1 else {"slash": "/", "enter": "\r"}[key]))
        shown = await look(pilot)

        assert "0 of them: sd" in " ".join(shown.split())
        assert isinstance(pilot.app.screen, HomeScreen)
