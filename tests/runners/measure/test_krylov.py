import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runners.measure import krylov

DIM = 60
INDEFINITE = np.array([3.0, 2.5, *np.linspace(1, -1, DIM - 3), -10])
SINGLE = float(np.finfo(np.float32).eps)


def matrix(spectrum, *, dtype=np.float32):
    """A symmetric matrix with these eigenvalues in a random basis, and the basis, one eigenvector a row."""
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((len(spectrum), len(spectrum))))[0].T
    return (basis.T * spectrum @ basis).astype(dtype), basis.astype(dtype)


@functools.partial(jax.jit, static_argnames=("k", "tolerance", "max_products"))
def solve(operator, start, key, *, k, tolerance, max_products):
    return krylov.largest_eigenvalues(lambda v: operator @ v, start, k=k, tolerance=tolerance, max_products=max_products, key=key)


def largest(operator, *, k=1, tolerance=1e-4, max_products=300, start=None, seed=0):
    first = krylov.no_start(len(operator), k, dtype=operator.dtype)
    if start is not None:
        first = start if isinstance(start, krylov.Start) else first._replace(vectors=start)
    return solve(operator, first, jax.random.key(seed), k=k, tolerance=tolerance, max_products=max_products)


@pytest.fixture
def double_precision():
    with jax.enable_x64(True):
        yield


@pytest.mark.slow
def test_values_are_the_largest_signed_ones_of_an_indefinite_spectrum_in_float64(double_precision):
    operator, _ = matrix(INDEFINITE, dtype=np.float64)

    found = largest(operator, k=3, tolerance=1e-12)

    assert found.converged
    np.testing.assert_allclose(found.values, INDEFINITE[:3], rtol=1e-12)


@pytest.mark.slow
def test_in_float32_the_values_are_right_to_the_tolerance():
    operator, _ = matrix(INDEFINITE)

    found = largest(operator, k=3)

    assert found.converged
    np.testing.assert_allclose(found.values, INDEFINITE[:3], rtol=1e-4)


def test_the_residuals_are_those_of_the_vectors_that_come_back():
    operator, _ = matrix(INDEFINITE)

    found = largest(operator, k=3, tolerance=1e-2)

    vectors, values = np.float64(found.vectors), np.float64(found.values)
    wanted = np.linalg.norm(vectors @ np.float64(operator) - values[:, None] * vectors, axis=1)
    # A sum of 60 products, at most 10 each, in float32.
    np.testing.assert_allclose(found.residuals, wanted, atol=60 * 10 * SINGLE)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(3), atol=60 * SINGLE)


def test_equal_eigenvalues_are_all_found():
    operator, _ = matrix(np.array([5.0, 5, 5, *np.linspace(4, -1, DIM - 3)]))

    found = largest(operator, k=3)

    assert found.converged
    np.testing.assert_allclose(found.values, 5, rtol=1e-4)


@pytest.mark.parametrize(
    ("spectrum", "k", "wanted"),
    [
        (np.zeros(DIM), 2, [0, 0]),
        (np.full(DIM, -2.0), 2, [-2, -2]),
        (np.linspace(-5, -1, DIM), 1, [-1]),
        (np.array([*[0.0] * 10, *np.linspace(-1, -5, DIM - 10)]), 1, [0]),
        (np.array([-3.0]), 1, [-3]),
        (np.array([1.0, -2, 3]), 5, [3, 1, -2]),
        (1e-12 * INDEFINITE, 1, [3e-12]),
        (1e12 * INDEFINITE, 1, [3e12]),
    ],
    ids=["zero", "scalar", "negative definite", "semidefinite", "of size 1", "k above the size", "tiny", "huge"],
)
def test_special_operators_are_solved_and_converge(spectrum, k, wanted):
    operator, _ = matrix(spectrum)

    found = largest(operator, k=k)

    assert found.converged
    norm = np.abs(spectrum).max()
    np.testing.assert_allclose(found.values, wanted, rtol=1e-4, atol=2 * krylov.ROUNDING * SINGLE * norm)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_an_operator_that_is_not_finite_ends_the_solve_and_leaves_the_start_as_it_was(number):
    operator, basis = matrix(INDEFINITE)
    operator[3, 4] = number

    found = largest(operator, start=basis[:3])

    assert not found.converged
    assert np.isnan(found.values).all()
    assert found.num_products < 10
    np.testing.assert_array_equal(found.start.vectors, basis[:3])


