"""Fully connected nets, on the flattened input.

Made by `models`, which draws their parameters: what their layers start with here is only shapes.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from runners import spec
from runners.nets.activations import ACTIVATIONS


class Net(nnx.Module):
    """Linear layers on the flattened input, with an activation between them."""

    def __init__(self, sizes: Sequence[int], *, activation: spec.Activation | None, bias: bool, dtype: spec.Precision) -> None:
        rngs = nnx.Rngs(0)
        self.depth = len(sizes) - 1
        for index in range(self.depth):
            layer = nnx.Linear(sizes[index], sizes[index + 1], use_bias=bias, param_dtype=dtype, rngs=rngs)
            setattr(self, f"layer_{index}", layer)
        self.activation = None if activation is None else ACTIVATIONS[activation]

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

    def __init__(self, model: spec.ResidualMlp, *, num_inputs: int, num_outputs: int, dtype: spec.Precision) -> None:
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
