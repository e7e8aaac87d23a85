"""Estimators of a sample's tail index, each with its error: how fast P(|x| > t), about t^-index, falls far out.

Called by what prints or records them. Pure functions of arrays in float64: no spec, no records, no jax. Location is 0 in all of them: the
caller centres. Moments of the sample's law are finite below the index; where all are, estimates grow with the sample and mean nothing.

`power_law` and `double_bootstrap` take packages of the extra `tails`, which are imported where they are used.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.special
import scipy.stats
from jaxtyping import Float

from runners.errors import DataError, OutputError

LEAST, MOST = 0.05, 1e4
"""Indices of Student's t between which the likelihood is climbed; at MOST 1e7 samples cannot tell it from a Gaussian."""
FEWEST = 10
"""Samples that an estimate takes, or of a share of them."""
SETTLED = 1e-9
"""Change of log index and log scale at which Newton's method has ended."""
MOST_STEPS = 200
CHI_SQUARE = 2.706
"""Twice the gain in log-likelihood over a Gaussian that 5 % of Gaussian samples exceed by chance; half of them have none."""
POWER_LAW_CANDIDATES = 1000
"""Largest samples that are tried as the beginning of a power law: the cost goes as the square."""
SCALING_RANGE = (1.0001, 30.0)
"""Exponents, index + 1, that the package `powerlaw` may find; its default, up to 3, caps the index at 2."""
BEYOND = 5
"""Samples beyond the last level of a survival function."""


@dataclass(frozen=True)
class Tail:
    """An estimate."""

    index: float | None
    """None where the sample says that the tail is lighter than any power."""
    error: float | None
    """Standard error; None where nothing bounds the index above."""
    num_used: int
    """Samples that it rests on."""


@dataclass(frozen=True)
class StudentT(Tail):
    """A fit of scale * t(index)."""

    index: float
    scale: float
    scale_error: float
    log_likelihood: float
    distance: float
    """Kolmogorov and Smirnov's, between the sample and the fit."""
    p: float
    """Of that distance for a law known beforehand: too large for one whose parameters were fitted to the same sample."""
    is_bounded: bool
    """Whether the sample bounds the index above: a Gaussian is rejected at 5 % in favour of this fit."""


@dataclass(frozen=True)
class Survival:
    """P(|x| > level), from a sample."""

    levels: tuple[float, ...]
    """Equally spaced in the logarithm."""
    shares: tuple[float, ...]
    errors: tuple[float, ...]
    """Standard error of each share."""


@dataclass(frozen=True)
class Quantiles:
    """A sample's quantiles beside those of a fit."""

    probabilities: tuple[float, ...]
    """i / (n + 1) of the i-th smallest."""
    sample: tuple[float, ...]
    fit: tuple[float, ...]


def checked(samples: Float[np.ndarray, " samples"]) -> Float[np.ndarray, " samples"]:
    """The samples in double precision.

    Raises:
        DataError: If there are too few, some are not finite, or all are equal.
    """
    samples = np.asarray(samples, dtype=np.float64)
    if len(samples) < FEWEST:
        raise DataError(f"There are {len(samples)} samples: expected at least {FEWEST}.")
    if not np.isfinite(samples).all():
        raise DataError(f"{int(np.sum(~np.isfinite(samples))):,} of {len(samples):,} samples are not finite: expected numbers.")
    if np.ptp(samples) == 0:
        raise DataError(f"All {len(samples):,} samples are {samples[0]:g}: expected numbers that differ.")
    return samples


