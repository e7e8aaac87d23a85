import numpy as np
import pytest
import scipy.stats
from scipy.integrate import quad

from runners.errors import SpecError
from runners.theory import pearson, tail_index
from runners.theory.homogenized import HomogenizedSgd


def density(kind, **law):
    return lambda z: float(np.exp(kind(np.array([z]), **law)[0]))


@pytest.mark.parametrize(("index", "mean"), [(1.5, 0.0), (3.0, 0.4), (4.2, -2.0), (60.0, 1.0)])
def test_type_four_is_a_density_with_its_mean(index, mean):
    law = density(pearson.type_four, index=index, mean=mean)

    total = sum(quad(law, *ends, epsabs=1e-12)[0] for ends in ((-np.inf, mean), (mean, np.inf)))
    first = sum(quad(lambda z: z * law(z), *ends, limit=200)[0] for ends in ((-np.inf, mean), (mean, np.inf)))

    assert total == pytest.approx(1, abs=1e-8)
    assert first == pytest.approx(mean, abs=1e-5)


@pytest.mark.parametrize(("index", "mean"), [(1.5, 0.3), (3.0, 1.0), (20.0, 5.0)])
def test_type_five_is_a_density_with_its_mean_and_inverse_gamma(index, mean):
    law = density(pearson.type_five, index=index, mean=mean)

    total = sum(quad(law, *ends, epsabs=1e-12)[0] for ends in ((0, mean), (mean, np.inf)))

    points = np.geomspace(mean / 3, 30 * mean, 20)
    inverse_gamma = scipy.stats.invgamma(index, scale=mean * (index - 1))
    assert total == pytest.approx(1, abs=1e-8)
    assert inverse_gamma.mean() == pytest.approx(mean)
    assert pearson.type_five(points, index=index, mean=mean) == pytest.approx(inverse_gamma.logpdf(points), rel=1e-10)


def test_without_a_mean_type_four_is_students_t_scaled():
    points = np.linspace(-4, 4, 9)

    found = pearson.type_four(points, index=3.7, mean=0.0)

    assert found == pytest.approx(scipy.stats.t(3.7, scale=3.7**-0.5).logpdf(points), rel=1e-12)


@pytest.mark.parametrize("kind", [pearson.type_four, pearson.type_five])
def test_far_out_the_density_falls_as_its_index_says(kind):
    far = np.array([1e6, 1e7])

    slope = np.diff(kind(far, index=2.6, mean=1.5))[0] / np.log(10)

    # The next term of the exponent is of the size of the scale over z.
    assert slope == pytest.approx(-3.6, abs=1e-5)


@pytest.mark.parametrize(("kind", "chi"), [(pearson.type_four, 1), (pearson.type_five, 0)])
def test_the_flux_of_the_comparison_diffusion_vanishes(kind, chi):
    """(phi (z^2 + chi) p)' = -(z - mu) p: at rest, whatever theta."""
    index, mean, z = 3.0, 0.8, np.linspace(0.4, 3, 7)
    phi, step = 1 / (index - 1), 1e-5

    def spread(at):
        return phi * (at**2 + chi) * np.exp(kind(at, index=index, mean=mean))

    slope = (spread(z + step) - spread(z - step)) / (2 * step)

    assert slope == pytest.approx(-(z - mean) * np.exp(kind(z, index=index, mean=mean)), abs=1e-9)


def test_the_lightest_bound_is_that_of_the_largest_eigenvalue():
    sgd = HomogenizedSgd(np.array([0.5, 1.0, 2.0]), 0.3, batch_size=2, ridge=0.1)

    found = pearson.indices(sgd)

    assert found[0] == tail_index.bounds(sgd).upper
    assert list(found) == sorted(found)


def test_laws_that_are_none_are_named():
    with pytest.raises(SpecError, match="index = 1: expected a number > 1"):
        pearson.type_four(np.ones(1), index=1.0, mean=0.0)
    with pytest.raises(SpecError, match="mean = 0: expected a number > 0"):
        pearson.type_five(np.ones(1), index=2.0, mean=0.0)
