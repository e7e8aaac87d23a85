"""The queue of runs against a scheduler that nobody waits for, and the pool of this machine's processes."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from eos_tui import scheduling
from eos_tui.scheduling import Begun, Ended, Exited, Job, LocalPool, Queue
from runners import run_folder
from runners.errors import RunFolderError
from runners.run_folder import RunFolder
from tests.eos_tui.fakes import FakeRun, live
from tests.eos_tui.test_launch import FAKE, until


class FakeScheduler:
    """Carries nothing out; a job is over when its run's name is in `over`."""

    def __init__(self, jobs: int = 2) -> None:
        self.jobs = jobs
        self.over: set[str] = set()
        self.elsewhere: dict[str, str] = {}
        """Runs that others carry out, and what these call them."""
        self.refused: set[str] = set()
        self.cancelled: list[tuple[str, bool]] = []
        self.asked_for: list[tuple[str, str | None]] = []

    def submit(self, folders: Sequence[RunFolder]) -> Job:
        if folders[0].name in self.refused:
            raise RunFolderError(f"{folders[0].name} cannot be.")
        return Job(tuple(folders), f"job-{folders[0].name}")

    def adopt(self, folder: RunFolder, name: str | None) -> Job | None:
        self.asked_for.append((folder.name, name))
        return Job((folder,), self.elsewhere[folder.name]) if folder.name in self.elsewhere else None

    def poll(self, job: Job) -> Exited | None:
        return Exited(0) if job.folders[0].name in self.over else None

    def cancel(self, job: Job, *, now: bool) -> None:
        self.cancelled.append((job.folders[0].name, now))


def folders(tmp_path: Path, count: int) -> list[RunFolder]:
    return [RunFolder(tmp_path / f"run{number}") for number in range(count)]


def each_alone(tmp_path: Path, count: int) -> list[tuple[RunFolder]]:
    return [(folder,) for folder in folders(tmp_path, count)]


def said(events: object) -> list[str]:
    """What happened to which run, in words."""
    return [f"{event.how} {event.folder.name}" if isinstance(event, Begun) else f"ended {event.folder.name}" for event in events]  # type: ignore[attr-defined]


def test_as_many_runs_have_their_turn_as_the_scheduler_takes(tmp_path: Path) -> None:
    scheduler = FakeScheduler(jobs=2)
    queue = Queue(each_alone(tmp_path, 3), scheduler)

    assert said(queue.turn()) == ["started run0", "started run1"]
    assert said(queue.turn()) == []
    scheduler.over = {"run1"}
    assert said(queue.turn()) == ["ended run1", "started run2"]
    scheduler.over = {"run0", "run1", "run2"}
    assert said(queue.turn()) == ["ended run0", "ended run2"]
    assert queue.is_over


def test_a_run_with_a_log_is_resumed(tmp_path: Path) -> None:
    run = FakeRun(tmp_path)
    run.header()

    assert said(Queue([(run.folder,)], FakeScheduler()).turn()) == [f"resumed {run.folder.name}"]


def test_runs_that_train_as_one_program_are_one_job(tmp_path: Path) -> None:
    scheduler = FakeScheduler(jobs=1)
    first, second, third = folders(tmp_path, 3)
    queue = Queue([(first, second), (third,)], scheduler)

    assert said(queue.turn()) == ["started run0", "started run1"]
    assert said(queue.turn()) == []
    scheduler.over = {"run0"}

    assert said(queue.turn()) == ["ended run0", "ended run1", "started run2"]


def test_of_runs_that_train_as_one_program_those_that_others_carry_out_are_left_to_them(tmp_path: Path) -> None:
    scheduler = FakeScheduler(jobs=2)
    scheduler.elsewhere = {"run1": "17"}
    queue = Queue([folders(tmp_path, 3)], scheduler)

    assert said(queue.adopt()) == ["awaited run1"]
    assert said(queue.turn()) == ["started run0", "started run2"]


def test_runs_that_train_as_one_program_and_cannot_begin_have_all_ended(tmp_path: Path) -> None:
    scheduler = FakeScheduler()
    scheduler.refused = {"run0"}

    assert said(Queue([folders(tmp_path, 2)], scheduler).turn()) == ["ended run0", "ended run1"]


def test_runs_that_others_carry_out_come_first_and_are_asked_for_by_their_last_job(tmp_path: Path) -> None:
    scheduler = FakeScheduler(jobs=1)
    scheduler.elsewhere = {"run1": "17", "run2": "18"}
    queue = Queue(each_alone(tmp_path, 3), scheduler, names={"run1": "17"})

    assert said(queue.adopt()) == ["awaited run1", "awaited run2"]
    assert scheduler.asked_for == [("run0", None), ("run1", "17"), ("run2", None)]
    assert said(queue.turn()) == []


def test_a_run_that_somebody_else_was_first_to_begin_is_waited_for(tmp_path: Path) -> None:
    scheduler = FakeScheduler()
    queue = Queue(each_alone(tmp_path, 1), scheduler)
    assert said(queue.turn()) == ["started run0"]

    scheduler.elsewhere, scheduler.over = {"run0": "17"}, {"run0"}
    assert said(queue.turn()) == []
    scheduler.elsewhere = {}

    assert said(queue.turn()) == ["ended run0"]