def test_it_gives_up_after_max_products_and_says_so():
    operator, _ = matrix(INDEFINITE)

    found = largest(operator, tolerance=1e-6, max_products=6)

    assert found.num_products == 6
    assert not found.converged
    assert found.errors[0] > 1e-6 * found.values[0]
    np.testing.assert_array_equal(found.errors, found.residuals)
    assert np.isfinite(found.values).all()


@pytest.mark.slow
@pytest.mark.parametrize(("tolerance", "is_near"), [(1e-3, False), (1e-2, False), (3e-2, False), (8e-2, True)])
def test_a_looser_tolerance_calls_no_eigenvalue_near_that_is_further_than_one_percent_and_itself(tolerance, is_near):
    # The second eigenvalue, 5 % below, is looked at again only where it counts as near.
    operator, _ = matrix(np.array([10.0, 9.5, *np.linspace(5, -5, DIM - 2)]))
    first = largest(operator, tolerance=tolerance)

    again = largest(operator, tolerance=tolerance, start=first.start)

    assert again.converged
    assert (again.num_products > 2) == is_near
    assert abs(10 - again.values[0]) <= tolerance * 10


@pytest.mark.slow
def test_a_basis_that_was_full_many_times_still_gives_the_value(double_precision):
    dense = np.array([1.001, *np.linspace(1, -1, 299)])
    operator, _ = matrix(dense, dtype=np.float64)

    found = largest(operator, tolerance=1e-10, max_products=2000)

    assert found.converged
    assert found.num_products > 3 * (krylov.BASIS_VECTORS + 3)
    np.testing.assert_allclose(found.values, 1.001, rtol=1e-10)


def test_starting_from_the_eigenvectors_takes_one_product_more_than_there_are_vectors():
    operator, basis = matrix(INDEFINITE)

    found = largest(operator, start=basis[:3])

    assert found.converged
    assert found.num_products == 4  # the three, and one that looks for what has come up


def test_an_eigenvector_that_overtakes_is_found_from_a_start_orthogonal_to_it():
    _, basis = matrix(INDEFINITE)
    spectrum = INDEFINITE.copy()
    spectrum[30] = 4.0
    operator = (basis.T * spectrum @ basis).astype(np.float32)
    start = jnp.asarray(basis[:3])

    first = largest(operator, start=start, tolerance=1e-3)
    found = first
    for measurement in range(30 * (1 + krylov.TRUSTED)):
        found = largest(operator, start=found.start, tolerance=1e-3, seed=measurement)

    np.testing.assert_allclose(first.values, 3, rtol=1e-3)
    np.testing.assert_allclose(found.values, 4, rtol=1e-3)


def drifting(spectrum, *, times):
    """The operators of so many measurements, each a little off the last one, and their largest eigenvalues."""
    operator, _ = matrix(spectrum, dtype=np.float64)
    noise = np.random.default_rng(1).standard_normal(operator.shape)
    operators = [operator + 1e-3 * time * (noise + noise.T) for time in range(times)]
    return [one.astype(np.float32) for one in operators], [np.linalg.eigvalsh(one)[-1] for one in operators]


def test_while_the_next_value_was_far_one_or_two_products_do_and_the_rest_is_looked_at_every_few_times():
    operators, exact = drifting(INDEFINITE, times=2 * krylov.TRUSTED + 3)

    found = [largest(operators[0], tolerance=1e-3)]
    for operator in operators[1:]:
        found.append(largest(operator, start=found[-1].start, tolerance=1e-3, seed=len(found)))

    np.testing.assert_allclose([one.values[0] for one in found], exact, rtol=1e-3)
    assert all(abs(one.values[0] - value) <= one.errors[0] + 60 * 10 * SINGLE for one, value in zip(found, exact, strict=True))
    assert [int(one.start.age) for one in found] == [*range(krylov.TRUSTED + 1), *range(krylov.TRUSTED + 1), 0]
    assert all((one.num_products <= 2) == (one.start.age > 0) for one in found[1:])


@pytest.mark.parametrize("spectrum", [np.array([3.0, 2.99, *INDEFINITE[2:]]), np.array([3.0, 2.99, 2.98, *INDEFINITE[3:]])], ids=["2", "3"])
def test_where_the_next_value_is_near_it_is_looked_at_every_time(spectrum):
    operators, exact = drifting(spectrum, times=8)

    found = [largest(operators[0], tolerance=1e-3)]
    for operator in operators[1:]:
        found.append(largest(operator, start=found[-1].start, tolerance=1e-3, seed=len(found)))

    np.testing.assert_allclose([one.values[0] for one in found], exact, rtol=1e-3)
    assert [int(one.start.age) for one in found] == [0] * 8


