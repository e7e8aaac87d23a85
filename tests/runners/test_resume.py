"""A run that is cut off anywhere and resumed leaves the log of one that never was."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from msgspec import structs

from runners import run_folder, spec_file
from runners.control import Requests, Signals
from runners.gauges.gauges import GAUGES
from runners.gauges.limiting_flow import LimitingFlowGauge
from runners.log_writer import LogWriter
from runners.records import SERIES_KINDS
from runners.sitting import open_session
from runners.spec import (
    Adam,
    AdamW,
    Cosine,
    Digits,
    EdgeBatch,
    EdgeRate,
    EmaMomentum,
    HeavyBall,
    Measure,
    Mlp,
    Muon,
    Nesterov,
    NormalizedGd,
    Npz,
    RmsProp,
    Run,
    Sam,
    Sgd,
    SignDescent,
    Train,
    Vgg11,
)

TIMES = {"time", "seconds"}
"""Fields that no two runs share."""
OPTIMIZERS = {
    "gradient descent": Sgd(lr=0.2),
    "sgd": Sgd(lr=Cosine(peak=0.2, steps=60, warmup_steps=10), batch_size=32),
    "heavy ball": HeavyBall(lr=0.02, batch_size=48, sampling="epochs"),
    "nesterov": Nesterov(lr=0.02),
    "feedback": Sgd(lr=EdgeRate(of="sharpness", initial=0.05), batch_size=EdgeBatch(initial=16, target=0.001, max=32)),
    "ema": EmaMomentum(lr=0.2, batch_size=32, sampling="with_replacement"),
    "adam": Adam(lr=0.003, batch_size=32),
    "adamw": AdamW(lr=0.003),
    "rmsprop": RmsProp(lr=0.001, batch_size=32),
    "normalized gradient descent": NormalizedGd(lr=0.02, batch_size=32, noise=0.01, noise_every=3),
    "sign descent": SignDescent(lr=0.001),
    "sam": Sam(lr=0.2, batch_size=32),
    "muon": Muon(lr=0.01, batch_size=32),
}
OFTEN = ("sgd",)
"""What each run of the suite tries; the others differ from these in their chain alone."""
SHARPNESS = Measure(sharpness_every=6, ntk_every=0, evaluate_every=20)
MEASURED = {
    "gradient descent": structs.replace(SHARPNESS, sharpness_every=1, solve_every=7),
    "sgd": structs.replace(SHARPNESS, top_k=2, ntk_every=15, ntk_method="hutchinson", ntk_probes=4),
    "adam": SHARPNESS,
    "feedback": structs.replace(SHARPNESS, ntk_every=15),
    "rmsprop": structs.replace(SHARPNESS, ntk_every=15),
    "sam": SHARPNESS,
}
"""What is measured beside the loss, by optimizer: one of each way to hold the sharpness, and K, against an edge."""


def spec(optimizer, *, steps=60, checkpoint_every=10, measure=SHARPNESS):
    return Train(
        data=Digits(num_train=200, num_test=50),
        model=Mlp(width=16, depth=2),
        optimizer=optimizer,
        measure=measure,
        run=Run(steps=steps, checkpoint_every=checkpoint_every, seed=3),
    )


def make(tmp_path, name, asked):
    return run_folder.create(tmp_path, name, spec_file.to_json(asked))


def runner(folder):
    command = [sys.executable, "-P", "-m", "runners", str(folder.path)]
    with folder.output.open("ab") as output:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)


def finish(folder):
    code = runner(folder).wait()
    assert code == 0, folder.output.read_text()


def num_lines(folder):
    return folder.log.read_bytes().count(b"\n") if folder.log.exists() else 0


def measured(folder):
    """What was computed, in order: every record but for times, events and the process's own lines."""
    lines = [json.loads(line) for line in folder.log.read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines if line["kind"] in SERIES_KINDS]


def kill_after(folder, lines):
    """Start a runner and kill it when the log has that many lines more; False when it came to its end before."""
    process = runner(folder)
    wanted = num_lines(folder) + lines
    deadline = time.monotonic() + 120
    while process.poll() is None and num_lines(folder) < wanted:
        assert time.monotonic() < deadline, folder.output.read_text()
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


class Crash(BaseException):
    """Stands for a kill: nothing between the session and the process's end may catch it."""


class CrashingLog(LogWriter):
    """A log whose process dies after so many records."""

    def __init__(self, path, records):
        super().__init__(path)
        self._left = records

    def write(self, record):
        if self._left == 0:
            raise Crash
        self._left -= 1
        super().write(record)


def sit(folder, asked, records=-1):
    """One sitting in this process, which dies after so many records."""
    fresh = not folder.log.exists()
    requests = Requests(folder.control, from_start=fresh)
    log = CrashingLog(folder.log, records)
    try:
        open_session(folder, asked, log=log, signals=Signals(), requests=requests, fresh=fresh).run()
    except Crash:
        return
    finally:
        log.close()
    assert records == -1, "the run came to its end before the crash"


