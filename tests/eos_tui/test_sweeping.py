"""A sweep from the outside: what is made, what a failure, an interrupt or the end of its scheduler does to it, and how it goes on."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner, Result

from eos_tui import launch, summary, sweeping
from eos_tui.cli import app, attending
from eos_tui.cli.sweeping import Lines
from eos_tui.scheduling import LocalPool
from runners import expansion, grid, run_folder, sweeps
from runners.errors import RunFolderError
from runners.sweeps import AnySweepRecord, SweepFolder
from tests.eos_tui.test_launch import FAKE, until

ROOT = Path(__file__).parents[2]
SWEEPER = """\
import json, sys
from eos_tui import launch, sweeping
launch.RUNNER = json.loads(sys.argv.pop(1))
sys.exit(sweeping.main(sys.argv[1:]))
"""
EOS = "import json, sys; from eos_tui import sweeping; sweeping.SWEEPER = json.loads(sys.argv.pop(1)); from eos_tui.cli import main; main()"


def sweeper(way: str) -> list[str]:
    """The scheduler's command, with runners that do as they are told."""
    return [sys.executable, "-c", SWEEPER, json.dumps([*FAKE, way])]


def make(runs: Path, *, seeds: int) -> SweepFolder:
    planned = expansion.expand({}, [grid.seeds_axis(0, seeds)], label="base.toml")
    return sweeps.create(runs, "base", planned, source="base.toml", document={}, grid={}, jobs=2)


def carry_out(folder: SweepFolder, way: str, *, jobs: int = 2) -> int:
    with folder.held():
        return sweeping.carry_out(folder, LocalPool(jobs, (*FAKE, way)), interrupted=lambda: 0, sleep=lambda _: time.sleep(0.02))


def stands(folder: SweepFolder) -> dict[str, str]:
    return {run.name: sweeping.stand(run)[0] for run in folder.runs()}


def noted(folder: SweepFolder, kind: type[AnySweepRecord], *fields: str) -> list[tuple[object, ...]]:
    """These fields of the log's records of a kind, without order."""
    return sorted(tuple(getattr(record, field) for field in fields) for record in folder.records()[0] if isinstance(record, kind))  # type: ignore[type-var]


def test_a_failure_leaves_the_others_alone_and_is_tried_again_later_while_what_is_done_stays(tmp_path: Path) -> None:
    folder = make(tmp_path, seeds=4)

    assert carry_out(folder, "finish,fail,diverge,crash") == 1
    assert stands(folder) == {"seed0": "finished", "seed1": "failed", "seed2": "diverged", "seed3": "crashed"}
    assert noted(folder, sweeps.EndedRecord, "run", "reason")[3][1] == "The runner died (ended by SIGKILL). Killed by the machine"
    done = {name: (folder.path / name / "log.jsonl").read_bytes() for name in ("seed0", "seed2")}

    assert carry_out(folder, "finish") == 0
    assert stands(folder) == {"seed0": "finished", "seed1": "finished", "seed2": "diverged", "seed3": "finished"}
    assert {name: (folder.path / name / "log.jsonl").read_bytes() for name in done} == done
    assert noted(folder, sweeps.BegunRecord, "run", "how")[1:3] == [("seed1", "resumed"), ("seed1", "started")]
    assert noted(folder, sweeps.SweepEndRecord, "status") == [("complete",), ("incomplete",)]


def test_runners_that_die_at_once_are_told_of_with_their_last_words(tmp_path: Path) -> None:
    folder = make(tmp_path, seeds=1)

    assert carry_out(folder, "die") == 1
    assert noted(folder, sweeps.EndedRecord, "status", "step", "reason") == [
        ("crashed", 0, "The runner died (exit status 1). ModuleNotFoundError: No module named 'jax'")
    ]


def test_a_run_whose_log_is_none_or_that_is_gone_is_left_alone(tmp_path: Path) -> None:
    folder = make(tmp_path, seeds=3)
    (folder.path / "seed0" / "log.jsonl").write_text("no log\n")
    (folder.path / "seed1").rename(tmp_path / "elsewhere")

    assert carry_out(folder, "finish") == 1
    assert stands(folder) == {"seed0": "unreadable", "seed1": "unreadable", "seed2": "finished"}
    assert (folder.path / "seed0" / "log.jsonl").read_text() == "no log\n"


def test_a_run_waits_until_its_turn(tmp_path: Path) -> None:
    assert set(stands(make(tmp_path, seeds=2)).values()) == {"waiting"}


def test_stopping_a_sweep_that_nobody_works_at_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="There is nothing to stop"):
        sweeping.stop(make(tmp_path, seeds=1))


