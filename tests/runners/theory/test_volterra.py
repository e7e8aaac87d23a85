"""The expected loss against the naive sum, an integrator, its limit, and simulated SGD."""

import mpmath
import numpy as np
import pytest
import scipy.integrate

from runners.errors import SpecError
from runners.measure.noise_kernel import Noise, kernel_norm
from runners.theory import homogenized, tail_index, volterra
from runners.theory.homogenized import HomogenizedSgd, Start


def problem(num_examples=40, num_features=12, *, noise=0.3, seed=0):
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((num_examples, num_features)) / np.sqrt(num_features)
    targets = matrix @ rng.standard_normal(num_features) + noise * rng.standard_normal(num_examples)
    return matrix, targets, homogenized.least_squares(matrix, targets)


def solved(found, *, k, ridge=0.0, batch_size=1, in_steps=False):
    """The solution at the learning rate with this K."""
    sgd = HomogenizedSgd(found.eigenvalues, 1.0, batch_size=batch_size, ridge=ridge)
    if in_steps:
        low, high = 0.0, volterra.critical_rate(sgd, in_steps=True)
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if volterra.noise_kernel(sgd.at(middle), in_steps=True) < k else (low, middle)
        sgd = sgd.at(low)
    else:
        sgd = sgd.at(k / sgd.noise_kernel)
    start = found.about(ridge)
    return sgd, start, volterra.expected_loss(sgd, start, in_steps=in_steps)


def naive(sgd, start, steps):
    """The sum of the equation in steps, term by term."""
    times = np.arange(float(steps))
    forcing = volterra.forcing(sgd, start, times, in_steps=True)
    kernel = volterra.kernel(sgd, times, in_steps=True)
    losses = []
    for t in range(steps):
        losses.append(forcing[t] + sum(kernel[t - 1 - s] * losses[s] for s in range(t)))
    return np.array(losses)


@pytest.mark.parametrize("ridge", [0.0, 0.3])
@pytest.mark.parametrize("batch_size", [1, 5])
@pytest.mark.parametrize("num_features", [1, 12, 60])
def test_in_steps_it_is_the_sum_of_the_equation(ridge, batch_size, num_features):
    _, _, found = problem(num_features=num_features)
    sgd, start, loss = solved(found, k=0.6, ridge=ridge, batch_size=batch_size, in_steps=True)

    values, errors = loss.at(np.arange(150.0))

    expected = naive(sgd, start, 150)
    # The sum itself rounds each of its terms.
    assert np.all(np.abs(values - expected) <= errors + 150 * np.finfo(float).eps * expected)
    assert np.max(errors / values) < 1e-11


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_in_continuous_time_it_solves_the_integral_equation(ridge):
    _, _, found = problem()
    sgd, start, loss = solved(found, k=0.7, ridge=ridge)
    t = 25.0

    def integrand(s):
        return (volterra.kernel(sgd, np.array([t - s]), in_steps=False) * loss.at(np.array([s])).values)[0]

    convolved = scipy.integrate.quad(integrand, 0, t, epsabs=1e-12, epsrel=1e-12, limit=200)[0]

    forced = volterra.forcing(sgd, start, np.array([t]), in_steps=False)[0]
    assert loss.at(np.array([t])).values[0] == pytest.approx(forced + convolved, rel=1e-10)


@pytest.mark.parametrize("in_steps", [False, True])
@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_it_comes_to_its_limit_at_its_rate(in_steps, ridge):
    _, _, found = problem()
    _, _, loss = solved(found, k=0.6, ridge=ridge, in_steps=in_steps)
    settled = np.round(np.array([12.0, 14.0, 100.0]) / loss.rate)

    values = loss.at(settled).values

    assert values[2] == pytest.approx(loss.limit, rel=1e-12)
    slope = np.log((values[1] - loss.limit) / (values[0] - loss.limit)) / (settled[0] - settled[1])
    assert slope == pytest.approx(loss.rate, rel=0.02)


def test_its_rate_is_twice_that_of_the_distributions():
    _, _, found = problem()
    sgd, _, loss = solved(found, k=0.6)

    assert loss.rate == pytest.approx(2 * tail_index.contraction_rate(sgd), rel=1e-9)


def test_a_ridge_lets_the_mean_set_the_rate():
    """The loss without ridge is not flat at the point to which the mean goes, which it then nears as exp(-theta t) and not the square."""
    _, _, found = problem()
    sgd, _, loss = solved(found, k=0.1, ridge=0.3)

    assert loss.rate == pytest.approx(sgd.theta[-1])


