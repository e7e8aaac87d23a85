"""Parametrizations: against the forms in which the papers state them, transcribed, in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.flatten_util import ravel_pytree
from optax.tree_utils import tree_get

from runners import models, optimizers, parametrization, spec, spec_file
from runners.errors import SpecError
from runners.optimizers import Factors

INPUTS, OUTPUTS, EXAMPLES, STEPS = 6, 3, 16, 50
LR = 0.05


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def build(table, optimizer):
    model = models.build(table, optimizer=optimizer, input_shape=(INPUTS,), num_outputs=OUTPUTS, seed=1, dtype="float64")
    return model, optimizers.build(
        optimizer, model.params, Factors(model.factors("lr"), model.factors("eps")) if adaptive(optimizer) else None
    )


def adaptive(optimizer):
    return isinstance(optimizer, parametrization.ADAPTIVE)


def data():
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.standard_normal((EXAMPLES, INPUTS))), jnp.asarray(rng.standard_normal((EXAMPLES, OUTPUTS)))


def trained(apply, params, transformation, steps=STEPS):
    """Outputs of a net after some steps on the mean square."""
    x, y = data()
    state = transformation.init(params)

    @jax.jit
    def step(params, state):
        gradient = jax.grad(lambda params: 0.5 * jnp.mean(jnp.sum((apply(params, x) - y) ** 2, axis=1)))(params)
        change, state = transformation.update(gradient, state, params)
        return optax.apply_updates(params, change), state

    for _ in range(steps):
        params, state = step(params, state)
    return np.asarray(apply(params, x))


def raw_net(params, x, *, gamma, branch=1.0, rest=1.0):
    """The paper's form: matrices of raw entries, each product over the root of its inputs, the output over gamma."""
    first, *branches, last = params
    h = rest * x @ first / np.sqrt(first.shape[0])
    for matrix in branches:
        h = h + branch * jax.nn.relu(h) @ matrix / np.sqrt(matrix.shape[0])
    return rest * jax.nn.relu(h) @ last / (gamma * np.sqrt(last.shape[0]))


def raw_values(model, names):
    """What the raw entries start from: the parameters times their multipliers, as the raw form multiplies them."""
    return {name: np.asarray(model.params[name]["kernel"]) * model.leaves[name, "kernel"].multiplier for name in names}


RESIDUAL = ("input", "branch_0", "branch_1", "branch_2", "output")


