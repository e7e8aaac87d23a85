import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from runners.theory import sharpening
from tests.runners.measure import dense


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with dense.double_precision():
        yield


def problem(values, num_params, *, seed=0):
    """T's eigenvectors, and a Jacobian of that T."""
    rng = np.random.default_rng(seed)
    size = len(values)
    vectors = np.linalg.qr(rng.standard_normal((size, size)))[0]
    rows = np.linalg.qr(rng.standard_normal((num_params, size)))[0].T
    return vectors, np.sqrt(size) * (vectors * np.sqrt(values)) @ rows


def symmetric_basis(num_params):
    """Matrices whose multiples by independent N(0, v) make a random symmetric one with variance v, on the diagonal 2 v."""
    for a, b in itertools.combinations_with_replacement(range(num_params), 2):
        matrix = np.zeros((num_params, num_params))
        matrix[a, b] = matrix[b, a] = np.sqrt(2) if a == b else 1
        yield matrix


def trained(jacobian, z, tensor, weights, lr):
    """l_w times D of all directions, as J(theta) J(theta)^T, after steps with these diagonals S."""
    theta = np.zeros(jacobian.shape[1])
    for weight in weights:
        now = jacobian + tensor @ theta
        theta = theta - lr / len(z) * now.T @ (weight * (z + jacobian @ theta + tensor @ theta @ theta / 2))
    now = jacobian + tensor @ theta
    return now @ now.T


def brute_force(values, vectors, jacobian, *, steps, batch_size, lr):
    """First order in v of the mean, over every batch, unit residual and unit of Q: the mean of a quadratic form is a sum over a basis."""
    size, scale = len(values), 1e-3
    draws = [np.isin(range(size), batch) * size / batch_size for batch in itertools.combinations(range(size), batch_size)]
    total, sequences = np.zeros((size, size)), list(itertools.product(draws, repeat=steps))
    for weights, z, example, matrix in itertools.product(sequences, np.eye(size), range(size), symmetric_basis(jacobian.shape[1])):
        tensor = np.zeros((size, *matrix.shape))
        tensor[example] = scale * matrix
        both = [trained(jacobian, z, sign * tensor, weights, lr) for sign in (1, -1)]
        total += (sum(both) / 2 - jacobian @ jacobian.T) / scale**2 / len(sequences)
    return np.diagonal(vectors.T @ total @ vectors) / size


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_prediction_is_the_mean_over_all_batches_residuals_and_curvatures(batch_size):
    values, num_params, lr = np.array([1.0, 0.5, 0.2]), 4, 0.6
    vectors, jacobian = problem(values, num_params)
    p = (3 - batch_size) / (2 * batch_size)

    linear = sharpening.start(jnp.asarray(values))
    for steps in (1, 2, 3):
        linear = sharpening.advanced(linear, jnp.asarray(values), jnp.asarray(vectors), lr=lr, p=p)
        found = sharpening.eigenvalues(linear, jnp.asarray(values), lr=lr, num_params=num_params, curvature=1.0) - values
        # What is left out is of the order scale^2; the difference of nearly equal numbers has lost scale^-2 of rounding.
        expected = brute_force(values, vectors, jacobian, steps=steps, batch_size=batch_size, lr=lr)
        np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("p", [0.0, 0.1, 1.0])
def test_the_differences_are_those_of_the_prediction(p):
    values, num_params, lr = jnp.arange(1.0, 9.0) ** -0.8, 11, 0.3
    vectors, _ = problem(np.asarray(values), num_params)
    given = {"lr": lr, "num_params": num_params, "curvature": 0.7, "residual": 1.3}

    after = [sharpening.start(values)]
    for _ in range(2):
        after.append(sharpening.advanced(after[-1], values, jnp.asarray(vectors), lr=lr, p=p))
    none, one, two = (sharpening.eigenvalues(linear, values, **given) for linear in after)

    np.testing.assert_allclose(one - none, float(sharpening.first_difference(values, p=p, **given)), rtol=1e-12)
    np.testing.assert_allclose(two - 2 * one + none, sharpening.second_difference(values, jnp.asarray(vectors), p=p, **given), rtol=1e-9)


SIZE, NUM_PARAMS, LR = 24, 100, 0.1
OUTLIER = np.array([1.0, *[0.05] * 23])
"""One large eigenvalue above a bulk of small ones."""


@pytest.mark.parametrize(("batch_size", "share"), [(24, 0.850), (12, 0.750), (6, 0.551), (4, 0.351)])
def test_smaller_batches_let_the_largest_eigenvalue_grow_less_than_the_others(batch_size, share):
    p = (SIZE - batch_size) / (batch_size * (SIZE - 1))
    vectors, _ = problem(OUTLIER, NUM_PARAMS)

    many = sharpening.second_difference(jnp.asarray(OUTLIER), jnp.asarray(vectors), lr=LR, p=p, num_params=10**6, curvature=1e-6)

    assert float(many[0] - many[1]) / (2 * LR**2 / SIZE**2) == pytest.approx(share, abs=6e-4)
