import numpy as np
import pytest

from runners.errors import SpecError
from runners.theory import homogenized
from runners.theory.homogenized import HomogenizedSgd


def problem(num_examples=30, num_features=6, *, rank=None, seed=0):
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((num_examples, rank or num_features)) @ rng.standard_normal((rank or num_features, num_features))
    return matrix, rng.standard_normal(num_examples), rng.standard_normal(num_features)


def test_its_constants_are_those_in_singular_values():
    n, gamma, batch_size, delta = 40, 0.3, 4, 7.0
    singular = np.array([1.0, 9.0, 4.0])

    sgd = HomogenizedSgd(singular**2 / n, gamma, batch_size=batch_size, ridge=delta / n)

    squares = np.array([81.0, 16.0, 1.0])
    assert sgd.theta == pytest.approx(gamma / n * (squares + delta), rel=1e-14)
    assert sgd.phi == pytest.approx(gamma * squares**2 / (2 * n * batch_size * (squares + delta)), rel=1e-14)
    assert sgd.noise_kernel == pytest.approx(sum(sgd.phi))
    assert sgd.effective_rank == pytest.approx(98 / 81)


@pytest.mark.parametrize("ridge", [0.0, 0.4])
def test_the_point_about_which_it_starts_solves_the_normal_equations_with_ridge(ridge):
    matrix, targets, start = problem()
    n, values = len(matrix), homogenized.spectrum(matrix)
    solved = np.linalg.solve(matrix.T @ matrix / n + ridge * np.eye(6), matrix.T @ targets / n)

    about = homogenized.least_squares(matrix, targets, start).about(ridge)

    assert np.linalg.norm(about.excess) == pytest.approx(np.linalg.norm(start - solved), rel=1e-12)
    level = about.floor + values @ about.offset**2 / 2
    assert level == pytest.approx(np.sum((matrix @ solved - targets) ** 2) / (2 * n), rel=1e-12)


def test_directions_in_which_the_loss_is_flat_are_left_out():
    matrix, targets, _ = problem(rank=3)

    found = homogenized.least_squares(matrix, targets)

    assert len(found.eigenvalues) == len(homogenized.spectrum(matrix)) == 3


def test_examples_that_can_be_fitted_leave_no_floor():
    matrix, targets, _ = problem(5, 8)

    assert homogenized.least_squares(matrix, targets).floor == 0


@pytest.mark.parametrize("num_features", [6, 40])
def test_the_drift_vanishes_at_the_comparison_means(num_features):
    """z = l (x - x_*) / sqrt(beta), with |.| and without beta where the examples can be fitted; the drift is lost at x_d."""
    matrix, targets, _ = problem(num_features=num_features)
    ridge, found = 0.2, homogenized.least_squares(matrix, targets)

    means = found.comparison_means(ridge)

    lengths = np.sqrt(len(matrix) * found.eigenvalues)
    resting = lengths * found.about(ridge).offset
    expected = resting / np.sqrt(2 * len(matrix) * found.floor) if found.floor else np.abs(resting)
    assert means == pytest.approx(expected, rel=1e-10)
    assert found.comparison_means(0.0) == pytest.approx(0 * means)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"lr": -0.1}, r"lr = -0\.1: expected a number > 0"),
        ({"lr": float("nan")}, "lr = nan: expected a number > 0"),
        ({"batch_size": 0}, "batch_size = 0: expected a number > 0"),
        ({"ridge": -1.0}, "ridge = -1: expected a number >= 0"),
        ({"eigenvalues": np.array([1.0, 0.0])}, "eigenvalue is 0: expected finite numbers > 0"),
        ({"eigenvalues": np.zeros(0)}, "no eigenvalue above 0"),
    ],
)
def test_what_cannot_be_is_named(changed, message):
    with pytest.raises(SpecError, match=message):
        HomogenizedSgd(**({"eigenvalues": np.ones(2), "lr": 0.1} | changed))
