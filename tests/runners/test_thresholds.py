"""Each formula against the recursion that it is derived from: the spectral radius of one update on a quadratic."""

import math

import numpy as np
import pytest

from runners import spec, thresholds

MOMENTA = [0.0, 0.3, 0.5, 0.9, 0.99]
RATES = [1e-3, 0.1, 3.0]
GRAD_NORMS = [1e-3, 0.2, 10.0]


def update_matrix(table, lr, sharpness, grad_norm=None):
    """One update of (x, m) on the loss sharpness x^2 / 2, written from the table's docstring.

    P = 1 where there is one, and the norm of the gradient is held at `grad_norm` whatever x is.
    """
    x, m = np.eye(2)
    g = sharpness * x
    match table:
        case spec.Sgd() | spec.RmsProp():
            return np.array([x - lr * g, 0 * m])
        case spec.HeavyBall(momentum=b):
            m = b * m + g
            return np.array([x - lr * m, m])
        case spec.Nesterov(momentum=b):
            m = b * m + g
            return np.array([x - lr * (g + b * m), m])
        case spec.EmaMomentum(momentum=b):
            m = b * m + (1 - b) * g
            return np.array([x - lr * m, m])
        case spec.AdamW(beta1=b, decoupled_decay=decay):
            m = b * m + (1 - b) * g
            return np.array([x - lr * (m + decay * x), m])
        case spec.Adam(beta1=b):
            m = b * m + (1 - b) * g
            return np.array([x - lr * m, m])
        case spec.NormalizedGd():
            return np.array([x - lr * g / grad_norm, 0 * m])
        case spec.Sam(rho=rho):
            return np.array([x - lr * sharpness * (x + rho * g / grad_norm), 0 * m])


def spectral_radius(table, lr, sharpness, grad_norm=None):
    return np.abs(np.linalg.eigvals(update_matrix(table, lr, sharpness, grad_norm))).max()


def edge_by_bisection(table, lr, above, grad_norm=None):
    """The sharpness where the spectral radius passes 1, between 0 and one that is known to be unstable."""
    below = 0.0
    for _ in range(60):
        middle = (below + above) / 2
        below, above = (middle, above) if spectral_radius(table, lr, middle, grad_norm) <= 1 else (below, middle)
    return (below + above) / 2


def tables(momentum):
    return [
        spec.Sgd(),
        spec.HeavyBall(momentum=momentum),
        spec.Nesterov(momentum=momentum),
        spec.EmaMomentum(momentum=momentum),
        spec.Adam(beta1=momentum),
        spec.AdamW(beta1=momentum, decoupled_decay=0.0),
        spec.RmsProp(),
    ]


@pytest.mark.parametrize("lr", RATES)
@pytest.mark.parametrize("momentum", MOMENTA)
def test_each_threshold_is_where_the_updates_spectral_radius_passes_one(momentum, lr):
    for table in tables(momentum):
        expected = edge_by_bisection(table, lr, above=1000 / ((1 - momentum) * lr))

        found = thresholds.threshold(table, lr)

        # The eigenvalues of a 2x2 matrix with entries up to 1e6 are exact to about 1e-16 of its norm.
        assert found == pytest.approx(expected, rel=1e-9), table


@pytest.mark.parametrize("momentum", MOMENTA)
def test_no_sharpness_below_the_threshold_is_unstable(momentum):
    for table in tables(momentum):
        edge = thresholds.threshold(table, 0.1)

        radii = [spectral_radius(table, 0.1, fraction * edge) for fraction in np.linspace(0.01, 0.999, 100)]

        assert max(radii) < 1, table


@pytest.mark.parametrize("table", [spec.NormalizedGd(), spec.Sam(rho=0.0), spec.Sam(rho=1e-3), spec.Sam(rho=2.0)])
@pytest.mark.parametrize("grad_norm", GRAD_NORMS)
@pytest.mark.parametrize("lr", RATES)
def test_with_the_gradients_norm_held_the_threshold_is_where_the_spectral_radius_passes_one(table, grad_norm, lr):
    found = thresholds.threshold(table, lr, grad_norm=grad_norm)

    radii = [spectral_radius(table, lr, fraction * found, grad_norm) for fraction in np.linspace(0.01, 0.999, 100)]

    assert found == pytest.approx(edge_by_bisection(table, lr, 1000 / lr, grad_norm), rel=1e-9)
    assert max(radii) < 1


@pytest.mark.parametrize("rho", [1e-3, 0.05, 2.0])
@pytest.mark.parametrize("grad_norm", GRAD_NORMS)
@pytest.mark.parametrize("lr", RATES)
def test_sams_threshold_is_the_published_expression_and_below_that_of_gradient_descent(rho, grad_norm, lr):
    published = grad_norm / (2 * rho) * (np.sqrt(1 + 8 * rho / (lr * grad_norm)) - 1)

    found = thresholds.sam(lr, rho, grad_norm=grad_norm)

    # The root is within 1.4e-4 of 1 at the least, so that the difference has lost four digits of sixteen.
    assert found == pytest.approx(published, rel=1e-11)
    assert found < 2 / lr


def test_without_ascent_sams_threshold_is_exactly_that_of_gradient_descent():
    assert thresholds.threshold(spec.Sam(rho=0.0), 0.3, grad_norm=1e-7) == 2 / 0.3


@pytest.mark.parametrize("table", [spec.NormalizedGd(), spec.Sam()])
@pytest.mark.parametrize("grad_norm", [None, 0.0])
def test_without_a_gradient_there_is_no_threshold_that_depends_on_it(table, grad_norm):
    assert thresholds.threshold(table, 0.1, grad_norm=grad_norm) is None


