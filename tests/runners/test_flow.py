"""Flows as runs: against closed forms, beside training, and resumed."""

import itertools
import math

import jax
import numpy as np
import pytest
from msgspec.structs import replace

from runners import spec_file
from runners.errors import SpecError
from runners.experiments import CentralFlow, Flow, GradientFlow
from runners.records import FlowRecord, MetricsRecord, SharpnessRecord, StepRecord
from runners.spec import Digits, Gaussian, Linear, Measure, Mlp, RmsProp, Run, Sgd, Train
from tests.runners.driven import built, of, run

MEASURE = Measure(sharpness_every=5, ntk_every=0, evaluate_every=0)
AnyMeasured = StepRecord | FlowRecord | SharpnessRecord | MetricsRecord
AT_EDGE = Flow(
    data=Digits(num_train=60, num_test=0),
    model=Mlp(width=8, depth=2, init_scale=0.3),
    optimizer=Sgd(lr=0.8),
    measure=MEASURE,
    run=Run(steps=60, seed=3),
    flow=CentralFlow(max_critical=2),
)


@pytest.fixture(scope="module")
def at_edge():
    """A central flow that comes to the edge: its state at step 40, and the records before and after."""
    runner = built(AT_EDGE)
    before = run(runner, until=40)
    state = jax.tree.map(np.array, runner.state())
    return before, state, run(runner), runner


@pytest.mark.slow
def test_gradient_flow_of_a_linear_model_has_the_loss_of_the_exact_solution():
    spec = Flow(
        data=Gaussian(num_train=20, num_features=4, noise_std=0.0),
        model=Linear(),
        optimizer=Sgd(lr=0.2),
        measure=MEASURE,
        run=Run(steps=30, precision="float64"),
    )
    runner = built(spec)
    x, y = np.asarray(runner._x), np.asarray(runner._y)
    [start] = (np.array(leaf) for leaf in jax.tree.leaves(runner._state.params))
    values, vectors = np.linalg.eigh(x.T @ x / len(x))
    target = np.linalg.lstsq(x, y, rcond=None)[0]

    records = run(runner)

    losses = [record.loss for record in of(StepRecord, records)]
    coordinates = vectors.T @ (start - target)
    exact = [0.5 * np.sum(values[:, None] * (np.exp(-0.2 * step * values)[:, None] * coordinates) ** 2) for step in range(30)]
    errors = [record.error for record in of(FlowRecord, records)]
    # The loss of w + e differs by at most |e| times the gradient's bound in between, which is below its first value.
    first = np.linalg.norm(values[:, None] * coordinates)
    assert np.all(np.abs(np.subtract(losses, exact)) <= np.array(errors) * first + 1e-14)
    assert errors[0] == 0
    assert errors[-1] < 1e-2 * np.linalg.norm(coordinates)


@pytest.mark.slow
def test_a_flow_begins_where_the_run_begins_that_it_stands_beside(at_edge):
    train = Train(**{name: getattr(AT_EDGE, name) for name in Train.__struct_fields__})

    first = of(StepRecord, run(built(train), until=1))[0]

    # The matrix products of measurements are in full precision, those of training in the device's own.
    assert of(StepRecord, at_edge[0])[0].loss == pytest.approx(first.loss, rel=1e-6)


@pytest.mark.slow
def test_a_central_flow_stays_at_the_edge_and_predicts_more_loss_on_average(at_edge):
    before, _, after, _ = at_edge
    records = [*before, *after]

    flows, steps = of(FlowRecord, records), of(StepRecord, records)
    late = [record for record in flows if record.num_critical]
    assert late[-1].step == 59
    assert late[0].step > 5
    # The directions are as good as their tolerance, and the linearised constraint to the second order of a substep.
    assert of(SharpnessRecord, records)[-1].ratio == pytest.approx(1, abs=5e-3)
    assert max(record.complementarity for record in late) < 1e-6
    for record in late:
        assert record.averaged_loss - steps[record.step].loss == pytest.approx(record.variance / AT_EDGE.optimizer.lr, rel=1e-3, abs=1e-6)
    assert all(later.loss <= earlier.loss for earlier, later in itertools.pairwise(steps))


@pytest.mark.slow
@pytest.mark.parametrize("is_new", [False, True])
def test_a_resumed_central_flow_goes_on_bit_for_bit(at_edge, is_new):
    _, state, after, runner = at_edge
    runner = built(AT_EDGE) if is_new else runner

    runner.restore(state, step=40, first_loss=1.0)

    assert of(AnyMeasured, run(runner)) == of(AnyMeasured, after)


@pytest.mark.slow
def test_below_the_edge_a_central_flow_is_the_gradient_flow(at_edge):
    gradient = run(built(replace(AT_EDGE, flow=GradientFlow())), until=6)

    below = [record.step for record in of(FlowRecord, at_edge[0]) if not record.num_critical][:5]
    assert below == [0, 1, 2, 3, 4]
    assert [record.loss for record in of(StepRecord, gradient)[:5]] == [record.loss for record in of(StepRecord, at_edge[0])[:5]]


@pytest.mark.slow
def test_before_its_first_step_a_flow_makes_the_optimizers_own_updates():
    asked = replace(AT_EDGE, flow=GradientFlow(from_step=7), optimizer=RmsProp(lr=0.01))
    train = Train(**{name: getattr(asked, name) for name in Train.__struct_fields__})

    records, beside = run(built(asked), until=9), run(built(train), until=9)

    losses, expected = ([record.loss for record in of(StepRecord, found)] for found in (records, beside))
    assert losses[:7] == expected[:7]
    assert losses[7] == pytest.approx(expected[7], rel=1e-6)
    assert losses[8] != pytest.approx(expected[8], rel=1e-6)
    assert [record.step for record in of(FlowRecord, records)][:2] == [7, 8]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optimizer.name=adam"], 'optimizer.name = "adam": the central flow is known for sgd, rmsprop'),
        (["flow.kind=gradient", "optimizer.name=muon"], "the gradient flow is known for sgd, heavy_ball, nesterov"),
        (["optimizer.batch_size=10"], '"full": the central flow is that of the whole loss'),
        (["measure.num_examples=10"], '"all": the central flow is that of the whole loss'),
        (["measure.sharpness_every=0"], "the sharpness says how long a flow's steps may be"),
        (["objective.transform=sqrt"], '"none": the flows known are those of the loss itself'),
        (["measure.stableness_every=5"], "a flow does not oscillate in pairs of steps"),
        (["flow.from_step=60"], "flow.from_step = 60: expected less than run.steps = 60"),
        (["optimizer.name=rmsprop", "optimizer.decay=0.1"], "optimizer.decay = 0.1: expected at least 0.5"),
    ],
)
def test_what_a_flow_cannot_be_is_said(tmp_path, overrides, message):
    path = tmp_path / "flow.toml"
    path.write_text('runner = "flow"\n[flow]\nkind = "central"\n[run]\nsteps = 60\n')

    with pytest.raises(SpecError, match=message.replace("(", r"\(")):
        spec_file.load(path, overrides)


@pytest.mark.slow
def test_a_curvature_that_starts_above_the_edge_is_warned_of():
    runner = built(replace(AT_EDGE, optimizer=Sgd(lr=2.0)))

    messages = [record.message for record in run(runner, until=2) if hasattr(record, "message")]

    assert sum("Set flow.from_step" in message for message in messages) == 1
    assert math.isfinite(runner.first_loss)
