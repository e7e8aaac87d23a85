"""The tail index of SGD on fresh Gaussian data: against even moments in closed form, and its law by simulation."""

import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from scipy.integrate import quad

from runners.errors import SpecError
from runners.theory import kesten

CASES = [(1, 1), (2, 1), (10, 1), (10, 10), (3, 4), (3, 2000), (784, 1), (784, 512)]


@pytest.mark.parametrize(("dimension", "batch_size"), CASES)
def test_it_is_two_at_the_critical_learning_rate(dimension, batch_size):
    lr = kesten.critical_lr(dimension=dimension, batch_size=batch_size, variance=1.7)

    index, error = kesten.index(lr=lr, dimension=dimension, batch_size=batch_size, variance=1.7)

    assert index == pytest.approx(2, abs=1e-9)
    assert error < 1e-8


@pytest.mark.parametrize(("batch_size", "part"), [(1, 0.9), (1, 1.05), (2, 0.8), (4, 0.9)])
def test_in_one_dimension_it_is_that_of_an_integral_within_its_error(batch_size, part):
    v = part * kesten.critical_lr(dimension=1, batch_size=batch_size, variance=1.0) / batch_size
    corner, density = np.sqrt(1 / v), scipy.stats.chi(batch_size).pdf

    def grown(s):
        ends = [(0, corner), (corner, 3 * corner), (3 * corner, 40)]
        return sum(quad(lambda y: abs(1 - v * y * y) ** s * density(y), *end, epsabs=1e-13, limit=200)[0] for end in ends) - 1

    index, error = kesten.index(lr=v * batch_size, dimension=1, batch_size=batch_size, variance=1.0)

    assert error < 5e-4
    assert scipy.optimize.brentq(grown, 0.9 * index, 1.1 * index) == pytest.approx(index, abs=error)


@pytest.mark.parametrize("s", [10, 100, 300])
def test_large_even_moments_are_those_in_closed_form(s):
    """E (1 - v u)^s in one dimension, from the moments of chi^2 with 64 degrees of freedom."""
    degrees, v = 64, Fraction(1, 60)
    moments = [Fraction(1)]
    for k in range(s):
        moments.append(moments[-1] * (degrees + 2 * k))
    exact = sum(math.comb(s, k) * (-v) ** k * moments[k] for k in range(s + 1))

    found = kesten.log_growth(float(s), lr=float(v) * degrees, dimension=1, batch_size=degrees, variance=1.0)

    assert found == pytest.approx(math.log(exact.numerator) - math.log(exact.denominator), rel=1e-9)


@pytest.mark.parametrize(("dimension", "batch_size"), CASES)
def test_where_it_is_four_the_fourth_moment_in_closed_form_is_one(dimension, batch_size):
    def fourth(v):
        """E ((1 - v u)^2 + v^2 u c)^2 from the moments of chi^2: E u^k = b (b + 2) ... (b + 2 k - 2)."""
        u = [1.0]
        for k in range(4):
            u.append(u[-1] * (batch_size + 2 * k))
        c = dimension - 1
        squared = 1 - 4 * v * u[1] + 6 * v**2 * u[2] - 4 * v**3 * u[3] + v**4 * u[4]
        return squared + 2 * v**2 * c * (u[1] - 2 * v * u[2] + v**2 * u[3]) + v**4 * u[2] * c * (c + 2)

    top = kesten.critical_lr(dimension=dimension, batch_size=batch_size, variance=1.0) / batch_size
    v = scipy.optimize.brentq(lambda v: fourth(v) - 1, 1e-3 * top, top)

    assert kesten.index(lr=v * batch_size, dimension=dimension, batch_size=batch_size, variance=1.0)[0] == pytest.approx(4, abs=1e-6)


def test_the_growth_is_the_mean_over_draws():
    lr, s = 0.3, 1.3
    rng = np.random.default_rng(0)
    a = rng.standard_normal((200_000, 2, 3))
    stretched = np.eye(3)[0] - lr / 2 * np.einsum("ni,nij->nj", a[:, :, 0], a)
    powers = np.linalg.norm(stretched, axis=1) ** s

    found = kesten.log_growth(s, lr=lr, dimension=3, batch_size=2, variance=1.0)

    assert abs(np.exp(found) - powers.mean()) <= 4 * powers.std() / np.sqrt(len(powers))


def test_where_there_is_no_law_or_no_index_it_is_said():
    with pytest.raises(SpecError, match="no stationary law"):
        kesten.index(lr=1.0, dimension=10, batch_size=1, variance=1.0)
    with pytest.raises(SpecError, match="above 400"):
        kesten.index(lr=1e-4, dimension=3, batch_size=4, variance=1.0)
