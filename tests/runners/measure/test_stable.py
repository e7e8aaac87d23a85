"""The symmetric stable law of two quantiles: against Fourier's integral, laws that are known, McCulloch's table and samples."""

import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from runners.errors import DataError
from runners.measure import stable


def integral(x, index):
    """P(. <= x) from E exp(i t x) = exp(-|t|^index)."""
    value, _ = scipy.integrate.quad(lambda t: np.sin(x * t) / t * np.exp(-(t**index)), 0, 40 ** (1 / index), limit=5000)
    return 0.5 + value / np.pi


@pytest.mark.parametrize("index", [1.9, 1.5, 1.1, 0.7])
def test_the_distribution_function_is_fouriers_integral(index):
    x = np.array([0.002, 0.03, 0.3, 1.0, 3.0, 10.0])

    found = stable.distribution(index)(np.concatenate([-x, x]))

    expected = np.array([integral(each, index) for each in x])
    np.testing.assert_allclose(found, np.concatenate([1 - expected, expected]), atol=2e-4)


def test_it_is_gaussian_and_cauchy_where_it_has_to_be():
    x = np.linspace(-30, 30, 1001)

    np.testing.assert_allclose(stable.distribution(2.0)(x), scipy.stats.norm.cdf(x, scale=2**0.5), atol=2e-5)
    np.testing.assert_allclose(stable.distribution(1.0)(x), scipy.stats.cauchy.cdf(x), atol=2e-5)


@pytest.mark.parametrize(("ratio", "index"), [(2.5, 1.916), (2.8, 1.664), (3.5, 1.391), (5.0, 1.128), (10.0, 0.818), (15.0, 0.698)])
def test_a_ratio_of_quantiles_has_mccullochs_index(ratio, index):
    # Half of |x| is below 1 and nine tenths below the ratio. His table, from memory, has three decimals.
    sizes = np.interp(np.linspace(0, 1, 20_001), [0, 0.5, 0.9, 1], [0, 1, ratio, 10 * ratio])
    samples = sizes * np.resize([-1, 1], len(sizes))

    found = stable.stable(samples)

    assert found.index == pytest.approx(index, abs=4e-3)


@pytest.mark.parametrize("index", [1.8, 1.2, 0.7])
def test_the_estimate_has_the_error_that_it_says(index):
    samples = scipy.stats.levy_stable.rvs(index, 0.0, scale=3.0, size=(12, 2000), random_state=1)

    fits = [stable.stable(each) for each in samples]

    scores = np.array([(fit.index - index) / fit.error for fit in fits])
    assert np.abs(scores).max() <= 3.5
    assert 0.5 <= scores.std() <= 1.7
    assert np.median([fit.scale for fit in fits]) == pytest.approx(3, rel=0.05)
    assert min(fit.p for fit in fits) > 0.01


def test_other_laws_are_rejected():
    uniform = stable.stable(np.linspace(-1, 1, 20_000))
    assert (uniform.index, uniform.p < 1e-6) == (2.0, True)

    heavy_and_light = np.where(np.arange(4000) % 2, 1.0, 10.0) * np.random.default_rng(0).standard_normal(4000)
    assert stable.stable(heavy_and_light).p < 1e-6


def test_a_gaussian_is_the_law_with_index_2():
    fit = stable.stable(np.random.default_rng(0).standard_normal(100_000) * 5)

    assert fit.index == pytest.approx(2, abs=0.03)
    assert fit.scale == pytest.approx(5 / 2**0.5, rel=0.01)
    assert fit.p > 0.01


def test_what_has_no_such_law_is_refused():
    with pytest.raises(DataError, match="too many powers of ten"):
        stable.stable(np.exp(np.linspace(-50, 50, 1000)))
    with pytest.raises(DataError, match="50% of the samples are 0"):
        stable.stable(np.append(np.zeros(60), np.arange(1.0, 41.0)))
