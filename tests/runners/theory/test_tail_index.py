"""The index against the numbers of two independent derivations, dense moment systems, and each theory's own limits."""

from itertools import combinations_with_replacement, product

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize

from runners.data import load
from runners.sources.images import digits, random_features
from runners.spec import Digits
from runners.theory import homogenized, tail_index
from runners.theory.homogenized import HomogenizedSgd


def of_two(second, *, upper):
    """Eigenvalues 1 and another, single examples, and the learning rate with this upper bound."""
    return HomogenizedSgd(np.array([1.0, second]), 2 / (upper - 1))


def random_spectrum(seed, rank):
    rng = np.random.default_rng(seed)
    values, ridge = rng.lognormal(sigma=1.5, size=rank), float(rng.choice([0.0, rng.lognormal()]))
    return HomogenizedSgd(values, float(rng.uniform(0.01, 1)), batch_size=int(rng.integers(1, 9)), ridge=ridge)


def min_max(matrix):
    return (matrix - matrix.min()) / (matrix.max() - matrix.min())


def second_moments(sgd):
    """The system of the E z_i^2."""
    return -2 * np.diag(sgd.theta) + np.outer(2 * sgd.theta * sgd.phi, np.ones(len(sgd.theta)))


def fourth_moments(sgd):
    """The system of all E z_i^2 z_j^2, i <= j, entry by entry."""
    theta, squares = sgd.theta, 2 * sgd.theta * sgd.phi
    pairs = list(combinations_with_replacement(range(len(theta)), 2))
    place = {pair: index for index, pair in enumerate(pairs)}
    matrix = np.zeros((len(pairs), len(pairs)))
    for (i, j), row in place.items():
        matrix[row, row] -= 2 * (theta[i] + theta[j])
        for k in range(len(theta)):
            if i == j:
                matrix[row, place[min(i, k), max(i, k)]] += 6 * squares[i]
            else:
                matrix[row, place[min(j, k), max(j, k)]] += squares[i]
                matrix[row, place[min(i, k), max(i, k)]] += squares[j]
    return matrix


def top(matrix):
    return np.linalg.eigvals(matrix).real.max()


def growth(sgd, p):
    """Lambda(p) for even p: the largest rate among all moments prod z_i^a_i of order p, from the generator applied to them one by one."""
    rank, theta, squares = len(sgd.theta), sgd.theta, 2 * sgd.theta * sgd.phi
    orders = [order for order in product(range(0, p + 1, 2), repeat=rank) if sum(order) == p]
    place = {order: row for row, order in enumerate(orders)}
    matrix = np.zeros((len(orders), len(orders)))
    for order, row in place.items():
        matrix[row, row] -= theta @ order
        for i, k in product(range(rank), repeat=2):
            if order[i]:
                moved = np.array(order) - 2 * np.eye(rank, dtype=int)[i] + 2 * np.eye(rank, dtype=int)[k]
                matrix[row, place[tuple(moved)]] += squares[i] * order[i] * (order[i] - 1) / 2
    return top(matrix)


def index_by_shooting(sgd, about, *, within):
    """The p at which the positive function of the angle g, |z|^p g(angle) with Lambda = 0, is level at both axes: g' / g is integrated."""
    theta, squares = sgd.theta, 2 * sgd.theta * sgd.phi

    def level(p):
        def slope(angle, u):
            c, s = np.cos(angle), np.sin(angle)
            second = (squares[0] * s * s + squares[1] * c * c) / 2
            first = ((squares[1] - squares[0]) * (p - 1) + theta[0] - theta[1]) * c * s
            along = (p * (p - 1) * c * c + p * s * s, p * (p - 1) * s * s + p * c * c)
            none = squares @ along / 2 - p * (theta[0] * c * c + theta[1] * s * s)
            return -u * u - (first * u + none) / second

        def far(angle, u):
            return abs(u[0]) - 1e6

        far.terminal = True
        solved = scipy.integrate.solve_ivp(slope, (0, np.pi / 2), [0.0], method="Radau", rtol=1e-10, atol=1e-12, events=far)
        return solved.y[0, -1]

    return scipy.optimize.brentq(level, about - within, about + within, xtol=1e-11)


# Bounds


