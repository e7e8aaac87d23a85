import itertools
import math

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from msgspec import UNSET
from msgspec.structs import replace

from runners.errors import SpecError
from runners.records import BatchSharpnessRecord, MetricsRecord, NtkRecord, SharpnessRecord, StepRecord
from runners.sampling import batch_indices
from runners.spec import (
    Adam,
    Chebyshev,
    CrossEntropy,
    Digits,
    HeavyBall,
    Linear,
    Measure,
    Mlp,
    Mse,
    NormalizedGd,
    Piecewise,
    Run,
    Sam,
    Sgd,
    Train,
)
from runners.train import TrainRunner

SMALL = Train(
    data=Digits(num_train=60, num_test=20),
    model=Mlp(width=8, depth=2),
    optimizer=Sgd(lr=0.1),
    measure=Measure(sharpness_every=5, ntk_every=10, evaluate_every=10),
    run=Run(steps=20),
)
UNMEASURED = Measure(sharpness_every=0, ntk_every=0, evaluate_every=0)


def run(spec):
    """All records of a run, in order, with a clock that counts the looks at it."""
    runner = TrainRunner(spec)
    ticks = itertools.count()

    def clock():
        return float(next(ticks))

    records = []
    while runner.step < runner.steps and not runner.diverged:
        records += [*runner.measure(clock), *runner.advance(clock)]
    records += runner.measure(clock)
    return runner, records


def of(kind, records):
    return [record for record in records if isinstance(record, kind)]


def losses(spec):
    return [record.loss for record in of(StepRecord, run(spec)[1])]


@pytest.fixture(scope="module")
def small():
    return run(SMALL)


def linear(**objective):
    """Twelve steps of gradient descent with a linear model, in float64."""
    precise = Run(steps=12, precision="float64")
    return replace(SMALL, model=Linear(), objective=Mse(**objective), optimizer=Sgd(lr=0.3), measure=UNMEASURED, run=precise)


@pytest.mark.parametrize("minimum", [0.0, 0.05])
def test_the_root_of_the_loss_is_descended_and_the_loss_itself_logged(minimum):
    with jax.enable_x64(True):
        spec = linear(transform="sqrt", minimum=minimum)
        runner, records = run(spec)
        x, y = np.asarray(runner._data.x).reshape(60, -1), np.eye(10)[runner._data.y]
        kernel = np.asarray(TrainRunner(spec)._model.params["layer_0"]["kernel"])

    for record in of(StepRecord, records):
        residual = x @ kernel - y
        loss, gradient = 0.5 * np.sum(residual**2) / 60, x.T @ residual / 60
        assert (record.loss, record.lr) == pytest.approx((loss, 0.3), rel=1e-12)
        assert record.grad_norm == pytest.approx(np.linalg.norm(gradient), rel=1e-12)
        kernel = kernel - 0.3 * gradient / (2 * math.sqrt(loss - minimum))


def test_a_loss_below_its_stated_minimum_ends_the_run_and_says_so():
    with jax.enable_x64(True):
        runner, records = run(linear(transform="sqrt", minimum=100.0))

    assert len(of(StepRecord, records)) == 1
    assert "below objective.minimum = 100: " in runner.diverged


def test_each_update_is_that_of_a_plain_loop_in_float64():
    with jax.enable_x64(True):
        spec = replace(SMALL, model=Linear(bias=True), measure=UNMEASURED, run=Run(steps=12, precision="float64"))
        runner, records = run(spec)
        x, y = np.asarray(runner._data.x).reshape(60, -1), np.eye(10)[runner._data.y]
        start = TrainRunner(spec)._model.params["layer_0"]
    kernel, bias = np.asarray(start["kernel"]), np.asarray(start["bias"])

    for record in of(StepRecord, records):
        residual = x @ kernel + bias - y
        gradients = x.T @ residual / 60, residual.mean(axis=0)
        assert record.loss == pytest.approx(0.5 * np.sum(residual**2) / 60, rel=1e-12)
        assert record.grad_norm == pytest.approx(math.sqrt(sum(np.sum(g**2) for g in gradients)), rel=1e-12)
        kernel, bias = kernel - 0.1 * gradients[0], bias - 0.1 * gradients[1]


