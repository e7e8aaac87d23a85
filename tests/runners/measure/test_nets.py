"""What is measured of nets with attention and characters for inputs, against dense matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from runners import models, spec
from runners.measure import sharpness
from runners.measure.eigenvalues import Accuracy, EigenMeter
from runners.measure.ntk import NtkMeter
from runners.objectives import Objective
from tests.runners.measure import dense

EXAMPLES = 4


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with dense.double_precision():
        yield


def case(form):
    """A transformer off its initial values, and examples."""
    table = spec.Transformer(width=4, depth=1, heads=2, mlp_ratio=1, parametrization=form)
    options = {"num_outputs": dense.OUTPUTS, "seed": 0, "dtype": "float64", "input_dtype": models.CODES}
    model = models.build(table, input_shape=(3,), **options)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: leaf + 0.3 * rng.standard_normal(leaf.shape), model.params)
    x, y = (jnp.asarray(rng.integers(0, dense.OUTPUTS, shape, dtype=np.int32)) for shape in ((EXAMPLES, 3), EXAMPLES))
    return dense.Case(model=model, params=params, objective=Objective("cross_entropy"), x=x, y=y)


@pytest.mark.slow
def test_the_sharpness_of_a_transformer_is_that_of_the_dense_hessian():
    of = case("mup")
    meter = EigenMeter(sharpness.hessian(of.problem()), of.params, x=of.x, y=of.y, top_k=1, accuracy=Accuracy(1e-10, 300))

    found, _ = meter.measure(of.params, meter.start, jax.random.key(0))

    # The eigenvalue errs by no more than the residual, 1e-10 of it; the rest is rounding.
    assert found.values[0] == pytest.approx(np.linalg.eigvalsh(of.hessian)[-1], rel=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["sp", "mup"])
def test_the_ntk_of_a_transformer_is_that_of_the_dense_jacobian_by_layer(form):
    of = case(form)
    options = {"method": "exact", "num_probes": 2, "num_eigenvalues": 1, "accuracy": Accuracy(1e-10, 100), "with_norms": False}
    meter = NtkMeter(of.problem(), of.params, x=of.x, **options)

    found, _ = meter.measure(of.params, meter.start, jax.random.key(0))

    assert found.method == "exact, by layer"
    assert found.trace == pytest.approx(np.trace(of.gauss_newton), rel=dense.ROUNDING)
    assert found.eigenvalues[0] == pytest.approx(np.linalg.eigvalsh(of.gauss_newton)[-1], rel=1e-8)
