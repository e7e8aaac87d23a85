"""Stableness against dense Hessians along the segment, closed forms on quadratics, and the pairs that the theory promises."""

import math
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from runners.measure.eigenvalues import Accuracy
from runners.measure.operators import Problem
from runners.measure.stableness import StablenessMeter, harmonic_mean, reciprocal_sum
from runners.records import StablenessRecord
from runners.spec import Chebyshev, Measure, Mlp, Mse, NormalizedGd, Piecewise, Run, Sgd, Train
from runners.train import TrainRunner
from tests.runners.measure import dense

TIGHT = Accuracy(tolerance=1e-10, max_products=300)
LRS = [(0.3, 0.1), (0.05, 0.8)]
SPECTRUM = np.array([-30.0, -20, -2, 0, 0.5, 1, 1.5, 2])


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with dense.double_precision():
        yield


def plain(lr, loss, norm, step):
    return lr


def normalized(lr, loss, norm, step):
    return jnp.where(norm == 0, 0, lr / norm)


def meter_of(problem, params, x, y, *, rule):
    return StablenessMeter(problem, params, rule=rule, x=x, y=y, accuracy=TIGHT)


def measured(meter, params, *, lrs, num_points=5):
    return meter.measure(params, meter.start, jax.random.key(0), lrs=lrs, num_points=num_points)[0]


@pytest.fixture(scope="module")
def case():
    return dense.named("mlp, mse with real targets and weight decay")


@pytest.fixture(scope="module")
def of_case(case):
    return meter_of(case.problem(), case.params, case.x, case.y, rule=plain)


@pytest.fixture(scope="module")
def quadratic():
    return dense.quadratic(SPECTRUM)


@pytest.fixture(scope="module")
def of_quadratic(quadratic):
    return meter_of(quadratic.problem, quadratic.params, quadratic.x, quadratic.y, rule=normalized)


@pytest.fixture(scope="module")
def walk(case):
    """Gives the numbers of a step by dense Hessians at points of its segment, and the next parameters."""
    _, unravel = ravel_pytree(case.params)

    def loss(w):
        return case._loss(case.model.apply(unravel(w), case.x), case.y, w)

    gradient = jax.jit(jax.value_and_grad(loss))
    hessians = jax.jit(lambda points: jax.lax.map(jax.hessian(loss), points))

    def step(params, lr, *, num_points):
        w = ravel_pytree(params)[0]
        value, g = gradient(w)
        found = np.asarray(hessians(w - np.linspace(0, lr, num_points)[:, None] * g))
        highest = np.linalg.eigvalsh(found)[:, -1]
        top = np.linalg.eigh(found[0])[1][:, -1]
        return (float(value), lr, highest[0], highest.max(), float(top @ g) ** 2 / float(g @ g)), unravel(w - lr * g)

    return step


def numbers(step):
    return step.loss, step.effective_lr, step.sharpness, step.highest, step.alignment


@pytest.mark.parametrize("lrs", LRS)
def test_both_steps_are_those_of_dense_hessians_along_their_segments(case, of_case, walk, lrs):
    found = measured(of_case, case.params, lrs=lrs)

    first, after = walk(case.params, lrs[0], num_points=5)
    second, _ = walk(after, lrs[1], num_points=5)

    # An eigenvalue of relative error 1e-10 has a vector, and so an alignment, of about its root.
    assert numbers(found.first) == pytest.approx(first, rel=1e-8, abs=1e-5 * first[-1])
    assert numbers(found.second) == pytest.approx(second, rel=1e-8, abs=1e-5 * second[-1])
    assert found.first.stableness == found.first.effective_lr * found.first.highest
    assert found.converged


def test_the_sharpness_is_looked_for_between_the_ends_as_well():
    """L = 1 - cos(a) + b^2/20 has the second derivatives cos(a) and 1/10; a step leads from a = -1 past the sharpest point, 0."""
    params = jnp.array([-1.0, 0.0])
    problem = Problem(lambda w, x: x * (1 - jnp.cos(w[0]) + w[1] ** 2 / 20), dense.OutputsAsLosses(), 1)
    meter = meter_of(problem, params, jnp.ones((1, 1)), jnp.zeros(1), rule=plain)

    found = [measured(meter, params, lrs=(2.5, 0.1), num_points=points).first.highest for points in (2, 3, 5, 9)]

    expected = [np.cos(np.linspace(-1, -1 + 2.5 * np.sin(1), points)).max() for points in (2, 3, 5, 9)]
    assert found == pytest.approx(expected, rel=1e-9)
    assert all(coarser <= finer <= 1 for coarser, finer in pairwise(found))
    assert found[0] < 0.6 < 0.99 < found[-1]


