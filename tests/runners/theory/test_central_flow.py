"""Central flows on losses of a few parameters, where curvatures and their gradients come from explicit derivatives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from runners.theory import central_flow, complementarity, gradient_flow
from runners.theory.central_flow import EDGE, Local
from tests.runners.measure import dense

LR = 0.05
DECAY = 0.98
PROBLEM, VELOCITY = jax.jit(central_flow.problem), jax.jit(central_flow.velocity)


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with dense.double_precision():
        yield


@functools.partial(jax.jit, static_argnames=("loss", "num_directions"))
def local_at(loss, w, *, preconditioner, num_directions, second_moment=None, slope=None, rate=0.0):
    """What the flow needs to know of a loss at w, from its explicit Hessian and third derivative."""
    hessian, third = jax.hessian(loss)(w), jax.jacfwd(jax.hessian(loss))(w)
    root = jnp.sqrt(preconditioner)
    vectors = jnp.linalg.eigh(hessian / jnp.outer(root, root))[1][:, ::-1][:, :num_directions]
    directions = (vectors / root[:, None]).T
    places = complementarity.pairs(num_directions)
    return Local(
        gradient=jax.grad(loss)(w),
        preconditioner=preconditioner,
        directions=directions,
        curvatures=jnp.stack([directions[i] @ hessian @ directions[j] for i, j in places]),
        slopes=jnp.stack([jnp.einsum("a,b,abc->c", directions[i], directions[j], third) for i, j in places]),
        second_moment=jnp.zeros_like(w) if second_moment is None else second_moment,
        slope=jnp.zeros_like(w) if slope is None else slope,
        rate=jnp.asarray(rate),
    )


def oscillation(local, dt):
    """X of the complementarity problem."""
    constant, quadratic = PROBLEM(local, dt)
    return complementarity.solve(np.asarray(constant), np.asarray(quadratic)).x


def descent_step(loss, w, *, dt):
    """One Euler step of gradient descent's central flow with one direction, and the predicted variance."""
    local = local_at(loss, w, preconditioner=jnp.full(len(w), 1 / LR), num_directions=1)
    x = jnp.asarray(oscillation(local, dt))
    return w + dt * VELOCITY(local, x)[0], float(jnp.sum(central_flow.covariance_diagonal(local, x)))


def valley(w):
    """Curvature exp(a + b) across; a wants to rise beyond the edge 2 / LR = 40, at a + b = 3.69, and b to stay."""
    return 0.5 * jnp.exp(w[0] + w[1]) * w[2] ** 2 + 0.01 * (w[0] - 6) ** 2 + 0.005 * (w[1] - 0.5) ** 2


def test_on_the_toy_of_constant_drift_the_variance_is_known_and_the_sharpness_stands_still():
    slope, drift = 3.0, 0.7

    def loss(w):
        return 0.5 * (2 / LR + slope * w[1]) * w[0] ** 2 - drift * w[1]

    moved, variance = descent_step(loss, jnp.zeros(2), dt=0.25)

    assert variance == pytest.approx(2 * drift / slope, rel=1e-9)
    np.testing.assert_allclose(moved, 0, atol=1e-12)


def test_at_the_edge_the_variance_is_that_which_holds_the_sharpness():
    def sharpness(w):
        return jnp.linalg.eigvalsh(jax.hessian(valley)(w))[-1]

    w = jnp.array([2.0, np.log(2 / LR) - 2.0, 0.0])
    gradient, slope = jax.grad(valley)(w), jax.grad(sharpness)(w)

    _, variance = descent_step(valley, w, dt=1e-3)

    # sigma^2 = 2 <-grad L, grad S> / |grad S|^2
    assert variance == pytest.approx(float(-2 * gradient @ slope / (slope @ slope)), rel=1e-9)


