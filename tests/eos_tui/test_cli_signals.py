"""What a signal, a closed pipe or a hang-up does to a run that is attended, and to the command that attends it."""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen

import pytest

from eos_tui import launch
from runners import run_folder
from runners.run_folder import RunFolder
from tests.eos_tui.fakes import FakeRun
from tests.eos_tui.test_launch import FAKE, until

ROOT = Path(__file__).parents[2]
MAIN = "import json, sys; from eos_tui import launch; launch.RUNNER = json.loads(sys.argv.pop(1)); from eos_tui.cli import main; main()"
Start = Callable[..., "Popen[str]"]


@pytest.fixture
def eos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts `eos` as a process whose runs go to tmp_path; whatever still lives at the end is killed."""
    monkeypatch.setenv("EOS_RUNS", str(tmp_path))
    monkeypatch.chdir(ROOT)
    started = []

    def start(way: str, *arguments: str) -> "Popen[str]":
        process = Popen(
            [sys.executable, "-c", MAIN, json.dumps([*FAKE, way]), *arguments], stdin=DEVNULL, stdout=PIPE, stderr=PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with process:
            process.kill()
    for folder in run_folder.all_runs(tmp_path):
        if folder.is_held():
            launch.kill(folder)


def the_run(runs: Path) -> RunFolder:
    """The run in the folder, once its log has begun."""
    until(lambda: any(folder.log.exists() for folder in run_folder.all_runs(runs)))
    (folder,) = run_folder.all_runs(runs)
    return folder


def first_line(process: "Popen[str]") -> str:
    """The first line that the command prints: from then on it passes signals on."""
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_is_passed_on_and_the_run_stops_with_130(eos: Start, tmp_path: Path, number: signal.Signals) -> None:
    process = eos("wait", "run", "--plain")
    first_line(process)

    process.send_signal(number)
    output, errors = process.communicate(timeout=10)

    assert process.returncode == 130
    assert output.splitlines()[-1].endswith(f"Received {number.name}.")
    assert f"{number.name} passed on" in errors
    assert f"`eos resume {the_run(tmp_path).name}` continues it." in errors


def test_a_second_interrupt_ends_a_runner_that_hears_nothing(eos: Start, tmp_path: Path) -> None:
    process = eos("deaf", "run", "--plain")
    first_line(process)

    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    until(lambda: "passed on" in process.stderr.readline())  # type: ignore[union-attr]
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)

    assert process.returncode == 130
    assert "ended by SIGKILL" in errors
    assert "died" not in errors
    assert f"`eos resume {the_run(tmp_path).name}` starts it again; it had no checkpoint yet." in errors
    assert not the_run(tmp_path).is_held()


def test_a_run_that_was_asked_to_stop_ends_with_0(eos: Start, tmp_path: Path) -> None:
    process = eos("wait", "run", "--plain")
    first_line(process)

    the_run(tmp_path).request("stop")
    output, _ = process.communicate(timeout=10)

    assert process.returncode == 0
    assert output.splitlines()[-1].endswith("Asked to stop.")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL])
def test_a_hang_up_or_a_kill_leaves_the_run_alone(eos: Start, tmp_path: Path, number: signal.Signals) -> None:
    process = eos("wait", "run", "--plain")
    first_line(process)

    process.send_signal(number)
    process.communicate(timeout=10)

    folder = the_run(tmp_path)
    size = folder.log.stat().st_size
    until(lambda: folder.log.stat().st_size > size)
    assert folder.is_held()


def test_a_reader_that_had_enough_leaves_the_run_alone_and_no_traceback(eos: Start, tmp_path: Path) -> None:
    process = eos("wait", "run", "--plain")
    first_line(process)

    assert process.stdout is not None
    process.stdout.close()

    assert process.wait(timeout=10) == 0
    assert process.stderr is not None
    errors = process.stderr.read()
    assert "the run goes on" in errors
    assert "Traceback" not in errors
    assert "BrokenPipe" not in errors
    assert the_run(tmp_path).is_held()


def test_leaving_a_watched_run_leaves_it_alone(eos: Start, tmp_path: Path) -> None:
    eos("wait", "run", "--detach").communicate(timeout=10)
    watching = eos("wait", "watch", "--plain")
    first_line(watching)

    watching.send_signal(signal.SIGINT)
    _, errors = watching.communicate(timeout=10)

    assert watching.returncode == 130
    assert "the run was not touched" in errors
    assert the_run(tmp_path).is_held()


def test_nothing_but_lines_reaches_a_pipe(eos: Start) -> None:
    output, errors = eos("finish", "run").communicate(timeout=10)

    assert "\x1b" not in output + errors
    assert all(line.startswith("step ") for line in output.splitlines())


def test_a_character_that_the_output_cannot_hold_is_no_reason_to_fail(eos: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = FakeRun(tmp_path)
    run.header()
    run.event(0, "warning", "λ is large.")
    run.end(1)
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")

    output, _ = eos("finish", "watch").communicate(timeout=10)

    assert "warning: ? is large." in output