def test_a_run_that_cannot_begin_has_ended_and_the_others_go_on(tmp_path: Path) -> None:
    scheduler = FakeScheduler(jobs=1)
    scheduler.refused = {"run0"}
    queue = Queue(each_alone(tmp_path, 2), scheduler)

    refused, begun = queue.turn()

    assert refused == Ended(refused.folder, Exited(None), problem="run0 cannot be.")
    assert said([begun]) == ["started run1"]


def test_cancelling_begins_nothing_more(tmp_path: Path) -> None:
    scheduler = FakeScheduler(jobs=1)
    queue = Queue(each_alone(tmp_path, 2), scheduler)
    assert said(queue.turn()) == ["started run0"]

    queue.cancel(now=False)
    queue.cancel(now=True)
    scheduler.over = {"run0"}

    assert scheduler.cancelled == [("run0", False), ("run0", True)]
    assert said(queue.turn()) == ["ended run0"]
    assert queue.is_over


def test_cancelling_ends_also_a_run_that_has_left_its_job_and_that_somebody_else_has_taken(tmp_path: Path) -> None:
    scheduler = FakeScheduler()
    queue = Queue([folders(tmp_path, 2)], scheduler)
    assert said(queue.turn()) == ["started run0", "started run1"]
    scheduler.elsewhere = {"run1": "17"}

    queue.cancel(now=False)
    scheduler.over = {"run0"}

    assert said(queue.turn()) == ["ended run0"]
    assert scheduler.cancelled == [("run0", False), ("run0", False), ("run1", False)]
    assert [folder.name for folder in queue.active] == ["run1"]


def test_what_others_carry_out_can_be_left_to_them(tmp_path: Path) -> None:
    scheduler = FakeScheduler()
    scheduler.elsewhere = {"run0": "17"}
    queue = Queue(each_alone(tmp_path, 2), scheduler)
    assert said(queue.turn()) == ["awaited run0", "started run1"]

    queue.cancel(now=False, awaited=False)

    assert scheduler.cancelled == [("run1", False)]
    assert [folder.name for folder in queue.active] == ["run1"]


@pytest.mark.parametrize(("cores", "jobs", "threads"), [(8, 2, "4"), (8, 3, "2"), (2, 8, "1")])
def test_the_cores_are_shared_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int, jobs: int, threads: str) -> None:
    monkeypatch.setattr(scheduling, "num_cores", lambda: cores)
    pool = LocalPool(jobs, (sys.executable, "-c", "import os; print(os.environ['NPROC'], os.environ['OMP_NUM_THREADS'])"))

    job = pool.submit([run_folder.create(tmp_path, "run", b"{}")])
    until(lambda: pool.poll(job) == Exited(0))

    assert job.folders[0].output.read_text() == f"{threads} {threads}\n"


def test_the_pool_gives_one_runner_all_folders_and_says_in_the_others_where_its_output_is(tmp_path: Path) -> None:
    pool = LocalPool(1, (sys.executable, "-c", "import sys; print(*sys.argv[1:])"))
    runs = [run_folder.create(tmp_path, name, b"{}") for name in ("first", "second")]

    job = pool.submit(runs)
    until(lambda: pool.poll(job) == Exited(0))

    assert runs[0].output.read_text().split() == [str(run.path) for run in runs]
    assert runs[1].output.read_text() == f"Trains in one process with {runs[0].name}, whose output.txt has what that prints.\n"


def test_the_pool_takes_over_a_runner_that_lives(tmp_path: Path) -> None:
    run = FakeRun(tmp_path)
    pool = LocalPool(1)
    assert pool.adopt(run.folder, None) is None

    with live(run):
        job = pool.adopt(run.folder, None)
        assert job is not None
        assert pool.poll(job) is None

    assert pool.poll(job) == Exited(None)
    pool.cancel(job, now=True)


@pytest.mark.parametrize(("now", "status"), [(False, 130), (True, -9)])
def test_the_pool_ends_its_runners(tmp_path: Path, *, now: bool, status: int) -> None:
    pool = LocalPool(1, (*FAKE, "wait"))
    job = pool.submit([run_folder.create(tmp_path, "run", b"{}")])
    until(lambda: job.folders[0].log.exists())

    pool.cancel(job, now=now)
    until(lambda: pool.poll(job) is not None)

    assert pool.poll(job) == Exited(status)


@pytest.mark.parametrize(("gibibytes", "jobs"), [(100, 4), (3, 3), (0, 1), (None, 4)])
def test_one_run_a_core_as_far_as_the_memory_goes(monkeypatch: pytest.MonkeyPatch, gibibytes: int | None, jobs: int) -> None:
    monkeypatch.setattr(scheduling, "num_cores", lambda: 4)
    monkeypatch.setattr(scheduling, "_free_bytes", lambda: gibibytes if gibibytes is None else gibibytes * 2**30)

    assert scheduling.default_jobs(10) == jobs
    assert scheduling.default_jobs(1) == 1
