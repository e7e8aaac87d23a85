import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from runners.measure import operators
from runners.measure.hessian_trace import hessian_trace
from tests.runners.measure import dense

DIM = 60
INDEFINITE = np.array([50.0, 20, -30, 5, *np.linspace(1, -1.5, DIM - 4)])
BALANCED = np.where(np.arange(DIM) % 2, 1.0, -1.0)
NAME = "mlp, cross-entropy with weight decay"


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with dense.double_precision():
        yield


def matrix(spectrum):
    """A symmetric matrix with these eigenvalues in a random basis."""
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((len(spectrum), len(spectrum))))[0]
    return jnp.asarray(basis * spectrum @ basis.T)


@functools.partial(jax.jit, static_argnames="num_products")
def estimates(operator, keys, *, num_products):
    """One estimate for each key, one after the other."""

    def one(key):
        return hessian_trace(lambda v: operator @ v, len(operator), num_products=num_products, dtype=operator.dtype, key=key)

    return jax.lax.map(one, keys)


def estimate(operator, *, num_products, seed=0):
    found = estimates(operator, jax.random.key(seed)[None], num_products=num_products)
    return jax.tree.map(lambda array: array[0], found)


def bits_of(vector):
    return jax.lax.bitcast_convert_type(vector, jnp.uint32)


def multiplied(operator, *, num_products):
    """An estimate, and the vectors it multiplied, in their order."""
    seen = []

    @jax.jit
    def program(key):
        def product(v):
            # As bits: the callback's thread knows no float64.
            jax.debug.callback(lambda bits: seen.append(np.asarray(bits).view(np.float64)[:, 0]), bits_of(v), ordered=True)
            return operator @ v

        return hessian_trace(product, len(operator), num_products=num_products, dtype=operator.dtype, key=key)

    found = jax.block_until_ready(program(jax.random.key(3)))
    jax.effects_barrier()
    return found, np.array(seen)


def left_out_one_by_one(operator, vectors):
    """t_i from the definition, each with a projector of its own, and the variance of t_i given the other vectors."""
    dim, terms, variances = len(operator), [], []
    for i, vector in enumerate(vectors):
        others = np.delete(vectors, i, axis=0)
        basis = np.linalg.qr(operator @ others.T)[0]
        complement = np.eye(dim) - basis @ basis.T
        rest = complement @ vector
        d = dim - len(others)
        left = complement @ operator @ complement
        terms.append(np.trace(basis.T @ operator @ basis) + d * rest @ operator @ rest / (rest @ rest))
        variances.append(2 * d / (d + 2) * ((left**2).sum() - np.trace(left) ** 2 / d))
    return np.array(terms), np.array(variances)


# --- against the definition and dense matrices ---


@pytest.mark.slow
@pytest.mark.parametrize("num_products", [4, 59])
def test_it_is_the_mean_over_the_projectors_that_leave_one_vector_out(num_products):
    operator = matrix(INDEFINITE)

    found, vectors = multiplied(operator, num_products=num_products)

    half = num_products // 2
    terms, _ = left_out_one_by_one(np.asarray(operator), vectors[:half])
    assert found.num_products == len(vectors) == 2 * half
    np.testing.assert_allclose(found.value, terms.mean(), rtol=0, atol=dense.ROUNDING * 50 * DIM)
    np.testing.assert_allclose(found.sem, terms.std(ddof=1) / half**0.5, rtol=0, atol=dense.ROUNDING * 50 * DIM)


