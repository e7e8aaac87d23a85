import dataclasses
import sys
import warnings

import numpy as np
import pytest
import scipy.stats

from runners.errors import DataError, OutputError
from runners.measure import tails


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def spread(found):
    """The mean of 1 / index, whose bias is small, with its standard error, and the reported error over the observed spread."""
    values = np.array([1 / tail.index for tail in found])
    reported = np.sqrt(np.mean([(tail.error / tail.index**2) ** 2 for tail in found]))
    return values.mean(), values.std(ddof=1) / np.sqrt(len(values)), reported / values.std(ddof=1)


@pytest.mark.parametrize("index", [1.5, 3.0, 10.0])
def test_student_t_finds_its_index_with_the_error_that_it_reports(rng, index):
    found = [tails.student_t(2 * rng.standard_t(index, size=5000)) for _ in range(40)]

    mean, sem, reported = spread(found)
    assert abs(mean - 1 / index) < 4 * sem
    assert abs(reported - 1) < 4 / np.sqrt(2 * 39)
    scales = [tail.scale for tail in found]
    assert abs(np.mean(scales) - 2) < 4 * np.std(scales) / np.sqrt(40)
    assert abs(np.mean([tail.scale_error for tail in found]) / np.std(scales, ddof=1) - 1) < 4 / np.sqrt(2 * 39)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "expected"), [(1000, 0.31), (10_000, 0.098)])
def test_the_errors_at_index_3_are_those_of_the_information(rng, size, expected):
    found = [tails.student_t(rng.standard_t(3, size=size)) for _ in range(400)]

    indices = [tail.index for tail in found]
    assert np.std(indices, ddof=1) == pytest.approx(expected, rel=4 / np.sqrt(2 * 399))
    assert np.median([tail.error for tail in found]) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("index", [0.7, 3.0, 30.0])
def test_student_t_is_the_maximum_that_scipy_finds(rng, index):
    samples = rng.standard_t(index, size=3000)

    found = tails.student_t(samples)

    theirs = scipy.stats.t.fit(samples, floc=0)
    assert (found.index, found.scale) == pytest.approx((theirs[0], theirs[2]), rel=1e-3)
    assert found.log_likelihood == pytest.approx(scipy.stats.t.logpdf(samples, found.index, scale=found.scale).sum())
    assert found.log_likelihood >= scipy.stats.t.logpdf(samples, theirs[0], scale=theirs[2]).sum() - 1e-8
    test = scipy.stats.kstest(samples, scipy.stats.t(found.index, scale=found.scale).cdf)
    assert (found.distance, found.p) == pytest.approx((test.statistic, test.pvalue))


def test_the_derivatives_of_the_likelihood_are_its_differences(rng):
    logarithms, step = np.log(np.abs(rng.standard_t(2, size=100))), 1e-5

    for point in np.log([[0.3, 2.0], [4.0, 0.5], [50.0, 1.0]]):
        at = tails._likelihood(point, logarithms)

        for axis, along in enumerate(step * np.eye(2)):
            ahead, behind = tails._likelihood(point + along, logarithms), tails._likelihood(point - along, logarithms)
            # Rounding over the step, and the third derivative times its square.
            assert (ahead.value - behind.value) / (2 * step) == pytest.approx(at.gradient[axis], abs=1e-8)
            assert (ahead.gradient - behind.gradient) / (2 * step) == pytest.approx(at.hessian[axis], abs=1e-8)


@pytest.mark.parametrize("law", ["standard_normal", "uniform"])
def test_no_index_bounds_a_tail_that_is_as_light_as_a_gaussian_one(rng, law):
    samples = rng.standard_normal(2000) if law == "standard_normal" else rng.uniform(-1, 1, 2000)

    found = tails.student_t(samples)

    assert 15 < found.index <= tails.MOST
    assert found.error is None
    assert not found.is_bounded
    assert found.scale == pytest.approx(np.sqrt(np.mean(samples**2)), rel=0.1)
    assert 1 < found.scale_error / (found.scale / np.sqrt(2 * 2000)) < 2


