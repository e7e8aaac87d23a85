"""`eos compare` as a user meets it without a terminal: a table, JSON, the screen as text."""

import json
from pathlib import Path

import pytest

from eos_tui.strokes import RUN_TAGS
from tests.eos_tui.fakes import LOSS, SHARPNESS, FakeRun
from tests.eos_tui.test_cli import eos

NAMES = ("gd-20260131T120000Z-0a1b", "adam-20260131T120000Z-0a1c")


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[FakeRun]:
    """Two runs that have finished, in the folder where runs are looked for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EOS_RUNS", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "30")
    found = []
    for name, lr, extra in zip(NAMES, (0.5, 0.25), ({}, {"beta1": 0.9}), strict=True):
        run = FakeRun(Path("runs"), name=name, steps=20)
        run.header(spec={"optimizer": {"lr": lr, **extra}, "run": {"seed": 0}}, panels=(LOSS, SHARPNESS))
        for step in range(20):
            run.step(step, loss=lr, lr=lr)
        run.sharpness(19, 3.0, threshold=2 / lr)
        run.end(20)
        found.append(run)
    return found


def test_in_a_pipe_it_prints_how_the_runs_stand_and_the_keys_that_differ():
    result = eos("compare", "gd", "adam")

    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout.splitlines() == [
        "                   gd        adam",
        "status             finished  finished",
        "step               20        20",
        "loss               0.500     0.250",
        "sharpness          3.00      3.00",
        "sharpness of 2/lr  0.750     0.375",
        "optimizer.lr       0.5       0.25",
        "optimizer.beta1    -         0.9",
    ]


def test_as_json_it_gives_numbers_and_null_where_there_is_none():
    result = eos("compare", *NAMES, "--json")

    told = json.loads(result.stdout)
    assert [run["run"] for run in told["runs"]] == list(NAMES)
    assert told["runs"][1]["values"] == {"loss": {"value": 0.25, "ratio": None}, "sharpness": {"value": 3.0, "ratio": 0.375}}
    assert told["runs"][1]["problem"] is None
    assert told["differences"] == [{"key": "optimizer.lr", "values": [0.5, 0.25]}, {"key": "optimizer.beta1", "values": [None, 0.9]}]


def test_the_screen_is_printed_as_text():
    shown = eos("compare", "gd", "adam", "--once").stdout.splitlines()

    assert len(shown) == 30
    assert shown[0] == " eos  2 runs   over steps"
    assert any("╭ loss (log)" in line for line in shown)


@pytest.mark.parametrize(("content", "words"), [(b"{nonsense}\n", "not a record"), (b"", "")], ids=["a log that is none", "an empty one"])
def test_a_run_that_is_no_good_is_said_and_the_others_are_compared(content, words):
    FakeRun(Path("runs"), name="bad-20260131T120000Z-0a1d").folder.log.write_bytes(content)

    result = eos("compare", "gd", "adam", "bad")

    rows = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines()[1:]}
    assert result.exit_code == 0
    assert rows["status"] == ["finished", "finished", "unreadable" if words else "starting"]
    assert rows["loss"] == ["0.500", "0.250", "-"]
    assert rows["optimizer.lr"] == ["0.5", "0.25", "-"]
    assert words in result.stderr


@pytest.mark.parametrize("names", [("gd",), ("gd", NAMES[0]), ("gd", "runs/" + NAMES[0])])
def test_fewer_than_two_runs_are_no_comparison(names):
    result = eos("compare", *names)

    assert result.exit_code == 2
    assert "expected two runs or more" in result.stderr


def test_more_runs_than_there_are_tags_are_refused():
    many = [FakeRun(Path("runs"), name=f"run-{k:02}").folder.name for k in range(len(RUN_TAGS) + 1)]

    result = eos("compare", *many)

    assert result.exit_code == 2
    assert "expected 35 at most" in result.stderr
