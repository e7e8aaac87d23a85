"""Models as pure functions of their parameters, built from flax nnx modules.

Called once by a runner. A module is split into its parameters, a nested dict of float arrays, and the rest, which has
to be constant: curvature is that of a deterministic function of the parameters, one example at a time.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, assert_never

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, PyTree
from msgspec.structs import replace

from runners import imports, parametrization, spec
from runners.errors import SpecError
from runners.nets.attention import CharacterTransformer, VisionTransformer
from runners.nets.cnn import KERNEL_SIZE, ConvNet, ResidualConvNet, SimpleConvNet
from runners.nets.mlp import Net, ResidualNet
from runners.parametrization import Leaf, Path, Scale
from runners.records import ParameterDescription

CODES = "int32"
"""Type of inputs that stand for characters."""
STREAM = 2
"""Sets the initial parameters' numbers apart from those of the data (0 and 1) at the same seed."""
VGG11_OUTPUT_DEVIATION = 0.01
"""Standard deviation with which its linear layer starts."""


@dataclass(frozen=True, eq=False)
class Model:
    """A function and where it starts; layers that are not trained are part of the function."""

    apply: Callable[[Any, Array], Array]
    """(params, x [examples, *input_shape]) -> outputs [examples, outputs]; pure."""
    params: PyTree[Float[Array, "..."]]
    """At initialisation: a nested dict."""
    num_params: int
    layers: Callable[[Any, Array], dict[str, Array]] | None = None
    """(params, x) -> what each module gives out, by name, its own outputs apart; None where there are no modules."""
    leaves: Mapping[Path, Leaf] = field(default_factory=dict)
    """What the parametrization makes of each parameter; empty where parameters are those of a function of the user's."""

    def described(self) -> tuple[ParameterDescription, ...]:
        """A row for each array of parameters."""
        return tuple(
            ParameterDescription(
                name=".".join(path),
                shape=values.shape,
                role=leaf.role,
                fan_in=leaf.fan_in,
                init_std=float(np.sqrt(np.mean(np.square(np.asarray(values, dtype=np.float64))))),
                multiplier=leaf.multiplier,
                lr=leaf.lr,
                eps=leaf.eps,
            )
            for path, values in self._arrays()
            if (leaf := self.leaves.get(path))
        )

    def _arrays(self) -> Iterator[tuple[Path, Array]]:
        for keys, values in jax.tree.leaves_with_path(self.params):
            yield _names(keys), values

    def factors(self, name: Literal["lr", "eps"]) -> PyTree[float]:
        """Of learning rate or epsilon, shaped like the parameters."""
        return jax.tree.map_with_path(lambda path, _: getattr(self.leaves[_names(path)], name), self.params)


def build(
    model: spec.Model,
    *,
    optimizer: spec.Optimizer | None = None,
    input_shape: tuple[int, ...],
    num_outputs: int,
    seed: int,
    dtype: spec.Precision,
    input_dtype: str | None = None,
) -> Model:
    """The model that the table `model` asks for, initialised.

    Args:
        model: The spec's table.
        optimizer: What is to train it, on which its parametrization depends; plain gradient descent when absent.
        input_shape: Of one example, as the data set has it.
        num_outputs: Numbers that the model returns for an example.
        seed: Of the initial parameters.
        dtype: Of the parameters; float64 needs jax's x64 mode.
        input_dtype: Of the inputs; "int32" for characters, that of the parameters when absent.

    Raises:
        SpecError: If the model does not fit the data's shape, or a user's module cannot be used.
    """

    def made(table: spec.Model) -> nnx.Module:
        if isinstance(table, spec.CustomModel):
            return _custom(table, input_shape=input_shape, num_outputs=num_outputs, rngs=nnx.Rngs(seed))
        return _built_in(table, input_shape=input_shape, num_outputs=num_outputs, dtype=dtype)

    is_custom = isinstance(model, spec.CustomModel)
    if not is_custom and isinstance(model, spec.Transformer) != (input_dtype == CODES):
        raise SpecError(
            f'model.name = "{model.__struct_config__.tag}": the inputs are {"characters" if input_dtype == CODES else "numbers"}. '
            'Characters, data.name = "text", are for "transformer" and models of yours; it takes nothing else.'
        )
    module = made(model) if is_custom else nnx.eval_shape(lambda: made(model))
    graph, *states = nnx.split(module, nnx.Param, ...)
    state, rest = states
    name = type(module).__name__
    _refuse_state(name, rest)
    found = nnx.to_pure_dict(state)
    leaves, gains = _leaves(model, optimizer or spec.Sgd(), found, made)
    params = _cast(name, found, dtype) if is_custom else _drawn(found, gains, seed=seed)
    params = _scaled(params, {path: leaf.init for path, leaf in leaves.items()})
    multipliers = {path: leaf.multiplier for path, leaf in leaves.items()}
    frozen = {layer: params.pop(layer) for layer in _frozen_layers(model)}

    def apply(params: PyTree[Float[Array, "..."]], x: Array) -> Any:
        return nnx.merge(graph, _scaled(params | frozen, multipliers), rest)(x)

    def layers(params: PyTree[Float[Array, "..."]], x: Array) -> dict[str, Array]:
        return _layer_outputs(nnx.merge(graph, _scaled(params | frozen, multipliers), rest), x)

    inputs = jax.ShapeDtypeStruct((2, *input_shape), input_dtype or dtype)
    _check_outputs(name, apply, params, x=inputs, num_outputs=num_outputs, dtype=dtype)
    num_params = sum(leaf.size for leaf in jax.tree.leaves(params))
    return Model(apply=apply, params=params, num_params=num_params, layers=layers, leaves=leaves)


