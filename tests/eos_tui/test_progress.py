"""The lines that say how the runs of a claim come along."""

from eos_tui.cli.progress import QUIET_SECONDS, Lines
from tests.eos_tui.fakes import FakeRun, snapshot_of


def test_a_run_is_spoken_of_at_both_its_ends_and_once_a_minute_between(tmp_path, capsys):
    seconds = iter([0.0, 1.0, QUIET_SECONDS, QUIET_SECONDS + 1, 2 * QUIET_SECONDS])
    run = FakeRun(tmp_path)
    lines = Lines(2, clock=seconds.__next__)

    run.header()
    lines.began("a", snapshot_of(run))
    for steps in (range(5), range(5, 12), range(12, 14), range(14, 20)):
        run.progress(steps)
        lines.advanced("a", snapshot_of(run))
    run.end(19)
    lines.ended("a", snapshot_of(run))

    told = capsys.readouterr().err.splitlines()
    assert [line.split("] ")[1].split(" after")[0] for line in told] == [
        "a goes on from step 0",
        "a is at step 11 of 3,000",
        "a is at step 19 of 3,000",
        "a finished at step 19",
    ]
    assert told[-1].startswith("eos: [1/2] ")