def test_the_unit_of_the_samples_is_that_of_the_scale(rng):
    samples = rng.standard_t(0.5, size=500)

    one, other = tails.student_t(samples), tails.student_t(1e-200 * samples)

    assert other.index == pytest.approx(one.index, rel=1e-6)
    assert other.scale == pytest.approx(1e-200 * one.scale, rel=1e-6)
    assert other.distance == pytest.approx(one.distance, rel=1e-5)


def test_some_samples_may_be_0_and_some_beyond_squaring(rng):
    samples = np.concatenate([np.zeros(3), rng.standard_t(1, size=197), [1e290]])

    assert 0.1 < tails.student_t(samples).index < 1


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.ones(9), "There are 9 samples: expected at least 10"),
        (np.full(20, 3.0), "All 20 samples are 3: expected numbers that differ"),
        (np.append(np.arange(20.0), np.nan), "1 of 21 samples are not finite"),
        (np.append(np.zeros(20), np.arange(1.0, 81.0)), "20 of 100 samples are 0: expected a law without a mass at 0"),
        (np.exp(np.linspace(-200, 200, 100)), r"The index comes out below 0\.05"),
    ],
    ids=["too few", "constant", "not finite", "zeros", "too wide"],
)
def test_samples_that_are_no_students_t_are_named(samples, message):
    with pytest.raises(DataError, match=message):
        tails.student_t(samples)


def test_hill_is_the_mean_of_logarithms():
    samples = 2.0 ** np.arange(1000) * np.where(np.arange(1000) % 2, 1, -1)

    found = tails.hill(samples, share=0.01)

    assert found.index == pytest.approx(1 / (5.5 * np.log(2)))
    assert found.error == pytest.approx(found.index / np.sqrt(10))
    assert found.num_used == 10


def test_hill_is_exact_in_the_mean_on_a_power_law(rng):
    found = [tails.hill(rng.pareto(2.5, size=4000) + 1, share=0.1) for _ in range(100)]

    mean, sem, reported = spread(found)
    assert abs(mean - 1 / 2.5) < 4 * sem
    assert abs(reported - 1) < 4 / np.sqrt(2 * 99)


def test_the_generalised_pareto_law_finds_its_index_with_the_error_that_it_reports(rng):
    found = [tails.pareto(scipy.stats.genpareto.rvs(0.5, size=4000, random_state=rng), share=0.25) for _ in range(40)]

    mean, sem, reported = spread(found)
    assert abs(mean - 0.5) < 4 * sem
    assert abs(reported - 1) < 4 / np.sqrt(2 * 39)


def test_a_bounded_law_has_no_index(rng):
    assert tails.pareto(rng.uniform(-1, 1, 2000)) == tails.Tail(None, None, 100)


@pytest.mark.parametrize("estimator", [tails.hill, tails.pareto])
@pytest.mark.parametrize(
    ("samples", "share", "message"),
    [
        (np.arange(100.0), 0.05, "The largest 5.00% of 100 samples are 5: expected at least 10. Take a larger share"),
        (np.arange(100.0), 1.0, "share = 1: expected a number between 0 and 1"),
        (np.append(np.zeros(90), np.arange(1.0, 11.0)), 0.1, "or the rest is 0"),
        (np.append(np.arange(1.0, 81.0), np.full(20, 90.0)), 0.1, "are all 90"),
    ],
)
def test_a_share_that_has_no_tail_is_named(estimator, samples, share, message):
    with pytest.raises(DataError, match=message):
        estimator(samples, share=share)


def test_a_power_law_is_found_beyond_2_where_the_package_by_itself_ends(rng):
    powerlaw = pytest.importorskip("powerlaw")
    samples = rng.pareto(4, size=400) + 1

    found = tails.power_law(np.concatenate([-samples[:200], samples[200:], rng.uniform(-1, 1, 1000)]))

    assert abs(found.index - 4) < 4 * found.error
    assert found.error == pytest.approx(found.index / np.sqrt(found.num_used))
    with warnings.catch_warnings(action="ignore"):
        assert powerlaw.Fit(samples, verbose=False).power_law.alpha - 1 <= 2


