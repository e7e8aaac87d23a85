"""Self-stabilisation's predictions on losses of a few parameters, whose derivatives are written out, against gradient descent."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from runners.theory import self_stabilization
from runners.theory.self_stabilization import Local
from tests.runners.measure import dense

LR = 0.05
EXAMPLES = jnp.array([-1.0, 0.2, 1.1])
NEWTON_STEPS = 8


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with dense.double_precision():
        yield


def local_at(loss, params, before):
    """What is known at a point, from its explicit Hessian and the derivative of u^T H u, and that Hessian."""
    hessian = jax.hessian(loss)(params)
    values, vectors = jnp.linalg.eigh(hessian)
    u = vectors[:, -1] * jnp.where(vectors[:, -1] @ before < 0, -1, 1)
    slope = jax.grad(lambda at: u @ jax.jvp(jax.grad(loss), (at,), (u,))[1])(params)
    return Local(loss(params), jax.grad(loss)(params), values[-1], u, slope), hessian


def projected(loss, params, before, *, lr):
    """The nearest point of M by Newton's method, and what is known there."""

    def turn(_, carry):
        params, before, multiplier = carry
        local, _ = local_at(loss, params, before)
        change, multiplier, _ = self_stabilization.corrected(local, threshold=2 / lr, multiplier=multiplier)
        return params + change, local.vector, multiplier

    params, before, _ = jax.lax.fori_loop(0, NEWTON_STEPS, turn, (params, before, jnp.zeros(())))
    return params, *local_at(loss, params, before)


@functools.partial(jax.jit, static_argnames=("loss", "steps"))
def followed(loss, start, scale, *, lr, steps):
    """Gradient descent on loss(params, scale), and its prediction from the point of M nearest to the start, step by step.

    Returns:
        By step the distance between the two, the predicted displacement, loss and sharpness, and what these two are.
    """
    loss = functools.partial(loss, scale=scale)
    constrained, local, hessian = projected(loss, start, jnp.ones_like(start), lr=lr)

    def step(carry, _):
        params, constrained, local, hessian, at = carry
        product = hessian @ at.across
        predicted = self_stabilization.predicted(at, local, product=product)
        error = jnp.linalg.norm(params - constrained - at.along * local.vector - at.across)
        row = error, at, predicted, loss(params), jnp.linalg.eigvalsh(jax.hessian(loss)(params))[-1]
        stepped = constrained - lr * local.gradient
        moved, there, curved = projected(loss, stepped, local.vector, lr=lr)
        after = self_stabilization.advance(at, local, product=product, added=stepped - moved, vector=there.vector, lr=lr)
        return (params - lr * jax.grad(loss)(params), moved, there, curved, after), row

    at = self_stabilization.split(start - constrained, local.vector)
    carry = (start, constrained, local, hessian, at)
    return jax.lax.scan(step, carry, length=steps)[1]


def map_of(x, y, *, alpha, beta, lr):
    """The dynamics with constant coefficients, written out."""
    return -(1 + lr * y) * x, y + lr * (alpha - beta * x**2 / 2)


def toy(params, scale):
    return 0.5 * (2 / LR + 3 * params[1]) * params[0] ** 2 - scale * params[1]


def test_on_the_toy_of_constant_drift_the_prediction_is_exact():
    error, _, predicted, _, sharpness = followed(toy, jnp.array([0.3, 0.1]), 0.7, lr=LR, steps=300)

    assert float(jnp.max(error)) < 300 * dense.ROUNDING
    assert float(jnp.max(sharpness)) > 2 / LR > float(jnp.min(sharpness[20:]))
    assert float(jnp.min(predicted.distance)) > 0


def test_a_small_cycle_takes_its_period():
    alpha, beta, lr = 0.02, 50.0, 0.1
    x, y = 1.001 * self_stabilization.equilibrium(alpha, beta), 0.0
    rate = lr * math.sqrt(2 * alpha)

    signs = []
    for _ in range(4000):
        x, y = map_of(x, y, alpha=alpha, beta=beta, lr=lr)
        signs.append(y > 0)
    rises = [step for step in range(1, len(signs)) if signs[step] and not signs[step - 1]]
    measured = (rises[-1] - rises[0]) / (len(rises) - 1)

    # The linear map turns by atan(rate) a step, not by rate, and where y changes its sign is known to a step.
    expected = self_stabilization.period(alpha, lr)
    assert measured == pytest.approx(expected, abs=expected * rate**2 + 1 / (len(rises) - 1))


