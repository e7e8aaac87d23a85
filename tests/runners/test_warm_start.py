"""Gradient descent before the optimizer's own updates: what is updated, held against which edge, told and resumed."""

import itertools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from msgspec import UNSET
from msgspec.structs import replace

from runners import kinds, optimizers, spec_file, thresholds
from runners.checkpoint import Checkpoints, Progress
from runners.errors import SpecError
from runners.experiments import Function, FunctionMeasure, FunctionRun, Valley, Value
from runners.records import EventRecord, LimitingFlowRecord, MetricsRecord, SharpnessRecord, StablenessRecord, StepRecord
from runners.spec import NormalizedGd, Piecewise, Sgd, WarmStart

WARM = WarmStart(steps=5, lr=0.02)
MEASURE = FunctionMeasure(sharpness_every=2, stableness_every=4, verify_every=0, tolerance=1e-10)


def spec(kind):
    return Function(
        function=Valley(start=(2.0, 0.3)),
        objective=Value() if kind == "normalized" else Value(transform="sqrt"),
        optimizer=(NormalizedGd if kind == "normalized" else Sgd)(lr=0.1, warm_start=WARM),
        measure=MEASURE,
        run=FunctionRun(steps=14),
    )


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def records(runner, until=None):
    clock = itertools.repeat(0.0).__next__
    found = []
    while runner.step < (until or runner.steps):
        found += [*runner.measure(clock), *runner.advance(clock)]
    return [*found, *runner.measure(clock)]


@pytest.fixture(scope="module", params=["normalized", pytest.param("sqrt", marks=pytest.mark.slow)])
def whole(request):
    with jax.enable_x64(True):
        return request.param, records(kinds.build(spec(request.param)))


def of(kind, found):
    return [record for record in found if isinstance(record, kind)]


def gradient(x, y):
    return np.array([2 * x * y**2, 2 * (1 + x**2) * y])


def loss(x, y):
    return (1 + x**2) * y**2


def test_the_updates_are_gradient_descents_and_then_the_optimizers(whole):
    kind, found = whole
    place, expected = np.array([2.0, 0.3]), []
    for step in range(15):
        expected.append(place)
        slope = gradient(*place)
        own = 0.1 / np.linalg.norm(slope) if kind == "normalized" else 0.1 / (2 * math.sqrt(loss(*place)))
        place = place - (0.02 if step < 5 else own) * slope

    positions = [(record.values["x"], record.values["y"]) for record in of(MetricsRecord, found) if "x" in record.values]
    assert positions == pytest.approx(np.array(expected), rel=1e-12)
    assert [record.lr for record in of(StepRecord, found)] == [0.02] * 5 + [0.1] * 9


def test_the_sharpness_is_held_against_the_edge_of_the_phase(whole):
    kind, found = whole
    steps = {record.step: record for record in of(StepRecord, found)}

    for record in of(SharpnessRecord, found)[:-1]:
        at = steps[record.step]
        own = 2 * at.grad_norm / 0.1 if kind == "normalized" else 4 * math.sqrt(at.loss) / 0.1
        assert record.threshold == pytest.approx(2 / 0.02 if record.step < 5 else own, rel=1e-12)


def test_a_pair_of_updates_across_the_switch_has_one_of_each(whole):
    kind, found = whole
    steps = {record.step: record for record in of(StepRecord, found)}

    before, across, after = of(StablenessRecord, found)[:3]

    own = 0.1 / steps[5].grad_norm if kind == "normalized" else 0.1 / (2 * math.sqrt(steps[5].loss))
    assert (before.step, across.step, after.step) == (0, 4, 8)
    assert (before.effective_lr, before.next_effective_lr) == (0.02, 0.02)
    assert (across.effective_lr, across.next_effective_lr) == (0.02, pytest.approx(own, rel=1e-9))
    assert before.loss_ratio is UNSET
    assert across.loss_ratio is UNSET
    assert math.isfinite(after.loss_ratio)


@pytest.mark.slow
def test_the_distance_to_the_limiting_flow_is_measured_from_the_switch_on():
    asked = spec("normalized")
    asked = replace(asked, measure=FunctionMeasure(sharpness_every=0, limiting_flow_every=7))

    measured = of(LimitingFlowRecord, records(kinds.build(asked)))

    assert [record.step for record in measured] == [7, 14]
    assert measured[0].distance == 0
    assert 0 < measured[1].distance < 0.01


