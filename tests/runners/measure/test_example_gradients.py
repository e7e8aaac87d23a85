import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from runners import models, spec
from runners.measure.eigenvalues import Accuracy
from runners.measure.example_gradients import Formed, by_layer
from runners.measure.ntk import NtkMeter
from runners.measure.operators import Problem
from runners.nets.activations import ACTIVATIONS
from runners.objectives import Objective
from tests.runners.measure import dense

WIDTH = 5


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with dense.double_precision():
        yield


def normal(*shape, mean=0.0, seed=0):
    return jnp.asarray(np.random.default_rng([seed, *shape]).normal(mean, size=shape))


def built(table, *input_shape):
    """A model of ours, off its initial values, and two examples."""
    model = models.build(table, input_shape=input_shape, num_outputs=dense.OUTPUTS, seed=0, dtype="float64")
    return model.apply, jax.tree.map(lambda leaf: normal(*leaf.shape), model.params), normal(2, *input_shape)


def transformer(form="sp"):
    """A transformer of characters, off its initial values, and two examples."""
    table = spec.Transformer(width=4, depth=1, heads=2, mlp_ratio=1, parametrization=form)
    options = {"num_outputs": dense.OUTPUTS, "seed": 0, "dtype": "float64", "input_dtype": models.CODES}
    model = models.build(table, input_shape=(3,), **options)
    return model.apply, jax.tree.map(lambda leaf: normal(*leaf.shape), model.params), jnp.array([[0, 2, 1], [1, 1, 0]], dtype=jnp.int32)


def users(make, *input_shape):
    """A user's module, off its initial values, and two examples."""
    graph, state = nnx.split(nnx.eval_shape(lambda: make(nnx.Rngs(0))))
    params = jax.tree.map(lambda leaf: normal(*leaf.shape), nnx.to_pure_dict(state))
    return (lambda params, x: nnx.merge(graph, params)(x)), params, normal(2, *input_shape)


def positions(count):
    """A layer that is applied at so many positions of an example, and two more."""

    def make(rngs):
        first, norm = nnx.Linear(4, WIDTH, rngs=rngs), nnx.LayerNorm(WIDTH, rngs=rngs)
        last = nnx.Linear(WIDTH, dense.OUTPUTS, rngs=rngs)
        return nnx.Sequential(first, jnp.tanh, norm, last, lambda x: x.mean(axis=1))

    return users(make, count, 4)


def convolutions():
    def make(rngs):
        layers = [nnx.Conv(2, 3, (3, 3), strides=2, rngs=rngs), nnx.gelu, nnx.GroupNorm(3, 3, rngs=rngs)]
        return nnx.Sequential(*layers, nnx.Conv(3, dense.OUTPUTS, (2, 2), rngs=rngs), lambda x: x.sum(axis=(1, 2)))

    return users(make, 4, 4, 2)


def einsums():
    """Weights on the left, transposed, for each head, divided by, and subtracted."""

    def apply(params, x):
        heads = jnp.einsum("ntd,hed->nhte", x, params["heads"])
        mixed = jnp.einsum("nhte,hef->nthf", jnp.tanh(heads), params["batched"]) / params["scales"]
        left = jnp.stack([params["left"] @ example.reshape(4, 2) for example in mixed])
        return jnp.sum((left - params["shift"][:, None]) ** 3, axis=2)

    shapes = {"heads": (2, 3, 4), "batched": (2, 3, 4), "scales": (4,), "left": (dense.OUTPUTS, 4), "shift": (dense.OUTPUTS,)}
    return apply, {name: normal(*shape, mean=2.0) for name, shape in shapes.items()}, normal(2, 1, 4)


def activations():
    def make(rngs):
        layers = [(nnx.Linear(4, 4, rngs=rngs), activation) for activation in ACTIVATIONS.values()]
        return nnx.Sequential(*itertools.chain(*layers), nnx.Linear(4, dense.OUTPUTS, rngs=rngs))

    return users(make, 4)


@jax.custom_vjp
def clipped(x):
    return jnp.clip(x, -1, 1)


clipped.defvjp(lambda x: (clipped(x), None), lambda _, cotangent: (cotangent,))


