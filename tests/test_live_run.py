"""The whole of it: a real run, started and watched in a pseudo-terminal, left in every way that there is."""

import json
import os
import signal
import sys
import time

import pytest

from eos_tui import launch
from runners import run_folder, spec_file
from tests.eos_tui.test_viewer_terminal import Terminal

PATIENCE = 120.0
SMALL = ("data.num_train=100", "model.width=8", "measure.ntk_every=0", "measure.evaluate_every=0", "run.steps=1000000")
EOS = [sys.executable, "-m", "eos_tui"]


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("EOS_RUNS", str(tmp_path))
    yield tmp_path
    for folder in run_folder.all_runs(tmp_path):
        folder.request("stop")
        wait_for(lambda folder=folder: folder.is_held() is False)


def wait_for(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def num_steps(folder):
    """Updates that the log knows of."""
    if not folder.log.exists():
        return 0
    lines = folder.log.read_bytes().splitlines()
    return sum(line.startswith(b'{"kind":"step"') for line in lines)


def goes_on(folder):
    """Whether the run makes further steps."""
    before = num_steps(folder)
    wait_for(lambda: num_steps(folder) > before + 20)
    return folder.is_held()


def start(runs):
    """A terminal in which a small run has been started and is shown."""
    overrides = [word for key in SMALL for word in ("--set", key)]
    terminal = Terminal(runs, command=[*EOS, "run", "digits-gd", *overrides])
    terminal.read_until("running")
    return terminal, run_folder.find(runs)


def watch(runs, folder):
    terminal = Terminal(runs, command=[*EOS, "watch", folder.name])
    terminal.read_until("running")
    return terminal


def test_a_run_survives_all_ways_of_leaving_its_view_and_stops_when_asked(runs):
    first, folder = start(runs)

    os.close(first.master)
    first.process.wait(timeout=PATIENCE)
    assert goes_on(folder)

    for leave in (
        lambda t: os.write(t.master, b"q"),
        *(lambda t, n=n: t.process.send_signal(n) for n in (signal.SIGHUP, signal.SIGTERM, signal.SIGKILL)),
    ):
        view = watch(runs, folder)
        leave(view)
        view.end()
        os.close(view.master)
        assert goes_on(folder)

    last = watch(runs, folder)
    os.write(last.master, b"s")
    last.read_until("y")
    os.write(last.master, b"y")
    last.read_until("stopped")
    os.write(last.master, b"q")
    last.end()
    os.close(last.master)
    end = json.loads(folder.log.read_text().splitlines()[-1])
    assert (end["kind"], end["status"], end["reason"]) == ("end", "stopped", "Asked to stop.")


@pytest.mark.slow
def test_a_second_start_traces_and_compiles_nothing_and_logs_the_same_numbers(runs, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(cache))
    spec = spec_file.load("digits-sgd", ["run.steps=20", "model.width=8", "measure.smallest=true", "measure.layers_every=20"])

    def numbers():
        launched = launch.start(spec, name="again", runs=tmp_path)
        assert launched.process.wait(PATIENCE) == 0
        records = map(json.loads, launched.folder.log.read_bytes().splitlines()[1:])
        return [{key: value for key, value in record.items() if key != "time" and not key.endswith("seconds")} for record in records]

    first, kept = numbers(), sorted(cache.rglob("*"))
    again, kept_then = numbers(), sorted(cache.rglob("*"))

    assert first == again
    assert [path for path in kept if path.parent.name == "programs"]
    assert {path for path in kept_then if not path.name.endswith("atime")} == {path for path in kept if not path.name.endswith("atime")}