def test_the_double_bootstrap_finds_an_index(rng):
    pytest.importorskip("tailestim")

    found = tails.double_bootstrap(rng.pareto(3, size=2000) + 1)

    assert found == tails.double_bootstrap(np.random.default_rng(0).pareto(3, size=2000) + 1)
    assert abs(found.index - 3) < 4 * found.error
    assert found.error == pytest.approx(found.index / np.sqrt(found.num_used))


@pytest.mark.parametrize("package", ["powerlaw", "tailestim"])
def test_a_package_that_is_missing_is_named(rng, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)

    estimator = {"powerlaw": tails.power_law, "tailestim": tails.double_bootstrap}[package]
    with pytest.raises(OutputError, match=rf"needs the package {package}, which is not here\. Install it: pip install 'eos-tui\[tails\]'"):
        estimator(rng.standard_normal(100))


def test_mohammadi_finds_stable_laws(rng):
    found = [tails.mohammadi(scipy.stats.levy_stable.rvs(1.5, 0, size=4000, random_state=rng)) for _ in range(60)]

    mean, sem, reported = spread(found)
    assert abs(mean - 1 / 1.5) < 4 * sem
    assert abs(reported - 1) < 4 / np.sqrt(2 * 59)


def test_sums_that_do_not_grow_have_no_index(rng):
    assert tails.mohammadi(np.diff(rng.standard_normal(1001)), blocks=2).index is None


def test_mohammadi_ends_at_2(rng):
    lightest, heavier = tails.mohammadi(rng.standard_normal(40_000)), tails.mohammadi(rng.standard_t(3, size=40_000))

    assert abs(lightest.index - 2) < 4 * lightest.error
    assert heavier.index < 2


def test_mohammadi_is_a_difference_of_logarithms():
    samples = np.array([1.0, 2, 4, -1, 3, 5, 8, 1, 1, 2, 100])

    found = tails.mohammadi(samples, blocks=5)

    sums, sizes = [3, 3, 8, 9, 3], np.abs(samples[:10])
    assert 1 / found.index == pytest.approx((np.log(sums).mean() - np.log(sizes).mean()) / np.log(2))
    assert found.num_used == 10


@pytest.mark.parametrize(
    ("samples", "blocks", "message"),
    [
        (np.arange(1.0, 21.0), 1, "blocks = 1: expected from 2 to 10"),
        (np.arange(1.0, 21.0), 11, "blocks = 11: expected from 2 to 10"),
        (np.arange(20.0), 5, "is 0, and has no logarithm"),
        (np.tile([1.0, -1.0], 10), 10, "is 0, and has no logarithm"),
    ],
)
def test_blocks_that_have_no_sums_are_named(samples, blocks, message):
    with pytest.raises(DataError, match=message):
        tails.mohammadi(samples, blocks=blocks)


def test_the_survival_function_counts_what_is_beyond(rng):
    samples = rng.standard_t(3, size=2000)

    found = tails.survival(samples)

    assert len(found.levels) == 60
    assert np.diff(np.log(found.levels)) == pytest.approx(np.log(found.levels[-1] / found.levels[0]) / 59)
    assert found.shares == pytest.approx([np.mean(np.abs(samples) > level) for level in found.levels])
    assert found.shares[0] == pytest.approx(0.99, abs=1e-3)
    assert found.shares[-1] == pytest.approx(tails.BEYOND / 2000)
    assert found.errors[-1] == pytest.approx(np.sqrt(5) / 2000, rel=0.01)


def test_quantiles_lie_on_the_diagonal_where_the_samples_are_the_fits(rng):
    fit = tails.student_t(rng.standard_t(3, size=500))
    samples = scipy.stats.t.ppf(np.arange(1, 2000) / 2000, fit.index, scale=fit.scale)

    found = tails.quantiles(rng.permutation(samples), fit)

    assert found.sample == pytest.approx(found.fit)
    assert found.probabilities == pytest.approx(1 - np.array(found.probabilities[::-1]))
    assert found.probabilities[0] == 1 / 2000
    assert 40 < len(found.sample) <= 60


def test_estimates_cannot_be_changed(rng):
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign"):
        tails.hill(rng.standard_normal(2000)).index = 3