def derivatives():
    """Activations whose derivatives are not those of their values."""

    def apply(params, x):
        held = jax.lax.stop_gradient(x @ params["held"])
        return (clipped(x @ params["clipped"]) * held) @ params["last"]

    return apply, {"held": normal(4, 5), "clipped": normal(4, 5, seed=1), "last": normal(5, 3)}, normal(2, 4)


def users_layers(apply, **shapes):
    return lambda: (apply, {name: normal(*shape) for name, shape in shapes.items()}, normal(2, 4))


TAKEN = {
    "mlp": lambda: built(spec.Mlp(width=WIDTH, depth=3, activation="relu"), 4),
    "every activation": activations,
    "mlp without biases": lambda: built(spec.Mlp(width=WIDTH, depth=2, bias=False), 4),
    "mlp whose weights have multipliers": lambda: built(spec.Mlp(width=WIDTH, depth=3, parametrization="mup", gamma=0.7), 4),
    "linear": lambda: built(spec.Linear(bias=True), 4),
    "convolutional net": lambda: built(spec.Cnn(width=2, depth=1, pooling="max"), 4, 4),
    "convolutions with strides": lambda: built(spec.SimpleCnn(width=2), 19, 19),
    "convolutions in branches": lambda: built(spec.ResidualCnn(width=2), 15, 15),
    "vision transformer": lambda: built(spec.Vit(width=4, depth=1, heads=2, mlp_ratio=1, patch_size=2), 4, 2, 3),
    "transformer": transformer,
    "transformer whose weights have multipliers": lambda: transformer("mup"),
    "weights times a number in a function of their own": users_layers(
        lambda params, x: jnp.tanh(x @ jax.jit(lambda w: -3 * w.T)(params["w"]).T) + 2.0 * params["b"], w=(4, 3), b=(3,)
    ),
    "few positions": lambda: positions(2),
    "many positions": lambda: positions(12),
    "convolutions of jax": convolutions,
    "weights in other places": einsums,
    "derivatives of their own": derivatives,
}


@functools.cache
def problem(name):
    apply, params, x = (TAKEN | DECLINED)[name]()
    return apply, params, x


def squared(jacobian, u):
    rows = np.concatenate([np.asarray(leaf).reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(jacobian)], axis=1)
    return np.asarray(u) @ rows @ rows.T @ np.asarray(u).T


SLOW = ("convolutions in branches", "vision transformer")


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in TAKEN])
def test_the_inner_products_are_those_of_the_explicit_jacobian_scaled_or_not(name):
    apply, params, x = problem(name)
    gradients = by_layer(apply, params, x)
    u, scale = normal(2, dense.OUTPUTS), jax.tree.map(lambda leaf: normal(*leaf.shape, mean=2.0, seed=2), params)

    @jax.jit
    def program(params, x):
        def outputs(params):
            return apply(params, x)[1]

        found, gram = gradients(params, x[1])
        scaled = gradients(params, x[1], scale)[1](u)
        return (found, gram(u), gram(jnp.eye(dense.OUTPUTS)), scaled), (outputs(params), jax.jacobian(outputs)(params))

    (outputs, few, all_of_them, scaled), (wanted, jacobian) = program(params, x)

    times_scale = jax.tree.map(jnp.multiply, jacobian, scale)
    pairs = ((few, squared(jacobian, u)), (all_of_them, squared(jacobian, np.eye(dense.OUTPUTS))), (scaled, squared(times_scale, u)))
    for found, exact in ((outputs, wanted), *pairs):
        np.testing.assert_allclose(found, exact, rtol=0, atol=dense.ROUNDING * np.linalg.norm(exact))


def sizes(jaxpr):
    """How many numbers each result has, those of inner functions among them."""
    for equation in jaxpr.eqns:
        yield from (variable.aval.size for variable in equation.outvars)
        for inner in equation.params.values():
            if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                yield from sizes(getattr(inner, "jaxpr", inner))


