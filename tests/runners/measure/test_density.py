import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from runners.measure import density, operators
from tests.runners.measure import dense

DIM = 40
DISTINCT = np.array([-2.0, 0.0, 1.0, 3.0])
REPEATED = np.repeat(DISTINCT, DIM // 4)
SPREAD = np.array([10.0, 4, -3, *np.linspace(1, -1, DIM - 3)])
NAME = "mlp, cross-entropy with weight decay"


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with dense.double_precision():
        yield


def eigenvectors(dim):
    """One a row."""
    return np.linalg.qr(np.random.default_rng(0).standard_normal((dim, dim)))[0].T


def matrix(spectrum):
    """A symmetric matrix with these eigenvalues in a random basis."""
    basis = eigenvectors(len(spectrum))
    return jnp.asarray(basis.T * spectrum @ basis)


@functools.partial(jax.jit, static_argnames=("num_probes", "order"))
def quadrature(operator, key, *, num_probes, order):
    return density.spectral_quadrature(
        lambda v: operator @ v, len(operator), num_probes=num_probes, order=order, dtype=operator.dtype, key=key
    )


def found_for(operator, *, num_probes=2, order=6, seed=0):
    """Nodes, weights and the number of products."""
    return tuple(map(np.asarray, quadrature(operator, jax.random.key(seed), num_probes=num_probes, order=order)))


def bits_of(vector):
    return jax.lax.bitcast_convert_type(vector, jnp.uint32)


def multiplied(operator, *, num_probes, order):
    """Nodes and weights, and the vectors that were multiplied, in their order."""
    seen = []

    @jax.jit
    def program(key):
        def product(v):
            # As bits: the callback's thread knows no float64.
            jax.debug.callback(lambda bits: seen.append(np.asarray(bits).view(np.float64)[:, 0]), bits_of(v), ordered=True)
            return operator @ v

        return density.spectral_quadrature(product, len(operator), num_probes=num_probes, order=order, dtype=operator.dtype, key=key)

    found = jax.block_until_ready(program(jax.random.key(3)))
    jax.effects_barrier()
    assert found.num_products == len(seen)
    return np.asarray(found.nodes), np.asarray(found.weights), np.array(seen)


def mass_at(values, nodes, weights, *, within):
    """The weight of the nodes that lie at each value, for each probe."""
    return np.sum(weights[:, None] * (np.abs(nodes[:, None] - values[:, None]) <= within), axis=2)


# --- closed forms ---


@pytest.mark.slow
@pytest.mark.parametrize("order", [4, 100])
def test_an_order_of_the_distinct_eigenvalues_gives_them_all_with_the_squared_components_of_the_probe(order):
    nodes, weights, vectors = multiplied(matrix(REPEATED), num_probes=2, order=order)

    probes = vectors[:: len(vectors) // 2]
    components = ((probes @ eigenvectors(DIM).T) ** 2).reshape(2, 4, -1).sum(axis=2)
    within = dense.ROUNDING * 3
    assert len(vectors) == 2 * 4
    assert nodes.shape == (2, min(order, DIM))
    np.testing.assert_allclose(np.linalg.norm(probes, axis=1), 1, rtol=dense.ROUNDING)
    np.testing.assert_allclose(mass_at(DISTINCT, nodes, weights, within=within), components, rtol=0, atol=dense.ROUNDING)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=dense.ROUNDING)


def test_polynomials_of_a_degree_below_twice_the_order_are_integrated_exactly():
    order = 5
    nodes, weights, vectors = multiplied(matrix(SPREAD / 10), num_probes=2, order=order)

    components = (vectors[::order] @ eigenvectors(DIM).T) ** 2
    for degree in range(2 * order):
        wanted = components @ (SPREAD / 10) ** degree
        np.testing.assert_allclose((weights * nodes**degree).sum(axis=1), wanted, rtol=0, atol=dense.ROUNDING)
    missed = (weights * nodes ** (2 * order)).sum(axis=1) - components @ (SPREAD / 10) ** (2 * order)
    assert (np.abs(missed) > dense.ROUNDING).all()


@pytest.mark.parametrize(
    ("spectrum", "num_products"),
    [(np.zeros(DIM), 1), (np.full(DIM, -2.0), 1), (np.array([5.0, *np.zeros(DIM - 1)]), 2), (np.array([-3.0]), 1)],
    ids=["zero", "scalar", "of rank 1", "of size 1"],
)
def test_a_krylov_space_that_is_exhausted_ends_the_products(spectrum, num_products):
    nodes, weights, products = found_for(matrix(spectrum))

    within = dense.ROUNDING * np.abs(spectrum).max()
    assert products == 2 * num_products
    np.testing.assert_allclose(mass_at(np.unique(spectrum), nodes, weights, within=within).sum(axis=1), 1, rtol=dense.ROUNDING)
    assert spectrum.min() - within <= nodes.min() <= nodes.max() <= spectrum.max() + within


def test_in_single_precision_the_exhausted_space_leaves_finite_nodes():
    nodes, weights, _ = found_for(matrix(REPEATED).astype(jnp.float32), order=30)

    # Not 1000 but 100 roundings: the weights come from a matrix of 30 rows.
    rounding = 100 * np.finfo(np.float32).eps
    assert nodes.dtype == np.float32
    np.testing.assert_allclose(mass_at(DISTINCT, nodes, weights, within=3 * rounding).sum(axis=1), 1, rtol=rounding)


# --- against a dense matrix ---


def test_of_a_network_it_is_the_density_of_the_dense_hessian_to_the_spread_of_the_theory():
    case = dense.named(NAME)
    values = np.linalg.eigvalsh(case.hessian)
    dim = len(values)

    @jax.jit
    def program(params, x, y, key):
        _, product = operators.hessian(case.problem(), params, x=x, y=y)
        return density.spectral_quadrature(product, dim, num_probes=60, order=dim, dtype=jnp.dtype("float64"), key=key)

    nodes, weights, _ = map(np.asarray, program(case.params, case.x, case.y, jax.random.key(0)))
    at, width = density.grid(nodes, weights, count=50)
    found, _ = density.smoothed(nodes, weights, at=at, width=width)

    exact = norm.pdf(at[:, None], values, width)
    # The variance over the sphere of a quadratic form is 2 / (dim + 2) times that of its eigenvalues.
    spread = np.sqrt(2 / (dim + 2) * exact.var(axis=1) / len(nodes))
    assert (np.abs(found - exact.mean(axis=1)) <= 4 * spread + dense.ROUNDING / width).all()
    assert nodes.min() >= values[0] - dense.ROUNDING * np.abs(values).max()
    assert nodes.max() <= values[-1] + dense.ROUNDING * np.abs(values).max()


# --- invariants ---


def test_shifting_the_operator_shifts_the_nodes():
    operator = matrix(SPREAD)

    nodes, weights, _ = found_for(operator)
    shifted, same, _ = found_for(operator + 7 * jnp.eye(DIM))

    np.testing.assert_allclose(shifted, nodes + 7, rtol=0, atol=dense.ROUNDING * 17)
    np.testing.assert_allclose(same, weights, rtol=0, atol=dense.ROUNDING)


@pytest.mark.parametrize("factor", [2.0**100, 2.0**-100])
def test_scaling_the_operator_scales_the_nodes(factor):
    operator = matrix(SPREAD)

    nodes, weights, products = found_for(operator)
    scaled, same, as_many = found_for(factor * operator)

    assert products == as_many
    np.testing.assert_allclose(scaled / factor, nodes, rtol=0, atol=dense.ROUNDING * 10)
    np.testing.assert_allclose(same, weights, rtol=0, atol=dense.ROUNDING)


def test_turning_the_sign_mirrors_the_nodes():
    operator = matrix(SPREAD)

    nodes, weights, _ = found_for(operator)
    mirrored, same, _ = found_for(-operator)

    np.testing.assert_allclose(mirrored[:, ::-1], -nodes, rtol=0, atol=dense.ROUNDING * 10)
    np.testing.assert_allclose(same[:, ::-1], weights, rtol=0, atol=dense.ROUNDING)


def test_an_operator_that_is_not_finite_has_neither_nodes_nor_weights_and_ends_at_once():
    nodes, weights, products = found_for(matrix(SPREAD).at[3, 4].set(jnp.nan))

    assert products == 2
    assert np.isnan(nodes).all()
    assert np.isnan(weights).all()


# --- over many probes ---

PROBES = 2000


def variance_and_its_error(samples):
    """The variance of independent samples, and the standard error of that, by the fourth moment."""
    squares = (samples - samples.mean(axis=0)) ** 2
    return squares.mean(axis=0), squares.std(axis=0) / len(samples) ** 0.5


def test_the_trace_is_within_four_standard_errors_and_varies_as_the_theory_says():
    nodes, weights, _ = found_for(matrix(SPREAD), num_probes=PROBES, order=4)

    traces = DIM * (weights * nodes).sum(axis=1)

    variance, error = variance_and_its_error(traces)
    assert abs(traces.mean() - SPREAD.sum()) <= 4 * (variance / PROBES) ** 0.5
    assert abs(variance - DIM**2 * 2 / (DIM + 2) * SPREAD.var()) <= 4 * error


def test_the_density_is_within_four_standard_errors_and_these_are_those_of_the_theory():
    nodes, weights, _ = found_for(matrix(REPEATED), num_probes=PROBES, order=4)
    at, width = np.linspace(-4, 5, 7), 0.8

    found, sem = density.smoothed(nodes, weights, at=at, width=width)

    exact = norm.pdf(at[:, None], REPEATED, width)
    each = np.array([density.smoothed(nodes[i : i + 1], weights[i : i + 1], at=at, width=width)[0] for i in range(PROBES)])
    _, error = variance_and_its_error(each)
    wanted = 2 / (DIM + 2) * exact.var(axis=1)
    assert (np.abs(found - exact.mean(axis=1)) <= 4 * sem).all()
    assert (np.abs(PROBES * sem**2 - wanted) <= 4 * error).all()


def test_one_probe_has_a_density_but_no_standard_error():
    nodes, weights = np.array([[-1.0, 2.0]]), np.array([[0.25, 0.75]])

    found, sem = density.smoothed(nodes, weights, at=np.array([0.5]), width=2.0)

    np.testing.assert_allclose(found, 0.25 * norm.pdf(1.5, 0, 2) + 0.75 * norm.pdf(1.5, 0, 2), rtol=1e-14)
    assert np.isnan(sem).all()


# --- the grid ---


@pytest.mark.parametrize(("order", "count"), [(5, 200), (80, 60), (80, 10)])
def test_the_grid_covers_the_nodes_with_a_margin_and_holds_the_whole_mass(order, count):
    rng = np.random.default_rng(0)
    nodes, weights = np.sort(rng.normal(size=(3, order))), rng.dirichlet(np.ones(order), size=3)

    at, width = density.grid(nodes, weights, count=count)
    found, _ = density.smoothed(nodes, weights, at=at, width=width)

    spacing = at[1] - at[0]
    assert len(at) == count
    np.testing.assert_allclose(np.diff(at), spacing, rtol=1e-9)
    np.testing.assert_allclose([at[0], at[-1]], [nodes.min() - 4 * width, nodes.max() + 4 * width], rtol=1e-12)
    assert spacing <= width * (1 + 1e-12)
    # Beyond an end are at most the half of what a Gaussian has beyond 4 of its widths; sums are integrals to 2 exp(-2 pi^2).
    assert -2 * math.exp(-2 * math.pi**2) <= 1 - spacing * found.sum() <= math.erfc(4 / 2**0.5) / 2 + 2 * math.exp(-2 * math.pi**2)


@pytest.mark.slow
def test_the_width_is_what_the_quadrature_resolves():
    """A flat spectrum, whose smoothed density is known, from half as many nodes as the matrix has eigenvalues."""
    spectrum = np.linspace(-1, 1, 120)
    operator = jnp.diag(jnp.asarray(spectrum))

    nodes, weights, vectors = multiplied(operator, num_probes=1, order=40)
    at, width = density.grid(nodes, weights, count=400)
    found, _ = density.smoothed(nodes, weights, at=at, width=width)

    exact = norm.pdf(at[:, None], spectrum, width) @ vectors[0] ** 2
    # Coefficients of degree k of a Gaussian of width 1 / order of the range R fall like exp(-(k / order)^2 2), and each
    # polynomial from degree 2 order up may be wrong by twice its coefficient: in units of the peak, with R = 2,
    # 2 * 2 width * sqrt(2 / pi) * sum over k >= 2 order of that.
    tail = 4 * width * math.sqrt(2 / math.pi) * np.exp(-2 * (np.arange(80, 400) / 40) ** 2).sum()
    assert np.abs(found - exact).max() <= tail * norm.pdf(0, 0, width)


@pytest.mark.parametrize(("value", "width"), [(0.0, 1.0), (-5.0, 5e-6)])
def test_a_single_node_gets_a_peak_of_a_finite_width(value, width):
    nodes, weights = np.full((2, 3), value), np.full((2, 3), 1 / 3)

    at, found = density.grid(nodes, weights, count=20)

    np.testing.assert_allclose(found, width, rtol=1e-12)
    assert at[0] < value < at[-1]


def test_nodes_without_weight_do_not_stretch_the_grid():
    nodes, weights = np.array([[0.0, 1.0, 100.0]]), np.array([[0.5, 0.5, 0.0]])

    at, width = density.grid(nodes, weights, count=50)

    assert at[-1] == pytest.approx(1 + 4 * width)


def test_a_quadrature_that_is_not_finite_has_a_grid_and_a_density_that_are_not():
    nothing = np.full((2, 3), np.nan)

    at, width = density.grid(nothing, nothing, count=20)
    found, sem = density.smoothed(nothing, nothing, at=at, width=width)

    assert np.isnan([*at, width, *found, *sem]).all()


def test_too_few_points_are_refused():
    with pytest.raises(ValueError, match=r"count = 9: expected at least 10 points"):
        density.grid(np.zeros((1, 1)), np.ones((1, 1)), count=9)
