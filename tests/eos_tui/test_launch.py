"""Starting a runner: what it is given, and that it needs nobody."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eos_tui import launch
from eos_tui.launch import Launched
from runners.errors import EosError, RunFolderError
from runners.run_folder import RunFolder
from runners.spec import Train
from tests.eos_tui.fakes import FakeRun, live

FAKE = (sys.executable, str(Path(__file__).with_name("fake_runner.py")))
SAYS_ALL = (
    "import os, sys; print(sys.argv[1], os.getcwd(), os.getsid(0) == os.getpid(), sys.stdin.read() == '', "
    "os.environ['PYTHONUNBUFFERED']); sys.stderr.write('and errors')"
)


def until(condition: Callable[[], object], *, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Launched]:
    launched = launch.start(Train(), name="digits", runs=tmp_path, command=(*FAKE, "wait"))
    yield launched
    launched.process.kill()
    launched.process.wait()


def test_a_run_gets_a_folder_of_its_own_with_its_spec(tmp_path: Path) -> None:
    launched = launch.start(Train(), name="digits", runs=tmp_path / "runs", command=(*FAKE, "die"))
    launched.process.wait()

    assert launched.folder.path.parent == tmp_path / "runs"
    assert launched.folder.name.startswith("digits-")
    assert b'"steps": 1000' in launched.folder.spec.read_bytes()


def test_a_runner_has_its_own_session_no_input_and_a_file_for_its_output(tmp_path: Path) -> None:
    launched = launch.start(Train(), name="digits", runs=tmp_path, command=(sys.executable, "-c", SAYS_ALL))

    assert launched.process.wait() == 0
    assert launched.folder.output.read_text() == f"{launched.folder.path} {Path.cwd()} True True 1\nand errors"


def test_a_runner_gets_the_variables_it_is_given_beside_those_of_its_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "kept")
    says = (sys.executable, "-c", "import os; print(os.environ['OURS'], os.environ['NPROC'])")

    launched = launch.start(Train(), name="digits", runs=tmp_path, command=says, environment={"NPROC": "1"})

    assert launched.process.wait() == 0
    assert launched.folder.output.read_text() == "kept 1\n"


def test_a_runner_that_ends_is_no_zombie(tmp_path: Path) -> None:
    launched = launch.start(Train(), name="digits", runs=tmp_path, command=(*FAKE, "finish"))

    until(lambda: launched.process.returncode is not None)

    with pytest.raises(ProcessLookupError, match="No such process"):
        os.kill(launched.process.pid, 0)


def test_waiting_returns_once_the_runner_holds_its_folder(waiting: Launched) -> None:
    launch.wait_started(waiting)

    assert waiting.folder.is_held()


def test_a_runner_that_dies_at_once_is_reported_with_its_output(tmp_path: Path) -> None:
    launched = launch.start(Train(), name="digits", runs=tmp_path, command=(*FAKE, "die"))

    with pytest.raises(EosError, match=r"the runner died \(exit status 1\).*\n.*No module named 'jax'"):
        launch.wait_started(launched)


def test_a_slow_start_is_not_an_error(tmp_path: Path) -> None:
    times = iter([0.0, 1.0, 2.0, 3.0])
    launched = launch.start(Train(), name="digits", runs=tmp_path, command=(sys.executable, "-c", "input()"))

    launch.wait_started(Launched(RunFolder(tmp_path), launched.process), seconds=0.0, clock=lambda: next(times))

    launched.process.wait()


def test_a_run_that_is_held_is_not_started_again(tmp_path: Path) -> None:
    run = FakeRun(tmp_path)

    with live(run), pytest.raises(RunFolderError, match="the run is going on"):
        launch.restart(run.folder)


def test_a_run_of_another_host_is_not_started_again(tmp_path: Path) -> None:
    run = FakeRun(tmp_path)
    run.folder.lock.write_text('{"pid": 1, "host": "elsewhere", "started": "2026-01-31T12:00:00Z"}')

    with pytest.raises(RunFolderError, match="was started on elsewhere"):
        launch.restart(run.folder)


def test_a_run_whose_folder_cannot_be_written_to_is_not_started_again(tmp_path: Path) -> None:
    run = FakeRun(tmp_path)
    run.folder.output.mkdir()

    with pytest.raises(RunFolderError, match=r"no runner can write to this folder \(Is a directory\)"):
        launch.restart(run.folder)


def test_killing_the_runner_of_another_user_is_refused_in_words(waiting: Launched, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, number: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    launch.wait_started(waiting)
    with monkeypatch.context() as patch:
        patch.setattr("os.kill", refuse)
        with pytest.raises(RunFolderError, match="is another user's, and cannot be ended"):
            launch.kill(waiting.folder)


def test_killing_needs_a_runner_of_this_host(tmp_path: Path) -> None:
    run = FakeRun(tmp_path)

    with pytest.raises(RunFolderError, match="no runner on this host"):
        launch.kill(run.folder)


def test_killing_ends_the_runner_at_once(waiting: Launched) -> None:
    launch.wait_started(waiting)

    launch.kill(waiting.folder)

    assert waiting.process.wait() == -signal.SIGKILL
    assert not waiting.folder.is_held()