@pytest.mark.slow
def test_sam_differentiates_a_second_time_on_the_same_batch_with_the_weight_decay_and_logs_the_first():
    with jax.enable_x64(True):
        sam, decay = Sam(lr=0.1, rho=0.3, batch_size=20), 0.2
        measured = replace(SMALL, model=Linear(), objective=Mse(weight_decay=decay), measure=UNMEASURED)
        runner, records = run(replace(measured, optimizer=sam, run=Run(steps=12, precision="float64")))
        kernel = np.asarray(TrainRunner(runner._spec)._model.params["layer_0"]["kernel"])
        how = {"num_examples": 60, "batch_size": 20, "sampling": sam.sampling}
        batches = [np.asarray(batch_indices(jax.random.key(0), step, **how)) for step in range(12)]
    x, y = np.asarray(runner._data.x).reshape(60, -1), np.eye(10)[runner._data.y]

    for record, batch in zip(of(StepRecord, records), batches, strict=True):

        def gradient(kernel, batch=batch):
            return x[batch].T @ (x[batch] @ kernel - y[batch]) / 20 + decay * kernel

        first = gradient(kernel)
        loss = 0.5 * np.sum((x[batch] @ kernel - y[batch]) ** 2) / 20 + decay / 2 * np.sum(kernel**2)
        assert record.loss == pytest.approx(loss, rel=1e-12)
        assert record.grad_norm == pytest.approx(np.linalg.norm(first), rel=1e-12)
        kernel = kernel - 0.1 * gradient(kernel + 0.3 * first / np.linalg.norm(first))


def test_momentum_batch_sharpness_is_measured_with_the_velocity_of_the_run_which_is_zero_at_first():
    measured = replace(UNMEASURED, batch_sharpness_every=2, batch_sharpness_batches=2)
    spec = replace(SMALL, model=Linear(), optimizer=HeavyBall(lr=0.05, batch_size=20), measure=measured, run=Run(steps=2))

    first, later = of(BatchSharpnessRecord, run(spec)[1])

    assert first.momentum_batch_sharpness == pytest.approx(first.ratio_of_means, rel=1e-5)
    assert later.momentum_batch_sharpness != pytest.approx(later.ratio_of_means, rel=1e-2)


def test_every_step_is_logged_once_and_in_order(small):
    assert [record.step for record in of(StepRecord, small[1])] == list(range(20))


def test_measurements_come_at_their_steps_and_at_the_last(small):
    odd = run(replace(SMALL, measure=Measure(sharpness_every=7, ntk_every=0, evaluate_every=0)))[1]

    assert [record.step for record in of(SharpnessRecord, small[1])] == [0, 5, 10, 15, 20]
    assert [record.step for record in of(NtkRecord, small[1])] == [0, 10, 20]
    assert [record.step for record in of(SharpnessRecord, odd)] == [0, 7, 14, 20]


def test_the_numbers_of_a_step_belong_to_the_same_parameters(small):
    evaluated = {record.step: record.values for record in of(MetricsRecord, small[1])}
    for record in of(StepRecord, small[1]):
        if record.step in (0, 10):
            assert evaluated[record.step]["train_loss"] == pytest.approx(record.loss, rel=1e-6)
            assert evaluated[record.step]["train_accuracy"] == pytest.approx(record.accuracy, rel=1e-6)


def test_a_measurement_comes_before_the_update_of_its_step(small):
    order = [(record.step, type(record)) for record in small[1]]

    assert order.index((5, SharpnessRecord)) == order.index((4, StepRecord)) + 1


def test_measuring_does_not_change_the_training(small):
    assert losses(replace(SMALL, measure=UNMEASURED)) == [record.loss for record in of(StepRecord, small[1])]


FOLLOWED = replace(UNMEASURED, sharpness_every=1, solve_every=5, verify_every=0)


@pytest.mark.slow
def test_a_followed_sharpness_is_the_quotient_of_a_vector_that_took_a_power_step_with_the_hessian_of_two_updates_before():
    with jax.enable_x64(True):
        spec = replace(
            SMALL, objective=Mse(weight_decay=0.05), measure=replace(FOLLOWED, tolerance=1e-10), run=Run(steps=14, precision="float64")
        )
        runner, records = run(spec)
        x, y, lr = runner._x, runner._y, 0.1
        flat, unravel = ravel_pytree(TrainRunner(spec)._model.params)

        def loss(flat):
            return runner._objective.loss(runner._model.apply, unravel(flat), x, y)

        gradient, hessian = jax.jit(jax.grad(loss)), jax.jit(jax.hessian(loss))
        found = of(SharpnessRecord, records)
        vectors = {}
        for step, record in enumerate(found[:-1]):
            values, columns = np.linalg.eigh(hessian(flat))
            if step % 5 == 0:
                vectors = dict.fromkeys((0, 1), columns[:, -1])
                assert record.value == pytest.approx(values[-1], rel=1e-10)
            vector = vectors[step % 2]
            image = np.asarray(hessian(flat)) @ vector
            if step % 5:
                assert record.value == pytest.approx(vector @ image, rel=1e-7)
                assert record.residual == pytest.approx(np.linalg.norm(image - vector @ image * vector), rel=1e-3)
                assert record.value <= values[-1]
            vectors[step % 2] = image / np.linalg.norm(image)
            flat = flat - lr * gradient(flat)