def cut_off_after(folder, records, whole):
    """What a run would have left that died after so many records of a whole one."""
    shutil.copytree(whole.path, folder.path, dirs_exist_ok=True)
    kept = folder.log.read_text().splitlines(keepends=True)[:records]
    folder.log.write_text("".join(kept))
    saved = {line["step"] for line in map(json.loads, kept) if line.get("event") == "checkpoint"}
    for checkpoint in folder.checkpoints.iterdir():
        if int(checkpoint.name) not in saved:
            shutil.rmtree(checkpoint)
    assert saved
    assert len(kept) == records


@pytest.mark.parametrize("name", [name if name in OFTEN else pytest.param(name, marks=pytest.mark.slow) for name in OPTIMIZERS])
def test_a_run_that_was_cut_off_resumes_bit_for_bit(tmp_path, name):
    asked = spec(OPTIMIZERS[name], measure=MEASURED.get(name, Measure(sharpness_every=0, ntk_every=0, evaluate_every=20)))
    whole, cut_off = make(tmp_path, "whole", asked), make(tmp_path, "cut-off", asked)
    sit(whole, asked)
    cut_off_after(cut_off, 37, whole)

    sit(cut_off, asked)

    assert measured(cut_off) == measured(whole)


@pytest.mark.slow
def test_every_quantity_that_starts_from_the_last_measurement_resumes_bit_for_bit(tmp_path):
    everything = {f"{gauge.name}_every": 6 for gauge in GAUGES if gauge is not LimitingFlowGauge}
    measure = Measure(sharpness_every=3, ntk_every=6, evaluate_every=0, top_k=2, smallest=True, verify_every=12, **everything)
    asked = spec(Adam(lr=0.003, batch_size=32), steps=24, checkpoint_every=6, measure=measure)
    whole, cut_off = make(tmp_path, "whole", asked), make(tmp_path, "cut-off", asked)
    sit(whole, asked)
    cut_off_after(cut_off, 41, whole)

    sit(cut_off, asked)

    assert measured(cut_off) == measured(whole)
    assert {line["kind"] for line in measured(whole)} == {*SERIES_KINDS} - {"flow", "prediction", "limiting_flow", "tails"}


@pytest.mark.slow
def test_a_run_with_a_layer_that_is_not_trained_resumes_bit_for_bit(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "images.npz", x=rng.standard_normal((12, 32, 32, 3)), y=np.arange(12) % 3)
    asked = Train(
        data=Npz(path=str(tmp_path / "images.npz"), num_test=0),
        model=Vgg11(width=1, train_output=False),
        optimizer=NormalizedGd(lr=0.05),
        measure=Measure(sharpness_every=4, ntk_every=0, evaluate_every=0),
        run=Run(steps=24, checkpoint_every=8),
    )
    whole, cut_off = make(tmp_path, "whole", asked), make(tmp_path, "cut-off", asked)
    sit(whole, asked)
    cut_off_after(cut_off, 20, whole)

    sit(cut_off, asked)

    assert measured(cut_off) == measured(whole)


def test_a_killed_process_resumes_bit_for_bit(tmp_path):
    asked = spec(OPTIMIZERS["heavy ball"])
    whole, cut_off = make(tmp_path, "whole", asked), make(tmp_path, "cut-off", asked)
    finish(whole)

    assert kill_after(cut_off, 45)
    finish(cut_off)

    assert measured(cut_off) == measured(whole)


@pytest.mark.slow
def test_a_run_that_crashed_before_its_first_checkpoint_begins_again(tmp_path):
    asked = spec(OPTIMIZERS["sgd"], checkpoint_every=0)
    whole, cut_off = make(tmp_path, "whole", asked), make(tmp_path, "cut-off", asked)
    sit(whole, asked)

    sit(cut_off, asked, records=20)
    sit(cut_off, asked)

    assert measured(cut_off) == measured(whole)


@pytest.mark.slow
def test_ten_kills_at_random_moments_leave_no_trace(tmp_path):
    asked = spec(Adam(lr=0.003, batch_size=32), steps=600, checkpoint_every=25)
    whole, cut_off = make(tmp_path, "whole", asked), make(tmp_path, "cut-off", asked)
    finish(whole)
    moments = random.Random(0)

    killed = sum(kill_after(cut_off, moments.randrange(0, 90)) for _ in range(10))
    finish(cut_off)

    assert killed == 10
    assert measured(cut_off) == measured(whole)


@pytest.mark.slow
def test_a_signal_leaves_a_checkpoint_and_an_end_and_the_run_goes_on_bit_for_bit(tmp_path):
    asked = spec(HeavyBall(lr=0.01, batch_size=32), steps=3000, checkpoint_every=0)
    stopped = make(tmp_path, "stopped", asked)
    process = runner(stopped)
    deadline = time.monotonic() + 120
    while num_lines(stopped) < 40 and process.poll() is None:
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGUSR1)

    assert process.wait() == 130
    end = json.loads(stopped.log.read_text().splitlines()[-1])
    assert (end["kind"], end["status"], end["reason"]) == ("end", "stopped", "Received SIGUSR1.")
    before = measured(stopped)

    second = runner(stopped)
    while num_lines(stopped) < len(before) + 40 and second.poll() is None:
        assert time.monotonic() < deadline
    second.send_signal(signal.SIGTERM)
    second.wait()
    assert measured(stopped)[: len(before)] == before
    steps = [line["step"] for line in measured(stopped) if line["kind"] == "step"]
    assert steps == list(range(len(steps)))