def _built_in(model: spec.BuiltInModel, *, input_shape: tuple[int, ...], num_outputs: int, dtype: spec.Precision) -> nnx.Module:
    match model:
        case spec.Linear():
            return Net([math.prod(input_shape), num_outputs], activation=None, bias=model.bias, dtype=dtype)
        case spec.Mlp():
            sizes = [math.prod(input_shape), *[model.width] * (model.depth - 1), num_outputs]
            return Net(sizes, activation=model.activation, bias=model.bias, dtype=dtype)
        case spec.ResidualMlp():
            return ResidualNet(model, num_inputs=math.prod(input_shape), num_outputs=num_outputs, dtype=dtype)
        case spec.Cnn() | spec.Vgg11():
            return ConvNet(model, input_shape=input_shape, num_outputs=num_outputs, dtype=dtype)
        case spec.SimpleCnn():
            return SimpleConvNet(model, input_shape=input_shape, num_outputs=num_outputs, dtype=dtype)
        case spec.ResidualCnn():
            return ResidualConvNet(model, input_shape=input_shape, num_outputs=num_outputs, dtype=dtype)
        case spec.Vit():
            return VisionTransformer(model, input_shape=input_shape, num_outputs=num_outputs, dtype=dtype)
        case spec.Transformer():
            return CharacterTransformer(model, input_shape=input_shape, num_outputs=num_outputs, dtype=dtype)
        case _:
            assert_never(model)


def _frozen_layers(model: spec.Model) -> tuple[str, ...]:
    return ("output",) if isinstance(model, spec.Vgg11) and not model.train_output else ()


def _leaves(
    model: spec.Model, optimizer: spec.Optimizer, params: Any, made: Callable[[spec.Model], nnx.Module]
) -> tuple[dict[Path, Leaf], dict[Path, float]]:
    """What the parametrization makes of each parameter, from how the shapes grow when the net is made twice as wide; and its gain."""
    shapes = _shapes(params)
    wider = (
        shapes
        if (double := _twice_as_wide(model)) is None
        else _shapes(nnx.to_pure_dict(nnx.state(nnx.eval_shape(lambda: made(double)), nnx.Param)))
    )
    gains = {path: _gain(model, path, shape, is_hidden=_grows(shape, wider[path])) for path, shape in shapes.items()}
    return parametrization.leaves(model, optimizer, _scale(model), shapes=shapes, wider=wider, gains=gains), gains


def _grows(shape: tuple[int, ...], wider: tuple[int, ...]) -> bool:
    """Whether inputs and units of a kernel grow with the width."""
    return shape[:-1] != wider[:-1] and shape[-1] != wider[-1]


def _shapes(params: Any) -> dict[Path, tuple[int, ...]]:
    return {_names(path): leaf.shape for path, leaf in jax.tree.leaves_with_path(params)}


def _names(path: Sequence[jax.tree_util.DictKey]) -> Path:
    return tuple(str(key.key) for key in path)


def _scaled(params: Any, factors: Mapping[Path, float]) -> Any:
    """Each parameter times its factor; as it is where that is 1."""
    return jax.tree.map_with_path(lambda path, leaf: leaf if (factor := factors[_names(path)]) == 1.0 else factor * leaf, params)


def _twice_as_wide(model: spec.Model) -> spec.Model | None:
    """The same net with twice the width; None where nothing is its width."""
    match model:
        case spec.Linear():
            return None
        case spec.CustomModel():
            width = model.arguments.get(model.width_argument)
            return replace(model, arguments={**model.arguments, model.width_argument: 2 * width}) if isinstance(width, int) else None
        case _:
            return replace(model, width=2 * model.width)


def _scale(model: spec.Model) -> Scale:
    width = model.arguments.get(model.width_argument) if isinstance(model, spec.CustomModel) else getattr(model, "width", None)
    return Scale(width / model.base_width if isinstance(width, int) else 1.0, model.num_branches)