def test_an_event_marks_the_switch(whole):
    _, found = whole

    assert [(record.step, record.event) for record in of(EventRecord, found)] == [(5, "warm_start_over")]


def test_an_event_marks_where_the_learning_rate_jumps():
    asked = spec("normalized")
    rate = Piecewise(values=(0.1, 0.05, 0.2), boundaries=(3, 7))
    asked = replace(asked, optimizer=replace(asked.optimizer, lr=rate), measure=FunctionMeasure(sharpness_every=0))

    found = records(kinds.build(asked))

    jumps = [record for record in of(EventRecord, found) if record.event == "lr_changed"]
    assert [(record.step, record.message) for record in jumps] == [
        (8, "The learning rate went from 0.1 to 0.05."),
        (12, "The learning rate went from 0.05 to 0.2."),
    ]
    assert [record.lr for record in of(StepRecord, found)] == [0.02] * 5 + [0.1] * 3 + [0.05] * 4 + [0.2] * 2
    assert jumps[0].data == {"from": 0.1, "to": 0.05}


@pytest.mark.slow
@pytest.mark.parametrize("step", [4, 6])
def test_a_run_resumed_in_either_phase_goes_on_bit_for_bit(whole, step, tmp_path):
    kind, found = whole
    first = kinds.build(spec(kind))
    records(first, until=step)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(Progress(step=step, time=0.0, measure_seconds=0.0, first_loss=first.first_loss, log_bytes=0), first.state())

    second = kinds.build(spec(kind), fresh=False)
    _, state = Checkpoints(tmp_path).restore(second.state())
    second.restore(state, step=step, first_loss=first.first_loss)
    rest = records(second)

    told = [replace(record, seconds=0.0) if hasattr(record, "seconds") else record for record in found if record.step > step]
    assert [replace(record, seconds=0.0) if hasattr(record, "seconds") else record for record in rest if record.step > step] == told


def test_a_schedule_counts_from_the_switch_on():
    rate = optimizers.learning_rate(NormalizedGd(lr=Piecewise(values=(0.1, 0.05), boundaries=(3,)), warm_start=WARM))

    assert [float(rate(step)) for step in range(10)] == [0.02] * 5 + [0.1] * 3 + [0.05] * 2


def test_the_noise_waits_for_the_switch():
    shake = jax.jit(optimizers.build(NormalizedGd(noise=0.1, noise_every=2, warm_start=WARM)).shake)
    place = jnp.zeros(3)

    moved = [bool((shake({"x": place}, jax.random.key(0), step)["x"] != place).any()) for step in range(8)]

    assert moved == [False] * 5 + [True, False, True]


def test_the_formula_says_both_edges():
    table = NormalizedGd(warm_start=WARM)

    assert thresholds.formula(table) == "2/lr, then 2|g|/lr"
    assert [thresholds.formula(table, step=step) for step in (4, 5)] == ["2/lr", "2|g|/lr"]
    assert thresholds.formula(Sgd(warm_start=WARM), "sqrt") == "2/lr, then 4sqrt(L-L_min)/lr"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "sgd"\nwarm_start = {steps = 5, lr = 0.1}', "it goes before other updates than those of gradient descent on the loss"),
        ('name = "adam"\nwarm_start = {steps = 5, lr = 0.1}', "optimizer.warm_start is not a known key. It belongs to optimizer.name"),
        ('name = "ngd"', 'optimizer.name = "ngd": expected'),
        ('name = "normalized_gd"\nbatch_size = 8\nwarm_start = {steps = 5, lr = 0.1}', "it is gradient descent with the full batch"),
        (
            'name = "normalized_gd"\nwarm_start = {steps = 60, lr = 0.1}',
            "optimizer.warm_start.steps = 60: expected less than run.steps = 60",
        ),
        ('name = "normalized_gd"\nwarm_start = {steps = 5}', "optimizer.warm_start.lr is missing"),
        (
            'name = "normalized_gd"\nlr = {kind = "edge", of = "sharpness", initial = 0.1}\nwarm_start = {steps = 5, lr = 0.1}',
            "its learning rate is its own",
        ),
    ],
)
def test_where_a_warm_start_does_not_belong_is_said(tmp_path, text, message):
    path = tmp_path / "warm.toml"
    path.write_text(f"[optimizer]\n{text}\n[run]\nsteps = 60\n")

    with pytest.raises(SpecError, match=re.escape(message)):
        spec_file.load(path, [])