@pytest.mark.parametrize("in_steps", [False, True])
def test_at_k_1_it_grows_linearly_and_beyond_without_end(in_steps):
    _, _, found = problem()
    sgd = HomogenizedSgd(found.eigenvalues, 1.0)
    critical = sgd.at(volterra.critical_rate(sgd, in_steps=in_steps))
    at_edge, beyond = (volterra.expected_loss(critical.at(f * critical.lr), found.about(0.0), in_steps=in_steps) for f in (1, 1.05))
    times = np.array([1e4, 2e4, 3e4])

    first, second = np.diff(at_edge.at(times).values)

    assert volterra.noise_kernel(critical, in_steps=in_steps) == pytest.approx(1, abs=1e-11)
    assert second == pytest.approx(first, rel=1e-6)
    assert beyond.rate < 0
    with pytest.raises(SpecError, match=r"K = 1\.\d+: expected less than 1"):
        _ = beyond.limit


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_beyond_the_largest_number_it_is_infinite(ridge):
    _, _, found = problem()
    loss = volterra.expected_loss(HomogenizedSgd(found.eigenvalues, 50.0, ridge=ridge), found.about(ridge))

    values, errors = loss.at(np.array([0.0, 1.0, 1e9]))

    assert np.isfinite(values[:2]).all()
    assert values[2] == errors[2] == np.inf


def test_in_steps_k_is_that_of_the_measured_noise_with_each_modes_own_share():
    values = [2.0, 0.7, 0.1]
    sgd = HomogenizedSgd(np.array(values), 0.4, batch_size=3)
    without = [kernel_norm(Noise(lr=0.4, momentum=0.0, p=1 / 3), [value], trace=value) for value in values]

    found = volterra.noise_kernel(sgd, in_steps=True)

    assert found == pytest.approx(sum(part / (1 - part) for part in without))
    assert sgd.noise_kernel < found < np.inf == volterra.noise_kernel(sgd.at(1.1), in_steps=True)


def test_both_kernels_have_their_mass():
    sgd = HomogenizedSgd(np.array([1.0, 0.5]), 0.3, ridge=0.2)

    summed = volterra.kernel(sgd, np.arange(400.0), in_steps=True).sum()
    integral = scipy.integrate.quad(lambda t: volterra.kernel(sgd, np.array([t]), in_steps=False)[0], 0, np.inf)[0]

    assert summed == pytest.approx(volterra.noise_kernel(sgd, in_steps=True), rel=1e-12)
    assert integral == pytest.approx(sgd.noise_kernel, rel=1e-9)


def test_an_unstable_step_is_named():
    _, _, found = problem()
    sgd = HomogenizedSgd(found.eigenvalues, 3 / found.eigenvalues[0])

    with pytest.raises(SpecError, match="3 over the largest eigenvalue: expected less than 2"):
        volterra.expected_loss(sgd, found.about(0.0), in_steps=True)


@pytest.mark.parametrize(("batch_size", "ridge"), [(10**16, 0.0), (1, 1e9)])
def test_noise_too_small_to_tell_leaves_the_edge_of_gradient_descent(batch_size, ridge):
    sgd = HomogenizedSgd(np.array([1.0, 0.1]), 0.1, batch_size=batch_size, ridge=ridge)

    assert volterra.critical_rate(sgd, in_steps=True) == pytest.approx(tail_index.critical_rates(sgd).gradient_descent)


def test_a_step_that_takes_a_mode_to_its_mean_at_once_has_a_rate():
    sgd = HomogenizedSgd(np.array([0.75, 0.25]), 1.0, batch_size=1000, ridge=0.25)
    start = Start(excess=np.ones(2), offset=np.ones(2), floor=0.1)

    loss = volterra.expected_loss(sgd, start, in_steps=True)

    assert sgd.theta[0] == 1
    assert loss.rate == pytest.approx(np.log(2))


@pytest.mark.parametrize(("in_steps", "ridge"), [(False, 0.0), (False, 1e-3), (True, 0.0), (True, 1e-3)])
def test_eigenvalues_twelve_powers_of_ten_apart_have_the_loss_that_sixty_digits_say(in_steps, ridge):
    h, start = 10.0 ** -np.arange(0, 13, 3), Start(np.linspace(1, 2, 5), np.linspace(-0.1, 0.2, 5) * bool(ridge), floor=0.2, variance=0.5)
    sgd = HomogenizedSgd(h, 0.7, batch_size=2, ridge=ridge)
    times = (0, 1, 40, 10_000)

    values, errors = volterra.expected_loss(sgd, start, in_steps=in_steps).at(np.array(times, dtype=float))

    for t, value, error in zip(times, values, errors, strict=True):
        expected = loss_in_sixty_digits(sgd, start, t, in_steps=in_steps)
        assert abs(value - expected) <= max(10 * error, 1e-14 * expected)
        assert abs(value - expected) <= 1e-9 * expected