def test_a_value_that_moved_far_is_not_held_against_where_the_next_one_was():
    operator, basis = matrix(INDEFINITE)
    first = largest(operator, tolerance=1e-3)
    crossed = operator - 0.2 * np.outer(basis[0], basis[0]) + 0.35 * np.outer(basis[1], basis[1])

    found = largest(crossed, start=first.start, tolerance=1e-3)

    np.testing.assert_allclose(found.values, 2.85, rtol=1e-3)
    assert found.known > 0.9


def test_several_values_are_trusted_together():
    operators, _ = drifting(INDEFINITE, times=2)
    first = largest(operators[0], k=2, tolerance=1e-3)

    found = largest(operators[1], k=2, start=first.start, tolerance=1e-3)

    np.testing.assert_allclose(found.values, np.linalg.eigvalsh(np.float64(operators[1]))[:-3:-1], rtol=1e-3)
    assert found.num_products <= 4
    assert int(found.start.age) == 1


@pytest.mark.parametrize("seed", range(4))
def test_a_start_that_is_far_from_any_eigenvector_is_taken_to_say_nothing(seed):
    operator, _ = matrix(INDEFINITE)
    vectors = jnp.asarray(np.random.default_rng(seed).standard_normal((3, DIM)), jnp.float32)

    found = largest(operator, start=vectors, tolerance=1e-2, seed=seed)

    second = np.float64(found.start.vectors[1])
    np.testing.assert_allclose(found.values, 3, rtol=1e-2)
    np.testing.assert_allclose(second @ np.float64(operator) @ second, 2.5, rtol=1e-2)


def test_the_same_start_and_key_give_the_same_bits():
    operator, _ = matrix(INDEFINITE)

    one, other = largest(operator, k=3, seed=5), largest(operator, k=3, seed=5)

    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_several_measurements_compile_once():
    traces = []

    @jax.jit
    def measure(operator, start, key):
        def product(v):
            traces.append(None)
            return operator @ v

        return krylov.largest_eigenvalues(product, start, k=1, tolerance=1e-3, max_products=100, key=key)

    operator, _ = matrix(INDEFINITE)
    found = measure(operator, krylov.no_start(DIM, 1, dtype=operator.dtype), jax.random.key(0))
    first = len(traces)

    for factor in (1.1, 2.0, -1.0):
        found = measure(np.float32(factor) * operator, found.start, jax.random.key(1))

    assert len(traces) == first


@pytest.mark.slow
def test_scaling_the_operator_scales_the_value_and_not_the_number_of_products(double_precision):
    operator, _ = matrix(INDEFINITE, dtype=np.float64)

    one, scaled = largest(operator), largest(2.0**20 * operator)

    assert one.num_products == scaled.num_products
    np.testing.assert_allclose(scaled.values, 2.0**20 * one.values, rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(spectrum=st.lists(st.floats(-100, 100, width=32), min_size=12, max_size=12), seed=st.integers(0, 2**31 - 1))
def test_some_eigenvalue_lies_within_the_residual_of_every_value(spectrum, seed):
    operator, _ = matrix(np.array(spectrum))

    found = largest(operator, k=2, seed=seed)

    exact = np.linalg.eigvalsh(np.float64(operator))
    distances = np.abs(np.asarray(found.values)[:, None] - exact).min(axis=1)
    rounding = 12 * krylov.ROUNDING * SINGLE * np.abs(spectrum).max()
    assert (distances <= found.residuals + rounding).all()
    assert (found.values <= exact[-1] + rounding).all()


def test_how_much_of_the_top_eigenvector_the_start_knew():
    operator, basis = matrix(INDEFINITE)
    first = largest(operator)
    again = largest(operator, start=first.start)
    overtaken = operator + 20 * np.outer(basis[40], basis[40])
    found = [again]
    while float(found[-1].values[0]) < 10 and len(found) < 10:
        found.append(largest(overtaken, start=found[-1].start, seed=len(found)))

    assert float(first.known) == 1
    assert float(again.known) == pytest.approx(1, abs=0.05)
    assert float(found[-1].values[0]) == pytest.approx(INDEFINITE[40] + 20, rel=1e-3)
    assert float(found[-1].known) < 0.5
