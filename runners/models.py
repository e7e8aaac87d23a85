"""Models as pure functions of their parameters, built from flax nnx modules.

Called once by a runner. A module is split into its parameters, a nested dict of float arrays, and the rest, which has
to be constant: curvature is that of a deterministic function of the parameters, one example at a time.
"""

import itertools
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
from runners.parametrization import Leaf, Path, Scale
from runners.records import ParameterDescription

Precision = Literal["float32", "float64"]
STREAM = 2
"""Sets the initial parameters' numbers apart from those of the data (0 and 1) at the same seed."""
ACTIVATIONS: dict[spec.Activation, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "elu": jax.nn.elu,
    "softplus": jax.nn.softplus,
    "identity": lambda x: x,
}
"""gelu is x Phi(x) with the normal distribution function, not its tanh approximation."""
VGG11_STAGES = ((1,), (2,), (4, 4), (8, 8), (8, 8))
"""Filters of its convolutions over its width, by stage. Source: Simonyan and Zisserman (2014), arXiv 1409.1556, configuration A."""
VGG11_KERNEL_SIZE = 3
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
    dtype: Precision,
) -> Model:
    """The model that the table `model` asks for, initialised.

    Args:
        model: The spec's table.
        optimizer: What is to train it, on which its parametrization depends; plain gradient descent when absent.
        input_shape: Of one example, as the data set has it.
        num_outputs: Numbers that the model returns for an example.
        seed: Of the initial parameters.
        dtype: Of the parameters; float64 needs jax's x64 mode.

    Raises:
        SpecError: If the model does not fit the data's shape, or a user's module cannot be used.
    """

    def made(table: spec.Model) -> nnx.Module:
        if isinstance(table, spec.CustomModel):
            return _custom(table, input_shape=input_shape, num_outputs=num_outputs, rngs=nnx.Rngs(seed))
        return _built_in(table, input_shape=input_shape, num_outputs=num_outputs, dtype=dtype)

    is_custom = isinstance(model, spec.CustomModel)
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

    _check_outputs(name, apply, params, x=jax.ShapeDtypeStruct((2, *input_shape), dtype), num_outputs=num_outputs)
    num_params = sum(leaf.size for leaf in jax.tree.leaves(params))
    return Model(apply=apply, params=params, num_params=num_params, layers=layers, leaves=leaves)


def _built_in(
    model: spec.BuiltInModel, *, input_shape: tuple[int, ...], num_outputs: int, dtype: Precision
) -> "Net | ResidualNet | ConvNet":
    match model:
        case spec.Linear():
            return Net([math.prod(input_shape), num_outputs], activation=None, bias=model.bias, dtype=dtype)
        case spec.Mlp():
            sizes = [math.prod(input_shape), *[model.width] * (model.depth - 1), num_outputs]
            return Net(sizes, activation=ACTIVATIONS[model.activation], bias=model.bias, dtype=dtype)
        case spec.ResidualMlp():
            return ResidualNet(model, num_inputs=math.prod(input_shape), num_outputs=num_outputs, dtype=dtype)
        case spec.Cnn() | spec.Vgg11():
            return ConvNet(model, input_shape=input_shape, num_outputs=num_outputs, dtype=dtype)
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
    gains = {path: _gain(model, shape, is_hidden=_grows(shape, wider[path])) for path, shape in shapes.items()}
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
    match model:
        case spec.Linear():
            return Scale(1.0, 0)
        case spec.CustomModel():
            width = model.arguments.get(model.width_argument)
            return Scale(width / model.base_width if isinstance(width, int) else 1.0, model.branches)
        case _:
            return Scale(model.width / model.base_width, model.depth if isinstance(model, spec.ResidualMlp) else 0)


def _gain(model: spec.Model, shape: tuple[int, ...], *, is_hidden: bool) -> float:
    """First values of a kernel have the standard deviation gain / sqrt(fan_in)."""
    match model:
        case spec.CustomModel():
            return 1.0
        case spec.Vgg11():
            deviation = math.sqrt(2 / (VGG11_KERNEL_SIZE**2 * shape[-1])) if len(shape) == 4 else VGG11_OUTPUT_DEVIATION
            return deviation * math.sqrt(math.prod(shape[:-1]))
        case _:
            return model.init_scale * (model.hidden_scale if is_hidden else 1.0)


