import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from runners import models, spec
from runners.measure import sharpness
from runners.measure.eigenvalues import Accuracy, EigenMeter
from runners.measure.operators import Problem
from runners.objectives import Objective
from tests.runners.measure import dense

TIGHT = Accuracy(tolerance=1e-10, max_products=300)
ROUGH = Accuracy(tolerance=1e-10, max_products=7)
MLP = "mlp, mse with real targets and weight decay"


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with dense.double_precision():
        yield


@functools.cache
def meter_of(accuracy):
    case = dense.named(MLP)
    return EigenMeter(sharpness.hessian(case.problem()), case.params, x=case.x, y=case.y, top_k=3, accuracy=accuracy)


@pytest.fixture(scope="module")
def indefinite():
    """A quadratic with an indefinite spectrum, its meter, and the list that grows when its loss is traced."""
    quadratic, traces = dense.quadratic([-30.0, -20, -2, 0, 0.5, 1, 1.5, 2]), []

    def counted(params, x):
        traces.append(None)
        return quadratic.problem.apply(params, x)

    problem = replace(quadratic.problem, apply=counted)
    meter = EigenMeter(sharpness.hessian(problem), quadratic.params, x=quadratic.x, y=quadratic.y, top_k=2, accuracy=TIGHT)
    return quadratic, meter, traces


def spectrum(matrix):
    """Eigenvalues from the largest down."""
    return np.linalg.eigvalsh(matrix)[::-1]


# --- values ---


@pytest.mark.slow
def test_the_sharpness_of_a_net_with_a_layer_that_is_not_trained_is_that_of_its_other_layers_alone():
    whole, trained = (
        models.build(
            spec.Vgg11(width=1, activation="tanh", train_output=train), input_shape=(32, 32), num_outputs=3, seed=0, dtype="float64"
        )
        for train in (True, False)
    )
    rng = np.random.default_rng(0)
    x, y = jnp.asarray(rng.standard_normal((2, 32, 32))), jnp.array([0, 2])
    # Off the start, where the small linear layer leaves next to no curvature.
    params = jax.tree.map(lambda leaf: leaf + 0.3 * rng.standard_normal(leaf.shape), trained.params)
    flat, unravel = ravel_pytree(params)

    @jax.jit
    def dense_hessian(flat, x, y):
        def loss(flat):
            outputs = whole.apply(unravel(flat) | {"output": whole.params["output"]}, x)
            return 0.5 * jnp.sum((outputs - jnp.eye(3)[y]) ** 2) / len(x)

        return jax.lax.map(lambda unit: jax.jvp(jax.grad(loss), (flat,), (unit,))[1], jnp.eye(flat.size), batch_size=32)

    expected = spectrum(dense_hessian(flat, x, y))[0]
    meter = EigenMeter(sharpness.hessian(Problem(trained.apply, Objective("mse"), 2)), params, x=x, y=y, top_k=1, accuracy=TIGHT)

    found, _ = meter.measure(params, meter.start, jax.random.key(0))

    assert found.converged
    assert found.values[0] == pytest.approx(expected, rel=1e-8)
    assert found.vectors.shape == (1, trained.num_params)


def test_the_values_are_the_largest_eigenvalues_of_the_dense_hessian():
    case, meter = dense.named(MLP), meter_of(TIGHT)

    found, _ = meter.measure(case.params, meter.start, jax.random.key(0))

    wanted = spectrum(case.hessian)
    assert found.converged
    np.testing.assert_allclose(found.values, wanted[:3], rtol=TIGHT.tolerance)
    assert wanted[-1] < 0


def test_an_eigenvalue_that_is_more_negative_than_the_largest_is_positive_does_not_count(indefinite):
    quadratic, meter, _ = indefinite

    found, _ = meter.measure(quadratic.params, meter.start, jax.random.key(0))

    np.testing.assert_allclose(found.values, [2, 1.5], rtol=TIGHT.tolerance)


def test_the_preconditioned_values_are_the_eigenvalues_after_division_by_the_preconditioner():
    case, rng = dense.named(MLP), np.random.default_rng(0)
    preconditioner = jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(0.1, 10, leaf.shape)), case.params)
    operator = sharpness.preconditioned_hessian(case.problem())

    meter = EigenMeter(operator, case.params, preconditioner, x=case.x, y=case.y, top_k=3, accuracy=TIGHT)
    found, _ = meter.measure(case.params, meter.start, jax.random.key(0), preconditioner)

    diagonal = np.asarray(ravel_pytree(preconditioner)[0])
    wanted = np.sort(np.linalg.eigvals(case.hessian / diagonal[:, None]).real)[::-1]
    np.testing.assert_allclose(found.values, wanted[:3], rtol=TIGHT.tolerance)


