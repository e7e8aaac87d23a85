"""Runs that train as one program are the runs that they are alone."""

import json
import signal
import time
from contextlib import contextmanager
from types import SimpleNamespace

import jax
import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from runners import run_folder, spec_file, together
from runners.control import Signals
from runners.records import SERIES_KINDS
from runners.sitting import Sitting
from runners.spec import Digits, EdgeRate, Measure, Mlp, Run, Schedule, Sgd, Train
from runners.together import Chunk, Lane
from runners.train import Loop, TrainRunner
from tests.runners.test_resume import OPTIMIZERS

SPEC = Train(
    data=Digits(num_train=64, num_test=0),
    model=Mlp(width=4, depth=2),
    optimizer=Sgd(lr=0.1, batch_size=8),
    measure=Measure(sharpness_every=0, ntk_every=0, evaluate_every=0),
    run=Run(steps=12, precision="float64", checkpoint_every=0),
)
MEASURED = replace(SPEC, measure=Measure(sharpness_every=5, ntk_every=6, evaluate_every=4))
ROUNDING = 12 * 64 * 4 * np.finfo(float).eps
"""Relative: 12 steps, each of sums of at most 64 terms, forwards and back through 2 layers, which any order may round otherwise; below
the edge a step does not amplify what the ones before it left."""


@contextmanager
def here():
    """In this process, whose settings a runner process would change."""
    with pytest.MonkeyPatch.context() as patch, jax.enable_x64(True):
        patch.setattr("runners.environment.prepare", lambda precision: None)
        patch.setattr("runners.sitting._keep_programs", lambda: None)
        yield patch


def with_rates(*rates, spec=SPEC):
    return [replace(spec, optimizer=replace(spec.optimizer, lr=lr)) for lr in rates]


def with_seeds(spec, *seeds):
    return [replace(spec, run=replace(spec.run, seed=seed)) for seed in seeds]


def make(place, specs):
    return [run_folder.create(place, "run", spec_file.to_json(spec)) for spec in specs]


def carry_out(runs, signals=None):
    """How each run ended."""
    sittings = [Sitting(run, spec_file.from_json(run.spec.read_bytes()), signals or Signals()) for run in runs]
    together.carry_out(sittings)
    assert not any(run.is_held() for run in runs)
    return [sitting.status for sitting in sittings]


def lines(run, *kinds):
    """What was computed, in order, but for what it took."""
    found = [json.loads(line) for line in run.log.read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("time", "seconds")} for line in found if line["kind"] in kinds]


def ends(runs):
    return [end["reason"] for run in runs for end in lines(run, "end")]


def alone(spec):
    """The records of a run by itself, as its log has them."""
    runner, records = TrainRunner(spec), []
    while not runner.diverged and runner.step < runner.steps:
        records += [*runner.measure(float), *runner.advance(float)]
    records += runner.measure(float)
    return [msgspec.json.decode(msgspec.json.encode(record)) for record in records]


def assert_equal_but_for_rounding(run, spec):
    expected = alone(spec)
    allowed = {"step": ROUNDING, "sharpness": spec.measure.tolerance, "ntk": spec.measure.tolerance, "metrics": ROUNDING}
    found = lines(run, *allowed)
    assert [(line["kind"], line["step"]) for line in found] == [
        (line["kind"], line["step"]) for line in expected if line["kind"] in allowed
    ]
    for kind, fields in (("step", ("loss", "grad_norm", "lr", "accuracy")), ("sharpness", ("value", "threshold")), ("ntk", ("trace",))):
        for field in fields:
            pairs = ([line[field] for line in records if line["kind"] == kind] for records in (found, expected))
            np.testing.assert_allclose(*pairs, rtol=allowed[kind])


@pytest.fixture(scope="module")
def rates(tmp_path_factory):
    """Runs of three learning rates, of which the last one diverges; how they ended, and how often their updates were traced."""
    traces = []
    runs = make(tmp_path_factory.mktemp("rates"), with_rates(0.1, 0.2, 1e6))
    with here() as patch:
        traced = Loop.run
        patch.setattr(Loop, "run", lambda *arguments: traces.append(1) or traced(*arguments))
        statuses = carry_out(runs)
    return runs, statuses, len(traces)


@pytest.fixture(scope="module")
def company(tmp_path_factory):
    """Three runs, of which the second is asked to stop and the third fails; how they ended."""
    runs = make(tmp_path_factory.mktemp("company"), with_rates(0.1, 0.3, 0.2))
    runs[1].request("stop")
    measure = Lane.measure

    def failing(lane, clock):
        if lane.step and lane._spec.optimizer.lr == 0.2:
            raise ValueError("the device is gone")
        return measure(lane, clock)

    with here() as patch:
        patch.setattr(Lane, "measure", failing)
        return runs, carry_out(runs)