def test_a_followed_sharpness_says_that_it_is_no_solution_and_comes_at_each_step_before_its_update():
    spec = replace(SMALL, measure=FOLLOWED, run=Run(steps=13, checkpoint_every=4))

    records = run(spec)[1]

    found = of(SharpnessRecord, records)
    assert [(record.step, record.converged) for record in found] == [(step, step in (0, 5, 10, 13)) for step in range(14)]
    assert [(record.step, type(record)) for record in records][:4] == [
        (0, SharpnessRecord),
        (0, StepRecord),
        (1, SharpnessRecord),
        (1, StepRecord),
    ]
    followed = [record for record in found if not record.converged]
    assert {(record.num_hvps, record.error - record.residual, record.threshold) for record in followed} == {(1, 0.0, 20.0)}
    assert all(record.ratio == record.value / 20 for record in followed)


def test_a_followed_sharpness_is_held_against_the_edge_that_its_own_gradient_sets():
    spec = replace(SMALL, optimizer=NormalizedGd(lr=0.01), measure=FOLLOWED, run=Run(steps=4))

    records = run(spec)[1]

    norms = {record.step: record.grad_norm for record in of(StepRecord, records)}
    assert all(record.threshold == pytest.approx(2 * norms[record.step] / 0.01, rel=1e-5) for record in of(SharpnessRecord, records)[:-1])


def test_a_followed_sharpness_of_descent_on_the_root_is_held_against_the_edge_that_its_own_loss_sets():
    spec = replace(SMALL, objective=Mse(transform="sqrt"), measure=FOLLOWED, run=Run(steps=4))

    records = run(spec)[1]

    roots = {record.step: math.sqrt(record.loss) for record in of(StepRecord, records)}
    assert all(record.threshold == pytest.approx(4 * roots[record.step] / 0.1, rel=1e-5) for record in of(SharpnessRecord, records)[:-1])


@pytest.mark.slow
def test_following_changes_the_training_by_rounding_alone():
    with jax.enable_x64(True):
        precise = replace(SMALL, run=Run(steps=20, precision="float64"))

        assert losses(replace(precise, measure=FOLLOWED)) == pytest.approx(losses(replace(precise, measure=UNMEASURED)), rel=1e-12)


def test_the_updates_compile_once_whatever_the_intervals_are(monkeypatch):
    traced = []
    spec = replace(SMALL, measure=Measure(sharpness_every=3, ntk_every=0, evaluate_every=7), run=Run(steps=20, checkpoint_every=4))
    runner = TrainRunner(spec)
    monkeypatch.setattr("runners.train.Loop._update", lambda *_: traced.append(1))

    counts = set()
    while runner.step < 20:
        before = runner.step
        list(runner.measure(lambda: 0.0))
        list(runner.advance(lambda: 0.0))
        counts.add(runner.step - before)

    assert len(counts) > 1
    assert traced == []


def test_a_chunk_ends_at_the_next_measurement_or_checkpoint():
    runner = TrainRunner(replace(SMALL, run=Run(steps=20, checkpoint_every=8)))
    runner._step_seconds = 1e-9
    ends = []
    while runner.step < 20:
        list(runner.advance(lambda: 0.0))
        runner._step_seconds = 1e-9
        ends.append(runner.step)

    assert ends == [5, 8, 10, 15, 16, 20]


@pytest.mark.slow
def test_a_chunk_of_slow_steps_is_short():
    runner = TrainRunner(SMALL)
    runner._step_seconds = 0.15

    list(runner.advance(lambda: 0.0))

    assert runner.step == 1


def test_divergence_says_between_which_steps_and_where_the_sharpness_stood():
    runner, records = run(replace(SMALL, optimizer=Sgd(lr=50.0), run=Run(steps=200)))

    last = of(StepRecord, records)[-1]
    assert f"between steps {last.step - 1} and {last.step}" in runner.diverged
    assert "of its threshold 2/lr" in runner.diverged
    assert runner.step == last.step


