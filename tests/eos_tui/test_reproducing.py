"""`eos reproduce` from the outside: runs are made once, resumed, and judged; what is printed where, and the exit code."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from eos_tui.claims import catalog
from eos_tui.cli import app
from runners.run_folder import RunFolder, all_runs
from tests.eos_tui.fake_claim import tiny

FAKE_CLAIM = (sys.executable, str(Path(__file__).with_name("fake_claim.py")))


def command(way: str, *arguments: str, cwd: Path) -> list[str]:
    return [*FAKE_CLAIM, way, "reproduce", *arguments, "--runs-dir", str(cwd / "runs")]


def eos(way: str, *arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    environment = {key: value for key, value in os.environ.items() if key not in ("EOS_DATA", "EOS_RUNS")}
    return subprocess.run(command(way, *arguments, cwd=cwd), capture_output=True, text=True, cwd=cwd, env=environment, timeout=60)


def made(tmp_path: Path) -> list[RunFolder]:
    return all_runs(tmp_path / "runs" / "reproduce" / "tiny")


@pytest.mark.slow
def test_runs_are_made_once_and_each_statement_has_its_row(tmp_path: Path) -> None:
    first = eos("finish", "tiny", "--json", cwd=tmp_path)
    again = eos("die", "tiny", "--json", cwd=tmp_path)

    assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
    assert [run.name.partition("-")[0] for run in made(tmp_path)] == ["first", "second"]
    assert json.loads(first.stdout) == json.loads(again.stdout)
    held, refuted = json.loads(first.stdout)
    assert set(held) == {"claim", "source", "measured", "error", "tolerance", "holds", "why", "seconds", "values"}
    assert (held["holds"], held["why"], held["measured"], held["tolerance"]) == (True, None, 2.0, "1.5 to 2.5")
    assert (refuted["holds"], refuted["why"]) == (False, "2 is not <= 1 (first: 2, second: 2).")
    assert "second finished" in first.stderr
    assert "[2/2]" in first.stderr
    assert "second was there already" in again.stderr
    assert "1 of 2 statements hold" in again.stderr


def test_a_changed_spec_is_a_new_run(tmp_path: Path) -> None:
    eos("finish", "tiny", cwd=tmp_path)
    eos("finish:50", "tiny", cwd=tmp_path)

    assert len(made(tmp_path)) == 4


@pytest.mark.slow
def test_an_interrupted_run_ends_with_a_checkpoint_and_goes_on_with_the_next_call(tmp_path: Path) -> None:
    process = subprocess.Popen(command("wait", "tiny", "--jobs", "1", cwd=tmp_path), stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    deadline = time.monotonic() + 30
    while not (made(tmp_path) and made(tmp_path)[0].log.exists() and made(tmp_path)[0].log.stat().st_size > 5000):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, narration = process.communicate(timeout=30)

    ended = json.loads(made(tmp_path)[0].log.read_text().splitlines()[-1])
    resumed = eos("finish", "tiny", cwd=tmp_path)

    assert process.returncode == 130
    assert "`eos reproduce tiny` goes on from there" in narration
    assert (ended["kind"], ended["status"]) == ("end", "stopped")
    assert resumed.returncode == 0
    assert "first goes on from step" in resumed.stderr
    assert len(made(tmp_path)) == 2
    assert '"event":"resumed"' in made(tmp_path)[0].log.read_text()


def test_a_run_that_fails_leaves_rows_with_the_reason_and_the_exit_code_says_so(tmp_path: Path) -> None:
    done = eos("fail", "tiny", cwd=tmp_path)

    assert done.returncode == 1
    assert "NO" in done.stdout
    assert "The run first did not come to its end, failed at step 1: The loss became inf." in " ".join(done.stdout.split())
    assert "Did not come to their end: first, second" in done.stderr


def test_runners_that_die_at_once_leave_rows_and_what_they_printed(tmp_path: Path) -> None:
    done = eos("die", "tiny", "--json", cwd=tmp_path)

    assert done.returncode == 1
    assert [row["measured"] for row in json.loads(done.stdout)] == [None, None]
    assert "ModuleNotFoundError: No module named 'jax'" in done.stderr


@pytest.mark.slow
def test_the_rows_a_figure_and_a_section_of_a_page_are_written(tmp_path: Path) -> None:
    done = eos("finish", "tiny", "-o", "out", "--markdown", "claims.md", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert [row["holds"] for row in json.loads((tmp_path / "out" / "tiny.json").read_text())] == [True, False]
    assert (tmp_path / "out" / "tiny.svg").read_text().startswith("<?xml")
    assert "## tiny" in (tmp_path / "claims.md").read_text()
    assert done.stdout.splitlines()[1].split()[:2] == ["yes", "2"]


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command in this process, with no runs and no data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EOS_RUNS", raising=False)
    monkeypatch.delenv("EOS_DATA", raising=False)
    monkeypatch.setattr(catalog, "CLAIMS", catalog.CLAIMS | {"tiny": tiny(steps="100")})
    return lambda *arguments: CliRunner().invoke(app, ["reproduce", *arguments], prog_name="eos")


def test_the_claims_are_listed_and_so_is_what_one_of_them_states(inside: Callable[..., Result], tmp_path: Path) -> None:
    assert json.loads(inside("--list", "--json").stdout)[-1] == {
        "name": "tiny",
        "summary": "It is small.",
        "source": "nobody",
        "cost": "2 runs.",
    }
    assert "- The sharpness is 1.5 to 2.5. Expected: 1.5 to 2.5. [derived]" in inside("tiny", "--list").stdout
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("arguments", [(), ("tyni",)])
def test_without_a_claim_of_that_name_those_that_there_are_are_named(inside: Callable[..., Result], arguments: tuple[str, ...]) -> None:
    done = inside(*arguments)

    assert done.exit_code == 2
    assert "gd-edge, normalized, mnist-flow, stochastic-edge, super-consistency, heavy-tails, tiny" in done.stderr


def test_without_the_data_nothing_starts_and_it_is_said_which_files_are_needed(inside: Callable[..., Result], tmp_path: Path) -> None:
    done = inside("stochastic-edge")

    assert done.exit_code == 2
    assert "stochastic-edge needs a data set that is not here" in done.stderr
    assert all(words in done.stderr for words in ("$EOS_DATA", "data_batch_1.bin", "https://"))
    assert not (tmp_path / "runs").exists()
