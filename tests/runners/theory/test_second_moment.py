import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize

from runners.measure import mean_square, noise_kernel
from runners.measure.noise_kernel import Noise, kernel_norm
from runners.spec import Adam, RmsProp
from runners.theory import second_moment
from tests.runners.measure import dense

KEY = jax.random.key(0)


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with dense.double_precision():
        yield


def draws(num_examples, batch_size, *, replacement):
    """S of every batch that a step may have, equally likely."""
    examples = range(num_examples)
    chosen = itertools.product(examples, repeat=batch_size) if replacement else itertools.combinations(examples, batch_size)
    return [np.bincount(batch, minlength=num_examples) * num_examples / batch_size for batch in chosen]


def factor(num_examples, batch_size, *, replacement):
    return 1 / batch_size if replacement else (num_examples - batch_size) / (batch_size * (num_examples - 1))


def random_kernel(num_examples, num_params, *, decay=0.0, seed=0):
    features = np.random.default_rng(seed).standard_normal((num_examples, num_params))
    features *= np.sqrt(np.arange(1.0, num_params + 1) ** -decay)
    return features @ features.T / num_examples


def eigen(kernel):
    values, vectors = np.linalg.eigh(kernel)
    return jnp.asarray(np.maximum(values, 0)), jnp.asarray(vectors)


def stepped(step, steps):
    """A moment after so many steps of a recursion."""
    return jax.jit(lambda moment: jax.lax.fori_loop(0, steps, lambda _, before: step(before), moment))


@pytest.mark.parametrize("replacement", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_it_is_the_mean_over_all_sequences_of_batches(momentum, replacement):
    size, lr, batch_size, steps = 4, 0.3, 2, 3
    kernel, z = random_kernel(size, 6), np.array([1.0, -0.5, 0.3, 2.0])
    values, vectors = eigen(kernel)
    states = [(z, np.zeros(size))]
    for _ in range(steps):
        states = [
            (before - lr * velocity, velocity)
            for before, old in states
            for scale in draws(size, batch_size, replacement=replacement)
            for velocity in [momentum * old + kernel @ (scale * before)]
        ]
    expected = [np.mean([np.outer(state[a], state[b]) for state in states], axis=0) for a, b in [(0, 0), (0, 1), (1, 1)]]

    p = factor(size, batch_size, replacement=replacement)
    moment = second_moment.at_rest(vectors.T @ np.outer(z, z) @ vectors)
    for _ in range(steps):
        moment = second_moment.exact(moment, values, vectors, lr=lr, p=p, momentum=momentum)

    for found, wanted in zip(moment, expected, strict=True):
        np.testing.assert_allclose(vectors @ found @ vectors.T, wanted, rtol=dense.ROUNDING, atol=dense.ROUNDING * np.abs(wanted).max())
    assert second_moment.loss(moment) == pytest.approx(np.mean([z @ z for z, _ in states]) / (2 * size), rel=dense.ROUNDING)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_without_noise_each_mode_goes_by_itself(momentum):
    values, vectors = eigen(random_kernel(5, 8))
    z = np.linspace(1.0, 2.0, 5)

    moment = second_moment.at_rest(jnp.outer(z, z))
    whole = stepped(lambda before: second_moment.exact(before, values, vectors, lr=0.2, p=0.0, momentum=momentum), 20)(moment)
    single = stepped(
        lambda before: second_moment.closure(before, values, second_moment.overlaps(vectors), lr=0.2, p=0.0, momentum=momentum), 20
    )(second_moment.at_rest(jnp.asarray(z**2)))

    np.testing.assert_allclose(jnp.diag(whole.zz), single.zz, rtol=1e-10)


@pytest.mark.parametrize("momentum", [0.0, 0.7])
@pytest.mark.parametrize("vectors", [np.eye(8), scipy.linalg.hadamard(8) / np.sqrt(8.0)], ids=["examples", "flat"])
def test_the_closure_is_exact_where_the_moment_stays_diagonal(vectors, momentum):
    values, vectors = jnp.arange(1.0, 9.0) ** -0.7, jnp.asarray(vectors)
    start = jnp.linspace(1.0, 3.0, 8)
    given = {"lr": 0.4, "p": 0.3, "momentum": momentum}

    whole = stepped(lambda before: second_moment.exact(before, values, vectors, **given), 30)(second_moment.at_rest(jnp.diag(start)))
    shared = second_moment.overlaps(vectors)
    single = stepped(lambda before: second_moment.closure(before, values, shared, **given), 30)(second_moment.at_rest(start))

    np.testing.assert_allclose(whole.zz, np.diag(single.zz), rtol=1e-12, atol=1e-12 * np.abs(single.zz).max())
    assert second_moment.loss(whole) == pytest.approx(float(second_moment.loss(single)), rel=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.7])