def _drawn(shapes: Any, gains: Mapping[Path, float], *, seed: int) -> Any:
    """Kernels [..., inputs, outputs] ~ N(0, gain^2 / fan_in) and biases 0.

    Drawn by NumPy in float64 and rounded, so that both precisions and every device start at the same point, and no program
    is compiled: jax.random's takes 0.5 s for each shape of kernel (two cores).
    """
    rng = np.random.default_rng([seed, STREAM])

    def draw(path: tuple[jax.tree_util.DictKey, ...], leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        if path[-1].key == "bias":
            return np.zeros(leaf.shape, leaf.dtype)
        deviation = gains[_names(path)] / math.sqrt(math.prod(leaf.shape[:-1]))
        kernel: np.ndarray = (deviation * rng.standard_normal(leaf.shape)).astype(leaf.dtype)
        return kernel

    return jax.device_put(jax.tree.map_with_path(draw, shapes))


class Net(nnx.Module):
    """Linear layers on the flattened input, with an activation between them."""

    def __init__(self, sizes: Sequence[int], *, activation: Callable[[Array], Array] | None, bias: bool, dtype: Precision) -> None:
        rngs = nnx.Rngs(0)
        self.depth = len(sizes) - 1
        for index in range(self.depth):
            layer = nnx.Linear(sizes[index], sizes[index + 1], use_bias=bias, param_dtype=dtype, rngs=rngs)
            setattr(self, f"layer_{index}", layer)
        self.activation = activation

    def __call__(self, x: Float[Array, "examples *input"]) -> Float[Array, "examples outputs"]:
        """Outputs of each example."""
        x = x.reshape(len(x), -1)
        for index in range(self.depth):
            x = getattr(self, f"layer_{index}")(x)
            if self.activation is not None and index < self.depth - 1:
                x = self.activation(x)
        return x


class ResidualNet(nnx.Module):
    """A linear layer, branches that each add a linear layer of the activation, and a linear layer of the activation."""

    def __init__(self, model: spec.ResidualMlp, *, num_inputs: int, num_outputs: int, dtype: Precision) -> None:
        rngs = nnx.Rngs(0)

        def linear(inputs: int, outputs: int) -> nnx.Linear:
            return nnx.Linear(inputs, outputs, use_bias=model.bias, param_dtype=dtype, rngs=rngs)

        self.input = linear(num_inputs, model.width)
        self.depth = model.depth
        for index in range(model.depth):
            setattr(self, f"branch_{index}", linear(model.width, model.width))
        self.output = linear(model.width, num_outputs)
        self.activation = ACTIVATIONS[model.activation]

    def __call__(self, x: Float[Array, "examples *input"]) -> Float[Array, "examples outputs"]:
        """Outputs of each example."""
        hidden = self.input(x.reshape(len(x), -1))
        for index in range(self.depth):
            hidden = hidden + getattr(self, f"branch_{index}")(self.activation(hidden))
        return jnp.asarray(self.output(self.activation(hidden)))


class ConvNet(nnx.Module):
    """Stages of convolutions (zero padding, size kept) and activations, with 2x2 pooling behind each stage; then a linear layer."""

    def __init__(self, model: spec.Cnn | spec.Vgg11, *, input_shape: tuple[int, ...], num_outputs: int, dtype: Precision) -> None:
        rngs = nnx.Rngs(0)
        height, width, channels = _image_shape(model, input_shape)
        kernel_size, stages = _stages(model)
        self.pools_after = tuple(itertools.accumulate(map(len, stages)))
        for index, filters in enumerate(itertools.chain(*stages)):
            conv = nnx.Conv(channels, filters, (kernel_size, kernel_size), use_bias=model.bias, param_dtype=dtype, rngs=rngs)
            setattr(self, f"conv_{index}", conv)
            channels = filters
        height, width = height >> len(stages), width >> len(stages)
        self.output = nnx.Linear(height * width * channels, num_outputs, use_bias=model.bias, param_dtype=dtype, rngs=rngs)
        self.activation = ACTIVATIONS[model.activation]
        self.pool = jnp.mean if model.pooling == "average" else jnp.max

    def __call__(self, x: Float[Array, "examples height width *channels"]) -> Float[Array, "examples outputs"]:
        """Outputs of each example."""
        x = x[..., None] if x.ndim == 3 else x
        for index in range(self.pools_after[-1]):
            x = self.activation(convolved(getattr(self, f"conv_{index}"), x))
            x = self._pooled(x) if index + 1 in self.pools_after else x
        return self.output(x.reshape(len(x), -1))

    def _pooled(self, x: Array) -> Array:
        # By reshape and not lax.reduce_window: 1.3 to 1.9 times as fast in gradients and Hessian products (two cores, 500 images of
        # 32x32x32). Where values tie, the gradient of the maximum is shared. An odd last row or column is left out.
        examples, height, width, channels = x.shape
        even = x[:, : height // 2 * 2, : width // 2 * 2]
        return self.pool(even.reshape(examples, height // 2, 2, width // 2, 2, channels), axis=(2, 4))


def convolved(conv: nnx.Conv, x: Float[Array, "examples height width channels"]) -> Float[Array, "examples height width filters"]:
    """The convolution of some images, zero padded, stride 1; on a CPU as one matrix product of image patches.

    XLA compiles a convolution inside a loop for CPUs into plain code (jax issue 12868), and everything here runs in loops:
    the gradient of one layer on 200 images of 16x16x16 took 0.53 s there, 0.06 s as a matrix product.
    """
    if jax.default_backend() != "cpu":
        return jnp.asarray(conv(x))
    kernel = conv.kernel[...]
    rows, columns, channels, filters = kernel.shape
    height, width = x.shape[1:3]
    before = [(size - 1) // 2 for size in (rows, columns)]
    after = [size // 2 for size in (rows, columns)]
    padded = jnp.pad(x, ((0, 0), (before[0], after[0]), (before[1], after[1]), (0, 0)))
    shifted = [padded[:, i : i + height, j : j + width] for i in range(rows) for j in range(columns)]
    filtered = jnp.concatenate(shifted, axis=-1) @ kernel.reshape(rows * columns * channels, filters)
    return filtered if conv.bias is None else filtered + conv.bias[...]


def _stages(model: spec.Cnn | spec.Vgg11) -> tuple[int, list[list[int]]]:
    """The size of the kernels, and the filters of each convolution by stage."""
    if isinstance(model, spec.Cnn):
        return model.kernel_size, [[model.width]] * model.depth
    return VGG11_KERNEL_SIZE, [[factor * model.width for factor in stage] for stage in VGG11_STAGES]


def _image_shape(model: spec.Cnn | spec.Vgg11, input_shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(input_shape) not in (2, 3):
        raise SpecError(
            f'model.name = "{model.__struct_config__.tag}": the inputs have the shape {input_shape}, expected images [height, width] or '
            '[height, width, channels]. Use "mlp" or "linear", or give the data as images.'
        )
    height, width = input_shape[:2]
    channels = input_shape[2] if len(input_shape) == 3 else 1
    most, multiple = min(height, width).bit_length() - 1, 2 ** len(VGG11_STAGES)
    if isinstance(model, spec.Cnn) and model.depth > most:
        raise SpecError(f"model.depth = {model.depth}: {height}x{width} images can be halved {most} times, expected at most that depth.")
    if isinstance(model, spec.Vgg11) and (height % multiple or width % multiple):
        raise SpecError(
            f'model.name = "vgg11": it halves images {len(VGG11_STAGES)} times, and these are {height}x{width}; expected sides in '
            f'multiples of {multiple}. Use "cnn", or give the data in such a size.'
        )
    return height, width, channels


def _custom(model: spec.CustomModel, *, input_shape: tuple[int, ...], num_outputs: int, rngs: nnx.Rngs) -> nnx.Module:
    make = imports.load(model.target, key="model.name")
    try:
        module = make(input_shape=input_shape, num_outputs=num_outputs, rngs=rngs, **model.arguments)
    except Exception as error:
        raise SpecError(f"{model.target} raised {type(error).__name__} when it was made: {error}") from error
    if not isinstance(module, nnx.Module):
        raise SpecError(f"{model.target} made a {type(module).__name__}, expected a flax nnx module (a subclass of flax.nnx.Module).")
    return module


def _cast(name: str, params: Any, dtype: Precision) -> Any:
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


def _check_outputs(name: str, apply: Callable[..., Array], params: Any, *, x: jax.ShapeDtypeStruct, num_outputs: int) -> None:
    try:
        outputs = jax.eval_shape(apply, params, x)
    except Exception as error:
        raise SpecError(f"{name} raised {type(error).__name__} on inputs of shape {x.shape}: {error}") from error
    shape, dtype = getattr(outputs, "shape", None), getattr(outputs, "dtype", None)
    if (shape, dtype) != ((len(x), num_outputs), x.dtype):
        found = f"{dtype} {shape}" if dtype is not None else type(outputs).__name__
        raise SpecError(f"{name} maps {x.dtype} {x.shape} to {found}, expected {x.dtype} {(len(x), num_outputs)}: [examples, outputs].")
