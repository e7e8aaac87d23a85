"""The nets of the presets in PyTorch: same weights, same examples, same loss. Not a script; needs torch.

Flat vectors are in PyTorch's order: layer by layer, weight before bias.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree
from numpy.typing import NDArray
from presets import Preset
from torch import nn

from runners.measure import operators
from runners.spec import Cnn, Mlp, Mse

AGREEMENT = 1e-5
"""Relative difference of losses and products that float32 may make: 80 of its roundings. On digits it was 2e-7, on the
convolutional net, which sums over a million image patches, 5e-6."""

Vector = NDArray[np.floating]


class Twin:
    """The net of a preset and its loss."""

    def __init__(self, preset: Preset) -> None:
        """Build the net; `load` gives it its weights."""
        model = preset.spec.model
        if not (isinstance(model, Mlp | Cnn) and model.activation == "tanh" and isinstance(preset.spec.objective, Mse)):
            raise ValueError(f"{preset.spec.model}: expected a tanh mlp or cnn with the objective mse, of which there is a twin.")
        kernels = [layer["kernel"].shape for layer in preset.model.params.values()]
        layers: list[nn.Module] = []
        for shape in kernels:
            if len(shape) == 4:
                layers += [nn.Conv2d(shape[2], shape[3], shape[0], padding="same"), nn.Tanh(), nn.AvgPool2d(2)]
            else:
                layers += [nn.Flatten()] * (not layers or len(kernels[0]) == 4) + [nn.Linear(*shape), nn.Tanh()]
        self.net = nn.Sequential(*layers[:-1])
        self.parameters = list(self.net.parameters())
        images = np.array(preset.x)
        self.x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy() if len(kernels[0]) == 4 else images)
        self.y = nn.functional.one_hot(torch.from_numpy(np.array(preset.y)).long(), kernels[-1][1]).float()
        self._preset = preset

    def load(self, params: PyTree[Array]) -> None:
        """Take these weights."""
        with torch.no_grad():
            for parameter, value in zip(self.parameters, _arrays(params, self._preset), strict=True):
                parameter.copy_(torch.from_numpy(value))

    def loss(self) -> torch.Tensor:
        """1/2 sum over outputs, mean over examples."""
        return 0.5 * ((self.net(self.x) - self.y) ** 2).sum() / len(self.x)

    def gradient(self) -> torch.Tensor:
        """With the graph that a product differentiates once more."""
        return _flat(torch.autograd.grad(self.loss(), self.parameters, create_graph=True))

    def product(self, v: Vector, *, gradient: torch.Tensor | None = None) -> Vector:
        """H v by double backward, of a gradient whose graph stands or of a new one."""
        slope = self.gradient() if gradient is None else gradient
        along = torch.dot(slope, torch.from_numpy(np.ascontiguousarray(v, np.float32)))
        image: Vector = _flat(torch.autograd.grad(along, self.parameters, retain_graph=gradient is not None)).numpy()
        return image

    def check(self, product: Callable[[Vector], Vector], params: PyTree[Array]) -> None:
        """Hold the loss and a product along a random vector against ours.

        Raises:
            AssertionError: If they differ by more than rounding.
        """
        preset = self._preset
        flat, unravel = ravel_pytree(params)
        v = jnp.asarray(np.random.default_rng(0).standard_normal(flat.size, dtype=np.float32))

        @jax.jit
        def ours(params: PyTree[Array], x: Array, y: Array, v: Array) -> tuple[Array, PyTree[Array]]:
            loss, product = operators.hessian(preset.problem, params, x=x, y=y)
            return loss, unravel(product(v))

        loss, image = ours(params, preset.x, preset.y, v)
        wanted = np.concatenate([array.ravel() for array in _arrays(image, preset)])
        found = product(np.concatenate([array.ravel() for array in _arrays(unravel(v), preset)]))
        difference = float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
        other = self.loss().item()
        assert abs(other - float(loss)) <= AGREEMENT * float(loss), (other, float(loss))
        assert difference <= AGREEMENT, difference


def _flat(tensors: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def _arrays(tree: PyTree[Array], preset: Preset) -> list[NDArray[np.float32]]:
    """The leaves of parameters in PyTorch's order and layouts."""
    arrays = []
    for layer in tree.values():
        kernel = np.array(layer["kernel"])
        if kernel.ndim == 4:
            kernel = kernel.transpose(3, 2, 0, 1)
        elif "conv_0" in tree:
            depth = len(tree) - 1
            height, width = (side >> depth for side in preset.x.shape[1:3])
            kernel = kernel.reshape(height, width, -1, kernel.shape[1]).transpose(3, 2, 0, 1).reshape(kernel.shape[1], -1)
        else:
            kernel = kernel.T
        arrays += [np.ascontiguousarray(kernel), np.array(layer["bias"])]
    return arrays