def test_a_single_mode_that_forgets_fast_has_its_error():
    sgd = HomogenizedSgd(np.array([1.0]), 0.9, batch_size=1000)
    start = Start(np.ones(1), np.zeros(1), floor=0.0)
    times = np.array([10.0, 100.0])

    values, errors = volterra.expected_loss(sgd, start, in_steps=True).at(times)

    expected = np.array([loss_in_sixty_digits(sgd, start, int(t), in_steps=True) for t in times])
    assert np.all(np.abs(values - expected) <= errors)
    assert np.all(errors < 1e-11 * values)


def loss_in_sixty_digits(sgd, start, t, *, in_steps):
    """Second moments and means as one linear system, by a power or the exponential of its matrix."""
    with mpmath.workdps(60):
        size = len(sgd.eigenvalues)
        h, excess, offset = ([mpmath.mpf(float(x)) for x in values] for values in (sgd.eigenvalues, start.excess, start.offset))
        lr, ridge = mpmath.mpf(sgd.lr), mpmath.mpf(sgd.ridge)
        level = start.floor + sum(a * b**2 for a, b in zip(h, offset, strict=True)) / 2
        matrix = mpmath.zeros(2 * size + 1)
        for i in range(size):
            theta, noise = lr * (h[i] + ridge), lr**2 * h[i] ** 2 / sgd.batch_size
            matrix[i, i], matrix[size + i, size + i] = (1 - theta) ** 2 - 1 if in_steps else -2 * theta, -theta
            for j in range(size):
                matrix[i, j] += noise
                matrix[i, size + j] += noise * h[j] * offset[j]
            matrix[i, 2 * size] += noise * level
        begin = mpmath.matrix([*(a * (b**2 + start.variance) / 2 for a, b in zip(h, excess, strict=True)), *excess, 1])
        end = ((mpmath.eye(2 * size + 1) + matrix) ** t if in_steps else mpmath.expm(matrix * t)) * begin
        return float(level + sum(end[j] + h[j] * offset[j] * end[size + j] for j in range(size)))


def test_no_times_have_no_losses():
    _, _, found = problem()
    _, _, loss = solved(found, k=0.5)

    assert loss.at(np.zeros(0)).values.shape == (0,)


def test_many_times_are_taken_in_parts(monkeypatch):
    _, _, found = problem()
    _, _, loss = solved(found, k=0.5)
    whole = loss.at(np.arange(50.0))
    monkeypatch.setattr(volterra, "CHUNK", 7)

    assert loss.at(np.arange(50.0)).values == pytest.approx(whole.values, rel=1e-13)


def simulated(matrix, targets, *, lr, batch_size, ridge, times, runs, seed):
    """Mean loss of SGD from 0 at some steps."""
    rng = np.random.default_rng(seed)
    x, means = np.zeros((runs, matrix.shape[1])), []
    for step in range(int(max(times)) + 1):
        if step in times:
            means.append(np.mean(np.sum((x @ matrix.T - targets) ** 2, axis=1)) / (2 * len(matrix)))
        drawn = rng.integers(len(matrix), size=(batch_size, runs))
        gradient = sum(matrix[rows] * (np.einsum("ij,ij->i", matrix[rows], x) - targets[rows])[:, None] for rows in drawn) / batch_size
        x = x - lr * (gradient + ridge * x)
    return np.array(means)


def test_sgd_of_many_modes_follows_it():
    """A fifth of the sizes of the slow test: the covariance that is left out is of the order of 1 over the modes, 2.5 %."""
    matrix, targets, found = problem(80, 40, seed=1)
    sgd, _, loss = solved(found, k=0.4, batch_size=4, in_steps=True)
    times = (20, 80, 320)

    means = simulated(matrix, targets, lr=sgd.lr, batch_size=4, ridge=0.0, times=times, runs=400, seed=2)

    assert means == pytest.approx(loss.at(np.array(times, dtype=float)).values, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("ridge", "batch_size"), [(0.0, 1), (0.0, 4), (0.0005, 1)])
def test_the_mean_loss_of_sgd_in_200_dimensions_is_near_to_it(ridge, batch_size):
    """The covariance that is left out is of the order of 1 / 200; the mean of 400 runs has a standard error of up to 0.5 %."""
    matrix, targets, found = problem(400, 200)
    times = np.array([100.0, 200.0, 400.0, 800.0, 1600.0])
    sgd, start, continuous = solved(found, k=0.5, ridge=ridge, batch_size=batch_size)
    in_steps = volterra.expected_loss(sgd, start, in_steps=True)

    means = simulated(matrix, targets, lr=sgd.lr, batch_size=batch_size, ridge=ridge, times=times, runs=400, seed=1)

    if batch_size == 1:
        assert continuous.at(times).values == pytest.approx(means, rel=0.03)
    else:
        assert in_steps.at(times).values == pytest.approx(means, rel=0.02)
        assert in_steps.limit == pytest.approx(means[-1], rel=0.01)
