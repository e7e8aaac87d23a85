"""A sweep of real runs, cut off in every way, leaves the logs of one that never was."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from eos_tui import launch
from runners import sweeps
from runners.errors import RunFolderError
from tests.runners.test_resume import measured, num_lines

PATIENCE = 300.0
SMALL = ("data.num_train=60", "data.num_test=0", "model.depth=2", "measure.ntk_every=0", "run.steps=3000", "run.checkpoint_every=400")
GRID = ("model.width=4,6", "optimizer.lr=0.1,0.2")
EOS = [sys.executable, "-m", "eos_tui", "sweep"]


def eos(*arguments):
    return subprocess.run([*EOS, *arguments], check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE)


def wait_for(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def live(folder):
    return [run for run in folder.runs() if run.is_held()]


def go_on(folder):
    """A further sitting, which has begun."""
    before = num_sittings(folder)
    process = subprocess.Popen([*EOS, "--continue", folder.name], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: num_sittings(folder) > before)
    return process


def num_sittings(folder):
    return sum(isinstance(record, sweeps.SittingRecord) for record in folder.records()[0])


def wait_for_lines(folder, more):
    """Until the runs together have written so many lines."""
    wanted = sum(map(num_lines, folder.runs())) + more
    wait_for(lambda: sum(map(num_lines, folder.runs())) > wanted)


@pytest.mark.slow
@pytest.mark.parametrize("way", [("--jobs", "2"), ("--jobs", "2", "--vmap")], ids=" ".join)
def test_a_sweep_that_was_killed_and_interrupted_leaves_the_logs_of_one_that_was_not(tmp_path, monkeypatch, way):
    monkeypatch.setenv("EOS_RUNS", str(tmp_path))
    asked = [word for key in SMALL for word in ("--set", key)] + [word for axis in GRID for word in ("--grid", axis)] + [*way]
    whole_run = eos("digits-gd", *asked, "--name", "whole")
    assert whole_run.returncode == 0, whole_run.stderr

    assert eos("digits-gd", *asked, "--name", "cut", "--detach").returncode == 0
    whole, cut = sweeps.find(tmp_path, "whole"), sweeps.find(tmp_path, "cut")
    wait_for_lines(cut, 1500)
    # As when the machine goes down.
    os.kill(cut.holder().pid, signal.SIGKILL)
    for run in live(cut):
        with suppress(RunFolderError):  # one process may have several
            launch.kill(run)
    wait_for(lambda: not cut.is_held() and not live(cut))

    going_on = go_on(cut)
    wait_for_lines(cut, 1500)
    # The scheduler alone, while its runs have steps left, and then by Ctrl-C.
    outliving = live(cut)
    for run in outliving:
        run.request("pause")
    os.kill(cut.holder().pid, signal.SIGKILL)
    assert going_on.wait(timeout=PATIENCE) == 1
    going_on = go_on(cut)
    wait_for(lambda: any(isinstance(record, sweeps.BegunRecord) and record.how == "awaited" for record in cut.records()[0]))
    for run in outliving:
        run.request("unpause")
    wait_for_lines(cut, 500)
    going_on.send_signal(signal.SIGINT)
    assert going_on.wait(timeout=PATIENCE) == 130
    assert not live(cut)
    last = eos("--continue", "cut")

    assert last.returncode == 0, last.stderr
    assert len(whole.runs()) == 4
    for run, other in zip(whole.runs(), cut.runs(), strict=True):
        assert run.spec.read_bytes() == other.spec.read_bytes()
        assert len(measured(run)) > 3000
        assert measured(run) == measured(other)
