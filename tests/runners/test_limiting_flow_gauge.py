"""Runs beside their limiting flow, on the valley (1 + x^2) y^2, where all of it has closed forms."""

import math

import numpy as np
import pytest

from runners import kinds
from runners.checkpoint import Checkpoints, Progress
from runners.errors import SpecError
from runners.experiments import Function, FunctionMeasure, FunctionRun, Quadratic, Valley, Value
from runners.records import LimitingFlowRecord, MetricsRecord
from runners.spec import NormalizedGd, Sgd

LR = 0.1
MEASURE = FunctionMeasure(sharpness_every=0, limiting_flow_every=20, parameters_every=20)


def spec(kind, *, steps=60, start=None):
    length = 1.0 if kind == "normalized" else math.sqrt(5)
    return Function(
        function=Valley(start=start or (2.0, 0.3 * LR * length)),
        objective=Value() if kind == "normalized" else Value(transform="sqrt"),
        optimizer=NormalizedGd(lr=LR) if kind == "normalized" else Sgd(lr=LR),
        measure=MEASURE,
        run=FunctionRun(steps=steps),
    )


@pytest.fixture(autouse=True)
def float64(monkeypatch):
    import jax

    with jax.enable_x64(True):
        yield


def records(runner):
    found = []
    while runner.step < runner.steps:
        found += [*runner.measure(lambda: 0.0), *runner.advance(lambda: 0.0)]
    return [*found, *runner.measure(lambda: 0.0)]


def on_floor(x, y):
    """Where gradient flow ends: log x + x^2 / 2 - y^2 / 2 stays."""
    wanted, end = math.log(x) + x**2 / 2 - y**2 / 2, x
    for _ in range(50):
        end -= (math.log(end) + end**2 / 2 - wanted) / (1 / end + end)
    return end


def flowed(kind, x, tau):
    """The limiting flow from (x, 0): log x + x^2 / 2 falls by tau / 2, or x by exp(-tau / 2)."""
    if kind == "sqrt":
        return x * math.exp(-tau / 2)
    wanted, end = math.log(x) + x**2 / 2 - tau / 2, x
    for _ in range(50):
        end -= (math.log(end) + end**2 / 2 - wanted) / (1 / end + end)
    return end


@pytest.mark.parametrize("kind", [pytest.param("normalized", marks=pytest.mark.slow), "sqrt"])
def test_the_distance_is_that_of_the_closed_forms(kind):
    found = records(kinds.build(spec(kind)))

    measured = [record for record in found if isinstance(record, LimitingFlowRecord)]
    positions = {record.step: record.values for record in found if isinstance(record, MetricsRecord)}
    begin = on_floor(**positions[0])
    assert [record.step for record in measured] == [0, 20, 40, 60]
    assert measured[0].distance == 0
    for record in measured:
        at, flow = on_floor(**positions[record.step]), flowed(kind, begin, LR**2 * record.step)
        # Runge-Kutta in steps of 0.1 over the sharpness is off by some 0.1^4 of the way to the floor, y^2 / 2 or less.
        assert record.distance == pytest.approx(abs(at - flow), abs=1e-6)
        assert record.error < 1e-6
        assert record.offset == pytest.approx(math.hypot(positions[record.step]["x"] - at, positions[record.step]["y"]), abs=1e-6)
        assert record.projected_sharpness == pytest.approx(2 * (1 + at**2), rel=1e-5)
        assert record.flow_sharpness == pytest.approx(2 * (1 + flow**2), rel=1e-5)
        assert record.converged


@pytest.mark.slow
def test_a_run_that_goes_on_from_a_checkpoint_measures_the_same(tmp_path):
    whole = [record for record in records(kinds.build(spec("sqrt"))) if isinstance(record, LimitingFlowRecord)]
    first = kinds.build(spec("sqrt"))
    while first.step < 40:
        list(first.measure(lambda: 0.0))
        list(first.advance(lambda: 0.0))
    list(first.measure(lambda: 0.0))
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(Progress(step=40, time=0.0, measure_seconds=0.0, first_loss=first.first_loss, log_bytes=0), first.state())

    second = kinds.build(spec("sqrt"), fresh=False)
    _, state = Checkpoints(tmp_path).restore(second.state())
    second.restore(state, step=40, first_loss=first.first_loss)
    [last] = [record for record in records(second) if isinstance(record, LimitingFlowRecord)]

    assert (last.step, last.distance, last.error) == (60, whole[-1].distance, whole[-1].error)


def test_too_many_parameters_are_refused():
    many = spec("normalized")
    function = Quadratic(spectrum=tuple(np.ones(201)), start=tuple(np.ones(201)))

    with pytest.raises(SpecError, match=r"limiting_flow_every = 20: expected at most 200 parameters, not 201"):
        kinds.build(Function(function=function, optimizer=many.optimizer, measure=MEASURE, run=many.run))
