"""SGD on least squares, many times over: the runner behind `runner = "sgd-ensemble"`.

Iterates are kept in the Hessian's eigenbasis, where directions that no example has are left out: nothing moves along them but by ridge, and
no example sees it. With fresh data the examples have the second moments of the training examples, and targets that their solution leaves
as far off.

Source: Jiao and Keller-Ressel (2024), arXiv 2402.01382, section 2.2; fresh data as in Gurbuzbalaban, Simsekli and Zhu (2021), arXiv
2006.04740.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from runners import paths
from runners.errors import SpecError
from runners.experiments import SgdEnsemble
from runners.sampling import batch_indices
from runners.theory import kesten

EQUAL = 1e-9
"""Relative difference of eigenvalues up to which fresh data is isotropic."""


class Examples(NamedTuple):
    """What a step draws from."""

    rows: Float[Array, "examples modes"]
    """In the eigenbasis."""
    residuals: Float[Array, " examples"]
    """a_i x_* - b_i, that the solution leaves."""
    root: Float[Array, " modes"]
    """Of the eigenvalues."""
    noise: Float[Array, ""]
    """Root mean square of the residuals."""
    shift: Float[Array, " modes"]
    """The solution, by which ridge pulls as well."""


class SgdEnsembleRunner(paths.PathsRunner):
    """Replicas of SGD."""

    def __init__(self, spec: SgdEnsemble) -> None:
        """Read the problem, compile the steps."""
        found = paths.problem(spec)
        sgd, modes = found.sgd, found.modes
        self._sgd, self._streaming, self._batch_size = sgd, spec.simulation.streaming, spec.optimizer.drawn
        lr, ridge, sampling, streaming = sgd.lr, sgd.ridge, spec.optimizer.sampling, spec.simulation.streaming
        batch_size = spec.optimizer.batch_size
        assert isinstance(batch_size, int)
        num_examples = len(found.matrix)
        rows = found.matrix @ modes.directions.T
        constants = Examples(
            rows=jnp.asarray(rows),
            residuals=jnp.asarray(rows @ modes.solution - found.targets),
            root=jnp.asarray(np.sqrt(modes.eigenvalues)),
            noise=jnp.asarray(math.sqrt(2 * modes.floor)),
            shift=jnp.asarray(modes.solution),
        )

        def one(y: Float[Array, " modes"], examples: Examples, key: Key[Array, ""]) -> Float[Array, " modes"]:
            if streaming:
                in_rows, in_noise = jax.random.split(key)
                rows = examples.root * jax.random.normal(in_rows, (batch_size, len(y)), y.dtype)
                residuals = examples.noise * jax.random.normal(in_noise, (batch_size,), y.dtype)
            else:
                drawn = batch_indices(key, 0, num_examples=num_examples, batch_size=batch_size, sampling=sampling)
                rows, residuals = examples.rows[drawn], examples.residuals[drawn]
            gradient = (rows @ y + residuals) @ rows / batch_size + ridge * (y + examples.shift)
            return y - lr * gradient

        def update(y: Float[Array, "paths modes"], examples: Examples, key: Key[Array, ""]) -> Float[Array, "paths modes"]:
            stepped: Array = jax.vmap(one, (0, None, 0))(y, examples, jax.random.split(key, len(y)))
            return stepped

        super().__init__(spec, found, update=update, constants=constants, in_steps=True)

    def _index(self) -> float | None:
        """For fresh data of equal variances; SGD on given examples has none of its own that is known."""
        values = self._sgd.eigenvalues
        if not self._streaming or self._sgd.ridge or values[0] > (1 + EQUAL) * values[-1]:
            return None
        try:
            return kesten.index(lr=self._sgd.lr, dimension=len(values), batch_size=int(self._batch_size), variance=float(values[0]))[0]
        except SpecError:
            return None

    def _coordinates(self, paths: Float[Array, "paths modes"]) -> Float[Array, "paths modes"]:
        return paths

    def _from_coordinates(self, coordinates: Float[Array, "paths modes"]) -> Float[Array, "paths modes"]:
        return coordinates
