"""Regression problems that are computed: Chebyshev polynomials, and a linear teacher on Gaussian inputs."""

import numpy as np
from numpy.polynomial import chebyshev as chebyshev_series
from numpy.typing import NDArray

from runners import data_files
from runners.sources.raw import RawData
from runners.spec import Chebyshev, Gaussian

STREAM = 0
"""Sets the numbers of the synthetic sets apart from those of the subset (1) and the initial parameters (2) at the same seed."""


def chebyshev(data: Chebyshev) -> RawData:
    """The polynomial y = T_degree(x) at evenly spaced points of [-1, 1], both ends included, without noise.

    Source: Cohen et al. (2021), arXiv 2103.00065, and its code (locuslab/edge-of-stability, src/synthetic.py).
    """
    x = np.linspace(-1.0, 1.0, data.num_points)[:, None]
    y = chebyshev_series.chebval(x, [0.0] * data.degree + [1.0])
    source = f"Chebyshev polynomial T_{data.degree} at {data.num_points} evenly spaced points of [-1, 1]"
    return RawData(x=x, y=y, num_outputs=1, source=source)


def gaussian(data: Gaussian, *, seed: int) -> RawData:
    """Inputs x ~ N(0, Q diag(s) Q^T) and y = W^T x + noise, with a random orthogonal Q and W's entries ~ N(0, 1 / features).

    With the empirical covariance the training inputs are drawn, then mapped linearly so that X^T X / n has the spectrum s to
    float64 round-off; test inputs follow the population. The training examples do not depend on `num_test`.

    Raises:
        SpecError: If the spectrum has another length than there are features, or is asked of too few examples.
    """
    sizes = data_files.check_gaussian(data)
    rng = np.random.default_rng([seed, STREAM])
    spectrum = np.array(data.spectrum) if data.spectrum is not None else np.arange(1.0, data.num_features + 1) ** -data.exponent
    root = np.sqrt(spectrum)[:, None] * orthogonal(rng, data.num_features).T
    teacher = rng.standard_normal((data.num_features, data.num_outputs)) / np.sqrt(data.num_features)
    if data.teacher_norm is not None:
        teacher *= data.teacher_norm / np.linalg.norm(teacher, axis=0)
    z = rng.standard_normal((sizes.num_train, data.num_features))
    x = (np.sqrt(sizes.num_train) * np.linalg.qr(z)[0] if data.covariance == "empirical" else z) @ root
    y = x @ teacher + data.noise_std * rng.standard_normal((sizes.num_train, data.num_outputs))
    x_test = rng.standard_normal((sizes.num_test, data.num_features)) @ root
    y_test = x_test @ teacher + data.noise_std * rng.standard_normal((sizes.num_test, data.num_outputs))
    given = "given eigenvalues" if data.spectrum is not None else f"eigenvalues j^-{data.exponent:g}"
    source = f"linear teacher on Gaussian inputs, {data.covariance} covariance with {given}, noise {data.noise_std:g}"
    return RawData(x=x, y=y, num_outputs=data.num_outputs, source=source, x_test=x_test, y_test=y_test)


def orthogonal(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """A random orthogonal matrix, uniformly distributed."""
    # The signs make it so. Source: Mezzadri (2007), arXiv math-ph/0609050.
    q, r = np.linalg.qr(rng.standard_normal((size, size)))
    return q * np.sign(np.diag(r))