Start = Callable[..., "Popen[str]"]


@pytest.fixture
def eos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts `eos` with a scheduler whose runners do as they are told; what still lives at the end is killed."""
    monkeypatch.setenv("EOS_RUNS", str(tmp_path))
    monkeypatch.chdir(ROOT)
    started: list[Popen[str]] = []

    def start(way: str, *arguments: str) -> "Popen[str]":
        command = [sys.executable, "-c", EOS, json.dumps(sweeper(way)), *arguments]
        started.append(Popen(command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        with process:
            process.kill()
    for folder in sweeps.all_sweeps(tmp_path):
        holder = folder.holder()
        if holder and folder.is_held():
            os.kill(holder.pid, signal.SIGKILL)
        for run in folder.runs():
            if run.is_held():
                launch.kill(run)


def the_sweep(runs: Path, *, running: int) -> SweepFolder:
    """The sweep in the folder, once so many of its runs take steps."""
    until(lambda: sweeps.all_sweeps(runs))
    (folder,) = sweeps.all_sweeps(runs)
    until(lambda: sum(run.log.exists() and run.log.stat().st_size > 2000 for run in folder.runs()) == running)
    return folder


def kill_scheduler(folder: SweepFolder) -> None:
    holder = folder.holder()
    assert holder is not None
    os.kill(holder.pid, signal.SIGKILL)
    until(lambda: not folder.is_held())


@pytest.mark.slow
def test_what_outlives_its_scheduler_is_waited_for_and_an_interrupt_stops_all_with_checkpoints(eos: Start, tmp_path: Path) -> None:
    first = eos("wait", "sweep", "digits-gd", "--seeds", "3", "--jobs", "2")
    folder = the_sweep(tmp_path, running=2)
    kill_scheduler(folder)
    _, errors = first.communicate(timeout=10)
    assert first.returncode == 1
    assert "its scheduler died; runs that it had begun go on" in errors
    holders = [run.holder() for run in folder.runs()[:2]]

    second = eos("wait", "sweep", "--continue", folder.name)
    until(lambda: len(noted(folder, sweeps.BegunRecord, "run")) == 4)
    assert [run.holder() for run in folder.runs()[:2]] == holders
    assert not folder.runs()[2].was_started()
    second.send_signal(signal.SIGINT)
    _, errors = second.communicate(timeout=10)

    assert second.returncode == 130
    assert "SIGINT passed on: the runs end their steps in progress and write checkpoints" in errors
    assert f"Interrupted; `eos sweep --continue {folder.name}` goes on" in errors
    assert stands(folder) == {"seed0": "stopped", "seed1": "stopped", "seed2": "waiting"}
    third = eos("finish", "sweep", "--continue", folder.name, "--json")
    output, _ = third.communicate(timeout=20)
    assert third.returncode == 0
    assert [(row["run"], row["values"], row["status"]) for row in json.loads(output)] == [
        (f"seed{seed}", {"run.seed": seed}, "finished") for seed in range(3)
    ]


def test_two_interrupts_of_which_one_is_lost_are_made_up_for_by_the_signal_that_ends_at_once() -> None:
    interrupts = sweeping.Interrupts()

    counts = [interrupts.count]
    for number in (signal.SIGTERM, signal.SIGINT, sweeping.AT_ONCE):
        interrupts._accept(number, None)
        counts.append(interrupts.count)

    assert counts == [0, 1, 1, 3]


def test_a_second_interrupt_kills(eos: Start, tmp_path: Path) -> None:
    process = eos("deaf", "sweep", "digits-gd", "--seeds", "1")
    until(lambda: sweeps.all_sweeps(tmp_path))
    (folder,) = sweeps.all_sweeps(tmp_path)
    log = folder.runs()[0].log
    until(lambda: log.exists() and b'"deaf"' in log.read_bytes())
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    until(lambda: "passed on" in process.stderr.readline())  # type: ignore[union-attr]
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)

    assert process.returncode == 130
    assert "All runs are ended at once" in errors
    until(lambda: not folder.runs()[0].is_held())


def test_a_detached_sweep_goes_on_and_is_found_and_stopped_by_name(eos: Start, tmp_path: Path) -> None:
    output, _ = eos("wait", "sweep", "digits-gd", "--seeds", "2", "--detach").communicate(timeout=10)
    folder = the_sweep(tmp_path, running=len(sweeps.all_sweeps(tmp_path)[0].runs()))
    assert output.strip() == folder.name

    watching = eos("wait", "sweep", "--continue", folder.name)
    assert watching.stderr is not None
    until(lambda: "begins" in watching.stderr.readline())  # type: ignore[union-attr]
    watching.send_signal(signal.SIGINT)
    _, errors = watching.communicate(timeout=10)
    assert watching.returncode == 130
    assert "the sweep was not touched" in errors
    assert folder.is_held()

    _, errors = eos("wait", "stop", folder.name).communicate(timeout=10)
    until(lambda: not folder.is_held())
    assert "was asked to stop" in errors
    assert set(stands(folder).values()) == {"stopped"}


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EOS_RUNS", str(tmp_path / "runs"))
    return lambda *arguments: CliRunner().invoke(app, arguments, prog_name="eos")


def test_a_dry_run_prints_the_runs_and_makes_nothing(inside: Callable[..., Result], tmp_path: Path) -> None:
    done = inside("sweep", "digits-gd", "--grid", "optimizer.lr=0.1:0.4:x2", "--seeds", "2", "--jobs", "2", "--dry-run")

    assert done.exit_code == 0, done.stderr
    assert done.stdout.split() == ["run", *(f"lr{lr}-seed{seed}" for lr in (0.1, 0.2, 0.4) for seed in (0, 1))]
    assert "6 runs, 12,000 steps in all" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_of_runs_that_train_together_one_program_a_width_is_made(
    inside: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[SweepFolder] = []
    monkeypatch.setattr("eos_tui.cli.sweeping.attend", lambda folder, **_: started.append(folder))
    Path("mine.toml").write_text("[model]\nname = 'mlp'\n[sweep]\nvmap = true\njobs = 2\n")

    done = inside("sweep", "mine.toml", "--grid", "model.width=4,8", "--grid", "optimizer.lr=0.1:0.4:x2")
    inside("sweep", "mine.toml", "--grid", "model.width=4,8", "--seeds", "2", "--no-vmap")

    assert "6 runs, 6,000 steps in all, 2 programs at a time" in done.stderr
    assert "--vmap: 6 runs train in 2 programs of 3." in done.stderr
    grouped, separate = (folder.read().groups for folder in started)
    assert grouped == tuple(tuple(f"width{width}-lr{lr}" for lr in (0.1, 0.2, 0.4)) for width in (4, 8))
    assert separate == ()
    folder = started[0]
    todo = [run for run in folder.runs() if run.name != "width4-lr0.1"]
    assert [len(job) for job in folder.jobs(todo)] == [2, 3]


@pytest.mark.parametrize(
    ("grid", "jobs", "said"),
    [
        (
            ("model.width=4,8", "optimizer.lr=0.1"),
            "1",
            "no runs train together; width4-lr0.1, width8-lr0.1 alone: no other differs from them in optimizer.lr and seeds alone.",
        ),
        (
            ("optimizer.lr=0.1:0.5:+0.1",),
            "8",
            "lr0.1, lr0.2, lr0.3 and 2 more alone: --jobs is so large that each has a process of its own.",
        ),
    ],
)
def test_runs_that_train_alone_are_named_with_the_reason(
    inside: Callable[..., Result], grid: tuple[str, ...], jobs: str, said: str
) -> None:
    axes = [word for axis in grid for word in ("--grid", axis)]

    done = inside("sweep", "digits-gd", *axes, "--vmap", "--jobs", jobs, "--dry-run")

    assert said in " ".join(done.stderr.split())


def test_a_file_may_say_what_varies_and_the_command_line_says_it_otherwise(inside: Callable[..., Result], tmp_path: Path) -> None:
    Path("mine.toml").write_text('[run]\nsteps = 5\n[sweep]\ngrid = { "model.width" = [4, 8], "optimizer.lr" = "0.1:0.2:x2" }\nseeds = 2\n')

    as_written = json.loads(inside("sweep", "mine.toml", "--dry-run", "--json").stdout)
    otherwise = json.loads(inside("sweep", "mine.toml", "--grid", "model.width=16", "--seeds", "1", "--dry-run", "--json").stdout)
    as_a_run = inside("run", "mine.toml")

    assert len(as_written) == 8
    assert as_written[0] == {"run": "width4-lr0.1-seed0", "values": {"model.width": 4, "optimizer.lr": 0.1, "run.seed": 0}}
    assert [row["run"] for row in otherwise] == ["lr0.1-width16-seed0", "lr0.2-width16-seed0"]
    assert as_a_run.exit_code == 2
    assert "[sweep] asks for many runs. `eos sweep mine.toml` makes them." in as_a_run.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("digits-gd", "--grid", "optimizer.lr=0.1,-1"), "--grid optimizer.lr = -1: expected a number > 0"),
        (("digits-gd", "--grid", "optimizer.batch_size=10,5000"), "batch_size = 5000: expected at most data.num_train = 1500"),
        (("digits-gd", "--grid", "optimizer.name=sgd,my_rules:Rule"), "my_rules"),
        (("digits-gd", "--grid", "run.seed=0:1000:+1"), "1,001 runs (1,001 of run.seed): more than 1,000. Say --yes"),
        (("digits-gd",), "Nothing varies"),
        ((), "Name a spec"),
        (("--continue", "digits"), "no such sweep"),
        (("digits-gd", "--continue", "digits"), "--continue takes a sweep as it is"),
        (("--vmap", "--continue", "digits"), "--continue takes a sweep as it is"),
    ],
)
def test_nothing_is_made_of_what_cannot_be(inside: Callable[..., Result], tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = inside("sweep", *arguments)

    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())
    assert not (tmp_path / "runs").exists()


def test_a_table_that_is_none_is_named(inside: Callable[..., Result]) -> None:
    Path("mine.toml").write_text("[sweep]\ngird = {}\n")

    done = inside("sweep", "mine.toml")

    assert done.exit_code == 2
    assert "mine.toml: [sweep] may hold the table grid and the numbers seeds and jobs" in done.stderr


def test_the_list_of_runs_names_the_sweeps(inside: Callable[..., Result], tmp_path: Path) -> None:
    folder = make(tmp_path / "runs", seeds=2)

    done = inside("list")
    of_the_sweep = inside("list", "--runs-dir", str(folder.path))

    assert (done.stdout, done.exit_code) == ("", 0)
    assert f"Sweeps here: {folder.name}. `eos list --runs-dir" in done.stderr
    assert [line.split()[:2] for line in of_the_sweep.stdout.splitlines()[1:]] == [["seed0", "waiting"], ["seed1", "waiting"]]
    assert inside("show", f"{folder.name}/seed1").exit_code == 0
    assert summary.row(run_folder.find(tmp_path / "runs", "base/seed1"), now=0.0).status == "waiting"


def test_the_time_that_is_left_counts_runs_that_train_as_one_program_together(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(sweeps.SittingRecord(time=at(0), schema=1, host="here", pid=1, jobs=1, num_runs=4, num_done=0))
    for run in ("a", "b"):
        lines.tell(sweeps.BegunRecord(time=at(0), run=run, how="started", job="17"))
    for run in ("a", "b"):
        lines.tell(sweeps.EndedRecord(time=at(20), run=run, status="finished", step=10, reason=""))

    said = capsys.readouterr().err.splitlines()

    assert said[2:] == [
        "eos: [1/4] a finished at step 10 after 20 s, about 20 s left",
        "eos: [2/4] b finished at step 10 after 20 s, about 20 s left",
    ]


def at(second: int) -> str:
    return f"2026-01-01T00:00:{second:02}Z"


def test_the_screen_of_a_sweep_is_printed_by_its_name(inside: Callable[..., Result], tmp_path: Path) -> None:
    folder = make(tmp_path / "runs", seeds=2)

    done = inside("watch", folder.name, "--once")

    assert "2 runs: 2 waiting" in done.stdout
    assert "seed" in done.stdout


@pytest.mark.parametrize(("status", "code"), [("complete", 0), ("incomplete", 1), ("interrupted", 130), (None, 0)])
def test_in_a_terminal_the_sweep_is_shown_and_the_exit_code_is_how_it_ended_while_it_was(
    inside: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: str | None, code: int
) -> None:
    folder = make(tmp_path / "runs", seeds=1)
    shown: list[tuple[str, object]] = []
    time = run_folder.utc_now()

    def start(sweep: SweepFolder, *, jobs: int) -> object:
        sweep.write(sweeps.SittingRecord(time=time, schema=1, host="here", pid=1, jobs=jobs, num_runs=1, num_done=0))
        return SimpleNamespace(poll=lambda: None)

    def show_live(sweep: SweepFolder, *, options: object) -> None:
        shown.append((sweep.name, options))
        if status:
            sweep.write(sweeps.SweepEndRecord(time=time, status=status, counts={}))  # type: ignore[arg-type]

    monkeypatch.setattr(sweeping, "start", start)
    monkeypatch.setattr(attending, "is_terminal", lambda: True)
    monkeypatch.setattr(attending, "show_live", show_live)
    done = inside("sweep", "--continue", folder.name, "--ascii")

    assert shown == [(folder.name, {"ascii": True})]
    assert done.exit_code == code