def student_t(samples: Float[np.ndarray, " samples"]) -> StudentT:
    """The scale and degrees of freedom of Student's t at which the samples are likeliest, about 0.

    Newton's method in the logarithms of both, which halves a step that does not climb. Where the likelihood still rises at MOST degrees
    of freedom, as for half of all Gaussian samples, it ends there.

    Args:
        samples: Independent, and centred.

    Returns:
        With errors by the observed information; exact to a small part of them.

    Raises:
        DataError: If there are too few samples, all are equal, too many are 0, or the index would be below LEAST.

    Cost: 10 to 20 logarithms of each sample; 0.1 s for 100,000.

    Source: The estimator of Jiao and Keller-Ressel (2024), arXiv 2402.01382.
    """
    samples = checked(samples)
    n, zeros = len(samples), int(np.sum(samples == 0))
    # Zeros make the likelihood grow without bound as scale and index go to 0 with index < zeros / others.
    if zeros > LEAST * (n - zeros):
        raise DataError(f"{zeros:,} of {n:,} samples are 0: expected a law without a mass at 0, of which there are few.")
    with np.errstate(divide="ignore"):
        logarithms = np.log(np.abs(samples))
    point, at = _climbed(logarithms)
    index, scale = min(float(np.exp(point[0])), MOST), float(np.exp(point[1]))
    gaussian = -(np.log(2 * np.pi / n) + scipy.special.logsumexp(2 * logarithms) + 1) / 2
    gain = 2 * n * (at.value - gaussian)
    is_bounded = bool(gain > CHI_SQUARE) and index < MOST
    errors = np.sqrt(np.diag(np.linalg.inv(-n * at.hessian))) if index < MOST else np.sqrt([np.inf, -1 / (n * at.hessian[1, 1])])
    ordered = np.sort(samples)
    test = scipy.stats.kstest(ordered, lambda x: scipy.special.stdtr(index, x / scale))
    return StudentT(
        index=index,
        error=index * float(errors[0]) if is_bounded else None,
        num_used=n,
        scale=scale,
        scale_error=scale * float(errors[1]),
        log_likelihood=n * at.value,
        distance=float(test.statistic),
        p=float(test.pvalue),
        is_bounded=is_bounded,
    )


class _Likelihood(NamedTuple):
    """Log-likelihood, for each sample, as a function of log index and log scale."""

    value: float
    gradient: Float[np.ndarray, "2"]
    hessian: Float[np.ndarray, "2 2"]


def _likelihood(point: Float[np.ndarray, "2"], logarithms: Float[np.ndarray, " samples"]) -> _Likelihood:
    """Of samples with these log|x|, which no scale lets overflow.

    With z = x^2 / (scale^2 nu) it is log Gamma((nu+1)/2) - log Gamma(nu/2) - log(pi nu)/2 - log scale - (nu+1)/2 mean log(1 + z).
    """
    nu = float(np.exp(point[0]))
    log_z = 2 * (logarithms - point[1]) - point[0]
    shares = scipy.special.expit(log_z)
    share, product, logarithm = float(np.mean(shares)), float(np.mean(shares * (1 - shares))), float(np.mean(np.logaddexp(0, log_z)))
    half, beyond = nu / 2, (nu + 1) / 2
    value = scipy.special.gammaln(beyond) - scipy.special.gammaln(half) - np.log(np.pi * nu) / 2 - point[1] - beyond * logarithm
    by_nu = (scipy.special.digamma(beyond) - scipy.special.digamma(half) - 1 / nu - logarithm + (nu + 1) / nu * share) / 2
    by_nu_twice = (scipy.special.polygamma(1, beyond) - scipy.special.polygamma(1, half)) / 4 + (
        1 + (nu - 1) * share - (nu + 1) * product
    ) / (2 * nu**2)
    mixed = nu * share - (nu + 1) * product
    return _Likelihood(
        value=float(value),
        gradient=np.array([nu * by_nu, (nu + 1) * share - 1]),
        hessian=np.array([[nu**2 * by_nu_twice + nu * by_nu, mixed], [mixed, -2 * (nu + 1) * product]]),
    )


def _climbed(logarithms: Float[np.ndarray, " samples"]) -> tuple[Float[np.ndarray, "2"], _Likelihood]:
    """Where the likelihood of samples with these log|x| has its maximum, and what it is there."""
    top = float(np.log(MOST))
    point = np.array([np.log(4), np.median(logarithms)])
    at = _likelihood(point, logarithms)
    for _ in range(MOST_STEPS):
        if point[0] == top and at.gradient[0] > 0:
            step = np.array([0.0, -at.gradient[1] / at.hessian[1, 1]])
        else:
            curvatures, directions = np.linalg.eigh(at.hessian)
            step = directions @ (directions.T @ at.gradient / np.maximum(np.abs(curvatures), np.finfo(np.float64).tiny))
        step /= max(1.0, float(np.max(np.abs(step))))
        while True:
            there = np.array([min(point[0] + step[0], top), point[1] + step[1]])
            found = _likelihood(there, logarithms)
            if found.value > at.value or np.max(np.abs(step)) < SETTLED:
                break
            step /= 2
        point, at = there, found
        if point[0] < np.log(LEAST):
            raise DataError(f"The index comes out below {LEAST}: the samples are spread over too many powers of ten for Student's t.")
        if np.max(np.abs(step)) < SETTLED:
            return point, at
    raise AssertionError("A concave maximum is found in fewer steps.")


