"""Convolutional nets, on images [height, width] or [height, width, channels].

Made by `models`, which draws their parameters: what their layers start with here is only shapes.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from runners import spec
from runners.errors import SpecError
from runners.nets.activations import ACTIVATIONS

KERNEL_SIZE = 3
"""Of all convolutions but those of `cnn`, which says its own."""
VGG11_STAGES = ((1,), (2,), (4, 4), (8, 8), (8, 8))
"""Filters of its convolutions over its width, by stage. Source: Simonyan and Zisserman (2014), arXiv 1409.1556, configuration A."""
SIMPLE_STRIDES = (2, 4)
RESIDUAL_STRIDES = (2, 1, 1)
"""Of the convolutions outside of branches, with pooling behind each. Source: Noci et al. (2024), arXiv 2402.17457."""


class Conv(nnx.Conv):
    """A convolution of zero padded images of stride s, whose sides it divides by s, rounded up; on a CPU as one product of image patches.

    XLA compiles a convolution inside a loop for CPUs into plain code (jax issue 12868), and everything here runs in loops:
    the gradient of one layer on 200 images of 16x16x16 took 0.53 s there, 0.06 s as a matrix product.
    """

    def __init__(
        self,
        channels: int,
        filters: int,
        *,
        kernel_size: int = KERNEL_SIZE,
        stride: int = 1,
        bias: bool = True,
        dtype: spec.Precision = "float32",
        rngs: nnx.Rngs,
    ) -> None:
        padding = [((kernel_size - 1) // 2, kernel_size // 2)] * 2
        size, strides = (kernel_size, kernel_size), (stride, stride)
        super().__init__(channels, filters, size, strides, padding=padding, use_bias=bias, param_dtype=dtype, rngs=rngs)
        self.stride = stride

    def __call__(
        self, inputs: Float[Array, "examples height width channels"], out_sharding: Any = None
    ) -> Float[Array, "examples rows columns filters"]:
        """The convolution of some images."""
        if jax.default_backend() != "cpu":
            return jnp.asarray(super().__call__(inputs, out_sharding))
        kernel, stride = self.kernel[...], self.stride
        size, _, channels, filters = kernel.shape
        height, width = inputs.shape[1:3]
        beside = ((size - 1) // 2, size // 2)
        padded = jnp.pad(inputs, ((0, 0), beside, beside, (0, 0)))
        shifted = [padded[:, i : i + height : stride, j : j + width : stride] for i in range(size) for j in range(size)]
        filtered = jnp.concatenate(shifted, axis=-1) @ kernel.reshape(size * size * channels, filters)
        return filtered if self.bias is None else filtered + self.bias[...]


class ConvNet(nnx.Module):
    """Stages of convolutions (zero padding, size kept) and activations, with 2x2 pooling behind each stage; then a linear layer."""

    def __init__(self, model: spec.Cnn | spec.Vgg11, *, input_shape: tuple[int, ...], num_outputs: int, dtype: spec.Precision) -> None:
        height, width, channels = _image_shape(model, input_shape)
        kernel_size, stages = _stages(model)
        self.pools_after = tuple(itertools.accumulate(map(len, stages)))
        for index, filters in enumerate(itertools.chain(*stages)):
            setattr(self, f"conv_{index}", Conv(channels, filters, kernel_size=kernel_size, bias=model.bias, dtype=dtype, rngs=nnx.Rngs(0)))
            channels = filters
        rows, columns = height >> len(stages), width >> len(stages)
        self.output = nnx.Linear(rows * columns * channels, num_outputs, use_bias=model.bias, param_dtype=dtype, rngs=nnx.Rngs(0))
        self.activation = ACTIVATIONS[model.activation]
        self.pool = jnp.mean if model.pooling == "average" else jnp.max

    def __call__(self, x: Float[Array, "examples height width *channels"]) -> Float[Array, "examples outputs"]:
        """Outputs of each example."""
        x = x[..., None] if x.ndim == 3 else x
        for index in range(self.pools_after[-1]):
            x = self.activation(getattr(self, f"conv_{index}")(x))
            x = _pooled(x, self.pool) if index + 1 in self.pools_after else x
        return jnp.asarray(self.output(x.reshape(len(x), -1)))


class SimpleConvNet(nnx.Module):
    """Two convolutions with strides, activation and 2x2 pooling behind each; then a linear layer."""

    def __init__(self, model: spec.SimpleCnn, *, input_shape: tuple[int, ...], num_outputs: int, dtype: spec.Precision) -> None:
        *_, channels = _image_shape(model, input_shape)
        for index, stride in enumerate(SIMPLE_STRIDES):
            setattr(self, f"conv_{index}", Conv(channels, model.width, stride=stride, bias=model.bias, dtype=dtype, rngs=nnx.Rngs(0)))
            channels = model.width
        self.output = _output(model, input_shape, SIMPLE_STRIDES, num_outputs=num_outputs, dtype=dtype)
        self.activation = ACTIVATIONS[model.activation]
        self.pool = jnp.mean if model.pooling == "average" else jnp.max

    def __call__(self, x: Float[Array, "examples height width *channels"]) -> Float[Array, "examples outputs"]:
        """Outputs of each example."""
        x = x[..., None] if x.ndim == 3 else x
        for index in range(len(SIMPLE_STRIDES)):
            x = _pooled(self.activation(getattr(self, f"conv_{index}")(x)), self.pool)
        return jnp.asarray(self.output(x.reshape(len(x), -1)))


class ResidualConvNet(nnx.Module):
    """Stages of a convolution, branches that each add convolutions of the activation, and 2x2 pooling; then a linear layer."""

    def __init__(self, model: spec.ResidualCnn, *, input_shape: tuple[int, ...], num_outputs: int, dtype: spec.Precision) -> None:
        *_, channels = _image_shape(model, input_shape)
        self.depth, self.skip = model.depth, model.skip
        for stage, stride in enumerate(RESIDUAL_STRIDES):
            setattr(self, f"conv_{stage}", Conv(channels, model.width, stride=stride, bias=model.bias, dtype=dtype, rngs=nnx.Rngs(0)))
            for index in range(model.depth):
                setattr(self, f"branch_{stage}_{index}", ConvBranch(model, dtype=dtype))
            channels = model.width
        self.output = _output(model, input_shape, RESIDUAL_STRIDES, num_outputs=num_outputs, dtype=dtype)
        self.pool = jnp.mean if model.pooling == "average" else jnp.max

    def __call__(self, x: Float[Array, "examples height width *channels"]) -> Float[Array, "examples outputs"]:
        """Outputs of each example."""
        x = x[..., None] if x.ndim == 3 else x
        for stage in range(len(RESIDUAL_STRIDES)):
            x = getattr(self, f"conv_{stage}")(x)
            for index in range(self.depth):
                change = getattr(self, f"branch_{stage}_{index}")(x)
                x = x + change if self.skip else change
            x = _pooled(x, self.pool)
        return jnp.asarray(self.output(x.reshape(len(x), -1)))


class ConvBranch(nnx.Module):
    """Convolutions that keep the size, with an activation before each."""

    def __init__(self, model: spec.ResidualCnn, *, dtype: spec.Precision) -> None:
        self.depth = model.layers_per_block
        for index in range(self.depth):
            setattr(self, f"conv_{index}", Conv(model.width, model.width, bias=model.bias, dtype=dtype, rngs=nnx.Rngs(0)))
        self.activation = ACTIVATIONS[model.activation]

    def __call__(self, x: Float[Array, "examples height width channels"]) -> Float[Array, "examples height width channels"]:
        """What is added to x."""
        for index in range(self.depth):
            x = getattr(self, f"conv_{index}")(self.activation(x))
        return x


def _pooled(x: Array, pool: Callable[..., Array]) -> Array:
    # By reshape and not lax.reduce_window: 1.3 to 1.9 times as fast in gradients and Hessian products (two cores, 500 images of
    # 32x32x32). Where values tie, the gradient of the maximum is shared. An odd last row or column is left out.
    examples, height, width, channels = x.shape
    even = x[:, : height // 2 * 2, : width // 2 * 2]
    return pool(even.reshape(examples, height // 2, 2, width // 2, 2, channels), axis=(2, 4))


def _stages(model: spec.Cnn | spec.Vgg11) -> tuple[int, list[list[int]]]:
    """The size of the kernels, and the filters of each convolution by stage."""
    if isinstance(model, spec.Cnn):
        return model.kernel_size, [[model.width]] * model.depth
    return KERNEL_SIZE, [[factor * model.width for factor in stage] for stage in VGG11_STAGES]


def _output(
    model: spec.SimpleCnn | spec.ResidualCnn,
    input_shape: tuple[int, ...],
    strides: Sequence[int],
    *,
    num_outputs: int,
    dtype: spec.Precision,
) -> nnx.Linear:
    """The linear layer behind convolutions of these strides, each with pooling.

    Raises:
        SpecError: If they leave nothing of the image.
    """
    rows, columns = (_side(side, strides) for side in input_shape[:2])
    if not rows * columns:
        least = next(side for side in itertools.count(1) if _side(side, strides))
        raise SpecError(
            f'model.name = "{model.__struct_config__.tag}": its convolutions and pooling leave nothing of images of '
            f'{input_shape[0]}x{input_shape[1]}; expected sides of {least} and more. Use "cnn", or give the data in such a size.'
        )
    return nnx.Linear(rows * columns * model.width, num_outputs, use_bias=model.bias, param_dtype=dtype, rngs=nnx.Rngs(0))


def _side(length: int, strides: Sequence[int]) -> int:
    """What convolutions of these strides, each with 2x2 pooling, leave of an image's side."""
    for stride in strides:
        length = -(-length // stride) // 2
    return length


def _image_shape(model: spec.Cnn | spec.Vgg11 | spec.SimpleCnn | spec.ResidualCnn, input_shape: tuple[int, ...]) -> tuple[int, int, int]:
    height, width, channels = image_shape(model, input_shape)
    most, multiple = min(height, width).bit_length() - 1, 2 ** len(VGG11_STAGES)
    if isinstance(model, spec.Cnn) and model.depth > most:
        raise SpecError(f"model.depth = {model.depth}: {height}x{width} images can be halved {most} times, expected at most that depth.")
    if isinstance(model, spec.Vgg11) and (height % multiple or width % multiple):
        raise SpecError(
            f'model.name = "vgg11": it halves images {len(VGG11_STAGES)} times, and these are {height}x{width}; expected sides in '
            f'multiples of {multiple}. Use "cnn", or give the data in such a size.'
        )
    return height, width, channels


def image_shape(model: spec.BuiltInModel, input_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Height, width and channels of the inputs.

    Raises:
        SpecError: If they are no images.
    """
    if len(input_shape) not in (2, 3):
        raise SpecError(
            f'model.name = "{model.__struct_config__.tag}": the inputs have the shape {input_shape}, expected images [height, width] or '
            '[height, width, channels]. Use "mlp" or "linear", or give the data as images.'
        )
    height, width = input_shape[:2]
    return height, width, input_shape[2] if len(input_shape) == 3 else 1