def test_nothing_of_the_size_of_a_weight_is_formed_where_it_meets_one_position():
    apply, params, x = built(spec.Mlp(width=30, depth=3), 20)

    largest = {}
    for name, gradients in (("by layer", by_layer(apply, params, x)), ("formed", Formed(apply, 1))):
        for scale in (None, params):

            def grams(params, x, gradients=gradients, scale=scale):
                return gradients(params, x, scale)[1](jnp.eye(dense.OUTPUTS))

            largest[name, scale is None] = max(sizes(jax.make_jaxpr(grams)(params, x[0]).jaxpr))

    assert largest["by layer", True] == dense.OUTPUTS * 30
    assert largest["by layer", False] == 30 * 30, "the scale itself, squared"
    assert min(largest["formed", True], largest["formed", False]) >= dense.OUTPUTS * 30 * 30


def test_examples_do_not_mix():
    def apply(params, x):
        return jnp.tanh(x - x.mean(axis=0)) @ params["first"] + x @ params["second"]

    params, x = {"first": normal(4, 3), "second": normal(4, 3, seed=1)}, normal(5, 4)
    u = jnp.eye(3)

    layers, formed = by_layer(apply, params, x), Formed(apply, 24)
    found, wanted = jax.jit(lambda params, x: [gradients(params, x)[1](u) for gradients in (layers, formed)])(params, x[0])

    np.testing.assert_allclose(found, wanted, rtol=dense.ROUNDING)


# --- what is left to gradients that are formed ---


@jax.custom_jvp
def doubled(x, weight):
    return 2 * x @ weight


doubled.defjvp(lambda primals, tangents: (doubled(*primals), tangents[0] @ primals[1] + primals[0] @ tangents[1]))


def rounded(params, x):
    return jax.lax.dot(x.astype("float32"), params["w"].astype("float32")).astype(float)


def accumulated(params, x):
    return jax.lax.dot(x, params["w"], preferred_element_type="float32").astype(float)


def mixed(params, x):
    return jax.lax.dot(x.astype("float32"), params["w"], preferred_element_type=float)


def told(params, x):
    jax.debug.callback(lambda total: None, x.sum())
    return x @ params["w"]


DECLINED = {
    "tied": users_layers(lambda params, x: jnp.tanh(x @ params["w"]) @ params["w"].T @ params["v"], w=(4, 5), v=(4, 3)),
    "divided": users_layers(lambda params, x: x @ (params["w"] / 2), w=(4, 3)),
    "product of weights": users_layers(lambda params, x: x @ (params["w"] @ params["v"]), w=(4, 5), v=(5, 3)),
    "looked up": users_layers(lambda params, x: x @ params["w"][jnp.array([0, 2, 1, 1])], w=(3, 3)),
    "in a loop": users_layers(lambda params, x: jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, params["w"])[0][:, :3], w=(2, 4, 4)),
    "checkpointed": users_layers(jax.checkpoint(lambda params, x: jnp.tanh(x @ params["w"])), w=(4, 3)),
    "with a derivative of its own": users_layers(lambda params, x: doubled(x, params["w"]), w=(4, 3)),
    "in another precision": users_layers(rounded, w=(4, 3)),
    "with a result in another precision": users_layers(accumulated, w=(4, 3)),
    "nowhere": users_layers(lambda params, x: 2 * x[:, :3], w=(4, 3)),
    "without the input": users_layers(lambda params, x: jnp.broadcast_to(params["w"], (len(x), 3)), w=(3,)),
    "with an activation in another precision": users_layers(mixed, w=(4, 3)),
    "held": users_layers(lambda params, x: x @ jax.lax.stop_gradient(params["w"]), w=(4, 3)),
    "with effects": users_layers(told, w=(4, 3)),
}


@pytest.mark.parametrize("name", DECLINED)
def test_other_models_are_declined(name):
    apply, params, x = problem(name)

    assert by_layer(apply, params, x) is None


def test_the_trace_of_a_declined_model_is_exact_as_well():
    apply, params, x = problem("tied")
    options = {"method": "exact", "num_probes": 2, "num_eigenvalues": 0, "accuracy": Accuracy(1e-3, 10), "with_norms": False}
    meter = NtkMeter(Problem(apply, Objective("mse"), 10), params, x=x, **options)

    found, _ = meter.measure(params, meter.start, jax.random.key(0))
    jacobian = jax.jit(jax.jacobian(lambda params: apply(params, x)))(params)

    assert found.method == "exact"
    assert found.trace == pytest.approx(sum(np.sum(np.asarray(leaf) ** 2) for leaf in jacobian.values()) / len(x), rel=dense.ROUNDING)
