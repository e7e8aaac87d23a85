"""Limiting flows as runs, without dense Hessians: against the dense flow, beside the run, and resumed."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from msgspec import UNSET
from msgspec.structs import replace

from runners import spec_file
from runners.errors import SpecError
from runners.experiments import Flow, LimitingFlow
from runners.records import EventRecord, FlowRecord, SharpnessRecord, StepRecord
from runners.spec import Chebyshev, Measure, Mlp, Mse, NormalizedGd, Run, Sgd, Train, WarmStart
from runners.theory import limiting_flow
from tests.runners.driven import built, of, run

AnyMeasured = StepRecord | FlowRecord | SharpnessRecord
WARM = WarmStart(steps=600, lr=0.05)
ALONG = Flow(
    data=Chebyshev(degree=3, num_points=5),
    model=Mlp(width=8, depth=2),
    optimizer=NormalizedGd(lr=0.05, warm_start=WARM),
    measure=Measure(sharpness_every=40, ntk_every=0, evaluate_every=0, verify_every=0, tolerance=1e-6),
    run=Run(steps=760, precision="float64"),
    flow=LimitingFlow(stride=20, tolerance=1e-7),
)
ON_ROOT = replace(ALONG, objective=Mse(transform="sqrt"), optimizer=Sgd(lr=0.05, warm_start=WARM))


def loss_of(runner):
    unravel = ravel_pytree(runner._state.params)[1]
    return lambda flat: runner._objective.loss(runner._model.apply, unravel(flat), runner._x, runner._y)


def place(runner):
    return np.array(ravel_pytree(runner._state.params)[0])


@pytest.fixture(scope="module", params=["normalized", pytest.param("sqrt", marks=pytest.mark.slow)])
def along(request):
    """A flow along the minima of the five points: its kind, runner, first and last place, state at step 680 and records."""
    runner = built(ALONG if request.param == "normalized" else ON_ROOT)
    before = run(runner, until=600)
    first = place(runner)
    before += run(runner, until=680)
    state = jax.tree.map(np.array, runner.state())
    after = run(runner)
    return request.param, runner, first, place(runner), state, before, after


@pytest.mark.slow
def test_without_a_hessian_the_flow_comes_to_where_the_dense_one_comes(along):
    kind, runner, first, last, _, _, after = along
    with jax.enable_x64(True):
        loss = loss_of(runner)
        project = jax.jit(lambda x: limiting_flow.project(loss, x).point)
        advance = jax.jit(lambda x, duration: limiting_flow.advance(loss, kind, x, duration=duration, steps=8).point)
        start, end = project(first), project(last)
        tau = 0.05**2 * (760 - 600)
        miss = {factor: float(jnp.linalg.norm(advance(start, factor * tau) - end)) for factor in (0.5, 1.0, 2.0)}

    # What the step's halves differ by, added up to the last step's beginning, and how far the flow stays from the manifold.
    error = of(FlowRecord, after)[-1].error * 8 / 7 + np.linalg.norm(start - first) + np.linalg.norm(end - last)
    assert miss[1.0] <= error
    assert min(miss[0.5], miss[2.0]) > 20 * error


@pytest.mark.slow
def test_the_flow_takes_the_same_warm_start_as_the_run(along):
    kind, _, _, _, _, before, _ = along
    spec = ALONG if kind == "normalized" else ON_ROOT
    train = Train(**{name: getattr(spec, name) for name in Train.__struct_fields__})

    beside = run(built(train), until=600)

    assert [record.loss for record in of(StepRecord, before)[:600]] == [record.loss for record in of(StepRecord, beside)]
    assert [record for record in of(SharpnessRecord, before) if record.step < 600] == of(SharpnessRecord, beside)[:-1]


@pytest.mark.slow
def test_before_the_flow_the_sharpness_is_held_against_gradient_descents_edge_and_then_against_none(along):
    _, _, _, _, _, before, after = along

    held = {record.step: record.threshold for record in of(SharpnessRecord, [*before, *after])}

    assert held == {step: 2 / WARM.lr if step < 600 else UNSET for step in range(0, 761, 40)}


def test_a_step_along_the_flow_is_as_long_as_its_stride_and_ends_at_measurements(along):
    _, _, _, _, _, before, after = along

    flows = of(FlowRecord, [*before, *after])

    assert [record.step for record in flows] == list(range(600, 760, 20))
    assert [record.tau for record in flows] == pytest.approx([0.05**2 * 20 * turn for turn in range(8)], rel=1e-12)
    assert all(record.converged for record in flows)
    assert [record.step for record in of(StepRecord, after)] == list(range(680, 760, 20))


def test_along_the_flow_the_sharpness_falls_while_the_loss_stays_below_what_was_asked(along):
    kind, _, _, _, _, before, after = along

    sharpness = [record.value for record in of(SharpnessRecord, [*before, *after]) if record.step >= 600]
    losses = [record.loss for record in of(StepRecord, [*before, *after]) if record.step >= 600]
    hovering = limiting_flow.hovering(kind, lr=jnp.asarray(0.05), sharpness=jnp.asarray(sharpness[0]))
    assert all(later < earlier for earlier, later in itertools.pairwise(sharpness))
    # The eigenvalue that a projection is held against is that of the middle of its step.
    assert max(losses) <= ALONG.flow.tolerance * hovering * 1.05


def test_events_say_where_the_warm_start_ends_and_the_flow_begins(along):
    _, _, _, _, _, before, _ = along

    assert [(record.step, record.event) for record in of(EventRecord, before)] == [(600, "warm_start_over"), (600, "flow_began")]


@pytest.mark.slow
@pytest.mark.parametrize("is_new", [False, True])
def test_a_resumed_flow_goes_on_bit_for_bit(along, is_new):
    kind, runner, _, _, state, _, after = along
    runner = built(ALONG if kind == "normalized" else ON_ROOT) if is_new else runner

    runner.restore(state, step=680, first_loss=1.0)

    assert of(AnyMeasured, run(runner)) == of(AnyMeasured, after)


@pytest.mark.slow
def test_a_flow_that_cannot_come_to_the_manifold_warns():
    unreachable = replace(ALONG, objective=Mse(weight_decay=0.01))

    messages = [record.message for record in of(EventRecord, run(built(unreachable), until=600)) if record.event == "warning"]

    assert len(messages) == 1
    assert "Raise flow.tolerance" in messages[0]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optimizer.name=adam"], 'limiting flow is known for optimizer.name = "normalized_gd" and objective.transform = "sqrt", not adam'),
        (["optimizer.name=sgd"], "not sgd on the loss itself"),
        (["optimizer.batch_size=10"], "the limiting flow is known for all examples in each step"),
        (["measure.num_examples=10"], "the limiting flow is known for all examples in each step"),
        (["optimizer.lr={kind='warmup',peak=0.1,steps=5}"], "one learning rate, on whose square the flow's time goes"),
        (["measure.stableness_every=5"], "a flow does not oscillate in pairs of steps"),
        (["flow.from_step=60"], "flow.from_step = 60: expected less than run.steps = 60"),
        (["flow.kind=gradient"], "the gradient flow is known for sgd, heavy_ball"),
    ],
)
def test_what_a_limiting_flow_cannot_be_is_said(tmp_path, overrides, message):
    path = tmp_path / "flow.toml"
    path.write_text('runner = "flow"\n[flow]\nkind = "limiting"\n[optimizer]\nname = "normalized_gd"\n[run]\nsteps = 60\n')

    with pytest.raises(SpecError, match=re.escape(message)):
        spec_file.load(path, overrides)