def test_on_a_quadratic_the_stableness_is_the_learning_rate_times_its_largest_eigenvalue_wherever(quadratic, of_quadratic):
    flat = np.asarray(ravel_pytree(quadratic.params)[0])
    gradient = quadratic.matrix @ flat

    found = measured(of_quadratic, quadratic.params, lrs=(0.2, 0.1))

    after = flat - 0.2 * gradient / np.linalg.norm(gradient)
    norms = np.linalg.norm(gradient), np.linalg.norm(quadratic.matrix @ after)
    assert [found.first.stableness, found.second.stableness] == pytest.approx([2 * 0.2 / norms[0], 2 * 0.1 / norms[1]], rel=1e-9)
    assert found.first.effective_sharpness == pytest.approx(found.first.stableness, rel=1e-9)
    assert found.second.loss == pytest.approx(after @ quadratic.matrix @ after / 2, rel=1e-12)


def test_where_nothing_moves_no_number_is_nan_but_the_alignment(quadratic, of_quadratic):
    still = jax.tree.map(jnp.zeros_like, quadratic.params)

    found = measured(of_quadratic, still, lrs=(0.2, 0.1))

    for step in (found.first, found.second):
        assert (step.loss, step.effective_lr, step.stableness) == (0, 0, 0)
        assert step.sharpness == pytest.approx(2, rel=1e-9)
        assert math.isnan(step.alignment)


def test_the_next_measurement_starts_from_the_last_and_says_the_same(case, of_case):
    cold, start = of_case.measure(case.params, of_case.start, jax.random.key(0), lrs=(0.01, 0.01), num_points=3)
    warm, _ = of_case.measure(case.params, start, jax.random.key(1), lrs=(0.01, 0.01), num_points=3)

    assert warm.num_products < cold.num_products
    assert warm.first.highest == pytest.approx(cold.first.highest, rel=2e-10)


def test_the_means_of_a_pair():
    assert reciprocal_sum(4.0, 4 / 3) == pytest.approx(1)
    assert harmonic_mean(4.0, 4 / 3) == pytest.approx(2)
    assert harmonic_mean(0.0, 3.0) == 0
    assert reciprocal_sum(0.0, 3.0) == math.inf


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "transform"), [(NormalizedGd, "none"), (Sgd, "sqrt")])
def test_at_the_edge_of_a_small_net_pairs_have_the_harmonic_mean_two_though_each_is_far_from_it(optimizer, transform):
    # Its learning rate changes where the steps alternate, so that they no longer cross the valley's floor in their middle.
    rates = Piecewise(values=(0.05, 0.035), boundaries=(1500,))
    spec = Train(
        data=Chebyshev(degree=3, num_points=5),
        model=Mlp(width=8, depth=2),
        objective=Mse(transform=transform),
        optimizer=optimizer(lr=rates),
        measure=Measure(sharpness_every=0, ntk_every=0, evaluate_every=0, stableness_every=500, tolerance=1e-8),
        run=Run(steps=1504, precision="float64"),
    )
    runner = TrainRunner(spec)
    records = []
    while runner.step < runner.steps:
        records += [*runner.measure(lambda: 0.0), *runner.advance(lambda: 0.0)]
    pairs = [record for record in [*records, *runner.measure(lambda: 0.0)] if isinstance(record, StablenessRecord)]

    assert [record.step for record in pairs] == [0, 500, 1000, 1500, 1504]
    assert pairs[0].reciprocal_sum > 2, "far below the edge at first"
    last = pairs[-1]
    error = math.acos(last.alignment**0.5) + 0.035
    assert error < 0.1
    assert last.effective_lr * last.next_effective_lr > 0
    for mean in (last.harmonic_mean, last.effective_harmonic_mean, 2 * last.loss_ratio):
        assert mean == pytest.approx(2, abs=2 * error)
    assert max(last.value, last.next_value) > 2.5
    assert (last.value + last.next_value) / 2 > 2.1, "the plain mean says something else"