def test_of_a_network_it_is_that_of_the_dense_hessian_and_its_trace_when_the_products_suffice_for_all_columns():
    case = dense.named(NAME)
    dim = len(case.hessian)

    @jax.jit
    def program(params, x, y, key):
        _, product = operators.hessian(case.problem(), params, x=x, y=y)
        return [hessian_trace(product, dim, num_products=budget, dtype=jnp.dtype("float64"), key=key) for budget in (dim, dim // 2)]

    exact, estimated = program(case.params, case.x, case.y, jax.random.key(0))

    wanted = estimate(jnp.asarray(case.hessian), num_products=dim // 2)
    rounding = dense.ROUNDING * dim * np.linalg.norm(case.hessian)
    assert exact.num_products == dim
    assert exact.sem == 0
    np.testing.assert_allclose(exact.value, np.trace(case.hessian), rtol=0, atol=rounding)
    np.testing.assert_allclose(estimated.value, wanted.value, rtol=0, atol=rounding)
    np.testing.assert_allclose(estimated.sem, wanted.sem, rtol=0, atol=rounding)


@pytest.mark.parametrize("num_products", [1, 2, 7, 100])
def test_a_small_operator_is_summed_column_by_column(num_products):
    spectrum = np.array([3.0, -2, 1, 0, -5, 4, 2])[:num_products]
    operator = matrix(spectrum)

    found = estimate(operator, num_products=num_products)

    assert found.num_products == len(spectrum)
    assert found.sem == 0
    np.testing.assert_allclose(found.value, spectrum.sum(), rtol=0, atol=dense.ROUNDING * 5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "spectrum",
    [np.zeros(DIM), np.array([7.0, *np.zeros(DIM - 1)]), np.array([1e6, -30, 2, -1, *np.zeros(DIM - 4)]), np.full(DIM, -3.0)],
    ids=["zero", "of rank 1", "of a rank one below the vectors", "scalar"],
)
def test_it_is_exact_for_a_low_rank_and_for_a_scalar(spectrum):
    operator = matrix(spectrum)

    found = estimate(operator, num_products=10)

    rounding = dense.ROUNDING * DIM * np.abs(spectrum).max()
    np.testing.assert_allclose(found.value, spectrum.sum(), rtol=0, atol=rounding)
    assert 0 <= found.sem <= rounding


# --- invariants ---


def test_a_zero_matrix_in_single_precision_has_the_trace_zero():
    found = estimate(jnp.zeros((DIM, DIM), jnp.float32), num_products=10)

    assert found.value == found.sem == 0
    assert found.value.dtype == jnp.float32


@pytest.mark.parametrize("factor", [2.0**-60, -(2.0**60)])
def test_scaling_the_operator_scales_the_value_and_its_error(factor):
    operator = matrix(INDEFINITE)

    one, scaled = estimate(operator, num_products=10), estimate(factor * operator, num_products=10)

    rounding = dense.ROUNDING * 50 * DIM
    np.testing.assert_allclose(scaled.value / factor, one.value, rtol=0, atol=rounding)
    np.testing.assert_allclose(scaled.sem / abs(factor), one.sem, rtol=0, atol=rounding)


def test_the_same_key_gives_the_same_bits_and_another_key_another_value():
    operator = matrix(INDEFINITE)

    one, again, other = (estimate(operator, num_products=10, seed=seed) for seed in (5, 5, 6))

    jax.tree.map(np.testing.assert_array_equal, one, again)
    assert one.value != other.value


def test_an_operator_that_is_not_finite_has_no_trace():
    found = estimate(matrix(INDEFINITE).at[3, 4].set(jnp.nan), num_products=10)

    assert np.isnan(found.value)
    assert np.isnan(found.sem)


def test_too_few_products_for_an_error_are_refused():
    with pytest.raises(ValueError, match=r"num_products = 3: expected at least 4, or 60"):
        estimate(matrix(INDEFINITE), num_products=3)


# --- the reported error ---

KEYS = 2000


@pytest.mark.slow
def test_over_many_keys_the_mean_is_the_trace():
    operator = matrix(INDEFINITE)

    found = estimates(operator, jax.random.split(jax.random.key(1), KEYS), num_products=16)

    standard_error = np.std(found.value, ddof=1) / KEYS**0.5
    assert abs(np.mean(found.value) - INDEFINITE.sum()) <= 4 * standard_error


@pytest.mark.slow
def test_over_many_keys_error_and_spread_are_those_of_the_theory():
    """Of A^2 = 1: images of Gaussian vectors are a random subspace, and every variance is known.

    With m = 4 vectors, t_1 has the variance s = 2 d / (d + 2) (|B|_F^2 - (tr B)^2 / d) of a quadratic form on the sphere. What
    another vector p changes in it is, but for terms smaller by 1 / sqrt(dim), -2 (p . w)(p . A w), with a variance of 4: by
    Cauchy and Schwarz at most that is the covariance of t_1 and t_2, and so E m sem^2 lies within s (1 -+ c) and
    m Var value within s (1 -+ (m - 1) c), c = 4 / s.
    """
    operator, half = matrix(BALANCED), 4

    found = estimates(operator, jax.random.split(jax.random.key(2), KEYS), num_products=2 * half)

    rng = np.random.default_rng(0)
    variance = np.mean([left_out_one_by_one(np.asarray(operator), rng.standard_normal((half, DIM)))[1] for _ in range(25)])
    reported = half * np.asarray(found.sem) ** 2 / variance
    deviations = half * (np.asarray(found.value) - BALANCED.sum()) ** 2 / variance
    covariance = 4 / variance
    assert abs(reported.mean() - 1) <= covariance + 4 * reported.std() / KEYS**0.5
    assert abs(deviations.mean() - 1) <= (half - 1) * covariance + 4 * deviations.std() / KEYS**0.5
