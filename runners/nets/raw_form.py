"""The form in which Noci et al. write muP and NTP: raw entries ~ N(0, 1), a multiplier before each product, one learning rate for all.

Named by a spec as a user's module, `model.name = "runners.nets.raw_form:net"`, with `parametrization = "sp"` and lr gamma^2 for lr. It has
its own first values and its own products, and so shares nothing with `parametrization` that it could have wrong as well.

Source: Noci et al. (2024), arXiv 2402.17457, section 2.
"""

import math
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

STREAM = 2
"""Second number of the seed of first values, as in `models`: the same entries begin both forms."""


class RawNet(nnx.Module):
    """f(x) = W_out phi(h) / (gamma sqrt(N)), phi = ReLU, with h a chain of layers or a sum of residual branches."""

    def __init__(self, sizes: list[int], *, num_branches: int, gamma: float, gain: float, seed: int) -> None:
        """Draw the entries.

        Args:
            sizes: Units from the input to the output.
            num_branches: L, when the matrices between input and output are branches over sqrt(L); 0 for a chain.
            gamma: What the output is divided by.
            gain: Of the matrices between input and output.
            seed: Of the entries.
        """
        rng = np.random.default_rng([seed, STREAM])
        shapes = list(pairwise(sizes))
        self.depth = len(shapes)
        # In the order in which `models` draws: by the names of its layers as text, where branches come before input and output.
        branches = sorted(range(1, self.depth - 1), key=lambda index: str(index - 1))
        for index in [*branches, 0, self.depth - 1] if num_branches else sorted(range(self.depth), key=str):
            setattr(self, f"matrix_{index}", nnx.Param(jnp.asarray(rng.standard_normal(shapes[index]))))
        self.gamma, self.gain, self.num_branches = gamma, gain, num_branches

    def __call__(self, x: Float[Array, "examples *input"]) -> Float[Array, "examples outputs"]:
        """Outputs of each example."""
        h = self._product(0, x.reshape(len(x), -1))
        for index in range(1, self.depth - 1):
            branch = self.gain * self._product(index, jax.nn.relu(h))
            h = h + branch / math.sqrt(self.num_branches) if self.num_branches else branch
        return self._product(self.depth - 1, jax.nn.relu(h)) / self.gamma

    def _product(self, index: int, x: Float[Array, "examples inputs"]) -> Float[Array, "examples units"]:
        matrix = getattr(self, f"matrix_{index}")[...]
        return jnp.asarray(x @ matrix / math.sqrt(len(matrix)))


def net(
    *,
    input_shape: tuple[int, ...],
    num_outputs: int,
    rngs: nnx.Rngs,  # noqa: ARG001
    width: int,
    depth: int,
    seed: int,
    num_branches: int = 0,
    gamma: float = 1.0,
    gain: float = 1.0,
) -> RawNet:
    """The net, as a spec's user model.

    Args:
        input_shape: Of an example.
        num_outputs: Numbers that it returns for one.
        rngs: Not used: what is drawn is what `models` draws at `seed`.
        width: N.
        depth: Matrices, of residual branches as well.
        seed: Of the first values.
        num_branches: L, when all but two of them are residual branches; 0 for a chain.
        gamma: What the output is divided by: gamma_0 sqrt(N) for muP, gamma_0 for NTP.
        gain: Of the matrices between input and output.
    """
    sizes = [math.prod(input_shape), *[width] * (depth - 1), num_outputs]
    return RawNet(sizes, num_branches=num_branches, gamma=gamma, gain=gain, seed=seed)
