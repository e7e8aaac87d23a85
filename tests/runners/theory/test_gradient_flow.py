"""The integrator against exact solutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from runners.theory import gradient_flow
from tests.runners.measure import dense

CURVATURES = np.array([-0.3, 0.0, 0.5, 1.0, 4.0])


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with dense.double_precision():
        yield


def integrated(steps, duration=1.0):
    """On L = sum a x^2 / 2 from ones: what came out, and how far off it is."""
    curvatures = jnp.asarray(CURVATURES)
    found = gradient_flow.advance(lambda x: -curvatures * x, jnp.ones(5), duration=duration, steps=steps)
    return found, float(jnp.linalg.norm(found.state - np.exp(-CURVATURES * duration)))


def test_a_quadratic_is_followed_with_an_error_of_fourth_order():
    errors = [integrated(steps)[1] for steps in (16, 32, 64)]

    assert np.log2(np.divide(errors[:-1], errors[1:])) == pytest.approx([4, 4], abs=0.2)
    # (step x curvature)^5 / 120 a step, on a mode that decays by e^-4 in all: 32 steps of 1/8.
    assert errors[1] == pytest.approx(32 * (1 / 8) ** 5 / 120 * np.exp(-4), rel=0.2)


def test_the_estimate_is_of_third_order_and_never_below_the_error():
    found = [integrated(steps) for steps in (8, 16, 32, 64)]

    estimates = [float(result.error) for result, _ in found]
    assert np.log2(np.divide(estimates[1:-1], estimates[2:])) == pytest.approx([3, 3], abs=0.3)
    assert all(estimate > error for estimate, (_, error) in zip(estimates, found, strict=True))


def test_the_stated_limit_is_that_of_stability():
    def grows(z):
        found = gradient_flow.advance(lambda x: -x, jnp.ones(()), duration=100 * z, steps=100)
        return float(found.state) > 1

    assert not grows(gradient_flow.STABLE)
    assert grows(gradient_flow.STABLE + 1e-3)


@pytest.mark.parametrize("effective", [0.1, 1.99, 2.0, 2.01, 17.0, 400.0])
def test_steps_are_as_few_as_keep_step_times_sharpness_at_the_limit(effective):
    steps = int(gradient_flow.num_steps(1.0, jnp.asarray(effective)))

    assert effective / steps <= gradient_flow.LONGEST
    assert steps == 1 or effective / (steps - 1) > gradient_flow.LONGEST


@pytest.mark.parametrize("sharpness", [-3.0, 0.0, np.nan, np.inf])
def test_a_sharpness_that_says_nothing_asks_for_one_step(sharpness):
    assert int(gradient_flow.num_steps(1.0, jnp.asarray(sharpness))) == 1


def test_a_pytree_moves_as_its_flat_vector_does():
    tree = {"a": jnp.ones((2, 2)), "b": (jnp.arange(3.0),)}
    flat, unravel = jax.flatten_util.ravel_pytree(tree)
    rates = jnp.linspace(0.1, 2.0, 7)

    moved = gradient_flow.advance(lambda x: unravel(-rates * jax.flatten_util.ravel_pytree(x)[0]), tree, duration=1.0, steps=4)

    expected = gradient_flow.advance(lambda x: -rates * x, flat, duration=1.0, steps=4)
    assert jax.tree.structure(moved.state) == jax.tree.structure(tree)
    np.testing.assert_array_equal(jax.flatten_util.ravel_pytree(moved.state)[0], expected.state)
    assert float(moved.error) == pytest.approx(float(expected.error), rel=1e-12)