def test_the_bounds_of_the_digits_are_those_of_the_authors_code():
    pixels = load(Digits(standardize="min-max"), seed=0, precision="float64").x.reshape(1797, 64)

    sgd = HomogenizedSgd(homogenized.spectrum(pixels), 0.1)

    found = tail_index.bounds(sgd)
    assert len(sgd.eigenvalues) == 61
    assert np.sqrt(1797 * sgd.eigenvalues[0]) == pytest.approx(137.069958552038, rel=1e-10)
    assert found.upper == pytest.approx(2.9129054736665863, rel=1e-10)
    assert found.lower == pytest.approx(2.476868300004667, rel=1e-10)
    assert found.lower_holds
    critical = tail_index.critical_rates(sgd)
    assert critical.lower_bound == pytest.approx(0.13320723925193698, rel=1e-10)
    assert critical.wasserstein == pytest.approx(0.13320723925193698 / 4, rel=1e-10)
    assert sgd.noise_kernel == pytest.approx(0.7507100, abs=5e-8)


def test_the_bounds_of_the_synthetic_examples_and_of_the_digits_features():
    synthetic = min_max(np.random.RandomState(1).randn(2000, 200))
    features = min_max(random_features(digits().x.reshape(-1, 64), np.random.RandomState(1).randn(64, 200)))

    of_synthetic = HomogenizedSgd(homogenized.spectrum(synthetic), 0.02)
    of_features = HomogenizedSgd(homogenized.spectrum(features), 0.2)

    assert of_synthetic.theta[0] == pytest.approx(1.023, abs=5e-4)
    assert tail_index.bounds(of_synthetic)[:2] == pytest.approx((2.909, 2.955), abs=5e-4)
    rows = 0.2 * np.sum(features**2, axis=1)
    assert (rows.min(), rows.mean(), rows.max()) == pytest.approx((0.754, 1.317, 1.973), abs=5e-4)
    assert len(of_features.eigenvalues) == 192


@pytest.mark.parametrize("seed", range(8))
def test_without_ridge_the_bounds_follow_from_k_and_the_effective_rank(seed):
    sgd = HomogenizedSgd(random_spectrum(seed, 7).eigenvalues, 0.1, batch_size=3)

    found = tail_index.bounds(sgd)

    rank, k = sgd.effective_rank, sgd.noise_kernel
    assert found.upper == pytest.approx(1 + rank / k)
    assert found.lower == pytest.approx(2 + rank * (1 / k - 1))
    assert tail_index.critical_lower_bound(sgd) == pytest.approx(tail_index.critical_rates(sgd).second_moment)


@pytest.mark.parametrize("seed", range(8))
def test_the_lower_bound_holds_where_it_says_that_the_index_is_above_2(seed):
    sgd = random_spectrum(seed, 5)
    edge = tail_index.critical_lower_bound(sgd)

    assert tail_index.bounds(sgd.at(edge)).lower == pytest.approx(2)
    assert tail_index.bounds(sgd.at(0.999 * edge)).lower_holds
    assert not tail_index.bounds(sgd.at(1.001 * edge)).lower_holds
    assert edge <= tail_index.critical_rates(sgd).second_moment * (1 + 1e-12)


# Moments


@pytest.mark.parametrize("seed", range(8))
def test_the_second_moment_ceases_to_be_finite_where_k_is_1(seed):
    sgd = random_spectrum(seed, 6)

    root = scipy.optimize.brentq(lambda lr: top(second_moments(sgd.at(lr))), 1e-6, 1e3, xtol=1e-14, rtol=1e-14)

    assert tail_index.critical_rates(sgd).second_moment == pytest.approx(root, rel=1e-8)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("rank", [1, 2, 5])
def test_the_fourth_moment_ceases_to_be_finite_where_the_system_of_all_of_them_has_the_eigenvalue_0(seed, rank):
    sgd = random_spectrum(seed, rank)

    critical = sgd.at(tail_index.critical_rates(sgd).fourth_moment)

    assert abs(top(fourth_moments(critical))) < 1e-11 * critical.theta[0]


def test_five_equal_eigenvalues_have_the_index_4_at_two_sevenths():
    sgd = HomogenizedSgd(np.full(5, 3.0), 0.1)

    assert tail_index.critical_rates(sgd).fourth_moment * 3 == pytest.approx(2 / 7, rel=1e-14)


def test_a_large_spectrum_is_solved_without_decomposing_the_matrix(monkeypatch):
    sgd = HomogenizedSgd(np.random.default_rng(0).lognormal(size=60), 0.1)
    dense = tail_index.fourth_moment_norm(sgd)
    monkeypatch.setattr(tail_index, "DENSE", 10)

    assert tail_index.fourth_moment_norm(sgd) == pytest.approx(dense, rel=1e-13)


# The index itself


