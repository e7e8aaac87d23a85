"""The complementarity problem against closed forms and brute force."""

import numpy as np
import pytest
from scipy.optimize import minimize

from runners.theory import complementarity
from runners.theory.complementarity import pairs, solve


def problem(seed, k, *, spread=0.0):
    """A random A that is not positive, and the Gram matrix of random gradients whose sizes differ by powers of ten."""
    random = np.random.default_rng(seed)
    size = k * (k + 1) // 2
    scales = 10 ** random.uniform(-spread, spread, k)
    slopes = np.array([random.normal(size=size + 4) * np.sqrt(scales[i] * scales[j]) for i, j in pairs(k)])
    constant = random.normal(size=(k, k))
    constant += constant.T
    return constant - (np.linalg.eigvalsh(constant)[0] + 1) * np.eye(k) * 0.9, slopes @ slopes.T


def applied(quadratic, x):
    """B[X], entry by entry from its definition."""
    k = len(x)
    place = {pair: number for number, pair in enumerate(pairs(k))}
    entry = [[place[min(i, j), max(i, j)] for j in range(k)] for i in range(k)]
    return np.array(
        [[sum(quadratic[entry[i][j], entry[a][b]] * x[a, b] for a in range(k) for b in range(k)) for j in range(k)] for i in range(k)]
    )


def brute_force(constant, quadratic):
    """Minimum of <X, B[X]> / 2 + <A, X> over X = L L^T, from many starts."""
    k = len(constant)

    def cost(entries):
        root = entries.reshape(k, k)
        x = root @ root.T
        return np.sum(x * applied(quadratic, x)) / 2 + np.sum(constant * x)

    random = np.random.default_rng(0)
    found = [minimize(cost, random.normal(size=k * k), method="BFGS", options={"gtol": 1e-9}) for _ in range(3)]
    best = min(found, key=lambda result: result.fun).x.reshape(k, k)
    return best @ best.T


@pytest.mark.parametrize("quadratic", [1e-6, 1.0, 1e5])
def test_one_curvature_has_a_closed_form(quadratic):
    found = solve(np.array([[-0.3]]), np.array([[quadratic]]))

    assert found.x[0, 0] == pytest.approx(0.3 / quadratic, rel=1e-8)


def test_below_the_edge_nothing_oscillates():
    found = solve(np.array([[0.2, 0.1], [0.1, 0.3]]), np.eye(3))

    assert not found.x.any()
    assert found.residual == 0


@pytest.mark.parametrize("seed", range(6))
def test_the_solution_is_the_minimum_that_brute_force_finds(seed):
    constant, quadratic = problem(seed, 2)

    found = solve(constant, quadratic)

    # BFGS stops at a gradient of 1e-9 or at rounding, about 1e-8 of a cost of order one: X to its square root.
    np.testing.assert_allclose(found.x, brute_force(constant, quadratic), atol=1e-4 * np.abs(found.x).max())


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_both_matrices_are_positive_and_complementary_however_the_scales_differ(k, seed):
    constant, quadratic = problem(seed, k, spread=1.0)

    found = solve(constant, quadratic)

    slack = constant + applied(quadratic, found.x)
    size = np.linalg.norm(constant)
    assert np.linalg.eigvalsh(found.x)[0] >= 0
    assert np.linalg.eigvalsh(slack)[0] >= -1e-7 * size
    assert abs(np.sum(found.x * slack)) <= 1e-7 * size * np.trace(found.x)
    assert found.residual <= 1e-7 * size


def test_a_rotation_of_the_directions_rotates_the_solution():
    constant, quadratic = problem(3, 2)
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    place = pairs(2)
    # How the entries of R^T M R depend on those of M, each off-diagonal one counted once.
    change = np.array([[turn[a, i] * turn[b, j] + (turn[b, i] * turn[a, j] if a != b else 0) for a, b in place] for i, j in place])

    found = solve(turn.T @ constant @ turn, change @ quadratic @ change.T)

    np.testing.assert_allclose(turn @ found.x @ turn.T, solve(constant, quadratic).x, atol=1e-7)


def test_a_problem_without_a_solution_says_so_by_its_residual():
    found = solve(np.array([[-1.0]]), np.array([[0.0]]))

    assert found.residual == pytest.approx(1.0)


def test_the_pairs_of_a_leading_block_come_first():
    assert complementarity.pairs(3)[:3] == complementarity.pairs(2)