@pytest.mark.parametrize(("form", "alpha"), [("ntp", 0.0), ("mup", 0.0), ("mup", 0.5), ("mup", 1.0)])
def test_gradient_descent_is_that_of_the_raw_form_with_one_learning_rate(form, alpha):
    width, depth, gamma_0 = 12, 3, 0.8
    table = spec.ResidualMlp(width=width, depth=depth, parametrization=form, depth_exponent=alpha, gamma=gamma_0)
    model, optimizer = build(table, spec.Sgd(lr=LR))
    gamma = gamma_0 * (np.sqrt(width) if form == "mup" else 1.0)
    # With alpha = 1 the learning rate is L times as large for all, and what is no branch is multiplied by L^-1/2.
    rest, speed = (depth**-0.5, depth) if alpha == 1.0 else (1.0, 1.0)
    effective = raw_values(model, RESIDUAL)
    raw = [effective[name] * np.sqrt(effective[name].shape[0]) for name in RESIDUAL]
    raw = [raw[0] / rest, *(matrix * depth**alpha for matrix in raw[1:-1]), raw[-1] * gamma / rest]
    reference = partial(raw_net, gamma=gamma, branch=depth**-alpha, rest=rest)

    found = trained(model.apply, model.params, optimizer.transformation)

    np.testing.assert_allclose(found, trained(reference, raw, optax.sgd(LR * gamma**2 * speed)), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_gradient_descent_is_that_of_ordinary_parameters_with_a_learning_rate_by_role(alpha):
    width, depth = 12, 3
    table = spec.ResidualMlp(width=width, depth=depth, parametrization="mup", depth_exponent=alpha)
    model, optimizer = build(table, spec.Sgd(lr=LR))
    effective = raw_values(model, RESIDUAL)
    ordinary = {name: effective[name] * (depth**alpha if "branch" in name else 1.0) for name in RESIDUAL}
    rates = {"input": LR * width / INPUTS, "output": LR / width} | dict.fromkeys(RESIDUAL[1:-1], LR)

    def apply(params, x):
        h = x @ params["input"]
        for name in RESIDUAL[1:-1]:
            h = h + depth**-alpha * jax.nn.relu(h) @ params[name]
        return jax.nn.relu(h) @ params["output"]

    transformation = optax.multi_transform({name: optax.sgd(rate) for name, rate in rates.items()}, {name: name for name in RESIDUAL})
    found = trained(model.apply, model.params, optimizer.transformation)

    np.testing.assert_allclose(found, trained(apply, ordinary, transformation), rtol=1e-9, atol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_adam_is_that_of_ordinary_parameters_with_a_learning_rate_and_an_epsilon_by_role(alpha):
    width, depth, eps = 12, 3, 1e-3
    table = spec.ResidualMlp(width=width, depth=depth, parametrization="mup", depth_exponent=alpha, base_width=4)
    model, optimizer = build(table, spec.Adam(lr=LR, eps=eps))
    n = width / 4
    ordinary = {name: model.params[name]["kernel"] for name in RESIDUAL}
    slow = depth ** (alpha - 1) if alpha else 1.0
    pairs = {"input": (LR, eps / n), "output": (LR / n, eps)} | dict.fromkeys(RESIDUAL[1:-1], (LR / n * slow, eps / n * depth**-alpha))

    def apply(params, x):
        h = x @ params["input"]
        for name in RESIDUAL[1:-1]:
            h = h + depth**-alpha * jax.nn.relu(h) @ params[name]
        return jax.nn.relu(h) @ params["output"]

    adams = {name: optax.adam(lr, eps=eps) for name, (lr, eps) in pairs.items()}
    found = trained(model.apply, model.params, optimizer.transformation)

    np.testing.assert_allclose(found, trained(apply, ordinary, optax.multi_transform(adams, {name: name for name in RESIDUAL})), rtol=1e-9)


@pytest.mark.slow
def test_adam_is_that_of_the_raw_form_where_epsilon_does_not_count():
    width = 12
    model, optimizer = build(spec.ResidualMlp(width=width, depth=3, parametrization="mup"), spec.Adam(lr=LR, eps=1e-30))
    effective = raw_values(model, RESIDUAL)
    raw = [effective[name] * np.sqrt(effective[name].shape[0]) for name in RESIDUAL]
    raw[-1] = raw[-1] * np.sqrt(width)
    rates = [LR * np.sqrt(INPUTS), *[LR / np.sqrt(width)] * 3, LR]
    transformation = optax.multi_transform({k: optax.adam(rate, eps=1e-30) for k, rate in enumerate(rates)}, list(range(5)))

    found = trained(model.apply, model.params, optimizer.transformation)

    np.testing.assert_allclose(found, trained(partial(raw_net, gamma=np.sqrt(width)), raw, transformation), rtol=1e-7)


@pytest.mark.slow
def test_at_the_base_width_mup_is_ntp_and_with_adam_sp():
    wide = {"width": 8, "base_width": 8}
    pairs = [(spec.Sgd(lr=LR), "ntp"), (spec.Adam(lr=LR), "sp")]

    for optimizer, other in pairs:
        mup = build(spec.Mlp(**wide, parametrization="mup"), optimizer)
        same = build(spec.Mlp(**wide, parametrization=other), optimizer)
        np.testing.assert_allclose(*(trained(model.apply, model.params, built.transformation) for model, built in (mup, same)), rtol=1e-9)


@pytest.mark.parametrize("form", ["sp", "ntp", "mup"])
@pytest.mark.parametrize("optimizer", [spec.Sgd(), spec.Adam()])
def test_the_first_outputs_are_those_of_the_same_net_over_gamma(form, optimizer):
    x, _ = data()
    plain, _ = build(spec.Mlp(width=9), spec.Sgd())
    model, _ = build(spec.Mlp(width=9, parametrization=form, gamma=1.0 if form == "sp" else 2.0), optimizer)
    gamma = {"sp": 1.0, "ntp": 2.0, "mup": 6.0}[form]

    np.testing.assert_allclose(model.apply(model.params, x), plain.apply(plain.params, x) / gamma, rtol=1e-12)


@pytest.mark.slow
def test_the_preconditioner_is_what_the_update_divides_the_momentum_by_at_one_learning_rate():
    model, optimizer = build(spec.ResidualMlp(width=8, depth=2, parametrization="mup", depth_exponent=1.0), spec.Adam(lr=LR, eps=1e-2))
    params, state = model.params, optimizer.transformation.init(model.params)
    x, y = data()
    for _ in range(3):
        gradient = jax.grad(lambda params: jnp.mean((model.apply(params, x) - y) ** 2))(params)
        change, state = optimizer.transformation.update(gradient, state, params)
        params = optax.apply_updates(params, change)

    p = optimizer.preconditioner(state, 3)
    momentum = jax.tree.map(lambda scaled, eps: scaled * eps, tree_get(state, "mu"), model.factors("eps"))

    jax.tree.map(lambda change, m, p: np.testing.assert_allclose(change, -LR * m / p, rtol=1e-9), change, momentum, p)


def test_decoupled_decay_takes_off_the_same_share_of_all_parameters():
    optimizer = spec.AdamW(lr=LR, decoupled_decay=0.3)
    model, built = build(spec.Mlp(width=8, parametrization="mup"), optimizer)
    nothing = jax.tree.map(jnp.zeros_like, model.params)

    change, _ = built.transformation.update(nothing, built.transformation.init(model.params), model.params)

    jax.tree.map(lambda change, value: np.testing.assert_allclose(change, -LR * 0.3 * value, rtol=1e-12), change, model.params)


class Users(nnx.Module):
    """A net with a norm, an embedding of positions and a branch of two layers."""

    def __init__(self, *, input_shape, num_outputs, rngs, width):
        self.read = nnx.Linear(*input_shape, width, rngs=rngs)
        self.position = nnx.Param(jnp.ones((2, width)))
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.branch = nnx.Dict(a=nnx.Linear(width, 2 * width, rngs=rngs), b=nnx.Linear(2 * width, width, rngs=rngs))
        self.fixed = nnx.Linear(width, 5, rngs=rngs)
        self.write = nnx.Linear(5, num_outputs, rngs=rngs)

    def __call__(self, x):
        h = self.norm(self.read(x) + self.position[0])
        h = h + self.branch["b"](jax.nn.relu(self.branch["a"](h)))
        return self.write(self.fixed(h))


@pytest.mark.parametrize("optimizer", [spec.Sgd(), spec.Adam()])
@pytest.mark.parametrize("form", ["sp", "ntp", "mup"])
def test_the_header_says_the_deviation_that_first_values_have(form, optimizer):
    table = spec.Mlp(width=64, parametrization=form, gamma=1.0 if form == "sp" else 2.0, init_scale=0.6, hidden_scale=1.5)
    model, _ = build(table, optimizer)
    gains = {"layer_0.kernel": 0.6, "layer_1.kernel": 0.9, "layer_2.kernel": 0.6}

    for row in model.described():
        if row.fan_in is None:
            assert row.init_std == 0
            continue
        init = model.leaves[tuple(row.name.split("."))].init
        # Four standard errors of a deviation that is estimated from so many values.
        accuracy = 4 / np.sqrt(2 * np.prod(row.shape))
        assert row.init_std == pytest.approx(init * gains[row.name] / np.sqrt(row.fan_in), rel=accuracy)


def users(**keys):
    return spec.CustomModel(**({"target": "tests.runners.test_parametrization:Users", "arguments": {"width": 8}} | keys))


@pytest.mark.slow
def test_roles_are_found_from_how_shapes_grow():
    model, _ = build(users(parametrization="mup"), spec.Sgd())

    assert {".".join(path): leaf.role for path, leaf in model.leaves.items()} == {
        "read.kernel": "input",
        "read.bias": "vector",
        "position": "vector",
        "norm.scale": "vector",
        "norm.bias": "vector",
        "branch.a.kernel": "inner",
        "branch.a.bias": "inner",
        "branch.b.kernel": "branch",
        "branch.b.bias": "branch",
        "fixed.kernel": "output",
        "fixed.bias": "output",
        "write.kernel": "constant",
        "write.bias": "constant",
    }


class Deep(nnx.Module):
    """A branch of eleven layers."""

    def __init__(self, *, input_shape, num_outputs, rngs, width):
        self.read = nnx.Linear(*input_shape, width, rngs=rngs)
        self.branch = nnx.List([nnx.Linear(width, width, rngs=rngs) for _ in range(11)])
        self.write = nnx.Linear(width, num_outputs, rngs=rngs)

    def __call__(self, x):
        h = x = self.read(x)
        for layer in self.branch:
            x = layer(x)
        return self.write(h + x)


def test_the_eleventh_layer_of_a_branch_is_its_end():
    model, _ = build(users(target="tests.runners.test_parametrization:Deep"), spec.Sgd())

    assert [path[1] for path, leaf in model.leaves.items() if leaf.role == "branch"] == ["10", "10"]


def roles(table, *, input_shape, optimizer, codes=False):
    model = models.build(
        table,
        optimizer=optimizer,
        input_shape=input_shape,
        num_outputs=OUTPUTS,
        seed=0,
        dtype="float64",
        input_dtype=models.CODES if codes else None,
    )
    return {".".join(path): leaf for path, leaf in model.leaves.items()}


def test_the_branches_of_a_transformer_are_attention_and_the_two_layers_and_its_embeddings_are_inputs():
    table = spec.Transformer(width=8, depth=2, heads=2, parametrization="mup", depth_exponent=1.0)

    found = roles(table, input_shape=(4,), optimizer=spec.Sgd(), codes=True)

    ends = {name for name, leaf in found.items() if leaf.role == "branch"}
    assert ends == {
        f"block_{index}.branch_{name}" for index in (0, 1) for name in ("attention.write.kernel", "mlp.write.kernel", "mlp.write.bias")
    }
    assert {name for name, leaf in found.items() if leaf.role == "input"} == {"characters.embedding", "positions.embedding"}
    assert {name for name, leaf in found.items() if leaf.role == "output"} == {"output.kernel", "output.bias"}
    # 1 / L for L = 4 branches; with a raw learning rate L times as large, which the multipliers carry.
    gamma = np.sqrt(8)
    assert found["block_0.branch_attention.write.kernel"].multiplier == pytest.approx(gamma / np.sqrt(8) * 4**-1 * 4**0.5)


def test_the_branches_of_a_residual_cnn_end_with_their_last_convolution():
    table = spec.ResidualCnn(width=8, layers_per_block=2, parametrization="mup", depth_exponent=0.5)

    found = roles(table, input_shape=(16, 16, 3), optimizer=spec.Sgd())

    branches = {name: leaf.role for name, leaf in found.items() if name.startswith("branch")}
    assert branches == {f"branch_{stage}_0.conv_{k}.kernel": role for stage in range(3) for k, role in enumerate(("inner", "branch"))}
    # gamma sqrt(1 / fan_in) L^-1/2 for L = 3 branches.
    assert found["branch_2_0.conv_1.kernel"].multiplier == pytest.approx(np.sqrt(8) / np.sqrt(9 * 8) / np.sqrt(3))
    assert {name: leaf.role for name, leaf in found.items() if not name.startswith("branch")} == {
        "conv_0.kernel": "input",
        "conv_1.kernel": "hidden",
        "conv_2.kernel": "hidden",
        "output.kernel": "output",
    }


@pytest.mark.parametrize(
    ("form", "optimizer", "expected"),
    [("sp", spec.Sgd(), 1.0), ("ntp", spec.Sgd(), 1.0), ("mup", spec.Sgd(), 8.0), ("mup", spec.Adam(), 1.0)],
)
def test_an_embeddings_vectors_learn_as_the_units_of_an_input_of_norm_one(form, optimizer, expected):
    table = spec.Transformer(width=8, heads=2, parametrization=form)

    leaf = roles(table, input_shape=(4,), optimizer=optimizer, codes=True)["characters.embedding"]

    # Of what the forward pass sees, gradient descent changes multiplier^2 lr times its gradient, Adam multiplier lr times a number
    # of size 1. Yang et al.'s table 8: width (fan_out) with SGD, 1 with Adam.
    assert leaf.multiplier * leaf.init == pytest.approx(1.0)
    assert leaf.multiplier ** (1 if adaptive(optimizer) else 2) * leaf.lr == pytest.approx(expected)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (spec.Vit(), 32**-0.5),
        (spec.Vit(parametrization="ntp"), 32**-0.5),
        (spec.Vit(parametrization="mup"), 1 / 32),
        (spec.Vit(parametrization="mup", base_width=64), 16**0.5 / 32),
        (spec.Vit(parametrization="mup", base_width=128), 32**-0.5),
    ],
)
def test_products_of_queries_and_keys_are_divided_by_the_root_of_their_length_and_with_mup_by_it(table, expected):
    assert parametrization.attention_scale(table, width=128, heads=4) == pytest.approx(expected)


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "other"), [(spec.Sgd(lr=LR), "ntp"), (spec.Adam(lr=LR), "sp")])
def test_a_transformer_at_the_base_width_is_ntp_and_with_adam_sp(optimizer, other):
    x = jnp.asarray(np.random.default_rng(0).integers(0, OUTPUTS, (5, 4), dtype=np.int32))

    def outputs(form):
        table = spec.Transformer(width=8, base_width=8, depth=1, heads=2, parametrization=form)
        options = {"input_shape": (4,), "num_outputs": OUTPUTS, "seed": 1, "dtype": "float64", "input_dtype": models.CODES}
        model = models.build(table, optimizer=optimizer, **options)
        factors = Factors(model.factors("lr"), model.factors("eps")) if adaptive(optimizer) else None
        transformation = optimizers.build(optimizer, model.params, factors).transformation
        gradient = jax.grad(lambda params: jnp.mean(model.apply(params, x) ** 2))(model.params)
        change, _ = transformation.update(gradient, transformation.init(model.params), model.params)
        return np.asarray(model.apply(optax.apply_updates(model.params, change), x))

    np.testing.assert_allclose(outputs("mup"), outputs(other), rtol=1e-9)


