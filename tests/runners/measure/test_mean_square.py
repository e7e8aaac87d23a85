import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from runners.measure import mean_square
from runners.measure.noise_kernel import Noise, kernel_norm
from tests.runners.measure import dense

KEY = jax.random.key(0)


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with dense.double_precision():
        yield


@functools.partial(jax.jit, static_argnames=("p", "num_outputs", "tolerance", "max_products"))
def found(kernel, p, *, num_outputs=1, tolerance=1e-8, max_products=400):
    return mean_square.threshold(kernel, num_outputs=num_outputs, p=p, tolerance=tolerance, max_products=max_products, key=KEY)


def random_kernel(num_examples, num_outputs, num_params, *, decay=0.0, seed=0):
    """A kernel of full rank where there are parameters enough."""
    features = np.random.default_rng(seed).standard_normal((num_examples * num_outputs, num_params))
    features *= np.sqrt(np.arange(1.0, num_params + 1) ** -decay)
    return jnp.asarray(features @ features.T / num_examples)


def growth(kernel, *, num_outputs, p, lr):
    """Largest factor by which a second moment grows in one step: the spectral radius of the map that moves its every entry."""
    kernel, size = np.asarray(kernel), len(kernel)
    step = np.eye(size) - lr * kernel
    same = np.kron(np.eye(size // num_outputs), np.ones((num_outputs, num_outputs))).ravel()
    noise = np.kron(kernel, kernel) * (size // num_outputs * same - 1)
    return np.abs(np.linalg.eigvals(np.kron(step, step) + lr**2 * p * noise)).max()


@pytest.mark.slow
@pytest.mark.parametrize(("num_examples", "num_outputs", "p"), [(6, 1, 0.3), (6, 1, 1.0), (4, 2, 0.4), (3, 3, 0.05)])
def test_at_the_threshold_the_second_moment_neither_grows_nor_decays(num_examples, num_outputs, p):
    kernel = random_kernel(num_examples, num_outputs, 25)
    lr = found(kernel, p, num_outputs=num_outputs)
    assert lr.converged
    rates = [growth(kernel, num_outputs=num_outputs, p=p, lr=float(lr.value) * share) for share in (0.98, 1, 1.02)]
    assert rates[0] < 1 < rates[2]
    assert rates[1] == pytest.approx(1, abs=1e-7)


@pytest.mark.parametrize("num_outputs", [1, 2])
def test_without_noise_it_is_the_edge_of_gradient_descent(num_outputs):
    kernel = random_kernel(5, num_outputs, 12)
    assert found(kernel, 0.0, num_outputs=num_outputs).value == pytest.approx(2 / np.linalg.eigvalsh(kernel)[-1], rel=1e-7)


@pytest.mark.parametrize("num_outputs", [1, 3])
def test_orthogonal_gradients_of_one_length_have_a_closed_form(num_outputs):
    # With T = s I an example's own second moment moves by (1 - lr s)^2 + lr^2 s^2 p (n - 1), and so does each of its entries.
    num_examples, scale, p = 4, 3.0, 0.25
    kernel = scale * jnp.eye(num_examples * num_outputs)
    expected = 2 / (scale * (1 + p * (num_examples - 1)))
    assert found(kernel, p, num_outputs=num_outputs).value == pytest.approx(expected, rel=1e-9)


def test_modes_that_do_not_move_change_nothing():
    kernel = random_kernel(4, 2, 3)  # rank 3 of 8
    p = 0.5
    lr = float(found(kernel, p, num_outputs=2).value)
    values, vectors = np.linalg.eigh(kernel)
    basis = vectors[:, -3:]
    step = np.diag(1 - lr * values[-3:])
    blocks = np.kron(np.eye(4), np.ones((2, 2)))

    def moved(moment):
        whole = basis @ moment @ basis.T
        driven = np.diag(values[-3:]) @ (basis.T @ ((4 * blocks - 1) * whole) @ basis) @ np.diag(values[-3:])
        return step @ moment @ step + lr**2 * p * driven

    columns = [moved(unit.reshape(3, 3)).ravel() for unit in np.eye(9)]
    assert np.abs(np.linalg.eigvals(np.array(columns).T)).max() == pytest.approx(1, abs=1e-7)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_simulated_sgd_grows_above_it_and_decays_below(batch_size):
    num_examples = 12
    kernel = np.asarray(random_kernel(num_examples, 1, 30))
    p = (num_examples - batch_size) / (batch_size * (num_examples - 1))
    lr = float(found(jnp.asarray(kernel), p).value)
    assert lr < 0.9 * 2 / np.linalg.eigvalsh(kernel)[-1]
    rng = np.random.default_rng(1)
    for share, grows in ((0.85, False), (1.15, True)):
        # Each step the moments themselves are averaged over fresh batches, so that rare large products are not missed.
        moment = np.eye(num_examples)
        for _ in range(40):
            steps = []
            for _ in range(60):
                chosen = np.zeros(num_examples)
                chosen[rng.choice(num_examples, batch_size, replace=False)] = num_examples / batch_size
                steps.append(np.eye(num_examples) - share * lr * kernel * chosen)
            steps = np.array(steps)
            moment = np.mean(steps @ moment @ steps.swapaxes(1, 2), axis=0)
        assert (np.trace(moment) > num_examples) == grows


@pytest.mark.slow
@pytest.mark.parametrize(
    ("decay", "batch_size", "expected"),
    [(0.0, 1, 0.98), (0.0, 16, 0.98), (0.5, 4, 0.97), (1.0, 1, 0.86), (1.0, 4, 0.80), (1.0, 16, 0.57)],
)
def test_the_noise_kernel_norm_is_near_one_there_for_spread_spectra_and_below_for_peaked_ones(decay, batch_size, expected):
    # The expected values are of other draws of the features; peaked spectra vary more from draw to draw.
    num_examples = 200
    kernel = random_kernel(num_examples, 1, 400, decay=decay)
    p = (num_examples - batch_size) / (batch_size * (num_examples - 1))
    lr = float(found(kernel, p, tolerance=1e-4).value)
    spectrum = np.linalg.eigvalsh(kernel)[::-1]
    norm = kernel_norm(Noise(lr, 0.0, p), spectrum.tolist(), trace=float(spectrum.sum()))
    assert norm == pytest.approx(expected, abs=0.015 if decay < 1 else 0.05)
    assert norm < 1


@pytest.mark.slow
@pytest.mark.parametrize("name", dense.NAMES[1:3])
def test_the_kernel_is_that_of_the_dense_jacobian(name):
    case = dense.named(name)
    kernel = mean_square.kernel(case.problem(), case.params, x=case.x)
    expected = case.ntk()
    np.testing.assert_allclose(kernel, expected, atol=dense.ROUNDING * np.abs(expected).max())