@pytest.mark.parametrize(
    ("second", "upper", "lower", "index", "k"),
    [(1, 3, 2.0, 2.0, 1.0), (0.7, 3, 2.3, 2.3455, 0.85), (0.5, 3, 2.5, 2.6085, 0.75), (1, 6, 5.0, 5.0, 0.4)],
)
def test_two_eigenvalues_have_the_index_of_the_table(second, upper, lower, index, k):
    sgd = of_two(second, upper=upper)

    found = tail_index.exact(sgd)

    assert found.value == pytest.approx(index, abs=5e-5)
    assert found.error < 1e-8
    assert tail_index.bounds(sgd)[:2] == pytest.approx((lower, upper))
    assert sgd.noise_kernel == pytest.approx(k)


@pytest.mark.parametrize(("second", "k", "index"), [(0.9, 1.357, 1.4741), (0.5, 1.5, 1.3506), (0.2, 1.714, 1.2492)])
def test_from_k_1_on_the_lower_bound_is_above_the_index(second, k, index):
    sgd = of_two(second, upper=1.5 + second)

    found = tail_index.exact(sgd)

    assert sgd.noise_kernel == pytest.approx(k, abs=5e-4)
    assert found.value == pytest.approx(index, abs=5e-5)
    assert found.value < tail_index.bounds(sgd).lower == pytest.approx(1.5)
    assert not tail_index.bounds(sgd).lower_holds


@pytest.mark.parametrize("seed", range(6))
def test_the_index_of_two_eigenvalues_is_4_and_2_where_its_moments_end(seed):
    drawn = random_spectrum(seed, 2)
    sgd = HomogenizedSgd(drawn.eigenvalues / drawn.eigenvalues[0] + [0, 0.1], 1.0, ridge=drawn.ridge)
    critical = tail_index.critical_rates(sgd)

    for p, lr in ((4.0, critical.fourth_moment), (2.0, critical.second_moment)):
        assert tail_index.moment_growth(sgd.at(lr), p, num_modes=32) == pytest.approx(0, abs=1e-13 * sgd.at(lr).theta[0])


@pytest.mark.parametrize("seed", range(6))
def test_below_k_1_the_index_lies_in_its_bounds(seed):
    drawn = random_spectrum(seed, 2)
    values = drawn.eigenvalues / drawn.eigenvalues[0] + [0, 0.1]
    sgd = HomogenizedSgd(values, 1.0).at(0.8 * tail_index.critical_lower_bound(HomogenizedSgd(values, 1.0)))

    found = tail_index.exact(sgd).value

    below, above = tail_index.known_range(sgd)
    assert tail_index.bounds(sgd).lower <= below <= found <= above <= tail_index.bounds(sgd).upper


def test_a_small_second_eigenvalue_comes_with_a_larger_error():
    coarse, fine = tail_index.exact(of_two(0.01, upper=3)), tail_index.exact(of_two(0.5, upper=3))

    assert fine.error < 1e-8 < coarse.error
    # Of a problem with 512 modes.
    assert coarse.value == pytest.approx(2.99972997, abs=coarse.error)


@pytest.mark.parametrize(("lr", "is_known"), [(0.1, True), (0.01, True), (1e-5, False)])
def test_small_learning_rates_have_an_index_as_long_as_the_modes_do(lr, is_known):
    sgd = HomogenizedSgd(np.array([1.0, 0.3]), lr)

    found, known = tail_index.exact(sgd), tail_index.bounds(sgd)

    assert (found is not None) == is_known
    if found is not None:
        assert known.lower - found.error <= found.value <= known.upper


@pytest.mark.parametrize(("rank", "phi", "index"), [(1, 0.5, 3.0), (3, 0.25, 3.0), (5, 1 / 7, 4.0), (3, 0.6, 2 / 3), (9, 0.5, -5.0)])
def test_equal_eigenvalues_have_the_lower_bound_as_their_index(rank, phi, index):
    sgd = HomogenizedSgd(np.full(rank, 0.7), phi * 2 / 0.7)

    assert tail_index.exact(sgd).value == pytest.approx(index)
    assert tail_index.bounds(sgd).lower == pytest.approx(index)


def test_a_single_eigenvalue_has_both_bounds_as_its_index():
    sgd = random_spectrum(3, 1)

    found = tail_index.exact(sgd).value

    assert found == pytest.approx(tail_index.bounds(sgd).lower) == pytest.approx(tail_index.bounds(sgd).upper)


def test_three_different_eigenvalues_have_no_known_index_but_a_range():
    sgd = HomogenizedSgd(np.array([1.0, 0.6, 0.3]), 0.4)

    assert tail_index.exact(sgd) is None
    below, above = tail_index.known_range(sgd)
    assert tail_index.bounds(sgd).lower <= below < above <= tail_index.bounds(sgd).upper


