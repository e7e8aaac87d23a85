import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from runners.measure.eigenvalues import Accuracy
from runners.measure.layers import LayersMeter, groups
from tests.runners.measure import dense

TIGHT = Accuracy(tolerance=1e-10, max_products=300)
MLP = "mlp, mse with real targets and weight decay"


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with dense.double_precision():
        yield


def measured(case, chunk_size=1000):
    meter = LayersMeter(case.problem(chunk_size), case.params, x=case.x, y=case.y, accuracy=TIGHT)
    return meter, meter.measure(case.params, meter.start, jax.random.key(0))


def test_the_groups_cover_each_parameter_once():
    params = {"b": {"kernel": jax.numpy.zeros((2, 3)), "bias": jax.numpy.zeros(3)}, "a": jax.numpy.zeros(4)}

    masks = groups(params)

    assert {name: int(mask.sum()) for name, mask in masks.items()} == {"a": 4, "b": 9}
    assert np.sum(list(masks.values()), axis=0).tolist() == [1] * 13
    assert masks["a"].tolist() == [True] * 4 + [False] * 9, "in the order of the flat parameters"


@pytest.mark.slow
@pytest.mark.parametrize("chunk_size", [3, 1000])
def test_the_values_are_the_largest_eigenvalues_of_the_blocks_of_the_dense_hessian(chunk_size):
    case = dense.named(MLP)

    _, (found, _) = measured(case, chunk_size)

    assert found.converged
    for name, mask in groups(case.params).items():
        chosen = np.asarray(mask)
        block = case.hessian[np.ix_(chosen, chosen)]
        assert found.values[name] == pytest.approx(np.linalg.eigvalsh(block)[-1], rel=TIGHT.tolerance)


def test_the_blocks_of_a_quadratic_have_their_own_spectra_and_a_negative_one_has_zero():
    quadratic = dense.quadratic([-3.0, -1.0, 0.5, 1, 2, 4])
    chosen = {name: np.asarray(mask) for name, mask in groups(quadratic.params).items()}

    meter = LayersMeter(quadratic.problem, quadratic.params, x=quadratic.x, y=quadratic.y, accuracy=TIGHT)
    found, _ = meter.measure(quadratic.params, meter.start, jax.random.key(0))

    for name, mask in chosen.items():
        top = np.linalg.eigvalsh(quadratic.matrix[np.ix_(mask, mask)])[-1]
        assert found.values[name] == pytest.approx(max(top, 0), rel=TIGHT.tolerance, abs=1e-12)


@pytest.mark.slow
def test_no_block_is_sharper_than_the_whole():
    case = dense.named(MLP)

    _, (found, _) = measured(case)

    assert max(found.values.values()) <= np.linalg.eigvalsh(case.hessian)[-1] * (1 + TIGHT.tolerance)


@pytest.mark.slow
def test_what_one_measurement_leaves_saves_the_next_one_products():
    case = dense.named(MLP)
    meter, (first, start) = measured(case)

    again, _ = meter.measure(case.params, start, jax.random.key(1))

    assert again.num_products < first.num_products
    assert len(ravel_pytree(case.params)[0]) == start.vectors.shape[-1]
