"""Gradient descent beside its prediction, as a run: where it begins and ends, how good it is, and resumed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from msgspec.structs import replace

from runners import environment, spec_file
from runners.errors import SpecError
from runners.experiments import Flow, SelfStabilization
from runners.records import EventRecord, PredictionRecord, SharpnessRecord, StepRecord
from runners.spec import Chebyshev, Measure, Mlp, Run, Sgd, Train
from runners.train import TrainRunner
from tests.runners.driven import built, of, run
from tests.runners.theory.test_self_stabilization import followed

FROM, STEPS = 430, 460
"""Most of a cycle: the loss goes up by a factor of sixteen and comes down again."""
AT_EDGE = Flow(
    data=Chebyshev(degree=3, num_points=8),
    model=Mlp(width=8, depth=2),
    optimizer=Sgd(lr=0.5),
    measure=Measure(sharpness_every=1, tolerance=1e-9, ntk_every=0, evaluate_every=0),
    run=Run(steps=STEPS, seed=1, precision="float64"),
    flow=SelfStabilization(from_step=FROM),
)


@pytest.fixture(scope="module")
def at_edge():
    """The first records with the parameters that the prediction begins at, a later state, and the records behind it."""
    runner = built(AT_EDGE)
    before = run(runner, until=FROM)
    params, unravel = ravel_pytree(runner._state.params)
    start, data = np.array(params), (runner._x, runner._y)
    before += run(runner, until=FROM + 10)
    state = jax.tree.map(np.array, runner.state())
    return before, (start, unravel, data, runner._model.apply), state, run(runner), runner


@pytest.mark.slow
def test_what_is_recorded_is_what_dense_matrices_say(at_edge):
    before, (start, unravel, (x, y), apply), _, after, _ = at_edge

    def loss(params, scale):
        return scale * jnp.mean(jnp.sum((apply(unravel(params), x) - y) ** 2, axis=1)) / 2

    found = followed(loss, jnp.asarray(start), 1.0, lr=AT_EDGE.optimizer.lr, steps=STEPS - FROM)

    error, at, predicted, losses, sharpness = found
    records = of(PredictionRecord, [*before, *after])
    assert [record.step for record in records] == list(range(FROM, STEPS))
    expected = {"error": error, "oscillation": jnp.abs(at.along), "loss": predicted.loss, "sharpness": predicted.sharpness}
    # Newton's method stops 1e-6 off, in units of some parameters' length, and what it is off by grows with the oscillation, twelvefold.
    for name, values in expected.items():
        np.testing.assert_allclose([getattr(record, name) for record in records], values, atol=2e-5, rtol=1e-4, err_msg=name)
    steps = [record.loss for record in of(StepRecord, [*before, *after]) if record.step >= FROM]
    np.testing.assert_allclose(steps, losses, rtol=1e-6)
    measured = [record.value for record in of(SharpnessRecord, [*before, *after]) if record.step < STEPS]
    np.testing.assert_allclose(measured, sharpness, rtol=1e-6)


@pytest.mark.slow
def test_most_of_a_cycle_is_predicted(at_edge):
    before, _, _, after, _ = at_edge

    records, steps, sharpness = (of(kind, [*before, *after]) for kind in (PredictionRecord, StepRecord, SharpnessRecord))
    losses = [record.loss for record in steps if record.step >= FROM]
    assert max(losses) > 10 * losses[0] > 5 * losses[-1]
    away = np.array([record.value for record in sharpness if record.step < STEPS]) - 4
    off = np.array([record.sharpness for record in records]) - 4 - away
    assert np.sqrt(np.mean(off**2)) < 0.5 * np.sqrt(np.mean(away**2))
    assert max(record.constrained_sharpness for record in records) == pytest.approx(4, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("is_new", [False, True])
def test_a_resumed_prediction_goes_on_bit_for_bit(at_edge, is_new):
    _, _, state, after, runner = at_edge
    runner = built(AT_EDGE) if is_new else runner

    runner.restore(state, step=FROM + 10, first_loss=1.0)

    assert run(runner) == after


@pytest.mark.slow
def test_the_run_is_the_training_run_that_it_predicts(at_edge):
    train = Train(**{name: getattr(AT_EDGE, name) for name in Train.__struct_fields__})
    environment.prepare("float64")

    expected = of(StepRecord, run(TrainRunner(replace(train, measure=Measure(sharpness_every=0, ntk_every=0)))))

    assert of(StepRecord, [*at_edge[0], *at_edge[3]]) == expected


@pytest.mark.slow
def test_the_prediction_ends_where_a_second_eigenvalue_comes_to_the_edge(at_edge):
    before, _, state, _, runner = at_edge
    runner.restore(state, step=FROM + 10, first_loss=1.0)
    [*_, record] = of(SharpnessRecord, before)

    [event] = runner._judged(replace(record, values=(4.3, 4.1)), lambda: 0.0)
    records = [*runner.advance(lambda: 0.0)]

    assert event.message == "The prediction ends: a second eigenvalue, 4.1, is above 2/lr = 4, and the theory is of one."
    assert of(PredictionRecord, records) == []
    assert of(StepRecord, records)


@pytest.mark.slow
def test_a_range_below_the_edge_says_that_nothing_was_predicted():
    records = run(built(replace(AT_EDGE, flow=SelfStabilization(from_step=2), run=replace(AT_EDGE.run, steps=6))))

    assert [record.message for record in of(EventRecord, records)] == [
        "The prediction did not begin: no sharpness from step 2 on was at 2/lr = 4. Ask for later steps."
    ]
    assert [record.step for record in of(SharpnessRecord, records)] == [2, 3, 4, 5, 6]
    assert len(of(StepRecord, records)) == 6


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optimizer.name=heavy_ball"], 'optimizer.name = "heavy_ball": self-stabilisation is known for sgd'),
        (["optimizer.batch_size=10"], '"full": self-stabilisation is that of the whole loss'),
        (["measure.num_examples=10"], '"all": self-stabilisation is that of the whole loss'),
        (["measure.sharpness_every=0"], "the sharpness says where the prediction begins"),
        (
            ["optimizer.lr.kind=cosine", "optimizer.lr.peak=0.1", "optimizer.lr.steps=60"],
            "expected a number: self-stabilisation is known at a constant edge",
        ),
        (["flow.from_step=60"], "flow.from_step = 60: expected less than run.steps = 60"),
    ],
)
def test_what_cannot_be_predicted_is_said(tmp_path, overrides, message):
    path = tmp_path / "flow.toml"
    path.write_text('runner = "flow"\n[flow]\nkind = "self_stabilization"\n[run]\nsteps = 60\n')

    with pytest.raises(SpecError, match=message):
        spec_file.load(path, overrides)