def test_flat_eigenvectors_make_the_high_dimensional_closure_exact(momentum):
    values, vectors = jnp.arange(1.0, 9.0) ** -0.7, jnp.asarray(scipy.linalg.hadamard(8) / np.sqrt(8.0))
    moment = second_moment.at_rest(jnp.linspace(1.0, 3.0, 8))
    given = {"lr": 0.4, "p": 0.3, "momentum": momentum}

    found = second_moment.high_dimensional(second_moment.high_dimensional(moment, values, **given), values, **given)

    shared = second_moment.overlaps(vectors)
    expected = second_moment.closure(second_moment.closure(moment, values, shared, **given), values, shared, **given)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=dense.ROUNDING)


def test_the_high_dimensional_loss_is_that_of_the_renewal_equation():
    # s_t = F_t + sum_{r<t} k(t-1-r) s_r with k(n) = p lr^2 sum_a l_a^2 A_a^n, whose sum is K.
    values, lr, p, steps = np.arange(1.0, 7.0) ** -0.5, 0.5, 0.2, 25
    contraction = (1 - lr * values) ** 2 - p * (lr * values) ** 2
    start = np.linspace(2.0, 1.0, 6)
    total = []
    for t in range(steps + 1):
        kernel = [p * lr**2 * np.sum(values**2 * contraction ** (t - 1 - r)) for r in range(t)]
        total.append(np.sum(start * contraction**t) + np.dot(kernel, total))

    moment = second_moment.at_rest(jnp.asarray(start))
    step = stepped(lambda before: second_moment.high_dimensional(before, jnp.asarray(values), lr=lr, p=p), steps)

    assert second_moment.loss(step(moment)) == pytest.approx(total[-1] / 12, rel=1e-12)
    whole = p * lr**2 * np.sum(values**2 / (1 - contraction))
    assert kernel_norm(Noise(lr, 0.0, p), list(values), trace=values.sum()) == pytest.approx(whole, rel=1e-12)


def radius(step, size):
    """Spectral radius of a linear map of moments."""
    shapes = second_moment.at_rest(jnp.zeros(size))
    flat, unravel = jax.flatten_util.ravel_pytree(shapes)
    matrix = jax.jacfwd(lambda vector: jax.flatten_util.ravel_pytree(step(unravel(vector)))[0])(flat)
    return np.abs(np.linalg.eigvals(matrix)).max()


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_the_closures_neither_grow_nor_decay_where_their_k_is_one(momentum):
    values, vectors = eigen(random_kernel(12, 18, decay=0.5))
    shared, p = second_moment.overlaps(vectors), 0.15
    flat = jnp.full((12, 12), 1 / 12)

    for closed in (shared, flat):
        found = partial(_k_less_one, values=values.tolist(), shared=np.asarray(closed), momentum=momentum, p=p)
        edge = scipy.optimize.brentq(found, 1e-3, 2 * (1 + momentum) / float(values[-1]) * (1 - 1e-9), xtol=1e-13)
        step = partial(second_moment.closure, values=values, shared=closed, p=p, momentum=momentum)
        assert radius(partial(step, lr=edge), 12) == pytest.approx(1, abs=1e-8)
        assert radius(partial(step, lr=0.98 * edge), 12) < 1 < radius(partial(step, lr=1.02 * edge), 12)


def _k_less_one(lr, *, values, shared, momentum, p):
    return second_moment.closure_kernel_norm(Noise(lr, momentum, p), values, shared) - 1


def test_k_of_flat_eigenvectors_is_the_noise_kernel_norm():
    noise, values = Noise(0.4, 0.3, 0.2), [1.0, 0.4, 0.1, 0.0]

    expected = kernel_norm(noise, values, trace=1.5)

    assert second_moment.closure_kernel_norm(noise, values, np.full((4, 4), 1 / 4)) == pytest.approx(expected, rel=1e-12)


def test_a_mode_past_its_own_edge_makes_k_infinite():
    shared = np.full((3, 3), 1 / 3)

    assert second_moment.closure_kernel_norm(Noise(2.1, 0.0, 0.2), [1.0, 0.5, 0.1], shared) == np.inf


