"""The laws in one variable that homogenised SGD's coordinates are heavier-tailed than: Pearson's types IV and V.

With the other coordinates left out of its noise, a coordinate follows dz = -theta (z - mu) dt + sqrt(2 theta phi (z^2 + chi)) dW, whose
stationary law has the tail index nu = 1 + 1 / phi. Every convex function of the coordinate has at least the mean that it has there.

For samples to be set beside, as tests do; no runner draws them. Pure functions of arrays, in float64.

Source: Jiao and Keller-Ressel (2024), arXiv 2402.01382; the constants are derived here from the flux being zero.
"""

import numpy as np
import scipy.special
from jaxtyping import Float

from runners.errors import SpecError
from runners.theory.homogenized import HomogenizedSgd


def indices(sgd: HomogenizedSgd) -> Float[np.ndarray, " modes"]:
    """nu_i = 1 + 1 / phi_i, ascending: the first is the upper bound of the diffusion's tail index."""
    return 1 + 1 / sgd.phi


def type_four(z: Float[np.ndarray, " points"], *, index: float, mean: float) -> Float[np.ndarray, " points"]:
    """Logarithm of the density for chi = 1: c (1 + z^2)^(-(nu + 1) / 2) exp(mu (nu - 1) arctan z).

    c = 2^(nu - 1) |Gamma((nu + 1) / 2 + i mu (nu - 1) / 2)|^2 / (pi Gamma(nu)); with mu = 0, z sqrt(nu) has Student's t law.

    Args:
        z: Where.
        index: nu, > 1.
        mean: mu.

    Returns:
        Accurate to about nu log(nu) times rounding.

    Raises:
        SpecError: If the index is not above 1.
    """
    _check(index)
    skew = mean * (index - 1)
    gamma = scipy.special.loggamma(complex(index + 1, skew) / 2).real
    constant = (index - 1) * np.log(2) + 2 * gamma - np.log(np.pi) - scipy.special.gammaln(index)
    found: Float[np.ndarray, " points"] = constant - (index + 1) / 2 * np.log1p(z * z) + skew * np.arctan(z)
    return found


def type_five(z: Float[np.ndarray, " points"], *, index: float, mean: float) -> Float[np.ndarray, " points"]:
    """Logarithm of the density for chi = 0, on z > 0: inverse gamma of shape nu and scale mu (nu - 1).

    Args:
        z: Where, > 0.
        index: nu, > 1.
        mean: mu, > 0.

    Returns:
        Accurate to about nu log(nu) times rounding.

    Raises:
        SpecError: If the index is not above 1 or the mean not above 0, as without ridge, where all noise dies out.
    """
    _check(index)
    if not mean > 0:
        raise SpecError(f"mean = {mean:g}: expected a number > 0; where the examples can be fitted exactly it takes a ridge and a target.")
    scale = mean * (index - 1)
    constant = index * np.log(scale) - scipy.special.gammaln(index)
    found: Float[np.ndarray, " points"] = constant - (index + 1) * np.log(z) - scale / z
    return found


def _check(index: float) -> None:
    if not index > 1:
        raise SpecError(f"index = {index:g}: expected a number > 1.")