def _gain(model: spec.Model, path: Path, shape: tuple[int, ...], *, is_hidden: bool) -> float:
    """First values of a kernel or an embedding have the standard deviation gain / sqrt(fan_in)."""
    match model:
        case spec.CustomModel():
            return 1.0
        case spec.Vgg11():
            deviation = math.sqrt(2 / (KERNEL_SIZE**2 * shape[-1])) if len(shape) == 4 else VGG11_OUTPUT_DEVIATION
            return deviation * math.sqrt(math.prod(shape[:-1]))
        case spec.ResidualCnn():
            return model.init_scale * (model.hidden_scale if path[0].startswith(parametrization.BRANCH) else 1.0)
        case _:
            return model.init_scale * (model.hidden_scale if is_hidden else 1.0)


def _drawn(shapes: Any, gains: Mapping[Path, float], *, seed: int) -> Any:
    """Kernels [..., inputs, outputs] and embeddings [entries, outputs] ~ N(0, gain^2 / fan_in), biases 0 and scales of norms 1.

    Drawn by NumPy in float64 and rounded, so that both precisions and every device start at the same point, and no program
    is compiled: jax.random's takes 0.5 s for each shape of kernel (two cores).
    """
    rng = np.random.default_rng([seed, STREAM])

    def draw(path: tuple[jax.tree_util.DictKey, ...], leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        inputs = parametrization.fan_in(_names(path), leaf.shape)
        if inputs is None:
            return np.full(leaf.shape, 1.0 if path[-1].key == "scale" else 0.0, leaf.dtype)
        deviation = gains[_names(path)] / math.sqrt(inputs)
        values: np.ndarray = (deviation * rng.standard_normal(leaf.shape)).astype(leaf.dtype)
        return values

    return jax.device_put(jax.tree.map_with_path(draw, shapes))


def _custom(model: spec.CustomModel, *, input_shape: tuple[int, ...], num_outputs: int, rngs: nnx.Rngs) -> nnx.Module:
    make = imports.load(model.target, key="model.name")
    try:
        module = make(input_shape=input_shape, num_outputs=num_outputs, rngs=rngs, **model.arguments)
    except Exception as error:
        raise SpecError(f"{model.target} raised {type(error).__name__} when it was made: {error}") from error
    if not isinstance(module, nnx.Module):
        raise SpecError(f"{model.target} made a {type(module).__name__}, expected a flax nnx module (a subclass of flax.nnx.Module).")
    return module


def _cast(name: str, params: Any, dtype: spec.Precision) -> Any:
    leaves = jax.tree.leaves(params)
    if not leaves or not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves):
        raise SpecError(f"{name} has {'parameters that are not real numbers' if leaves else 'no parameters'}: there is nothing to train.")
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), params)


def _layer_outputs(module: nnx.Module, x: Array) -> dict[str, Array]:
    """What the modules in a module give out, in the order of their names; of one that is called more often the first."""
    _, found = nnx.capture(module, nnx.Intermediate, method_outputs=nnx.Intermediate)(x)
    outputs = {path: leaf.get_value()[0] for path, leaf in nnx.to_flat_state(found)}
    return {
        ".".join(map(str, path[:-1])): value
        for path, value in outputs.items()
        if len(path) > 1 and path[-1] == "__call__" and isinstance(value, jax.Array) and len(value) == len(x)
    }


def _refuse_state(name: str, rest: nnx.State[Any, Any]) -> None:
    for path, leaf in nnx.to_flat_state(rest):
        if isinstance(leaf, nnx.Variable):
            where = ".".join(str(part) for part in path)
            raise SpecError(
                f"{name} keeps state beside its parameters: {where} is a {type(leaf).__name__}. Curvature needs a deterministic function "
                "of the parameters, so batch statistics, dropout and other running or random state cannot be used. Remove that layer "
                "(LayerNorm and GroupNorm keep no state), and do not keep rngs."
            )


def _check_outputs(
    name: str, apply: Callable[..., Array], params: Any, *, x: jax.ShapeDtypeStruct, num_outputs: int, dtype: spec.Precision
) -> None:
    try:
        outputs = jax.eval_shape(apply, params, x)
    except Exception as error:
        raise SpecError(f"{name} raised {type(error).__name__} on inputs of shape {x.shape}: {error}") from error
    shape, found_dtype = getattr(outputs, "shape", None), getattr(outputs, "dtype", None)
    if (shape, found_dtype) != ((len(x), num_outputs), jnp.dtype(dtype)):
        found = f"{found_dtype} {shape}" if found_dtype is not None else type(outputs).__name__
        raise SpecError(f"{name} maps {x.dtype} {x.shape} to {found}, expected {dtype} {(len(x), num_outputs)}: [examples, outputs].")