def hill(samples: Float[np.ndarray, " samples"], share: float = 0.01) -> Tail:
    """Hill's estimate from the k largest |x|: the reciprocal of the mean of log(x_(i) / x_(k+1)).

    Biased where the tail is no pure power from x_(k+1) on: for Student's t towards smaller indices, the more the larger the index.

    Args:
        samples: Independent, and centred.
        share: k over the number of samples.

    Returns:
        With the standard error index / sqrt(k), which knows nothing of that bias.

    Raises:
        DataError: If there are too few samples, or too many are 0.

    Source: Hill (1975), Annals of Statistics 3.
    """
    excess, threshold = _exceedances(samples, share)
    index = 1 / float(np.mean(np.log1p(excess / threshold)))
    return Tail(index, index / len(excess) ** 0.5, len(excess))


def pareto(samples: Float[np.ndarray, " samples"], share: float = 0.05) -> Tail:
    """The index 1/c of the generalised Pareto law that what |x| exceeds a level by is likeliest under.

    Args:
        samples: Independent, and centred.
        share: Of the samples, that is beyond the level.

    Returns:
        With the standard error (1 + c) / (c^2 sqrt(k)), by the expected information at the fit; no index for c <= 0.

    Raises:
        DataError: If there are too few samples, or too many are 0.

    Source: Smith (1987), Annals of Statistics 15, for the error.
    """
    excess, _ = _exceedances(samples, share)
    c, k = float(scipy.stats.genpareto.fit(excess / excess.mean(), floc=0)[0]), len(excess)
    return Tail(1 / c, (1 + c) / (c**2 * k**0.5), k) if c > 0 else Tail(None, None, k)


def power_law(samples: Float[np.ndarray, " samples"]) -> Tail:
    """The index of the power law that |x| follows beyond the level from which on it follows one best.

    Hill's estimate at the level, of the POWER_LAW_CANDIDATES largest |x|, with the least distance of Kolmogorov and Smirnov; by the
    package `powerlaw`, whose alpha is index + 1.

    Args:
        samples: Independent, and centred.

    Returns:
        With the standard error index / sqrt(k) for the level that was found, which knows nothing of the search.

    Raises:
        DataError: If there are too few samples.
        OutputError: If the package is not installed.

    Source: Clauset, Shalizi and Newman (2009), SIAM Review 51.
    """
    largest = np.sort(np.abs(checked(samples)))[-POWER_LAW_CANDIDATES:]
    try:
        import powerlaw
    except ImportError:
        raise _missing("powerlaw") from None
    largest = largest[largest > 0]
    with warnings.catch_warnings(action="ignore"):
        fit = powerlaw.Fit(largest, parameter_ranges={"alpha": list(SCALING_RANGE)}, verbose=False)
        index, k = float(fit.power_law.alpha) - 1, int(np.sum(largest >= fit.xmin))
    return Tail(index, index / k**0.5, k)


def double_bootstrap(samples: Float[np.ndarray, " samples"]) -> Tail:
    """Hill's estimate from as many of the largest |x| as a double bootstrap finds best; by the package `tailestim`.

    Its estimator by moments is left out: on 100,000 samples of Student's t with 3 degrees of freedom it took 37,000 of them, and was off
    by seven of its standard errors.

    Args:
        samples: Independent, and centred.

    Returns:
        With the standard error index / sqrt(k) for that number k, which knows nothing of the search.

    Raises:
        DataError: If there are too few samples.
        OutputError: If the package is not installed.

    Cost: 4 s for 100,000.

    Source: Danielsson, de Haan, Peng and de Vries (2001), Journal of Multivariate Analysis 76.
    """
    sizes = np.abs(checked(samples))
    try:
        import tailestim
    except ImportError:
        raise _missing("tailestim") from None
    estimator = tailestim.HillEstimator(base_seed=0)
    with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
        estimator.fit(sizes[sizes > 0])
        found = estimator.get_result()
    index, k = 1 / float(found.xi_star_), int(found.k_star_)
    return Tail(index, index / k**0.5, k)