def test_each_log_is_that_of_the_run_alone_but_for_rounding(rates):
    with jax.enable_x64(True):
        assert_equal_but_for_rounding(rates[0][1], *with_rates(0.2))


def test_a_run_that_diverges_ends_alone(rates):
    runs, statuses, _ = rates

    assert statuses == ["finished", "finished", "diverged"]
    assert [len(lines(run, "step")) == 12 for run in runs] == [True, True, False]
    assert "Lower optimizer.lr" in ends(runs)[2]


def test_the_updates_of_all_compile_once(rates):
    assert rates[2] == 1


def test_a_run_that_is_asked_to_stop_leaves_with_a_checkpoint(company):
    runs, statuses = company

    assert statuses[1] == "stopped"
    assert ends(runs)[1] == "Asked to stop."
    assert runs[1].checkpoints.exists()


def test_a_run_that_fails_says_why_in_its_own_log(company):
    runs, statuses = company

    assert statuses[2] == "failed"
    assert ends(runs)[2] == "ValueError: the device is gone (traceback in output.txt)"


def test_no_bit_of_a_run_depends_on_who_is_there_and_who_has_gone(rates, company):
    assert len(lines(company[0][0], "step")) == 12
    assert lines(rates[0][0], "step") == lines(company[0][0], "step")


@pytest.mark.slow
def test_runs_with_examples_of_their_own_and_measurements_are_the_runs_alone(tmp_path):
    specs = with_seeds(replace(MEASURED, data=Digits(num_train=64, num_test=0, subset="random")), 0, 1, 2)
    runs = make(tmp_path, specs)

    with here():
        assert carry_out(runs) == ["finished"] * 3
        for run, spec in zip(runs, specs, strict=True):
            assert_equal_but_for_rounding(run, spec)
    assert len({lines(run, "step")[0]["loss"] for run in runs}) == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_trains_together_as_alone(tmp_path, name):
    optimizer = OPTIMIZERS[name]
    base = MEASURED if isinstance(optimizer.lr, EdgeRate) else SPEC
    spec = replace(base, optimizer=replace(optimizer, batch_size="full" if optimizer.batch_size == "full" else 16))
    specs = with_seeds(spec, 0, 1) if isinstance(optimizer.lr, Schedule) else with_rates(optimizer.lr, optimizer.lr / 2, spec=spec)
    runs = make(tmp_path, specs)

    with here():
        assert carry_out(runs) == ["finished"] * 2
        for run, spec in zip(runs, specs, strict=True):
            assert_equal_but_for_rounding(run, spec)


@pytest.mark.slow
def test_a_signal_stops_all_with_checkpoints_from_which_they_go_on_bit_for_bit(tmp_path):
    specs = with_rates(0.1, 0.2, spec=MEASURED)
    whole, cut = make(tmp_path, specs), make(tmp_path, specs)
    signals = Signals()

    with here() as patch:
        assert carry_out(whole) == ["finished"] * 2
        advance = Chunk.advance
        patch.setattr(Chunk, "advance", lambda *arguments: signals.accept(signal.SIGTERM) or advance(*arguments))
        assert carry_out(cut, signals) == ["stopped"] * 2
        assert all(0 < len(lines(run, "step")) < 12 for run in cut)
        patch.setattr(Chunk, "advance", advance)
        assert carry_out(cut) == ["finished"] * 2

    for run, other in zip(whole, cut, strict=True):
        assert lines(run, *SERIES_KINDS) == lines(other, *SERIES_KINDS)


@pytest.mark.slow
def test_a_paused_run_waits_while_the_others_go_on_and_then_goes_on_itself(tmp_path):
    specs = with_rates(0.1, 0.2)
    whole, runs = make(tmp_path, specs), make(tmp_path, specs)
    runs[0].request("pause")
    waits = []

    def unpause(_seconds):
        waits.append(ends(runs))
        runs[0].request("unpause")

    with here() as patch:
        assert carry_out(whole) == ["finished"] * 2
        patch.setattr("runners.together.time", SimpleNamespace(sleep=unpause, perf_counter=time.perf_counter))
        assert carry_out(runs) == ["finished"] * 2

    assert waits == [["All 12 steps are done."]]
    for run, other in zip(whole, runs, strict=True):
        assert lines(run, "step") == lines(other, "step")


def test_what_goes_wrong_in_the_program_ends_all_of_its_runs(tmp_path):
    runs = make(tmp_path, with_rates(0.1, 0.2))

    with here() as patch:
        patch.setattr("runners.together.Program", lambda *_: (_ for _ in ()).throw(MemoryError("no room")))
        assert carry_out(runs) == ["failed"] * 2

    assert ends(runs) == ["MemoryError: no room (traceback in output.txt)"] * 2