@pytest.mark.slow
def test_a_role_may_be_said_and_one_of_no_parameter_is_refused():
    model, _ = build(users(parametrization="mup", roles={"fixed.*": "constant"}), spec.Sgd())
    assert model.leaves["fixed", "kernel"].role == "constant"

    with pytest.raises(SpecError, match="no parameter is called so"):
        build(users(parametrization="mup", roles={"head.*": "output"}), spec.Sgd())


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model.parametrization=mup", "optimizer.name=muon"], "its learning rates are known for sgd"),
        (["model.parametrization=mup", "model.depth_exponent=0.5"], "the model has no residual branches"),
        (["model.name=residual-mlp", "model.depth_exponent=0.5"], 'a part of parametrization = "mup"'),
        (["model.name=residual-mlp", "model.parametrization=mup", "model.depth_exponent=0.2"], "expected 0, or 1/2 to 1"),
        (["model.gamma=2"], "has no such factor"),
        (["model.name=a.b:C", "model.parametrization=mup"], "it has to know the width"),
    ],
)
def test_what_does_not_go_together_is_said(overrides, words):
    with pytest.raises(SpecError, match=words):
        spec_file.load("digits-gd", overrides)


@pytest.mark.parametrize("form", ["ntp", "mup"])
def test_the_sharpness_is_gamma_squared_times_that_of_the_raw_values(form):
    width, gamma_0 = 6, 0.8
    model, _ = build(spec.ResidualMlp(width=width, depth=1, parametrization=form, gamma=gamma_0), spec.Sgd(lr=LR))
    gamma = gamma_0 * (np.sqrt(width) if form == "mup" else 1.0)
    names = ("input", "branch_0", "output")
    effective = raw_values(model, names)
    raw = [jnp.asarray(effective[name] * np.sqrt(effective[name].shape[0])) for name in names]
    raw[-1] = raw[-1] * gamma

    def sharpness(apply, params):
        x, y = data()
        flat, unravel = ravel_pytree(params)
        hessian = jax.hessian(lambda flat: 0.5 * jnp.mean(jnp.sum((apply(unravel(flat), x) - y) ** 2, axis=1)))(flat)
        return np.linalg.eigvalsh(hessian)[-1]

    own, of_raw = sharpness(model.apply, model.params), sharpness(partial(raw_net, gamma=gamma), raw)

    np.testing.assert_allclose(own, gamma**2 * of_raw, rtol=1e-9)