@pytest.mark.parametrize("excess", [None, 0.0, -1.0])
def test_where_the_loss_exceeds_its_minimum_by_nothing_its_root_has_no_threshold(excess):
    assert thresholds.threshold(spec.Sgd(), 0.1, transform="sqrt", excess=excess) is None


def test_only_plain_gradient_descent_has_a_threshold_on_the_root_of_the_loss():
    assert thresholds.threshold(spec.HeavyBall(), 0.1, transform="sqrt", excess=1.0) is None
    assert thresholds.formula(spec.HeavyBall(), "sqrt") is None
    assert thresholds.moves(spec.Sgd(), "sqrt")
    assert not thresholds.moves(spec.Sgd())


@pytest.mark.parametrize("excess", [1e-9, 0.3, 40.0])
@pytest.mark.parametrize("lr", RATES)
def test_the_threshold_of_the_root_is_two_over_the_learning_rate_that_it_comes_to(lr, excess):
    effective = lr / (2 * excess**0.5)

    found = thresholds.threshold(spec.Sgd(), lr, transform="sqrt", excess=excess)

    assert found == pytest.approx(2 / effective, rel=1e-14)
    formula = thresholds.formula(spec.Sgd(), "sqrt").replace("4sqrt(L-L_min)", "4*sqrt(L-L_min)")
    assert found == pytest.approx(eval(formula, {"sqrt": np.sqrt, "L": excess + 2, "L_min": 2, "lr": lr}), rel=1e-6)


def test_on_a_quadratic_in_one_direction_the_ratios_of_two_steps_on_the_root_have_the_harmonic_mean_one():
    lr, s, x = 0.3, 7.0, 0.05

    ratios = []
    for _ in range(2):
        excess = s * x**2 / 2
        ratios.append(s / thresholds.threshold(spec.Sgd(), lr, transform="sqrt", excess=excess))
        x -= lr * s * x / (2 * excess**0.5)

    assert 2 / sum(1 / ratio for ratio in ratios) == pytest.approx(1, rel=1e-12)
    assert ratios[0] != pytest.approx(ratios[1], rel=0.1)


@pytest.mark.parametrize("table", [spec.SignDescent(), spec.Muon()])
def test_an_edge_in_another_norm_is_no_threshold_of_the_sharpness(table):
    assert thresholds.threshold(table, 0.1, grad_norm=1.0) is None
    assert thresholds.formula(table) is None


@pytest.mark.parametrize("momentum", MOMENTA)
def test_thresholds_that_do_not_depend_on_the_gradient_are_the_same_with_it(momentum):
    for table in tables(momentum):
        assert thresholds.threshold(table, 0.1, grad_norm=3.0) == thresholds.threshold(table, 0.1), table


@pytest.mark.parametrize("lr", [0.01, 0.5, 1.5])
@pytest.mark.parametrize("decay", [1e-4, 0.1, 1.0])
@pytest.mark.parametrize("beta1", [0.0, 0.5, 0.9])
def test_decoupled_decay_lowers_adams_threshold_by_the_derived_amount(beta1, decay, lr):
    table = spec.AdamW(beta1=beta1, decoupled_decay=decay)

    found = thresholds.threshold(table, lr)

    assert found == pytest.approx(edge_by_bisection(table, lr, above=1000 / ((1 - beta1) * lr)), rel=1e-9)
    assert found == pytest.approx(thresholds.adam(lr, beta1) - decay * (1 + beta1) / (1 - beta1), rel=1e-12)


def test_a_decay_that_diverges_alone_leaves_no_threshold():
    assert thresholds.threshold(spec.AdamW(decoupled_decay=20.0), 0.1) is None
    assert spectral_radius(spec.AdamW(beta1=0.0, decoupled_decay=21.0), 0.1, 1e-9) > 1


@pytest.mark.parametrize("lr", RATES)
def test_without_momentum_every_threshold_is_that_of_gradient_descent(lr):
    for table in tables(momentum=0.0):
        assert thresholds.threshold(table, lr) == pytest.approx(2 / lr, rel=1e-15)


@pytest.mark.parametrize(
    ("table", "edge"),
    [
        (spec.HeavyBall(momentum=0.9), 3.8),
        (spec.Nesterov(momentum=0.9), 3.8 / 2.8),
        (spec.EmaMomentum(momentum=0.9), 38.0),
        (spec.Adam(beta1=0.9), 38.0),
    ],
)
def test_the_published_values_at_momentum_nine_tenths(table, edge):
    assert thresholds.threshold(table, 1.0) == pytest.approx(edge, rel=1e-14)


def test_a_learning_rate_of_zero_has_no_threshold():
    kinds = [*tables(momentum=0.9), spec.NormalizedGd(), spec.Sam()]

    assert all(thresholds.threshold(table, 0.0, grad_norm=1.0) is None for table in kinds)


@pytest.mark.parametrize("table", [*tables(momentum=0.9), spec.AdamW(decoupled_decay=0.5), spec.NormalizedGd(), spec.Sam(rho=0.3)])
def test_the_formula_in_words_evaluates_to_the_threshold(table):
    formula = thresholds.formula(table)
    names = {"lr": 0.2, "b": 0.9, "b1": 0.9, "d": getattr(table, "decoupled_decay", 0.0), "rho": 0.3, "g": 0.7, "sqrt": math.sqrt}
    products = {"lr d": "lr*d", "2b": "2*b", ")(": ")*(", "lr(": "lr*(", ")lr": ")*lr", "lr|g|": "lr*g", "2|g|": "2*g", "8rho": "8*rho"}
    python = formula
    for short, full in products.items():
        python = python.replace(short, full)

    value = eval(python, {}, names)

    assert value == pytest.approx(thresholds.threshold(table, 0.2, grad_norm=0.7), rel=1e-14)
