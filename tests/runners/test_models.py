import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.flatten_util import ravel_pytree
from scipy.stats import norm

from runners import models, spec
from runners.errors import SpecError
from runners.nets.activations import ACTIVATIONS
from runners.nets.cnn import Conv
from tests.runners.measure import dense


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with dense.double_precision():
        yield


def build(table, *, input_shape=None, num_outputs=3, seed=0, dtype="float64"):
    input_shape, input_dtype = input_shape or shape_of(table), models.CODES if isinstance(table, spec.Transformer) else None
    return models.build(table, input_shape=input_shape, num_outputs=num_outputs, seed=seed, dtype=dtype, input_dtype=input_dtype)


def shape_of(table):
    """Of small inputs that the model takes."""
    return {spec.SimpleCnn: (19, 20), spec.ResidualCnn: (15, 16, 2), spec.Transformer: (5,)}.get(type(table), (8, 8))


def examples_of(table, count):
    if isinstance(table, spec.Transformer):
        return np.random.default_rng(0).integers(0, 3, (count, *shape_of(table)), dtype=np.int32)
    return inputs(count, *shape_of(table))


def moved(model):
    """Parameters off their first values."""
    rng = np.random.default_rng(2)
    return jax.tree.map(lambda leaf: np.asarray(leaf) + 0.3 * rng.standard_normal(leaf.shape), model.params)