def test_the_sharpness_of_a_linear_model_in_single_precision_is_that_of_its_raw_inputs():
    x = jnp.asarray(np.random.default_rng(0).integers(0, 17, (300, 20)), jnp.float32)
    y = jnp.zeros(300, jnp.int32)

    with jax.enable_x64(False):
        model = models.build(spec.Linear(), input_shape=(20,), num_outputs=3, seed=0, dtype="float32")
        problem = Problem(model.apply, Objective("mse"), 100)
        accuracy = replace(TIGHT, tolerance=1e-6)
        meter = EigenMeter(sharpness.hessian(problem), model.params, x=x, y=y, top_k=1, accuracy=accuracy)
        found, _ = meter.measure(model.params, meter.start, jax.random.key(0))

    # Rounding of sums over 300 examples, which grows like the root of their number, and the tolerance asked for.
    assert found.values[0] == pytest.approx(spectrum(np.asarray(x.T, float) @ np.asarray(x, float) / 300)[0], rel=1e-5)


# --- quality ---


@pytest.mark.parametrize("seed", range(5))
def test_a_rough_value_lies_below_the_sharpness_and_within_its_residual_of_an_eigenvalue(seed):
    case, meter = dense.named(MLP), meter_of(ROUGH)

    found, _ = meter.measure(case.params, meter.start, jax.random.key(seed))

    wanted = spectrum(case.hessian)
    rounding = dense.ROUNDING * abs(wanted).max()
    assert min(abs(found.values[0] - wanted)) <= found.residuals[0] + rounding
    assert found.values[0] <= wanted[0] + rounding
    assert found.errors[0] <= found.residuals[0]


def test_a_measurement_that_may_not_take_enough_products_says_so():
    case, meter = dense.named(MLP), meter_of(ROUGH)

    found, _ = meter.measure(case.params, meter.start, jax.random.key(0))

    assert not found.converged
    assert found.num_products == ROUGH.max_products


# --- programs and bits ---


def test_the_same_inputs_give_the_same_bits_whatever_was_measured_before():
    case, meter = dense.named(MLP), meter_of(TIGHT)
    first, start = meter.measure(case.params, meter.start, jax.random.key(0))
    meter.measure(jax.tree.map(lambda leaf: 2 * leaf, case.params), start, jax.random.key(1))

    again, start_again = meter.measure(case.params, meter.start, jax.random.key(0))

    assert replace(again, seconds=first.seconds) == first
    jax.tree.map(np.testing.assert_array_equal, start_again, start)


def test_what_one_measurement_leaves_saves_the_next_one_products():
    case, meter = dense.named(MLP), meter_of(TIGHT)
    first, start = meter.measure(case.params, meter.start, jax.random.key(0))

    next_one, _ = meter.measure(case.params, start, jax.random.key(1))

    assert next_one.num_products < first.num_products
    np.testing.assert_allclose(next_one.values, first.values, rtol=2 * TIGHT.tolerance)


def test_a_meter_traces_the_model_when_it_is_made_and_never_again(indefinite):
    quadratic, meter, traces = indefinite
    traced, start, params = len(traces), meter.start, quadratic.params

    for seed in range(3):
        _, start = meter.measure(params, start, jax.random.key(seed))
        params = jax.tree.map(lambda leaf: leaf + 1, params)

    assert traced > 0
    assert len(traces) == traced


# --- the smallest ---


def test_the_smallest_eigenvalue_of_an_indefinite_quadratic_is_found_with_its_sign():
    quadratic = dense.quadratic([-30.0, -20, -2, 0, 0.5, 1, 1.5, 2])
    operator = sharpness.negated_hessian(quadratic.problem)

    meter = EigenMeter(operator, quadratic.params, x=quadratic.x, y=quadratic.y, top_k=2, accuracy=TIGHT)
    found = meter.measure(quadratic.params, meter.start, jax.random.key(0))[0].negated()

    np.testing.assert_allclose(found.values, [-30, -20], rtol=TIGHT.tolerance)


def test_the_smallest_eigenvalue_is_that_of_the_dense_hessian():
    case = dense.named(MLP)

    meter = EigenMeter(sharpness.negated_hessian(case.problem()), case.params, x=case.x, y=case.y, top_k=1, accuracy=TIGHT)
    found = meter.measure(case.params, meter.start, jax.random.key(0))[0].negated()

    assert found.values[0] == pytest.approx(np.linalg.eigvalsh(case.hessian)[0], rel=TIGHT.tolerance)


def test_the_vectors_are_eigenvectors_and_the_errors_cover_the_values():
    case, meter = dense.named(MLP), meter_of(TIGHT)

    found, _ = meter.measure(case.params, meter.start, jax.random.key(0))

    for value, vector, residual in zip(found.values, np.asarray(found.vectors), found.residuals, strict=True):
        rounding = dense.ROUNDING * np.linalg.norm(case.hessian)
        assert np.linalg.norm(case.hessian @ vector - value * vector) <= residual + rounding
