"""Transformers: blocks of attention and a fully connected net at a number of positions, and what their inputs are made of.

Made by `models`, which draws their parameters: what their layers start with here is only shapes. A block's two parts are residual branches,
whose modules' names begin with `branch`; `write`, the last of their layers in the order of names, ends each.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int32

from runners import parametrization, spec
from runners.errors import SpecError
from runners.nets.activations import ACTIVATIONS
from runners.nets.cnn import image_shape


class Attention(nnx.Module):
    """A branch: the layer norm, queries, keys and values of each head, and a linear layer of what the heads take from the values."""

    def __init__(self, model: spec.AttentionTable, *, is_causal: bool, dtype: spec.Precision) -> None:
        def linear() -> nnx.Linear:
            return nnx.Linear(model.width, model.width, use_bias=False, param_dtype=dtype, rngs=nnx.Rngs(0))

        self.norm = _norm(model, dtype)
        self.query, self.key, self.value, self.write = linear(), linear(), linear(), linear()
        self.heads, self.is_causal = model.heads, is_causal
        self.scale = parametrization.attention_scale(model, width=model.width, heads=model.heads)

    def __call__(self, hidden: Float[Array, "examples positions width"], at: slice) -> Float[Array, "examples wanted width"]:
        """What is added at the positions `at`."""
        normed = self.norm(hidden)
        query, key, value = map(self._divided, (self.query(normed[:, at]), self.key(normed), self.value(normed)))
        products = self.scale * jnp.einsum("nqhd,nkhd->nhqk", query, key)
        if self.is_causal:
            positions = jnp.arange(hidden.shape[1])
            products = jnp.where(positions[at, None] >= positions, products, -jnp.inf)
        taken = jnp.einsum("nhqk,nkhd->nqhd", jax.nn.softmax(products), value)
        return jnp.asarray(self.write(taken.reshape(*taken.shape[:2], -1)))

    def _divided(self, x: Array) -> Array:
        return x.reshape(*x.shape[:2], self.heads, -1)


class TwoLayers(nnx.Module):
    """A branch: the layer norm, a linear layer, the activation and a linear layer, at each position alone."""

    def __init__(self, model: spec.AttentionTable, *, dtype: spec.Precision) -> None:
        hidden = model.mlp_ratio * model.width
        self.norm = _norm(model, dtype)
        self.read = nnx.Linear(model.width, hidden, use_bias=model.bias, param_dtype=dtype, rngs=nnx.Rngs(0))
        self.write = nnx.Linear(hidden, model.width, use_bias=model.bias, param_dtype=dtype, rngs=nnx.Rngs(0))
        self.activation = ACTIVATIONS[model.activation]

    def __call__(self, hidden: Float[Array, "examples positions width"]) -> Float[Array, "examples positions width"]:
        """What is added."""
        return jnp.asarray(self.write(self.activation(self.read(self.norm(hidden)))))


class Block(nnx.Module):
    """Attention, then two linear layers."""

    def __init__(self, model: spec.AttentionTable, *, is_causal: bool, dtype: spec.Precision) -> None:
        self.branch_attention = Attention(model, is_causal=is_causal, dtype=dtype)
        self.branch_mlp = TwoLayers(model, dtype=dtype)

    def __call__(self, hidden: Float[Array, "examples positions width"], at: slice) -> Float[Array, "examples wanted width"]:
        """The block's result at the positions `at`; nothing is computed of it at the others."""
        hidden = hidden[:, at] + self.branch_attention(hidden, at)
        return hidden + self.branch_mlp(hidden)


