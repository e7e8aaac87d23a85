import jax
import numpy as np
import pytest

from runners.measure import gauss_newton, sharpness
from runners.measure.eigenvalues import Accuracy, EigenMeter
from tests.runners.measure import dense

TIGHT = Accuracy(tolerance=1e-10, max_products=300)


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with dense.double_precision():
        yield


def eigenvalues(operator, case, top_k=1):
    meter = EigenMeter(operator, case.params, x=case.x, y=case.y, top_k=top_k, accuracy=TIGHT)
    return meter.measure(case.params, meter.start, jax.random.key(0))[0]


@pytest.mark.parametrize("name", dense.NAMES[:2])
def test_the_values_are_the_largest_eigenvalues_of_the_dense_matrix(name):
    case = dense.named(name)

    found = eigenvalues(gauss_newton.gauss_newton(case.problem()), case, top_k=2)

    np.testing.assert_allclose(found.values, np.linalg.eigvalsh(case.gauss_newton)[:-3:-1], rtol=TIGHT.tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("chunk_size", [3, 1000])
def test_what_it_carries_along_a_vector_is_the_dense_quadratic_form(chunk_size):
    case = dense.named(dense.NAMES[1])
    v = jax.random.normal(jax.random.key(1), (len(case.gauss_newton),), "float64")

    found = gauss_newton.along(case.problem(chunk_size))(case.params, case.x, v)

    assert float(found) == pytest.approx(np.asarray(v) @ case.gauss_newton @ np.asarray(v), rel=dense.ROUNDING)


@pytest.mark.slow
def test_the_residual_share_is_what_the_residual_matrix_has_along_the_top_eigenvector():
    case = dense.named(dense.NAMES[0])
    decay = case.objective.weight_decay
    residual = case.hessian - case.gauss_newton - decay * np.eye(len(case.hessian))
    values, vectors = np.linalg.eigh(case.hessian)

    top = eigenvalues(sharpness.hessian(case.problem()), case)
    carried = float(gauss_newton.along(case.problem())(case.params, case.x, top.vectors[0]))
    found = gauss_newton.residual_share(top.values[0], carried, weight_decay=decay)

    # The eigenvector's direction is wrong by residual / gap, which enters to first order.
    slack = 2 * np.linalg.norm(case.gauss_newton) * top.residuals[0] / (values[-1] - values[-2]) / values[-1]
    assert found == pytest.approx(vectors[:, -1] @ residual @ vectors[:, -1] / values[-1], abs=slack + dense.ROUNDING)
    assert 0.01 < abs(found) < 1


@pytest.mark.slow
def test_a_linear_models_sharpness_leaves_nothing_to_the_residual_part():
    case = dense.named("linear, cross-entropy")

    top = eigenvalues(sharpness.hessian(case.problem()), case)
    carried = float(gauss_newton.along(case.problem())(case.params, case.x, top.vectors[0]))

    assert gauss_newton.residual_share(top.values[0], carried, weight_decay=0.0) == pytest.approx(0, abs=1e-8)


def test_a_sharpness_of_zero_has_no_share():
    assert np.isnan(gauss_newton.residual_share(0.0, 0.0, weight_decay=0.0))
