"""Watching a run folder as it fills."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.json import encode

from eos_tui import watcher
from eos_tui.log_reader import LogReader
from eos_tui.snapshot import RunSnapshot, Status
from eos_tui.watcher import RunWatcher
from runners.errors import LogError
from runners.records import AnyRecord, StepRecord
from runners.run_folder import RunFolder
from tests.eos_tui import fakes

GOLDEN = Path(__file__).parents[1] / "golden" / "log-schema-1.jsonl"
RECORDS = LogReader(GOLDEN).read().records
NOW = 1_000_000.0


class FakeRun:
    """A run folder, its clock, and a hand on its lock."""

    def __init__(self, path: Path) -> None:
        self.folder = RunFolder(path)
        self.now = NOW
        self.watcher = RunWatcher(self.folder, clock=lambda: self.now)

    def write(self, *records: AnyRecord) -> None:
        with self.folder.log.open("ab") as log:
            log.writelines(encode(record) + b"\n" for record in records)
        self.touch()

    def touch(self) -> None:
        os.utime(self.folder.log, (self.now, self.now))

    def poll(self) -> RunSnapshot:
        snapshot = self.watcher.poll()
        assert snapshot is not None
        return snapshot


@pytest.fixture
def run(tmp_path: Path) -> FakeRun:
    os.utime(tmp_path, (NOW, NOW))
    return FakeRun(tmp_path)


@pytest.fixture
def held(run: FakeRun) -> Iterator[FakeRun]:
    with run.folder.held():
        os.utime(run.folder.path, (NOW, NOW))
        yield run


def test_a_new_run_starts_runs_and_ends(held: FakeRun) -> None:
    assert held.poll().status is Status.STARTING

    held.write(*RECORDS[:10])
    running = held.poll()
    held.write(*RECORDS[10:])
    ended = held.poll()

    assert (running.status, running.num_records) == (Status.RUNNING, 10)
    assert (ended.status, ended.num_records) == (Status.FINISHED, len(RECORDS))


def test_nothing_new_is_none(held: FakeRun) -> None:
    held.write(*RECORDS[:10])
    held.poll()

    assert held.watcher.poll() is None
    held.now += 30
    assert held.watcher.poll() is None


def test_a_torn_line_is_nothing_new(held: FakeRun) -> None:
    held.write(*RECORDS[:10])
    held.poll()

    with held.folder.log.open("ab") as log:
        log.write(encode(RECORDS[10])[:15])

    assert held.watcher.poll() is None


def test_time_alone_makes_a_run_stall_and_a_record_revives_it(held: FakeRun) -> None:
    held.write(*RECORDS[:10])
    held.poll()

    held.now += 61
    stalled = held.poll()
    held.write(RECORDS[10])
    revived = held.poll()

    assert stalled.status is Status.STALLED
    assert revived.status is Status.RUNNING


def test_a_runner_that_dies_without_an_end_has_crashed(run: FakeRun) -> None:
    with run.folder.held():
        run.write(*RECORDS[:10])
        run.poll()

    assert run.poll().status is Status.CRASHED


def test_a_folder_in_which_nothing_ever_happens_counts_as_crashed_after_a_minute(run: FakeRun) -> None:
    run.folder.output.touch()
    os.utime(run.folder.path, (NOW, NOW))
    young = run.poll()

    run.now += 61

    assert young.status is Status.STARTING
    assert run.poll().status is Status.CRASHED


def test_a_run_that_nobody_ever_started_waits_for_ever(run: FakeRun) -> None:
    run.now += 1e6

    assert run.poll().status is Status.WAITING


def test_a_run_of_another_host_is_judged_by_its_log(run: FakeRun) -> None:
    run.folder.lock.write_bytes(encode({"pid": 1, "host": "not-" + socket.gethostname(), "started": "2026-01-01T00:00:00Z"}))
    run.write(*RECORDS[:10])

    running = run.poll()
    run.now += 121
    stalled = run.poll()

    assert (running.status, stalled.status) == (Status.RUNNING, Status.STALLED)


def test_growth_that_was_seen_counts_even_when_the_file_server_s_clock_is_behind(run: FakeRun) -> None:
    run.folder.lock.write_bytes(encode({"pid": 1, "host": "not-" + socket.gethostname(), "started": "2026-01-01T00:00:00Z"}))
    run.write(*RECORDS[:10])
    os.utime(run.folder.log, (NOW - 500, NOW - 500))
    first = run.poll()

    run.write(RECORDS[10])
    os.utime(run.folder.log, (NOW - 499, NOW - 499))

    assert first.status is Status.STALLED
    assert run.poll().status is Status.RUNNING


def test_a_resumed_run_is_read_anew_without_duplicates(held: FakeRun) -> None:
    held.write(*RECORDS)
    held.poll()
    lines = held.folder.log.read_bytes().splitlines(keepends=True)

    os.truncate(held.folder.log, len(b"".join(lines[:20])))
    held.write(*RECORDS[20:30])
    snapshot = held.poll()

    assert (snapshot.num_records, snapshot.status, snapshot.end) == (30, Status.RUNNING, None)
    assert len(snapshot.traces["step", "loss"]) == sum(isinstance(record, StepRecord) for record in RECORDS[:30])


def test_a_long_log_is_polled_in_portions_and_counts_as_running_until_its_end(run: FakeRun) -> None:
    run.write(*RECORDS)
    run.now += 9999
    statuses = []

    while (snapshot := run.watcher.poll(max_bytes=4000)) is not None:
        statuses.append(snapshot.status)

    assert len(statuses) > 3
    assert set(statuses[:-1]) == {Status.RUNNING}
    assert statuses[-1] is Status.FINISHED


def test_catching_up_reads_all_there_is(run: FakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run.write(*RECORDS)
    monkeypatch.setattr(watcher, "CATCH_UP_BYTES", 100)

    snapshot = run.watcher.catch_up()

    assert snapshot.num_records == len(RECORDS)
    assert run.watcher.catch_up() == snapshot
    assert run.watcher.poll() is None


def test_a_bad_line_shows_what_precedes_it_and_then_is_an_error(run: FakeRun) -> None:
    run.write(*RECORDS[:10])
    with run.folder.log.open("ab") as log:
        log.write(b"garbage\n")

    snapshot = run.poll()

    assert snapshot.num_records == 10
    with pytest.raises(LogError, match=r"log\.jsonl: line 11: not a record"):
        run.watcher.poll()


def test_a_folder_that_is_removed_leaves_an_empty_run(run: FakeRun) -> None:
    run.write(*RECORDS)
    run.poll()

    run.folder.log.unlink()
    run.folder.path.rmdir()

    assert run.poll().num_records == 0


def test_a_part_of_a_long_run_is_read_anew_with_more_of_its_points(tmp_path):
    run = fakes.FakeRun(tmp_path, steps=20_000)
    run.header()
    run.write(*(StepRecord(step=k, time=k / 100, loss=float(k % 7), lr=0.3) for k in range(20_000)))
    watcher = RunWatcher(run.folder)
    snapshot = watcher.catch_up()

    found = watcher.detail(12_000, 12_500)

    key = ("step", "loss")
    assert snapshot.traces[key].is_coarse(12_000, 12_500)
    assert not found[key].is_coarse(12_000, 12_500)
    assert (found[key].first_x, found[key].last_x, len(found[key])) == (12_000, 12_500, 501)
    assert found[key].at(12_345) == (12_345, 12_345 % 7)