class AttentionNet(nnx.Module):
    """Blocks, and the outputs, which a linear layer makes of the layer norm at one position."""

    def __init__(self, model: spec.AttentionTable, *, positions: int, num_outputs: int, dtype: spec.Precision) -> None:
        self.positions = Embedding(positions, model.width, dtype=dtype)
        self.depth = model.depth
        for index in range(model.depth):
            setattr(self, f"block_{index}", Block(model, is_causal=isinstance(model, spec.Transformer), dtype=dtype))
        self.norm = _norm(model, dtype)
        self.output = nnx.Linear(model.width, num_outputs, use_bias=model.bias, param_dtype=dtype, rngs=nnx.Rngs(0))

    def read_out(self, embedded: Float[Array, "examples positions width"], position: slice) -> Float[Array, "examples outputs"]:
        """Outputs from the one position, of which alone the last block is computed.

        Args:
            embedded: The inputs at each position, without the position's own embedding.
            position: A slice of length 1.
        """
        hidden = embedded + self.positions.embedding[...]
        for index in range(self.depth):
            hidden = getattr(self, f"block_{index}")(hidden, position if index == self.depth - 1 else slice(None))
        return jnp.asarray(self.output(self.norm(hidden)[:, 0]))


class VisionTransformer(AttentionNet):
    """Patches of images, and first a class token, which is its position's embedding, from which the outputs are made."""

    def __init__(self, model: spec.Vit, *, input_shape: tuple[int, ...], num_outputs: int, dtype: spec.Precision) -> None:
        height, width, channels = image_shape(model, input_shape)
        size = model.patch_size
        if height % size or width % size:
            raise SpecError(f"model.patch_size = {size}: the images are {height}x{width}, expected sides in multiples of it.")
        super().__init__(model, positions=1 + (height // size) * (width // size), num_outputs=num_outputs, dtype=dtype)
        self.patches = nnx.Linear(size * size * channels, model.width, use_bias=model.bias, param_dtype=dtype, rngs=nnx.Rngs(0))
        self.patch_size = size

    def __call__(self, x: Float[Array, "examples height width *channels"]) -> Float[Array, "examples outputs"]:
        """Outputs of each example."""
        examples, height, width = x.shape[:3]
        size = self.patch_size
        cells = x.reshape(examples, height // size, size, width // size, size, -1)
        # examples x rows x columns x a patch's pixels and channels
        patches = self.patches(cells.transpose(0, 1, 3, 2, 4, 5).reshape(examples, -1, self.patches.in_features))
        return self.read_out(jnp.pad(patches, ((0, 0), (1, 0), (0, 0))), slice(0, 1))


class CharacterTransformer(AttentionNet):
    """Embeddings of characters; outputs from the last position: what comes behind."""

    def __init__(self, model: spec.Transformer, *, input_shape: tuple[int, ...], num_outputs: int, dtype: spec.Precision) -> None:
        (context,) = input_shape
        super().__init__(model, positions=context, num_outputs=num_outputs, dtype=dtype)
        self.characters = Embedding(num_outputs, model.width, dtype=dtype)

    def __call__(self, x: Int32[Array, "examples context"]) -> Float[Array, "examples outputs"]:
        """Outputs of each example."""
        return self.read_out(self.characters(x), slice(-1, None))


class Embedding(nnx.Module):
    """A vector for each of some entries."""

    def __init__(self, entries: int, width: int, *, dtype: spec.Precision) -> None:
        self.embedding = nnx.Param(jnp.zeros((entries, width), dtype))

    def __call__(self, codes: Int32[Array, "examples positions"]) -> Float[Array, "examples positions width"]:
        """The vectors of the entries with these numbers.

        Computed as a product with vectors of zeros and a one: that is a layer whose gradients the NTK takes without forming them, as a
        look-up is not, and costs little beside the blocks while there are hundreds of entries.
        """
        embedding = self.embedding[...]
        return jax.nn.one_hot(codes, len(embedding), dtype=embedding.dtype) @ embedding


def _norm(model: spec.AttentionTable, dtype: spec.Precision) -> nnx.LayerNorm:
    # Not E x^2 - (E x)^2, which flax takes for the variance else: of numbers far from 0 it has no digit right.
    return nnx.LayerNorm(model.width, param_dtype=dtype, use_fast_variance=False, rngs=nnx.Rngs(0))