def test_moments_narrow_the_range_where_the_lower_bound_is_none():
    sgd = of_two(0.2, upper=1.7)
    assert tail_index.known_range(sgd) == (0.0, pytest.approx(1.7))

    heavier_than_four = HomogenizedSgd(np.array([1.0, 0.9, 0.8]), 0.5)
    lighter = heavier_than_four.at(0.99 * tail_index.critical_rates(heavier_than_four).fourth_moment)

    assert tail_index.known_range(lighter)[0] == 4
    assert tail_index.bounds(lighter).lower < 4


@pytest.mark.parametrize(("second", "k"), [(0.9, 0.4), (0.3, 0.7), (0.3, 1.4), (0.05, 0.9), (0.02, 0.5)])
def test_the_index_of_two_eigenvalues_is_that_of_another_method_within_its_error(second, k):
    sgd = HomogenizedSgd(np.array([1.0, second]), 1.0, batch_size=3, ridge=0.2)
    sgd = sgd.at(k / sgd.noise_kernel)

    found = tail_index.exact(sgd)

    # The other method itself is good to 1e-9.
    assert index_by_shooting(sgd, found.value, within=1e-4) == pytest.approx(found.value, abs=found.error + 1e-8)


@pytest.mark.parametrize("order", [2, 4, 6])
@pytest.mark.parametrize("seed", range(12))
def test_no_moment_contradicts_what_is_said_of_the_index(seed, order):
    """An even moment decays where the index is above its order, and grows where it is below; spectra far apart, K on both sides of 1."""
    rng = np.random.default_rng(seed)
    values = np.exp(rng.normal(size=1 + seed % 4) * (0.3, 2.0, 6.0)[seed % 3])
    sgd = HomogenizedSgd(values, 1.0, batch_size=int(rng.choice([1, 100, 10**6])), ridge=float(rng.choice([0, 0.01, 3])) * values.max())
    for k in (0.05, 0.3, 0.7, 0.95, 1.05, 1.6, 4.0):
        at = sgd.at(k / sgd.noise_kernel)

        grows = growth(at, order) / at.theta[0]

        below, above = tail_index.known_range(at)
        exact = tail_index.exact(at)
        rounding = 1e-9
        assert below <= above * (1 + 1e-12)
        if grows < -rounding:
            assert above >= order * (1 - rounding)
            assert exact is None or exact.value + exact.error >= order * (1 - rounding)
        elif grows > rounding:
            assert below <= order * (1 + rounding)
            assert exact is None or exact.value - exact.error <= order * (1 + rounding)


@pytest.mark.parametrize("scale", [1e-180, 1e180])
def test_units_do_not_matter(scale):
    values, other = np.array([1.0, 0.5, 0.1]), np.array([1.0, 0.5, 0.1]) * scale
    sgd, scaled = HomogenizedSgd(values, 0.3, ridge=0.2), HomogenizedSgd(other, 0.3 / scale, ridge=0.2 * scale)

    assert tail_index.bounds(scaled) == pytest.approx(tail_index.bounds(sgd))
    assert np.array(tail_index.critical_rates(scaled)) * scale == pytest.approx(np.array(tail_index.critical_rates(sgd)))
    assert tail_index.known_range(scaled) == pytest.approx(tail_index.known_range(sgd))
    assert tail_index.contraction_rate(scaled) == pytest.approx(tail_index.contraction_rate(sgd))


# Contraction


@pytest.mark.parametrize("seed", range(8))
def test_distributions_come_together_at_half_the_rate_of_the_second_moments(seed):
    drawn = random_spectrum(seed, 6)
    sgd = drawn.at(0.7 * tail_index.critical_rates(drawn).second_moment)

    assert tail_index.contraction_rate(sgd) == pytest.approx(-top(second_moments(sgd)) / 2, rel=1e-8)


@pytest.mark.parametrize("values", [[1.0, 1.0, 1.0], [2.0, 1.0, 1.0]])
def test_equal_eigenvalues_have_a_rate_too(values):
    sgd = HomogenizedSgd(np.array(values), 0.2)

    assert tail_index.contraction_rate(sgd) == pytest.approx(-top(second_moments(sgd)) / 2, rel=1e-10)


def test_from_k_1_on_there_is_no_rate():
    sgd = HomogenizedSgd(np.array([1.0, 0.5]), 1.5)

    assert tail_index.contraction_rate(sgd) is None