def test_a_loss_above_the_stated_bound_is_divergence_before_it_overflows():
    runner, records = run(replace(SMALL, optimizer=Sgd(lr=50.0), measure=UNMEASURED, run=Run(steps=200, divergence_factor=10.0)))

    first, *_, last = [record.loss for record in of(StepRecord, records)]
    assert f"{last:g}, above {10 * max(1, first):g}" in runner.diverged
    assert math.isfinite(last)


def test_the_last_update_is_judged_too():
    spec = replace(SMALL, optimizer=Sgd(lr=1e30), measure=UNMEASURED, run=Run(steps=1))

    runner, records = run(spec)

    assert "step" in runner.diverged
    assert len(of(StepRecord, records)) == 1


def test_minibatch_runs_log_the_loss_on_the_measured_examples_with_weight_decay():
    spec = replace(
        SMALL,
        optimizer=Sgd(lr=0.05, batch_size=8),
        objective=Mse(weight_decay=0.5),
        measure=Measure(sharpness_every=5, ntk_every=0, evaluate_every=0, num_examples=30),
    )
    runner, records = run(spec)

    last = of(MetricsRecord, records)[-1]
    outputs = runner._model.apply(runner._state.params, runner._x[:30])
    data_loss = 0.5 * np.sum((np.asarray(outputs) - np.eye(10)[runner._data.y[:30]]) ** 2) / 30
    squares = sum(float(np.sum(np.asarray(leaf) ** 2)) for leaf in jax.tree.leaves(runner._state.params))
    assert last.values["measured_loss"] == pytest.approx(data_loss + 0.25 * squares, rel=1e-5)
    assert [record.step for record in of(MetricsRecord, records)] == [0, 5, 10, 15, 20]


def test_real_targets_have_no_accuracy():
    spec = Train(data=Chebyshev(), model=Mlp(width=8, depth=2), measure=Measure(evaluate_every=5), run=Run(steps=5))

    records = run(spec)[1]

    assert all(record.accuracy is UNSET for record in of(StepRecord, records))
    assert set(of(MetricsRecord, records)[0].values) == {"train_loss"}


def test_the_rate_and_the_threshold_follow_the_schedule_step_by_step():
    spec = replace(SMALL, optimizer=Sgd(lr=Piecewise(values=(0.1, 0.025), boundaries=(10,))))

    records = run(spec)[1]

    assert [record.lr for record in of(StepRecord, records)] == [0.1] * 10 + [0.025] * 10
    assert [record.threshold for record in of(SharpnessRecord, records)] == pytest.approx([20, 20, 80, 80, 80])


def test_the_log_says_the_rate_as_it_was_asked_for(small):
    assert {record.lr for record in of(StepRecord, small[1])} == {0.1}


@pytest.mark.slow
def test_seeds_decide_start_and_order_one_by_one():
    spec = replace(SMALL, optimizer=Sgd(lr=0.05, batch_size=8), measure=UNMEASURED)

    def with_run(**keys):
        return losses(replace(spec, run=Run(steps=5, **keys)))

    assert with_run(seed=1) == with_run(seed=1)
    assert with_run(seed=1) != with_run(seed=2)
    assert with_run(seed=1) == with_run(seed=2, init_seed=1, data_seed=1, order_seed=1)
    assert with_run(seed=1, order_seed=7) != with_run(seed=1)


def test_cross_entropy_trains_too():
    spec = replace(SMALL, objective=CrossEntropy(), optimizer=Adam(lr=0.01), measure=UNMEASURED, run=Run(steps=100))

    found = losses(spec)

    assert found[0] == pytest.approx(math.log(10), rel=0.3)
    assert found[-1] < 0.2


def test_the_header_describes_run_data_and_panels(small):
    header = small[0].header("digits-x")

    assert (header.run, header.steps, header.batch_size, header.num_examples, header.num_measured) == ("digits-x", 20, 60, 60, 60)
    assert header.num_params == 64 * 8 + 8 + 8 * 10 + 10
    assert header.threshold_formula == "2/lr"
    assert [panel.title for panel in header.panels] == ["loss", "sharpness", "NTK trace"]
    assert header.data.standardization != "none"


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(SpecError, match=r"optimizer\.batch_size = 61: expected at most 60"):
        TrainRunner(replace(SMALL, optimizer=Sgd(batch_size=61)))
