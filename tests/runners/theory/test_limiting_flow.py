import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from runners.theory import limiting_flow

KINDS = ("normalized", "sqrt")


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


project = jax.jit(limiting_flow.project, static_argnums=0)
advance = jax.jit(limiting_flow.advance, static_argnums=(0, 1), static_argnames="steps")


def valley(w):
    """(1 + x^2) y^2: its minima are y = 0, where lambda_1 = 2 (1 + x^2)."""
    return (1 + w[0] ** 2) * w[1] ** 2


def net(w):
    """Six tanh units through five points: 18 parameters, and so a manifold of minima of dimension 13."""
    c, a, b = w.reshape(3, 6)
    x = jnp.array([-1.0, -0.5, 0.1, 0.6, 1.0])
    y = jnp.array([0.3, -0.4, 0.2, 0.5, -0.1])
    return 0.5 * jnp.sum((jnp.tanh(x[:, None] * a + b) @ c - y) ** 2)


@functools.partial(jax.jit, static_argnums=(0, 1))
def miss(loss, kind, x, *, lr, duration, factor=1.0):
    """|Phi(x_t) - X| after t = duration / lr^2 steps of the algorithm, with the flow's time multiplied by a factor."""

    def step(_, x):
        if kind == "sqrt":
            return x - lr * jax.grad(lambda x: jnp.sqrt(loss(x)))(x)
        gradient = jax.grad(loss)(x)
        return x - lr * gradient / jnp.linalg.norm(gradient)

    end = jax.lax.fori_loop(0, jnp.round(duration / lr**2).astype(int), step, x)
    start = project(loss, x).point
    flow = limiting_flow.advance(loss, kind, start, duration=factor * duration, steps=16).point
    return jnp.linalg.norm(project(loss, end).point - flow)


@pytest.mark.parametrize("start", [(2.0, 0.3), (0.5, -0.6), (-1.0, 0.2)])
def test_gradient_flow_in_the_valley_ends_where_its_invariant_says(start):
    x, y = start

    found = project(valley, jnp.array(start))

    # dx/dy = x y / (1 + x^2), so log x + x^2 / 2 - y^2 / 2 stays; classical Runge-Kutta in steps of 0.1 is off by some 0.1^4 of it.
    end = float(found.point[0])
    assert math.log(abs(end)) + end**2 / 2 == pytest.approx(math.log(abs(x)) + x**2 / 2 - y**2 / 2, abs=1e-5)
    assert abs(float(found.point[1])) < 1e-12
    assert float(found.distance) < 1e-12


def test_a_point_of_the_manifold_stays_where_it_is():
    found = project(valley, jnp.array([2.0, 0.0]))

    assert found.point.tolist() == [2.0, 0.0]
    assert int(found.steps) == 0


def test_on_a_quadratic_the_projection_drops_what_is_curved():
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
    hessian = basis @ np.diag([3.0, 0.5, 0.0, 0.0]) @ basis.T
    x = np.arange(1.0, 5.0)

    found = project(lambda x: 0.5 * x @ hessian @ x, jnp.array(x))

    assert np.asarray(found.point) == pytest.approx(basis[:, 2:] @ (basis[:, 2:].T @ x), abs=1e-9)


def test_the_flow_of_the_root_shrinks_the_valley_s_coordinate_exponentially():
    found = advance(valley, "sqrt", jnp.array([2.0, 0.0]), duration=2.0, steps=16).point

    # d lambda_1 / dx = 4 x, so dx/dtau = -x / 2; sixteen steps of 1/8 leave a relative error of 2 (1/16)^5 / 120 each.
    assert float(found[0]) == pytest.approx(2 * math.exp(-1), rel=16 * 2 * (1 / 16) ** 5 / 120)


def test_the_normalized_flow_has_the_valley_s_invariant():
    found = advance(valley, "normalized", jnp.array([2.0, 0.0]), duration=2.0, steps=16).point

    # dx/dtau = -x / (2 (1 + x^2)), so log x + x^2 / 2 falls by tau / 2.
    x = float(found[0])
    assert math.log(x) + x**2 / 2 == pytest.approx(math.log(2) + 2 - 1, abs=1e-6)


@pytest.mark.slow
def test_the_velocity_is_minus_the_projected_gradient_of_the_top_eigenvalue():
    x = project(net, jnp.array(np.random.default_rng(1).standard_normal(18))).point
    hessian = jax.jit(jax.hessian(net))
    values, vectors = np.linalg.eigh(hessian(x))
    flat = vectors[:, :13]

    def top(x):
        return np.linalg.eigvalsh(hessian(x))[-1]

    slopes = np.array([(top(x + 1e-5 * d) - top(x - 1e-5 * d)) / 2e-5 for d in flat.T])
    found = {kind: np.asarray(jax.jit(limiting_flow.velocity, static_argnums=(0, 1))(net, kind, x)) for kind in KINDS}
    # Central differences of 1e-5: 1e-10 of the third derivative, and rounding of the eigenvalue over 1e-5.
    assert found["normalized"] == pytest.approx(-flat @ slopes / (4 * values[-1]), abs=1e-7 * values[-1])
    assert found["sqrt"] == pytest.approx(-flat @ slopes / 8, abs=1e-7 * values[-1])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_in_the_valley_the_algorithm_tracks_its_flow_the_closer_the_smaller_its_learning_rate(kind):
    length = 1.0 if kind == "normalized" else math.sqrt(5)
    distance = functools.partial(miss, valley, kind, duration=2.0)

    misses = {lr: distance(jnp.array([2.0, 0.3 * lr * length]), lr=lr) for lr in (0.2, 0.1, 0.05)}

    assert misses[0.2] / misses[0.1] >= 1.9
    assert misses[0.1] / misses[0.05] >= 1.9
    for factor in (0.5, 2.0):
        assert distance(jnp.array([2.0, 0.015 * length]), lr=0.05, factor=factor) > 100 * misses[0.05]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_on_a_net_the_algorithm_tracks_its_flow_and_no_other_constant_would_do(kind):
    start = project(net, jnp.array(np.random.default_rng(1).standard_normal(18))).point
    values, vectors = jnp.linalg.eigh(jax.hessian(net)(start))
    noise = jnp.array(np.random.default_rng(2).standard_normal(18))
    top = vectors[:, -1] + 1e-3 * noise / jnp.linalg.norm(noise)
    length = 1.0 if kind == "normalized" else jnp.sqrt(values[-1] / 2)

    duration = 0.2 if kind == "normalized" else 0.4 / values[-1]  # so that both flows go about as far

    def distance(lr, factor=1.0):
        return miss(net, kind, start + 0.35 * lr * length * top, lr=lr, duration=duration, factor=factor)

    misses = {lr: distance(lr) for lr in (0.02, 0.01)}

    assert misses[0.02] / misses[0.01] >= 1.9
    for factor in (0.5, 2.0):
        assert distance(0.01, factor) > 5 * misses[0.01]


@pytest.mark.slow
def test_off_the_manifold_the_directions_along_it_are_still_as_many():
    start = project(net, jnp.array(np.random.default_rng(1).standard_normal(18))).point
    duration = 0.3

    ends = {steps: advance(net, "sqrt", start, duration=duration, steps=steps).point for steps in (8, 16, 32)}

    # Fourth order: each halving of the step divides the error by sixteen, as far as the projections' own errors let it.
    coarse, fine = (float(jnp.linalg.norm(ends[a] - ends[b])) for a, b in ((8, 16), (16, 32)))
    assert fine < coarse / 8 + 1e-9
    assert float(jnp.linalg.norm(ends[32] - start)) > 100 * coarse
