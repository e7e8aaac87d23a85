"""What becomes of a run whose folder is not whole."""

import shutil

import pytest

from runners import run_folder
from runners.control import Signals
from runners.sitting import Sitting
from runners.spec import Train
from tests.runners.test_session import Countdown, records


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr("runners.environment.prepare", lambda precision: None)
    monkeypatch.setattr("runners.sitting._keep_programs", lambda: None)
    return run_folder.create(tmp_path, "countdown", b"{}")


def sit(folder, *, steps=10):
    """How one sitting ended, and why."""
    sitting = Sitting(folder, Train(), Signals())
    sitting.open(lambda spec, *, fresh: Countdown(steps=steps))
    if sitting.status is None:
        sitting.go_on(lambda session: session.run())
    return sitting.status, records(folder, "end")[-1]["reason"]


def test_a_log_that_is_shorter_than_its_checkpoint_says_which_folder_to_remove_and_stays_readable(folder):
    sit(folder)
    folder.log.write_bytes(folder.log.read_bytes()[:-400])

    status, reason = sit(folder)

    assert status == "failed"
    assert "the log ends before the newest checkpoint, that of step 10." in reason
    assert reason.endswith(f"remove {folder.checkpoints / '10'} to go on from an earlier one.")


def test_without_the_newest_checkpoint_the_run_goes_on_from_the_one_before(folder):
    sit(folder)
    folder.log.write_bytes(folder.log.read_bytes()[:-400])
    sit(folder)
    shutil.rmtree(folder.checkpoints / "10")

    status, _ = sit(folder)

    assert status == "finished"
    assert [record["step"] for record in records(folder, "step")] == list(range(10))


def test_checkpoints_without_a_log_are_left_alone(folder):
    sit(folder)
    folder.log.unlink()
    saved = sorted(path.name for path in folder.checkpoints.iterdir())

    status, reason = sit(folder)

    assert (status, sorted(path.name for path in folder.checkpoints.iterdir())) == ("failed", saved)
    assert "the log is gone" in reason
    assert reason.endswith(f"remove {folder.checkpoints} to begin again at step 0.")