def inputs(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


EVERY_KIND = [
    spec.Linear(bias=True),
    spec.Mlp(width=4, depth=3),
    spec.Mlp(width=4, depth=2, activation="gelu", bias=False),
    spec.Cnn(width=2, depth=2, activation="tanh"),
    spec.Cnn(width=2, depth=1, activation="softplus", pooling="max", bias=False),
    spec.Cnn(width=2, depth=2, activation="elu", pooling="max", kernel_size=2),
    pytest.param(spec.ResidualCnn(width=2, activation="tanh", pooling="average", bias=True), marks=pytest.mark.slow),
    spec.Transformer(width=4, depth=1, heads=2, mlp_ratio=1),
]


# --- the functions ---


def test_a_linear_model_is_a_matrix_product_with_the_flattened_input():
    model, x = build(spec.Linear()), inputs(5, 8, 8)

    outputs = jax.jit(model.apply)(model.params, x)

    np.testing.assert_allclose(outputs, x.reshape(5, 64) @ model.params["layer_0"]["kernel"], rtol=1e-13)
    assert model.num_params == 64 * 3


def test_an_mlp_is_its_layers_with_activations_between():
    model, x = build(spec.Mlp(width=4, depth=3, activation="softplus")), inputs(5, 8, 8)
    params = jax.tree.map(lambda leaf: np.asarray(leaf) + 0.1, model.params)

    outputs = jax.jit(model.apply)(params, x)

    h = x.reshape(5, 64)
    for name in ("layer_0", "layer_1"):
        h = np.log1p(np.exp(h @ params[name]["kernel"] + params[name]["bias"]))
    np.testing.assert_allclose(outputs, h @ params["layer_2"]["kernel"] + params["layer_2"]["bias"], rtol=1e-12)
    assert model.num_params == (64 * 4 + 4) + (4 * 4 + 4) + (4 * 3 + 3)


@pytest.mark.parametrize(("pooling", "reduce"), [("average", np.mean), ("max", np.max)])
@pytest.mark.parametrize("shape", [(4, 6), (5, 7, 2)])
def test_a_cnn_is_a_zero_padded_convolution_then_activation_pooling_and_a_linear_layer(pooling, reduce, shape):
    model = build(spec.Cnn(width=2, depth=1, pooling=pooling, activation="tanh"), input_shape=shape)
    params = jax.tree.map(lambda leaf: np.asarray(leaf) + 0.1, model.params)
    x = inputs(3, *shape)

    outputs = jax.jit(model.apply)(params, x)

    images = x.reshape(3, shape[0], shape[1], -1)
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    kernel, bias = params["conv_0"]["kernel"], params["conv_0"]["bias"]
    pooled = np.empty((3, shape[0] // 2, shape[1] // 2, 2))
    for row, column in np.ndindex(pooled.shape[1:3]):
        cells = [(2 * row + i, 2 * column + j) for i in (0, 1) for j in (0, 1)]
        maps = [np.tanh(np.einsum("nijc,ijco->no", padded[:, i : i + 3, j : j + 3], kernel) + bias) for i, j in cells]
        pooled[:, row, column] = reduce(maps, axis=0)
    expected = pooled.reshape(3, -1) @ params["output"]["kernel"] + params["output"]["bias"]
    np.testing.assert_allclose(outputs, expected, rtol=1e-12)


def vgg11(params, x, *, activation=lambda z: np.maximum(z, 0), reduce=np.mean):
    """Configuration A of Simonyan and Zisserman with one linear layer, layer by layer, x [examples, height, width, channels]."""
    layers = iter(range(8))

    def conv(x):
        layer = params[f"conv_{next(layers)}"]
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
        return activation(np.einsum("nijckl,klco->nijo", patches, layer["kernel"]) + layer.get("bias", 0))

    def pool(x):
        n, rows, columns, channels = x.shape
        return reduce(x.reshape(n, rows // 2, 2, columns // 2, 2, channels), axis=(2, 4))

    x = pool(conv(x))
    x = pool(conv(x))
    x = pool(conv(conv(x)))
    x = pool(conv(conv(x)))
    x = pool(conv(conv(x)))
    return x.reshape(len(x), -1) @ params["output"]["kernel"] + params["output"].get("bias", 0)


@pytest.mark.parametrize(
    ("table", "reference"),
    [
        (spec.Vgg11(width=1), {}),
        (spec.Vgg11(width=1, activation="tanh", pooling="max", bias=False), {"activation": np.tanh, "reduce": np.max}),
    ],
    ids=["as it is", "tanh and max"],
)
def test_vgg11_is_eight_convolutions_in_five_stages_and_a_linear_layer(table, reference):
    model, x = build(table, input_shape=(64, 32, 3)), inputs(2, 64, 32, 3)
    params = jax.tree.map(lambda leaf: np.asarray(leaf) + 0.1, model.params)

    outputs = jax.jit(model.apply)(params, x)

    np.testing.assert_allclose(outputs, vgg11(params, x, **reference), rtol=1e-12)


def test_vgg11_has_as_many_parameters_as_its_configuration():
    model, frozen = (build(spec.Vgg11(width=3, train_output=trained), input_shape=(32, 32, 3), num_outputs=10) for trained in (True, False))

    # 3x3 kernels from 3 channels to 1, 2, 4, 4, 8, 8, 8 and 8 times the width, and a bias for each filter.
    convolutions = 9 * (3 * 3 + (2 + 8 + 16 + 32 + 64 + 64 + 64) * 3**2) + (1 + 2 + 4 + 4 + 8 + 8 + 8 + 8) * 3
    assert model.num_params == convolutions + 8 * 3 * 10 + 10
    assert frozen.num_params == convolutions == sum(leaf.size for leaf in jax.tree.leaves(frozen.params))


def test_a_linear_layer_that_is_not_trained_stays_in_the_function_as_it_starts():
    model, frozen = (build(spec.Vgg11(width=1, train_output=trained), input_shape=(32, 32)) for trained in (True, False))
    x = inputs(2, 32, 32)
    params = jax.tree.map(lambda leaf: np.asarray(leaf) + 0.1, frozen.params)

    outputs = jax.jit(frozen.apply)(params, x)

    assert [*frozen.params] == [f"conv_{index}" for index in range(8)]
    np.testing.assert_allclose(outputs, vgg11(params | {"output": model.params["output"]}, x[..., None]), rtol=1e-12)


@pytest.mark.parametrize(
    ("activation", "at_minus_one"),
    [
        ("tanh", -0.7615941559557649),
        ("relu", 0.0),
        ("gelu", -0.15865525393145707),
        ("elu", -0.6321205588285577),
        ("softplus", 0.31326168751822286),
    ],
)
def test_activations_are_golden(activation, at_minus_one):
    assert float(ACTIVATIONS[activation](jnp.float64(-1.0))) == pytest.approx(at_minus_one, rel=1e-12, abs=1e-15)


def strided(x, layer, *, stride=1):
    """A 3x3 convolution of images [examples, height, width, channels] padded with a row and column of zeros on each side."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::stride, ::stride]
    return np.einsum("nijckl,klco->nijo", patches, layer["kernel"]) + layer.get("bias", 0)


def halved(x, reduce):
    """2x2 pooling, which leaves an odd last row or column out."""
    n, rows, columns, channels = x.shape
    return reduce(x[:, : rows // 2 * 2, : columns // 2 * 2].reshape(n, rows // 2, 2, columns // 2, 2, channels), axis=(2, 4))


@pytest.mark.parametrize(("shape", "rest"), [((32, 32, 3), 1), ((67, 35), 2)])
def test_a_simple_cnn_is_two_convolutions_with_strides_two_and_four_with_relu_and_maxima_behind(shape, rest):
    model = build(spec.SimpleCnn(width=2), input_shape=shape)
    params, x = moved(model), inputs(2, *shape)

    outputs = jax.jit(model.apply)(params, x)

    h = x.reshape(2, *shape[:2], -1)
    for name, stride in (("conv_0", 2), ("conv_1", 4)):
        h = halved(np.maximum(strided(h, params[name], stride=stride), 0), np.max)
    assert h.shape == (2, rest, 1, 2)
    np.testing.assert_allclose(outputs, h.reshape(2, -1) @ params["output"]["kernel"], rtol=1e-12)


@pytest.mark.parametrize("skip", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_residual_cnn_adds_what_its_branches_make_of_the_activation(skip):
    model = build(spec.ResidualCnn(width=2, depth=2, layers_per_block=2, skip=skip, bias=True), input_shape=(32, 18, 3))
    params, x = moved(model), inputs(2, 32, 18, 3)

    outputs = jax.jit(model.apply)(params, x)

    h = x
    for stage in range(3):
        h = strided(h, params[f"conv_{stage}"], stride=2 if stage == 0 else 1)
        for branch in (params[f"branch_{stage}_{index}"] for index in (0, 1)):
            change = strided(np.maximum(strided(np.maximum(h, 0), branch["conv_0"]), 0), branch["conv_1"])
            h = h + change if skip else change
        h = halved(h, np.max)
    assert h.shape == (2, 2, 1, 2)
    np.testing.assert_allclose(outputs, h.reshape(2, -1) @ params["output"]["kernel"] + params["output"]["bias"], rtol=1e-11)


def normed(h, layer):
    deviations = h - h.mean(axis=-1, keepdims=True)
    return deviations / np.sqrt((deviations**2).mean(axis=-1, keepdims=True) + 1e-6) * layer["scale"] + layer["bias"]


def attended(h, branch, *, heads, scale, is_causal):
    """Attention, head by head and position by position."""
    h = normed(h, branch["norm"])
    q, k, v = (np.split(h @ branch[name]["kernel"], heads, axis=-1) for name in ("query", "key", "value"))
    taken = np.zeros((heads, *q[0].shape))
    for head, example, here in np.ndindex(heads, *h.shape[:2]):
        seen = here + 1 if is_causal else h.shape[1]
        weights = np.exp(scale * k[head][example, :seen] @ q[head][example, here])
        taken[head, example, here] = weights / weights.sum() @ v[head][example, :seen]
    return np.concatenate(taken, axis=-1) @ branch["write"]["kernel"]


def transformed(params, h, *, depth, activation, **attention):
    """Blocks, and the last layer norm."""
    for block in (params[f"block_{index}"] for index in range(depth)):
        h = h + attended(h, block["branch_attention"], **attention)
        mlp = block["branch_mlp"]
        inner = activation(normed(h, mlp["norm"]) @ mlp["read"]["kernel"] + mlp["read"]["bias"])
        h = h + inner @ mlp["write"]["kernel"] + mlp["write"]["bias"]
    return normed(h, params["norm"])


def test_a_vit_reads_its_outputs_from_a_class_token_before_the_patches():
    model = build(spec.Vit(width=6, depth=2, heads=2, patch_size=3, parametrization="mup"), input_shape=(6, 9, 2))
    params, x = moved(model), inputs(2, 6, 9, 2)

    outputs = jax.jit(model.apply)(params, x)

    params = jax.tree.map_with_path(lambda path, leaf: leaf * model.leaves[tuple(key.key for key in path)].multiplier, params)
    patches = np.stack([x[:, i : i + 3, j : j + 3].reshape(2, 18) for i in (0, 3) for j in (0, 3, 6)], axis=1)
    embedded = patches @ params["patches"]["kernel"] + params["patches"]["bias"]
    h = np.concatenate([np.zeros((2, 1, 6)), embedded], axis=1) + params["positions"]["embedding"]
    h = transformed(params, h, depth=2, activation=lambda z: z * norm.cdf(z), heads=2, scale=1 / 3, is_causal=False)
    np.testing.assert_allclose(outputs, h[:, 0] @ params["output"]["kernel"] + params["output"]["bias"], rtol=1e-10)


def test_a_transformer_reads_its_outputs_from_the_last_character_and_none_sees_a_later_one():
    model = build(spec.Transformer(width=6, depth=2, heads=3, activation="tanh", bias=False), input_shape=(5,), num_outputs=4)
    params, x = moved(model), np.random.default_rng(0).integers(0, 4, (2, 5), dtype=np.int32)

    outputs = jax.jit(model.apply)(params, x)

    with_biases = {"bias": 0}
    for block in (params["block_0"], params["block_1"]):
        block["branch_mlp"] |= {name: block["branch_mlp"][name] | with_biases for name in ("read", "write")}
    h = params["characters"]["embedding"][x] + params["positions"]["embedding"]
    h = transformed(params, h, depth=2, activation=np.tanh, heads=3, scale=2**-0.5, is_causal=True)
    np.testing.assert_allclose(outputs, h[:, -1] @ params["output"]["kernel"], rtol=1e-10)


# --- what curvature needs ---


@pytest.mark.slow
@pytest.mark.parametrize("table", EVERY_KIND, ids=str)
def test_forward_over_reverse_products_are_derivatives_of_the_gradient(table):
    model = build(table)
    flat, unravel = ravel_pytree(model.params)
    v = np.random.default_rng(1).standard_normal(flat.shape)
    v = v / np.linalg.norm(v)
    # Central differences have an error of step^2 times a third derivative of the gradient, and of round-off / step.
    step = 1e-4

    @jax.jit
    def products(flat, v, x):
        gradient = jax.grad(lambda vector: jnp.mean(jnp.exp(0.1 * model.apply(unravel(vector), x))))
        ahead, behind = jax.lax.map(gradient, jnp.stack([flat + step * v, flat - step * v]))
        return jax.jvp(gradient, (flat,), (v,))[1], (ahead - behind) / (2 * step)

    product, difference = products(flat, v, examples_of(table, 4))

    np.testing.assert_allclose(product, difference, atol=10 * step**2)
    assert np.linalg.norm(product) > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("table", EVERY_KIND, ids=str)
def test_an_examples_outputs_do_not_depend_on_the_other_examples(table):
    model, x = build(table), examples_of(table, 4)

    together = jax.jit(model.apply)(model.params, x)
    alone = jax.jit(jax.vmap(lambda params, example: model.apply(params, example[None])[0], in_axes=(None, 0)))(model.params, x)

    np.testing.assert_allclose(alone, together, rtol=1e-12)


def test_where_values_tie_the_gradient_of_the_maximum_is_shared():
    model = build(spec.Cnn(width=1, depth=1, pooling="max", bias=False), input_shape=(2, 2), num_outputs=1)
    params = {"conv_0": {"kernel": jnp.zeros((3, 3, 1, 1)).at[1, 1].set(1.0)}, "output": {"kernel": jnp.ones((1, 1))}}

    gradient = jax.jit(jax.grad(lambda x: model.apply(params, x)[0, 0]))(jnp.array([[[2.0, 2.0], [1.0, 0.0]]]))

    np.testing.assert_allclose(gradient, [[[0.5, 0.5], [0.0, 0.0]]])


# --- initialisation ---


@pytest.mark.parametrize(
    ("table", "layer", "fan_in"),
    [
        (spec.Linear(init_scale=2.0), "layer_0", 64),
        (spec.Mlp(width=400, init_scale=0.5), "layer_1", 400),
        (spec.Cnn(width=60, depth=2, kernel_size=5, init_scale=3.0), "conv_1", 60 * 25),
        (spec.Cnn(width=60, depth=1), "output", 60 * 16),
    ],
)
def test_kernels_are_normal_with_variance_init_scale_squared_over_fan_in_and_biases_are_zero(table, layer, fan_in):
    model = build(table, num_outputs=50)

    kernel = np.asarray(model.params[layer]["kernel"]).ravel() * np.sqrt(fan_in) / table.init_scale
    # Standard errors of the mean, the standard deviation and the kurtosis of n normal draws; a truncated normal has kurtosis 2.4.
    n = kernel.size
    assert abs(kernel.mean()) < 4 / np.sqrt(n)
    assert abs(kernel.std() - 1) < 4 / np.sqrt(2 * n)
    assert abs(np.mean(kernel**4) - 3) < 4 * np.sqrt(96 / n)
    assert all(not np.asarray(leaf).any() for path, leaf in jax.tree.leaves_with_path(model.params) if "bias" in str(path))


def test_vgg11_starts_with_kernels_of_the_variance_of_their_filters_and_small_outputs():
    params = build(spec.Vgg11(width=8), input_shape=(32, 32, 3), num_outputs=50).params

    for name, layer in params.items():
        kernel = np.asarray(layer["kernel"])
        deviation = 0.01 if name == "output" else np.sqrt(2 / (9 * kernel.shape[-1]))
        # Standard errors of the mean and the standard deviation of n normal draws.
        assert abs(kernel.mean()) < 4 * deviation / np.sqrt(kernel.size)
        assert abs(kernel.std() / deviation - 1) < 4 / np.sqrt(2 * kernel.size)
        assert not np.asarray(layer["bias"]).any()


def test_embeddings_start_of_size_one_and_norms_as_the_identity():
    params = build(spec.Transformer(width=200, heads=2, init_scale=0.5), num_outputs=50).params

    embedding = np.asarray(params["characters"]["embedding"])
    # The standard error of the standard deviation of n normal draws.
    assert abs(embedding.std() / 0.5 - 1) < 4 / np.sqrt(2 * embedding.size)
    np.testing.assert_array_equal(params["norm"]["scale"], 1)
    np.testing.assert_array_equal(params["norm"]["bias"], 0)


def test_the_hidden_scale_of_a_residual_cnn_is_that_of_its_branches():
    one, scaled = (build(spec.ResidualCnn(width=3, hidden_scale=scale)).params for scale in (1.0, 2.0))

    ratios = jax.tree.map(lambda scaled, one: float(np.mean(np.asarray(scaled) / np.asarray(one))), scaled, one)
    assert {name: ratio for name, layer in ratios.items() for ratio in jax.tree.leaves(layer)} == {
        name: pytest.approx(2.0 if name.startswith("branch") else 1.0) for name in one
    }


def test_initial_parameters_follow_from_the_seed_in_either_precision():
    one, same, single, other = (
        build(spec.Linear(), seed=seed, dtype=dtype).params["layer_0"]["kernel"]
        for seed, dtype in ((1, "float64"), (1, "float64"), (1, "float32"), (2, "float64"))
    )

    np.testing.assert_array_equal(one, same)
    np.testing.assert_array_equal(np.asarray(one, np.float32), single)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("table", EVERY_KIND[:4:3], ids=str)
def test_parameters_and_outputs_have_the_precision_that_is_asked_for(table, dtype):
    model = build(table, dtype=dtype)

    outputs = jax.eval_shape(model.apply, model.params, jnp.zeros((2, 8, 8), dtype))

    assert {outputs.dtype, *(leaf.dtype for leaf in jax.tree.leaves(model.params))} == {np.dtype(dtype)}


# --- what does not fit ---


def test_a_cnn_on_inputs_that_are_no_images_is_refused():
    with pytest.raises(SpecError, match=r'"cnn": the inputs have the shape \(64,\), expected images'):
        build(spec.Cnn(), input_shape=(64,))


def test_a_cnn_that_halves_the_image_away_is_refused():
    build(spec.Cnn(depth=3, width=1))

    with pytest.raises(SpecError, match=r"model\.depth = 4: 8x8 images can be halved 3 times"):
        build(spec.Cnn(depth=4, width=1))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((28, 28), r'"vgg11": it halves images 5 times, and these are 28x28; expected sides in multiples of 32'),
        ((16, 32, 3), "these are 16x32; expected"),
        ((32, 48, 3), "these are 32x48; expected"),
        ((1024,), r'"vgg11": the inputs have the shape \(1024,\), expected images'),
    ],
)
def test_vgg11_on_images_that_it_cannot_halve_five_times_is_refused(shape, message):
    with pytest.raises(SpecError, match=message):
        build(spec.Vgg11(width=1), input_shape=shape)


@pytest.mark.parametrize(
    ("table", "shape", "message"),
    [
        (spec.SimpleCnn(), (18, 32), r'"simple-cnn": .* leave nothing of images of 18x32; expected sides of 19 and more'),
        (spec.ResidualCnn(), (15, 14), r'"residual-cnn": .* images of 15x14; expected sides of 15 and more'),
        (spec.SimpleCnn(), (1024,), r'"simple-cnn": the inputs have the shape \(1024,\), expected images'),
        (spec.Vit(patch_size=3), (8, 9), r"model\.patch_size = 3: the images are 8x9, expected sides in multiples of it"),
    ],
)
def test_images_of_which_nothing_would_be_left_or_that_cannot_be_cut_are_refused(table, shape, message):
    with pytest.raises(SpecError, match=message):
        build(table, input_shape=shape)


@pytest.mark.parametrize(
    ("table", "input_dtype", "message"),
    [(spec.Transformer(), None, '"transformer": the inputs are numbers'), (spec.Mlp(), models.CODES, '"mlp": the inputs are characters')],
)
def test_characters_are_for_the_transformer_and_it_is_for_them(table, input_dtype, message):
    with pytest.raises(SpecError, match=message):
        models.build(table, input_shape=(8,), num_outputs=3, seed=0, dtype="float64", input_dtype=input_dtype)


@pytest.fixture
def users_class(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def write(init: str, call: str = "return self.out(x.reshape(len(x), -1))") -> spec.CustomModel:
        code = f"""
import jax, jax.numpy as jnp
from flax import nnx

class Net(nnx.Module):
    def __init__(self, *, input_shape, num_outputs, rngs, scale=1.0):
        self.out = nnx.Linear(64, num_outputs, rngs=rngs)
        {init}

    def __call__(self, x):
        {call}
"""
        (tmp_path / "users_own_model.py").write_text(code)
        sys.modules.pop("users_own_model", None)
        sys.path_importer_cache.clear()
        return spec.CustomModel(target="users_own_model:Net", arguments={"scale": 2.0})

    yield write
    sys.modules.pop("users_own_model", None)


def test_a_users_module_becomes_a_function_of_its_parameters(users_class):
    table = users_class("self.scale = nnx.Param(jnp.full((), scale, jnp.float32))", "return self.scale * self.out(x.reshape(len(x), -1))")
    model, x = build(table), inputs(4, 8, 8)

    outputs = jax.jit(model.apply)(model.params, x)

    expected = 2.0 * (x.reshape(4, 64) @ model.params["out"]["kernel"])
    np.testing.assert_allclose(outputs, expected, rtol=1e-12)
    assert model.num_params == 64 * 3 + 3 + 1


def test_constant_arrays_and_lists_of_layers_are_part_of_a_users_module(users_class):
    table = users_class(
        "self.layers = nnx.List([nnx.Linear(64, 64, rngs=rngs)]); self.offset = jnp.ones(64)",
        "return self.out(self.layers[0](x.reshape(len(x), -1)) + self.offset)",
    )
    model, x = build(table), inputs(4, 8, 8)

    outputs = jax.jit(model.apply)(model.params, x)

    layer = model.params["layers"][0]
    np.testing.assert_allclose(outputs, (x.reshape(4, 64) @ layer["kernel"] + 1) @ model.params["out"]["kernel"], rtol=1e-12)
    assert model.num_params == 64 * 3 + 3 + 64 * 64 + 64


@pytest.mark.parametrize(
    ("init", "variable"),
    [
        ("self.norm = nnx.BatchNorm(64, rngs=rngs)", r"norm\.mean is a BatchStat"),
        ("self.dropout = nnx.Dropout(0.5, rngs=rngs)", r"dropout\.rngs\.count is a RngCount"),
        ("self.rngs = rngs", r"rngs\..* is a RngCount"),
    ],
)
def test_a_users_module_with_state_is_refused_with_the_reason(users_class, init, variable):
    with pytest.raises(SpecError, match=rf"{variable}\. Curvature needs a deterministic function of the parameters"):
        build(users_class(init))


@pytest.mark.parametrize(
    ("init", "call", "message"),
    [
        ("raise ValueError('too wide')", "pass", "users_own_model:Net raised ValueError when it was made: too wide"),
        ("pass", "raise ValueError('cannot')", r"Net raised ValueError on inputs of shape \(2, 8, 8\): cannot"),
        ("pass", "return self.out(x.reshape(len(x), -1))[:, 0]", r"to float64 \(2,\), expected float64 \(2, 3\)"),
        ("pass", "return self.out(x.reshape(len(x), -1)).astype(jnp.float16)", r"to float16 \(2, 3\), expected float64"),
        ("pass", "return None", r"to NoneType, expected"),
        ("del self.out", "pass", "Net has no parameters: there is nothing to train"),
        ("self.count = nnx.Param(jnp.arange(3))", "pass", "parameters that are not real numbers"),
    ],
)
def test_what_is_wrong_with_a_users_module_is_said(users_class, init, call, message):
    with pytest.raises(SpecError, match=message):
        build(users_class(init, call))


def test_a_users_function_that_makes_no_module_is_refused():
    with pytest.raises(SpecError, match="builtins:dict made a dict, expected a flax nnx module"):
        build(spec.CustomModel(target="builtins:dict"))


@pytest.mark.slow
@pytest.mark.parametrize("kernel_size", [1, 2, 3, 4])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_a_convolution_as_a_matrix_product_is_the_convolution(kernel_size, bias, stride):
    conv = Conv(2, 3, kernel_size=kernel_size, stride=stride, bias=bias, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(1), (4, 6, 5, 2))

    found, wanted = conv(x), nnx.Conv.__call__(conv, x)

    assert found.shape == (4, -(-6 // stride), -(-5 // stride), 3)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
