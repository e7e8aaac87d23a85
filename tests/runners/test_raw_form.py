"""The paper's raw form begins as the net of the same seed in ours, and takes the same steps."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from runners import models, spec

INPUTS, OUTPUTS, WIDTH = 5, 3, 8


@pytest.mark.parametrize(("depth", "branches"), [(3, 0), (2, 0), (13, 11)])
def test_it_is_the_same_function_at_the_start_and_after_a_step_of_lr_gamma_squared(depth, branches):
    gain, gamma, lr = 1.3, math.sqrt(WIDTH), 0.1
    common = {"width": WIDTH, "activation": "relu", "bias": False, "hidden_scale": gain, "parametrization": "mup"}
    ours = spec.ResidualMlp(depth=branches, depth_exponent=0.5, **common) if branches else spec.Mlp(depth=depth, **common)
    arguments = {"width": WIDTH, "depth": depth, "seed": 4, "gamma": gamma, "gain": gain, "num_branches": branches}
    raw = spec.CustomModel(target="runners.nets.raw_form:net", arguments=arguments)
    rng = np.random.default_rng(0)
    inputs, targets = rng.standard_normal((7, INPUTS)), rng.standard_normal((7, OUTPUTS))

    def outputs(table, lr):
        x, y = jnp.asarray(inputs), jnp.asarray(targets)
        model = models.build(table, input_shape=(INPUTS,), num_outputs=OUTPUTS, seed=4, dtype="float64")
        gradient = jax.grad(lambda params: jnp.sum((model.apply(params, x) - y) ** 2))(model.params)
        stepped = jax.tree.map(lambda value, change: value - lr * change, model.params, gradient)
        return np.stack([model.apply(model.params, x), model.apply(stepped, x)])

    with jax.enable_x64(True):
        np.testing.assert_allclose(outputs(raw, lr * gamma**2), outputs(ours, lr), rtol=1e-11)
