"""Each gauge's record says what its estimator finds; the estimators are proven where they live."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from msgspec import UNSET
from optax.tree_utils import tree_set

from runners import curvature, optimizers, spec, thresholds
from runners.curvature import Curvature
from runners.errors import SpecError
from runners.gauges.batches import momentum_shares
from runners.gauges.gauges import GAUGES
from runners.gauges.limiting_flow import LimitingFlowGauge
from runners.gauges.stableness import rule
from runners.measure import mean_square
from tests.runners.measure import dense

NAMES = tuple(gauge.name for gauge in GAUGES if gauge is not LimitingFlowGauge)
"""The limiting flow is for other optimizers than what the others take."""
EVERYTHING = {f"{name}_every": 4 for name in NAMES}
LR, BATCH = 0.1, 3


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with dense.double_precision():
        yield


@pytest.fixture(scope="module")
def case():
    return dense.named("mlp, mse with real targets and weight decay")


def made(case, *, optimizer=None, **measure):
    asked = spec.Train(
        optimizer=optimizer or spec.Sgd(lr=LR, batch_size=BATCH),
        objective=spec.Mse(weight_decay=case.objective.weight_decay),
        measure=spec.Measure(tolerance=1e-8, **measure),
    )
    model = case.model
    return Curvature(asked, model, objective=case.objective, x=case.x, y=case.y, preconditioned=False)


def records_of(measured, params, step, *, lr=LR, velocity=None):
    due = measured.measure(
        params,
        lambda: None,
        lr=lr,
        step=step,
        clock=lambda: 1.5,
        is_due=lambda every: every > 0 and step % every == 0,
        velocity=lambda: velocity,
    )
    return {record.__struct_config__.tag: record for record in due}


@pytest.fixture(scope="module")
def records(case):
    measured = made(case, sharpness_every=2, ntk_every=0, top_k=2, batch_sharpness_full=True, **EVERYTHING)
    return records_of(measured, case.params, 4)


def gradient_of(case):
    rows = jax.grad(lambda w: case._loss(case.model.apply(w, case.x), case.y, jax.flatten_util.ravel_pytree(w)[0]))(case.params)
    return np.asarray(jax.flatten_util.ravel_pytree(rows)[0])


def test_a_spec_that_asks_for_everything_gets_a_record_of_each_kind(records):
    assert list(records) == ["sharpness", *NAMES]
    assert {(record.step, record.time, record.num_examples) for record in records.values()} == {(4, 1.5, 7)}
    assert all(record.seconds > 0 for record in records.values())


def test_what_nobody_asks_for_is_not_measured(case):
    measured = made(case, sharpness_every=2, ntk_every=0)

    assert list(records_of(measured, case.params, 4)) == ["sharpness"]
    assert measured.intervals == (2, 0, 500)


def test_the_gauss_newton_record_has_the_values_and_the_residual_share(records, case):
    record = records["gauss_newton"]

    values, vectors = np.linalg.eigh(case.hessian)
    carried = vectors[:, -1] @ case.gauss_newton @ vectors[:, -1] + case.objective.weight_decay
    assert record.values == pytest.approx(tuple(np.linalg.eigvalsh(case.gauss_newton)[:-3:-1]), rel=1e-8)
    # The eigenvector is as good as the root of the eigenvalue's error over the gap.
    assert record.residual_share == pytest.approx(1 - carried / values[-1], abs=1e-3)


def test_without_the_sharpness_at_the_same_step_there_is_no_residual_share(case):
    measured = made(case, sharpness_every=0, ntk_every=0, gauss_newton_every=3)

    assert records_of(measured, case.params, 3)["gauss_newton"].residual_share is UNSET


def test_the_layers_record_names_the_layers(records, case):
    assert list(records["layers"].values) == list(records["layers"].errors) == list(case.params)
    assert records["layers"].converged


def test_the_gradient_record_is_that_of_the_dense_gradient_and_hessian(records, case):
    record, gradient = records["gradient"], gradient_of(case)

    vectors = np.linalg.eigh(case.hessian)[1][:, :-3:-1].T
    square = gradient @ gradient
    assert record.norm == pytest.approx(square**0.5, rel=1e-10)
    assert record.directional_sharpness == pytest.approx(gradient @ case.hessian @ gradient / square, rel=1e-10)
    assert record.alignment == pytest.approx(sum((vectors @ gradient) ** 2) / square, abs=1e-3)
    assert sum(record.alignments) == pytest.approx(record.alignment)
    assert record.critical_converged
    assert record.critical_lr == pytest.approx(2 / record.critical_sharpness)
    assert record.critical_error <= record.critical_sharpness / 32


def test_where_the_gradient_is_measured_the_sharpness_is_too(case):
    measured = made(case, sharpness_every=0, ntk_every=0, gradient_every=3)

    assert list(records_of(measured, case.params, 3)) == ["sharpness", "gradient"]
    assert records_of(measured, case.params, 2) == {}


def test_the_critical_learning_rate_is_looked_for_from_where_it_was(case):
    measured = made(case, sharpness_every=0, ntk_every=0, gradient_every=1)

    first = records_of(measured, case.params, 1, lr=1e-9)["gradient"]
    second = records_of(measured, case.params, 2, lr=1e-9)["gradient"]

    assert first.critical_num_passes > second.critical_num_passes
    assert first.critical_sharpness == pytest.approx(second.critical_sharpness, abs=first.critical_error + second.critical_error)


def test_the_hessian_trace_is_exact_for_a_model_smaller_than_the_products(case):
    measured = made(case, sharpness_every=0, ntk_every=0, hessian_trace_every=1, hessian_trace_hvps=1000)

    record = records_of(measured, case.params, 1)["hessian_trace"]

    assert record.value == pytest.approx(np.trace(case.hessian), rel=1e-10)
    assert (record.sem, record.num_hvps) == (0, len(case.hessian))


def test_an_estimated_trace_says_how_far_it_may_be_off(records, case):
    record = records["hessian_trace"]

    assert abs(record.value - np.trace(case.hessian)) < 5 * record.sem
    assert record.num_hvps == 32


def test_the_density_is_one_in_all_and_has_the_trace_as_its_mean(case):
    measured = made(case, sharpness_every=0, ntk_every=0, density_every=1, density_probes=2000, density_order=2)

    record = records_of(measured, case.params, 1)["density"]

    at, density = np.array(record.at), np.array(record.density)
    spacing, dim = at[1] - at[0], len(case.hessian)
    variance = np.var(np.linalg.eigvalsh(case.hessian)) * 2 / (dim + 2) / 2000
    # The grid's ends cut off less than 4e-5 of the density.
    assert density.sum() * spacing == pytest.approx(1, abs=1e-4)
    assert (at * density).sum() * spacing == pytest.approx(np.trace(case.hessian) / dim, abs=5 * variance**0.5 + 1e-4 * abs(at).max())
    assert (record.num_probes, record.order, record.num_hvps) == (2000, 2, 4000)


def test_batch_sharpness_is_held_against_two_over_the_learning_rate(records):
    record = records["batch_sharpness"]

    assert record.threshold == 2 / LR
    assert record.ratio == pytest.approx(record.value * LR / 2)
    assert (record.batch_size, record.num_batches, record.num_undefined) == (BATCH, 64, 0)
    assert min(record.sem, record.ratio_of_means_sem, record.gradient_noise_interaction_sem, record.interaction_aware_sharpness_sem) > 0


def test_batch_sharpness_of_the_full_batch_is_the_sharpness_along_the_gradient_and_with_momentum_along_the_update(case):
    measured = made(case, optimizer=spec.HeavyBall(lr=LR, momentum=0.5), sharpness_every=0, ntk_every=0, batch_sharpness_every=1)

    record = records_of(measured, case.params, 1, velocity=case.params)["batch_sharpness"]

    gradient = gradient_of(case)
    step = gradient + 0.5 * np.asarray(jax.flatten_util.ravel_pytree(case.params)[0])
    assert record.value == pytest.approx(gradient @ case.hessian @ gradient / (gradient @ gradient), rel=1e-10)
    assert record.momentum_batch_sharpness == pytest.approx(step @ case.hessian @ step / (step @ gradient), rel=1e-10)
    assert (record.sem, record.momentum_batch_sharpness_sem, record.num_batches) == (0, 0, 1)
    assert record.threshold is UNSET, "its edge under momentum is not 2/lr"
    assert record.gradient_noise_interaction is UNSET


MOMENTA = [spec.HeavyBall(lr=LR, momentum=0.7), spec.Nesterov(lr=LR, momentum=0.7), spec.EmaMomentum(lr=LR, momentum=0.7)]


@pytest.mark.parametrize("optimizer", MOMENTA)
def test_the_update_of_momentum_batch_sharpness_is_the_one_that_the_optimizer_makes(optimizer):
    built, (past, present) = optimizers.build(optimizer), momentum_shares(optimizer)
    params, first, second = {"x": jnp.array([1.0, 2.0])}, {"x": jnp.array([3.0, -1.0])}, {"x": jnp.array([0.5, 4.0])}
    _, state = built.transformation.update(first, built.transformation.init(params), params)
    velocity = built.velocity(state)

    change, _ = built.transformation.update(second, state, params)

    np.testing.assert_allclose(change["x"], -LR * (past * velocity["x"] + present * second["x"]), rtol=1e-14)


@pytest.mark.parametrize("optimizer", MOMENTA)
def test_where_updates_at_the_edge_take_a_parameter_to_its_negative_momentum_batch_sharpness_is_two_over_the_learning_rate(optimizer):
    built, (past, present) = optimizers.build(optimizer), momentum_shares(optimizer)
    edge = thresholds.threshold(optimizer, LR)

    # Then x' = -x and v' = -v: with g = edge x = edge, past v + present g = 2 / lr.
    velocity = (2 / LR - present * edge) / past
    buffers = jax.tree.map(lambda leaf: leaf, built.transformation.init({"x": jnp.zeros(())}))
    state = tree_set(buffers, **{"ema" if isinstance(optimizer, spec.EmaMomentum) else "trace": {"x": jnp.asarray(velocity)}})
    change, state = built.transformation.update({"x": jnp.asarray(edge)}, state, {"x": jnp.ones(())})

    assert float(change["x"]) == pytest.approx(-2, rel=1e-12)
    assert float(built.velocity(state)["x"]) == pytest.approx(-velocity, rel=1e-12)
    step = past * velocity + present * edge
    assert step * edge * step / (step * edge) == pytest.approx(2 / LR, rel=1e-12)


@pytest.mark.parametrize(
    ("optimizer", "objective", "expected"),
    [
        (spec.Sgd(), spec.Mse(), 0.3),
        (spec.NormalizedGd(), spec.Mse(), 0.3 / 5),
        (spec.Sgd(), spec.Mse(transform="sqrt", minimum=1.0), 0.3 / (2 * 2)),
    ],
)
def test_the_effective_learning_rate_is_what_the_gradient_of_the_loss_is_multiplied_with(optimizer, objective, expected):
    found = rule(optimizer, objective)(jnp.asarray(0.3), jnp.asarray(5.0), jnp.asarray(5.0), jnp.asarray(0))

    assert float(found) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("optimizer", "transform", "loss"), [(spec.NormalizedGd(), "none", 3.0), (spec.Sgd(), "sqrt", 1.0)])
def test_where_nothing_moves_the_effective_learning_rate_is_zero(optimizer, transform, loss):
    found = rule(optimizer, spec.Mse(transform=transform, minimum=1.0))(
        jnp.asarray(0.3), jnp.asarray(loss), jnp.asarray(0.0), jnp.asarray(0)
    )

    assert float(found) == 0


def test_the_stableness_record_holds_the_means_of_two_updates_against_two(records):
    record = records["stableness"]

    assert record.reciprocal_sum == pytest.approx(1 / record.value + 1 / record.next_value)
    assert record.effective_reciprocal_sum == pytest.approx(1 / record.effective_sharpness + 1 / record.next_effective_sharpness)
    assert (record.harmonic_mean, record.effective_harmonic_mean) == pytest.approx(
        (2 / record.reciprocal_sum, 2 / record.effective_reciprocal_sum)
    )
    assert (record.threshold, record.ratio) == (2, record.harmonic_mean / 2)
    assert (record.effective_lr, record.next_effective_lr, record.num_points) == (LR, LR, 5)
    assert record.loss_ratio is UNSET, "for gradient descent on the loss no sum of roots is known"
    assert record.value >= record.effective_sharpness == pytest.approx(LR * records["sharpness"].value, rel=1e-7)
    assert record.converged


@pytest.mark.parametrize("optimizer", [spec.Sam(lr=LR, rho=0.2), spec.NormalizedGd(lr=LR)])
def test_an_edge_that_depends_on_the_gradient_takes_its_norm_at_the_same_parameters(case, optimizer):
    measured = made(case, optimizer=optimizer, sharpness_every=1, ntk_every=0)

    record = records_of(measured, case.params, 1)["sharpness"]

    norm = np.linalg.norm(gradient_of(case))
    assert record.threshold == pytest.approx(curvature.thresholds.threshold(optimizer, LR, grad_norm=norm), rel=1e-10)
    assert record.ratio == pytest.approx(record.value / record.threshold)


def test_the_mean_square_edge_is_that_of_the_dense_kernel_and_the_training_batches(case):
    measured = made(case, sharpness_every=0, ntk_every=0, mean_square_every=1)
    record = records_of(measured, case.params, 1, lr=0.2)["mean_square"]

    p = (len(case.x) - BATCH) / (BATCH * (len(case.x) - 1))
    found = mean_square.threshold(
        jnp.asarray(case.ntk()), num_outputs=dense.OUTPUTS, p=p, tolerance=1e-10, max_products=500, key=jax.random.key(5)
    )
    assert record.threshold == pytest.approx(float(found.value), rel=1e-7)
    assert (record.lr, record.converged) == (0.2, True)
    assert record.ratio == pytest.approx(0.2 / record.threshold, rel=1e-12)


def test_the_mean_square_edge_of_too_many_outputs_is_refused_with_the_number_that_fits(case, monkeypatch):
    monkeypatch.setattr(mean_square, "MAX_OUTPUTS", 6 * dense.OUTPUTS)
    with pytest.raises(SpecError, match="at most 6 examples of this model, not 7"):
        made(case, sharpness_every=0, ntk_every=0, mean_square_every=1)