@jax.jit
def growth(values, vectors, lr, p):
    return second_moment.growth(values, vectors, lr=lr, p=p, tolerance=1e-9, max_products=300, key=KEY)


@partial(jax.jit, static_argnames="p")
def threshold(kernel, p):
    return mean_square.threshold(kernel, num_outputs=1, p=p, tolerance=1e-8, max_products=400, key=KEY)


def grown(values, vectors, lr, p):
    found = growth(values, vectors, lr, p)
    assert found.converged
    return float(found.value)


@pytest.mark.parametrize("lr", [0.1, 0.5, 0.9])
def test_growth_is_the_spectral_radius_of_the_map(lr):
    kernel, p = random_kernel(6, 20), 0.4
    step = np.eye(6) - lr * kernel
    noise = np.kron(kernel, kernel) * (6 * np.eye(6).ravel() - 1)
    expected = np.abs(np.linalg.eigvals(np.kron(step, step) + lr**2 * p * noise)).max()

    assert grown(*eigen(kernel), lr, p) == pytest.approx(expected, rel=1e-7)


def test_modes_that_do_not_move_do_not_count_as_growth():
    values, vectors = eigen(random_kernel(6, 3))
    lr, p = 0.1, 0.1

    assert grown(values, vectors, lr, p) < 1


@pytest.mark.slow
def test_growth_is_one_at_the_mean_square_edge():
    kernel, p = random_kernel(20, 40, decay=0.5), 0.12

    assert grown(*eigen(kernel), float(threshold(jnp.asarray(kernel), p).value), p) == pytest.approx(1, abs=1e-6)


AT_THE_EDGE = [(0.0, 4, 0.95, 1.0), (0.5, 4, 0.95, 1.0), (1.0, 4, 0.7, 0.9)]
"""Decay of the features' covariance, batch size, and between what K is at the exact edge: how far K = 1 is to be trusted."""


@pytest.mark.slow
@pytest.mark.parametrize(("decay", "batch_size", "low", "high"), AT_THE_EDGE)
def test_k_is_near_one_at_the_exact_edge_as_far_as_the_spectrum_is_spread(decay, batch_size, low, high):
    kernel, p = random_kernel(200, 400, decay=decay), factor(200, batch_size, replacement=False)

    edge = float(threshold(jnp.asarray(kernel), p).value)

    values = np.linalg.eigvalsh(kernel)
    assert low < kernel_norm(Noise(edge, 0.0, p), values.tolist(), trace=values.sum()) < high


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [RmsProp(batch_size=2), Adam(batch_size=2, beta1=0.9)])
def test_k_of_the_preconditioned_kernel_is_near_one_at_the_exact_edge_of_adaptive_updates(optimizer):
    rng, n = np.random.default_rng(0), 40
    preconditioner = 10 ** rng.uniform(-6, -2, 80)
    jacobian = rng.standard_normal((n, 80)) * np.sqrt(preconditioner)  # so that the preconditioned spectrum is spread
    values, vectors = eigen(jacobian / preconditioner @ jacobian.T / n)

    def norm(lr, values):
        noise = noise_kernel.noise(optimizer, lr=lr, num_examples=n)
        return kernel_norm(noise, values.tolist(), trace=float(values.sum()))

    @jax.jit
    def grown(lr):
        noise = noise_kernel.noise(optimizer, lr=1.0, num_examples=n)
        step = partial(second_moment.exact, values=values, vectors=vectors, lr=noise.lr * lr, p=noise.p, momentum=noise.momentum)

        def turn(moment, _):
            size = second_moment.loss(moment)
            moment = step(jax.tree.map(lambda part: part / size, moment))
            return moment, jnp.log(second_moment.loss(moment))

        # Oscillations of momentum average out over many steps.
        return jnp.mean(jax.lax.scan(turn, second_moment.at_rest(jnp.eye(n)), length=600)[1][-200:])

    largest = float(values[-1])
    edge = scipy.optimize.brentq(lambda lr: float(grown(lr)), 0.02 / largest, 2 / largest, rtol=1e-3)

    # Near one, not on it, as these eigenvectors are not delocalised: within a factor of two, where the raw spectrum is a hundred times off.
    assert 0.5 < norm(edge, values) <= 1
    assert norm(edge, np.linalg.eigvalsh(jacobian @ jacobian.T / n)) < 0.01
