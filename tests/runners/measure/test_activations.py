"""What layers give out: against a net written out in NumPy."""

import jax
import numpy as np
import pytest

from runners import models, spec
from runners.measure.activations import activations


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def test_sizes_and_changes_are_those_of_the_layers_outputs():
    model = models.build(spec.Mlp(width=5, depth=3), input_shape=(4,), num_outputs=3, seed=0, dtype="float64")
    x = np.random.default_rng(0).standard_normal((7, 4))
    moved = jax.tree.map(lambda leaf: 1.1 * leaf + 0.2, model.params)

    found = activations(model.layers, moved, model.params, x=jax.numpy.asarray(x))

    def outputs(params):
        h, layers = x, {}
        for name in ("layer_0", "layer_1", "layer_2"):
            layers[name] = h @ np.asarray(params[name]["kernel"]) + np.asarray(params[name]["bias"])
            h = np.tanh(layers[name])
        return layers

    now, before = outputs(moved), outputs(model.params)
    assert set(found.sizes) == set(now)
    for name, values in now.items():
        np.testing.assert_allclose(found.sizes[name], np.sqrt(np.mean(values**2)), rtol=1e-12)
        np.testing.assert_allclose(found.changes[name], np.sqrt(np.mean((values - before[name]) ** 2)), rtol=1e-12)


@pytest.mark.parametrize("parametrization", ["sp", "ntp", "mup"])
def test_layers_give_out_what_the_model_is_made_of_whatever_its_parameters_are_multiplied_by(parametrization):
    table = spec.Mlp(width=6, depth=2, parametrization=parametrization)
    model = models.build(table, input_shape=(4,), num_outputs=3, seed=0, dtype="float64")
    x = jax.numpy.ones((2, 4))

    np.testing.assert_allclose(model.layers(model.params, x)["layer_1"], model.apply(model.params, x), rtol=1e-12)


def test_at_the_start_nothing_has_changed():
    model = models.build(spec.Cnn(width=2, depth=1), input_shape=(4, 4), num_outputs=3, seed=0, dtype="float64")

    found = activations(model.layers, model.params, model.params, x=jax.numpy.ones((2, 4, 4)))

    assert set(map(float, found.changes.values())) == {0.0}
