"""The tail gauge: bounds of homogenised SGD's tail index, from what the NTK's record has."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from runners import data, models, objectives
from runners.curvature import Curvature
from runners.measure import noise_kernel
from runners.panels import train_panels
from runners.records import NtkRecord
from runners.spec import Gaussian, Linear, Measure, Sgd, Train
from runners.theory import tail_index
from runners.theory.homogenized import HomogenizedSgd

SPECTRUM = (1.0, 0.5, 0.25, 0.1)
TRACE = sum(SPECTRUM)


@pytest.fixture(autouse=True)
def in_double_precision():
    with jax.enable_x64(True):
        yield


def measured(lr, *, num_outputs, **optimizer):
    """The NTK's record of a linear model whose examples have this very covariance, x^T x / n."""
    table = Gaussian(num_train=50, num_features=4, num_outputs=num_outputs, spectrum=SPECTRUM, covariance="empirical")
    found = data.load(table, seed=0, precision="float64")
    spec = Train(data=table, optimizer=Sgd(**optimizer), measure=Measure(sharpness_every=0, tail_gauge=True, tolerance=1e-9))
    model = models.build(Linear(), input_shape=(4,), num_outputs=num_outputs, seed=0, dtype="float64")
    curvature = Curvature(
        spec, model, objective=objectives.Objective("mse", 0.0), x=jnp.asarray(found.x), y=jnp.asarray(found.y), preconditioned=False
    )
    return curvature.ntk(model.params, lr=lr, step=0, time=0.0)


@pytest.mark.parametrize("num_outputs", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_on_a_linear_model_it_is_what_homogenised_sgd_has(num_outputs):
    record = measured(2.0, batch_size=4, sampling="with_replacement", num_outputs=num_outputs)

    kernel = 2.0 * TRACE / (2 * 4)
    expected = tail_index.bounds(HomogenizedSgd(np.array(SPECTRUM), 2.0, batch_size=4))
    assert record.tail_index_upper == pytest.approx(1 + TRACE / kernel, rel=1e-8)
    assert record.tail_index_lower == pytest.approx(2 + TRACE * (1 / kernel - 1), rel=1e-8)
    assert (record.tail_index_lower, record.tail_index_upper) == pytest.approx((expected.lower, expected.upper), rel=1e-8)
    assert expected.lower_holds
    assert record.tail_index_error < 1e-6
    assert record.tail_index_threshold == 2


def test_from_k_1_on_the_index_is_at_most_2():
    assert noise_kernel.tail_bounds(0.8, 50.0) == (pytest.approx(14.5), pytest.approx(63.5))
    assert noise_kernel.tail_bounds(1.2, 50.0) == (None, 2)
    assert noise_kernel.tail_bounds(4.0, 2.0) == (None, 1.5)


def test_without_noise_or_curvature_there_are_no_bounds():
    assert noise_kernel.tail_bounds(0.0, 3.0) is None
    assert noise_kernel.tail_bounds(0.5, float("nan")) is None
    assert noise_kernel.tail_bounds(0.5, 0.9) is None
    assert noise_kernel.tail_bounds(0.5, 0.9999) == (pytest.approx(3, rel=1e-3), pytest.approx(3, rel=1e-3))
    assert noise_kernel.tail_bounds(float("nan"), 3.0) is None


def test_a_panel_shows_both_bounds_against_2_and_says_what_they_are_of():
    def panels(**measure):
        spec = Train(optimizer=Sgd(batch_size=4), measure=Measure(**measure))
        return train_panels(spec, formula=None, preconditioned=False, per_output=False, has_test=False, layers=[], num_params=9)

    without, with_gauge = panels(), panels(tail_gauge=True)

    (panel,) = [panel for panel in with_gauge if panel not in without]
    assert "if least squares" in panel.title
    assert [curve.label for curve in panel.series] == ["upper", "lower"]
    fields = {curve.field for curve in (*panel.series, *panel.references, panel.error)}
    assert fields == {field for field in NtkRecord.__struct_fields__ if field.startswith("tail_index")}