def mohammadi(samples: Float[np.ndarray, " samples"], blocks: int | None = None) -> Tail:
    """The index alpha of symmetric stable samples: a sum of m of them is as large as one is, times m^(1/alpha).

    1 / alpha = mean(log|sum of a block| - mean log|x| in it) / log m. It is of stable laws alone and cannot exceed 2 by more than its
    error: any sample of finite variance comes out near 2, and Student's t with 3 degrees of freedom below.

    Args:
        samples: Independent, and centred.
        blocks: Sums; the square root of the number of samples when absent.

    Returns:
        With the standard error over the blocks; no index where sums are no larger than what they are of.

    Raises:
        DataError: If there are too few samples or blocks, or samples of 0.

    Source: Mohammadi, Mohammadpour and Ogata (2015), Metrika 78.
    """
    samples = checked(samples)
    blocks = int(len(samples) ** 0.5) if blocks is None else blocks
    m = len(samples) // max(blocks, 1)
    if blocks < 2 or m < 2:
        raise DataError(f"blocks = {blocks}: expected from 2 to {len(samples) // 2}, half the number of samples.")
    parts = samples[: blocks * m].reshape(blocks, m)
    sums = parts.sum(axis=1)
    if not (parts.all() and sums.all()):
        raise DataError("A sample, or the sum of a block of them, is 0, and has no logarithm: expected a law without a mass at 0.")
    growth = (np.log(np.abs(sums)) - np.log(np.abs(parts)).mean(axis=1)) / np.log(m)
    if growth.mean() <= 0:
        return Tail(None, None, blocks * m)
    index = 1 / float(growth.mean())
    return Tail(index, index**2 * float(growth.std(ddof=1)) / blocks**0.5, blocks * m)


def survival(samples: Float[np.ndarray, " samples"], levels: int = 60) -> Survival:
    """The shares of |x| beyond levels: from the one that 99 % are beyond to that which BEYOND samples are.

    Args:
        samples: Centred.
        levels: How many.

    Raises:
        DataError: If there are too few samples.
    """
    sizes = np.sort(np.abs(checked(samples)))
    n = len(sizes)
    positive = sizes[sizes > 0]
    low, high = positive[len(positive) // 100], sizes[n - 1 - BEYOND]
    at = np.geomspace(low, max(low, high), levels)
    at[-1] = max(low, high)
    shares = 1 - np.searchsorted(sizes, at, side="right") / n
    return Survival(_told(at), _told(shares), _told(np.sqrt(shares * (1 - shares) / n)))


def quantiles(samples: Float[np.ndarray, " samples"], fit: StudentT, points: int = 60) -> Quantiles:
    """The samples against Student's t as it was fitted to them: at ranks that go to both ends by equal factors.

    Args:
        samples: Centred.
        fit: What `student_t` found.
        points: How many, at most.

    Raises:
        DataError: If there are too few samples.
    """
    ordered = np.sort(checked(samples))
    n = len(ordered)
    ranks = np.unique(np.geomspace(1, (n + 1) / 2, points // 2).astype(int))
    ranks = np.unique(np.concatenate([ranks, n + 1 - ranks]))
    probabilities = ranks / (n + 1)
    return Quantiles(_told(probabilities), _told(ordered[ranks - 1]), _told(fit.scale * scipy.special.stdtrit(fit.index, probabilities)))


def _told(values: Sequence[float] | Float[np.ndarray, " values"]) -> tuple[float, ...]:
    return tuple(map(float, values))


def _exceedances(samples: Float[np.ndarray, " samples"], share: float) -> tuple[Float[np.ndarray, " k"], float]:
    """By how much the k largest |x| exceed the next one, and that one."""
    sizes = np.abs(checked(samples))
    if not 0 < share < 1:
        raise DataError(f"share = {share:g}: expected a number between 0 and 1.")
    k = int(share * len(sizes))
    if k < FEWEST:
        raise DataError(
            f"The largest {share:.2%} of {len(sizes):,} samples are {k}: expected at least {FEWEST}. Take a larger share, or more samples."
        )
    sizes = np.partition(sizes, [len(sizes) - k - 1])[-k - 1 :]
    threshold, excess = float(sizes[0]), sizes[1:] - sizes[0]
    if not (threshold > 0 and excess.any()):
        raise DataError(f"The largest {share:.2%} of the samples are all {threshold:g} or the rest is 0: expected a law without masses.")
    return excess, threshold


def _missing(package: str) -> OutputError:
    return OutputError(f"This estimator needs the package {package}, which is not here. Install it: pip install 'eos-tui[tails]'")