def test_at_the_equilibrium_the_sharpness_stands_still():
    x = self_stabilization.equilibrium(0.02, 50.0)

    moved = map_of(x, 0.0, alpha=0.02, beta=50.0, lr=0.1)

    assert moved == (-x, pytest.approx(0, abs=1e-17))


def test_cycles_keep_their_invariant_to_first_order_of_the_learning_rate():
    def drift(lr):
        alpha, beta, x, y = 0.02, 50.0, 0.05, 0.0
        values = []
        for _ in range(round(300 / lr)):
            values.append(y**2 / 2 + beta * x**2 / 4 - alpha * math.log(abs(x)))
            x, y = map_of(x, y, alpha=alpha, beta=beta, lr=lr)
        return values[-1] - values[0]

    assert math.log2(drift(0.02) / drift(0.01)) == pytest.approx(1, abs=0.5)


class Net:
    """A tanh net of 12 parameters and a minimum of its squared error on three examples; gradient descent's edge is there.

    A tilt along the minima, of size scale^2, drives the sharpness up.
    """

    def __init__(self, seed):
        random = np.random.default_rng(seed)
        self.minimum = jnp.asarray(random.normal(size=12))
        self.targets = self.outputs(self.minimum)
        local, hessian = local_at(self.error, self.minimum, jnp.ones(12))
        values, vectors = jnp.linalg.eigh(hessian)
        self.vector = local.vector
        flat = vectors[:, :9]
        self.tilt = flat @ (flat.T @ local.slope)
        self.lr = float(2 / values[-1])
        self.alpha, self.beta = (float(self.tilt @ self.tilt), float(jnp.sum(self_stabilization.across_slope(local) ** 2)))

    def outputs(self, params):
        a, b, c = params.reshape(3, 4)
        return jnp.tanh(EXAMPLES[:, None] * a + b) @ c

    def error(self, params):
        return 0.5 * jnp.mean((self.outputs(params) - self.targets) ** 2)

    def tilted(self, params, scale):
        return self.error(params) - scale**2 * self.tilt @ (params - self.minimum)

    def errors(self, scale, *, cycles, steps):
        """Largest errors of the displacement, the sharpness and the loss, over so many cycles of the `steps` that are taken."""
        alpha = scale**2 * self.alpha
        along = self_stabilization.equilibrium(alpha, self.beta) / 2
        start = self.minimum + along * self.vector
        error, _, predicted, loss, sharpness = followed(self.tilted, start, scale, lr=self.lr, steps=steps)
        end = round(cycles * self_stabilization.period(alpha, self.lr))
        assert end <= steps
        return [float(jnp.max(jnp.abs(found[:end]))) for found in (error, predicted.sharpness - sharpness, predicted.loss - loss)]


@pytest.mark.slow
def test_on_a_net_the_prediction_is_off_by_the_order_that_theory_says():
    net = Net(2)

    coarse, fine = net.errors(0.03, cycles=1.5, steps=340), net.errors(0.015, cycles=1.5, steps=340)

    orders = [math.log2(found / halved) for found, halved in zip(coarse, fine, strict=True)]
    assert np.round(orders).tolist() == [2, 2, 3], orders


@pytest.mark.slow
def test_newtons_method_finds_the_edge_from_above_and_leaves_what_is_below_it():
    net = Net(2)
    local, _ = local_at(net.error, net.minimum, jnp.ones(12))
    across = self_stabilization.across_slope(local)
    above, below = (net.minimum + share * across / (across @ across) for share in (0.02, -0.02))

    for start, is_held in ((above, True), (below, False)):
        params, there, _ = projected(net.error, start, local.vector, lr=net.lr)

        assert float(there.gradient @ there.vector) == pytest.approx(0, abs=1e-12)
        assert float(there.sharpness) <= 2 / net.lr * (1 + 1e-12)
        assert (float(there.sharpness) == pytest.approx(2 / net.lr, rel=1e-12)) is is_held
        # Nearest: what it moved by lies, to the second order of the way, in the span of the constraints' gradients.
        moved = params - start
        rest = self_stabilization.split(self_stabilization.split(moved, there.vector).across, across / jnp.linalg.norm(across)).across
        assert float(jnp.linalg.norm(rest)) < 0.1 * float(jnp.linalg.norm(moved)) + 1e-12