@pytest.mark.slow
def test_gradient_descent_averages_to_the_central_flow_and_not_to_the_gradient_flow():
    steps, window = 1500, 200
    at_edge = jnp.array([1.5, np.log(2 / LR) - 1.5, 0.0])
    start = at_edge.at[2].set(np.sqrt(descent_step(valley, at_edge, dt=1.0)[1]))

    def descend(w, _):
        return w - LR * jax.grad(valley)(w), (w, valley(w))

    path, losses = jax.lax.scan(descend, start, length=steps + window // 2)[1]
    average, loss = path[-window:].mean(axis=0), losses[-window:].mean()
    central = at_edge
    for _ in range(steps // 10):
        central, variance = descent_step(valley, central, dt=10.0)
    smooth = gradient_flow.advance(lambda w: -LR * jax.grad(valley)(w), at_edge, duration=float(steps), steps=4 * steps).state

    # What is left out is of the next order in the oscillation, whose variance is 0.0012.
    to_central = float(jnp.linalg.norm(average - central))
    assert to_central < 0.02
    assert float(jnp.linalg.norm(average - smooth)) > 50 * to_central
    assert central_flow.averaged_loss(float(valley(central)), variance / LR) == pytest.approx(float(loss), rel=0.02)
    assert float(path[-window:, 2].var()) == pytest.approx(variance, rel=0.05)


@pytest.mark.slow
def test_two_curvatures_at_the_edge_are_both_held():
    edge = np.log(2 / LR)

    def loss(w):
        across = 0.5 * jnp.exp(w[0]) * w[2] ** 2 + 0.5 * jnp.exp(w[1]) * w[3] ** 2 + 5 * (w[0] - edge) * w[2] * w[3]
        return across + 0.3 * (w[0] - 4) ** 2 + 0.5 * (w[1] - 5) ** 2

    local = local_at(loss, jnp.array([edge, edge, 0.0, 0.0]), preconditioner=jnp.full(4, 1 / LR), num_directions=2)

    x = oscillation(local, 0.25)

    constant, quadratic = central_flow.problem(local, 0.25)
    dw, _ = central_flow.velocity(local, jnp.asarray(x))
    change = local.slopes @ dw
    assert np.linalg.matrix_rank(x, tol=1e-6) == 2
    np.testing.assert_allclose(change, 0, atol=1e-7)
    assert constant.shape == (2, 2)
    assert quadratic.shape == (3, 3)


@pytest.mark.slow
def test_rmsprop_holds_its_effective_curvature_while_its_second_moment_moves():
    eps, random = 1e-8, np.random.default_rng(1)
    w = jnp.asarray(random.normal(size=4))
    second_moment = jnp.asarray(random.uniform(0.01, 0.5, 4))

    def loss(w):
        return jnp.sum(jnp.array([3.0, 1.0, 0.5, 0.2]) * w**2) + 0.3 * jnp.sum(w) ** 4 / 4 + w[0] * w[1] ** 2

    def effective(w, second_moment, lr):
        root = jnp.sqrt((jnp.sqrt(second_moment) + eps) / lr)
        return jnp.linalg.eigvalsh(jax.hessian(loss)(w) / jnp.outer(root, root))[-1]

    lr = EDGE / float(effective(w, second_moment, 1.0))
    local = local_at(
        loss,
        w,
        preconditioner=(jnp.sqrt(second_moment) + eps) / lr,
        num_directions=1,
        second_moment=second_moment,
        slope=1 / (2 * lr * jnp.sqrt(second_moment)),
        rate=(1 - DECAY) / DECAY,
    )

    def rate_of_change(x):
        velocity = central_flow.velocity(local, jnp.asarray(x))
        return float(jax.jvp(lambda *at: effective(*at, lr), (w, second_moment), velocity)[1])

    x = oscillation(local, 1e-4)

    drift = rate_of_change(np.zeros((1, 1)))
    assert drift != 0
    if drift > 0:
        assert abs(rate_of_change(x)) < 1e-8 * drift
    else:
        assert not x.any()
