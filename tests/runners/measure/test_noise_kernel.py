"""K and its companions against the second moment of linear training written out batch by batch, in NumPy."""

import itertools
import math

import numpy as np
import pytest
from msgspec.structs import replace
from scipy.linalg import hadamard

from runners import thresholds
from runners.measure import noise_kernel
from runners.measure.noise_kernel import Noise, kernel_norm, kernel_norm_error, necessary_bound, threshold, trace_part
from runners.spec import Adam, AdamW, CustomOptimizer, EmaMomentum, HeavyBall, Muon, Nesterov, NormalizedGd, RmsProp, Sam, Sgd, SignDescent

SPECTRUM = (3.0, 2.0, 1.5, 1.0, 0.7, 0.4, 0.2, 0.1)


# --- exact training of linear models ---


def batches(n, size, sampling):
    """How often each batch holds each example, one batch a row; every row is as likely as any other."""
    draws = {
        "without_replacement": lambda: itertools.combinations(range(n), size),
        "with_replacement": lambda: itertools.product(range(n), repeat=size),
        "epochs": lambda: (order[i : i + size] for order in itertools.permutations(range(n)) for i in range(0, n - size + 1, size)),
    }[sampling]()
    return np.array([np.bincount(draw, minlength=n) for draw in draws])


def delocalised(spectrum):
    """An NTK whose eigenvectors have all their squared entries equal: those of a Hadamard matrix."""
    vectors = hadamard(len(spectrum)) / len(spectrum) ** 0.5
    return vectors * spectrum @ vectors.T


def second_moment(ntk, optimizer, lr, *, weight_decay=0.0):
    """The linear map of E[s s^T] in one step, s = (residuals, momentum), as a mean over all batches."""
    n, b = len(ntk), getattr(optimizer, "momentum", 0.0)
    part = 1 - b if isinstance(optimizer, EmaMomentum) else 1
    identity, total = np.eye(n), 0
    counts = batches(n, optimizer.batch_size, optimizer.sampling)
    for count in counts:
        gradient = part * (ntk * (n / optimizer.batch_size * count) + weight_decay * identity)
        if isinstance(optimizer, Nesterov):  # x -= lr (g + b m) with m = b m + g
            step = np.block([[identity - lr * (1 + b) * gradient, -lr * b * b * identity], [gradient, b * identity]])
        else:
            step = np.block([[identity - lr * gradient, -lr * b * identity], [gradient, b * identity]]) if b else identity - lr * gradient
        total = total + np.kron(step, step)
    return total / len(counts)


def radius(matrix):
    return abs(np.linalg.eigvals(matrix)).max()


def crossing(function, high):
    """Where an increasing function passes 1, in (0, high)."""
    low = 0.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) < 1 else (low, middle)
    return high


def frozen_second_moment(jacobian, optimizer, lr, preconditioner):
    """The linear map of E[s s^T] in one step, s = (x, m), for x -= lr (m / P + d x) with P held fixed, as a mean over all batches."""
    n, dim = jacobian.shape
    b, decay = getattr(optimizer, "beta1", 0.0), getattr(optimizer, "decoupled_decay", 0.0)
    identity, total = np.eye(dim), 0
    counts = batches(n, optimizer.batch_size, optimizer.sampling)
    for count in counts:
        gradient = (1 - b) * (jacobian.T * count) @ jacobian / optimizer.batch_size
        kept, divided = (1 - lr * decay) * identity, lr / preconditioner[:, None]
        step = (
            np.block([[kept - divided * gradient, -divided * b * identity], [gradient, b * identity]]) if b else kept - divided * gradient
        )
        total = total + np.kron(step, step)
    return total / len(counts)


LARGE = [Sgd(batch_size=size) for size in (1, 3, 6)]
SMALL = [
    Sgd(batch_size=2, sampling="with_replacement"),
    Sgd(batch_size=2, sampling="epochs"),
    HeavyBall(batch_size=1, momentum=0.5),
    HeavyBall(batch_size=3, momentum=0.9),
    HeavyBall(batch_size=2, momentum=0.9, sampling="with_replacement"),
    EmaMomentum(batch_size=2, momentum=0.9),
    Nesterov(batch_size=1, momentum=0.5),
    Nesterov(batch_size=3, momentum=0.9),
]
EVERY_KIND = [
    *((optimizer, SPECTRUM, 0.0) for optimizer in LARGE),
    *((optimizer, SPECTRUM[:4], weight_decay) for optimizer in SMALL for weight_decay in (0.0, 0.5)),
]


@pytest.mark.parametrize(("optimizer", "spectrum", "weight_decay"), EVERY_KIND)
def test_with_delocalised_eigenvectors_k_is_one_exactly_where_the_second_moment_begins_to_grow(optimizer, spectrum, weight_decay):
    ntk, n = delocalised(spectrum), len(spectrum)

    def k(lr):
        noise = noise_kernel.noise(optimizer, lr=lr, num_examples=n, weight_decay=weight_decay)
        return kernel_norm(noise, spectrum, trace=sum(spectrum))

    predicted = crossing(k, 100.0)

    # Near the edge the radius grows about as fast as the relative learning rate, so that 1e-9 is far above its rounding.
    assert radius(second_moment(ntk, optimizer, predicted * (1 - 1e-9), weight_decay=weight_decay)) < 1
    assert radius(second_moment(ntk, optimizer, predicted * (1 + 1e-9), weight_decay=weight_decay)) > 1


ADAPTIVE = [
    RmsProp(batch_size=1),
    RmsProp(batch_size=2, sampling="with_replacement"),
    Adam(batch_size=2, beta1=0.5),
    Adam(batch_size=1, beta1=0.9),
    AdamW(batch_size=2, beta1=0.9, decoupled_decay=0.5),
    AdamW(batch_size=1, beta1=0.0, decoupled_decay=0.5),
    CustomOptimizer(target="a:b", batch_size=2, beta1=0.7),
]


@pytest.mark.parametrize("optimizer", ADAPTIVE)
def test_k_of_the_preconditioned_matrix_is_one_exactly_where_adaptive_updates_with_that_preconditioner_begin_to_grow(optimizer):
    spectrum, rng = SPECTRUM[:4], np.random.default_rng(0)
    preconditioner = 10 ** rng.uniform(-1, 1, 4)
    rotation = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    # J with P^-1/2 J^T J P^-1/2 / n of this spectrum, and delocalised eigenvectors of J P^-1 J^T.
    jacobian = hadamard(4) * np.sqrt(spectrum) @ rotation * np.sqrt(preconditioner)

    def k(lr):
        return kernel_norm(noise_kernel.noise(optimizer, lr=lr, num_examples=4), spectrum, trace=sum(spectrum))

    predicted = crossing(k, 100.0)

    assert radius(frozen_second_moment(jacobian, optimizer, predicted * (1 - 1e-9), preconditioner)) < 1
    assert radius(frozen_second_moment(jacobian, optimizer, predicted * (1 + 1e-9), preconditioner)) > 1


def random_features(size):
    """An NTK of random features of decaying variance, and the learning rate at which the second moment begins to grow."""
    features = np.random.default_rng(0).standard_normal((6, 20)) * np.arange(1, 21.0) ** -0.5
    ntk = features @ features.T / 6
    return ntk, crossing(lambda lr: radius(second_moment(ntk, Sgd(batch_size=size), lr)), 2 / np.linalg.eigvalsh(ntk)[-1])


def bound(ntk, noise):
    n = len(ntk)
    return necessary_bound(noise, trace=np.trace(ntk), frobenius=np.sum(ntk**2), example_frobenius=np.mean((n * np.diag(ntk)) ** 2))


@pytest.mark.parametrize("size", [1, 3, 5])
def test_the_necessary_bound_is_below_one_where_training_is_stable(size):
    ntk, edge = random_features(size)

    noise = noise_kernel.noise(Sgd(batch_size=size), lr=edge, num_examples=len(ntk))

    assert 0 < bound(ntk, noise) <= 1


@pytest.mark.parametrize("size", [1, 3, 6])
def test_the_necessary_bound_is_sharp_where_all_eigenvalues_are_equal(size):
    ntk = delocalised(np.full(8, 1.5))
    noise = noise_kernel.noise(Sgd(batch_size=size), lr=0.2, num_examples=8)
    edge = crossing(lambda lr: kernel_norm(replaced(noise, lr), [1.5] * 8, trace=12.0), 2.0)

    assert bound(ntk, replaced(noise, edge)) == pytest.approx(1, rel=1e-12)


def replaced(noise, lr):
    return Noise(lr, noise.momentum, noise.p, noise.weight_decay)


# --- batches ---


@pytest.mark.parametrize("sampling", ["without_replacement", "with_replacement", "epochs"])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_the_variance_factor_is_that_of_the_mean_of_every_batch_there_is(sampling, size):
    values = np.random.default_rng(0).standard_normal(5)

    factor = noise_kernel.variance_factor(Sgd(batch_size=size, sampling=sampling), 5)

    means = batches(5, size, sampling) @ values / size
    assert factor == pytest.approx(np.var(means) / np.var(values), abs=1e-14)


@pytest.mark.parametrize("sampling", ["with_replacement", "without_replacement"])
@pytest.mark.parametrize(
    "optimizer",
    [
        Sgd(),
        HeavyBall(momentum=0.5),
        Nesterov(momentum=0.6),
        EmaMomentum(momentum=0.8),
        RmsProp(),
        Adam(beta1=0.8),
        AdamW(beta1=0.8, decoupled_decay=20.0),
    ],
)
def test_at_the_crossover_batch_both_edges_are_equally_far(optimizer, sampling):
    n, outputs, trace = 1000, 3, 24.0
    for size in (2, 16, 200):
        optimizer = replace(optimizer, batch_size=size, sampling=sampling)
        noise = noise_kernel.noise(optimizer, lr=0.01, num_examples=n)
        # The eigenvalue whose share of its edge is the trace part's share of 1.
        largest = trace_part(noise, trace) / outputs * thresholds.threshold(optimizer, 0.01)

        found = noise_kernel.crossover_batch(optimizer, lr=0.01, trace=trace, largest=largest, num_examples=n, num_outputs=outputs)
        assert found == pytest.approx(size, rel=1e-12)


def test_no_crossover_batch_without_a_noise_kernel_or_curvature():
    assert noise_kernel.crossover_batch(Muon(), lr=0.1, trace=1.0, largest=0.5, num_examples=10) is None
    assert noise_kernel.crossover_batch(Sgd(), lr=0.1, trace=0.0, largest=0.0, num_examples=10) is None
    assert noise_kernel.crossover_batch(Sgd(), lr=0.1, trace=math.nan, largest=1.0, num_examples=10) is None
    assert noise_kernel.crossover_batch(AdamW(decoupled_decay=20.0), lr=0.1, trace=1.0, largest=0.5, num_examples=10) is None


def test_the_full_batch_makes_no_noise():
    noise = noise_kernel.noise(Sgd(), lr=0.1, num_examples=5)

    assert noise.p == 0
    assert kernel_norm(noise, [3.0, 100.0], trace=110.0) == 0
    assert threshold(noise) is None


# --- closed forms ---


def test_k_of_plain_steps_is_the_sum_over_eigenvalues():
    noise = Noise(lr=0.3, momentum=0.0, p=0.4)

    k = kernel_norm(noise, SPECTRUM, trace=sum(SPECTRUM))

    assert k == pytest.approx(sum(0.4 * 0.3 * value / (2 - 0.6 * 0.3 * value) for value in SPECTRUM), rel=1e-14)


def test_k_is_continuous_as_the_momentum_vanishes():
    plain, slight = (Noise(lr=0.3, momentum=b, p=1.0, weight_decay=0.1) for b in (0.0, 1e-12))

    assert kernel_norm(slight, SPECTRUM, trace=10.0) == pytest.approx(kernel_norm(plain, SPECTRUM, trace=10.0), rel=1e-10)


def test_ema_momentum_is_heavy_ball_with_a_smaller_learning_rate():
    ema = noise_kernel.noise(EmaMomentum(batch_size=4, momentum=0.75), lr=0.8, num_examples=50, weight_decay=0.1)
    heavy_ball = noise_kernel.noise(HeavyBall(batch_size=4, momentum=0.75), lr=0.2, num_examples=50, weight_decay=0.1)

    assert ema == heavy_ball


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_k_tends_to_its_trace_part_for_small_learning_rates(momentum):
    noise = Noise(lr=1e-8, momentum=momentum, p=0.3)

    assert kernel_norm(noise, SPECTRUM, trace=10.0) == pytest.approx(trace_part(noise, 10.0), rel=1e-6)


def test_each_eigenvalue_that_is_known_brings_k_up_from_its_trace_part():
    noise, trace = Noise(lr=0.3, momentum=0.0, p=0.4), sum(SPECTRUM)

    values = [kernel_norm(noise, SPECTRUM[:count], trace=trace) for count in range(len(SPECTRUM) + 1)]

    assert values[0] == trace_part(noise, trace)
    assert values == sorted(values)


@pytest.mark.parametrize("p", [0.02, 1.0])
def test_the_error_of_nesterovs_k_is_reached_wherever_its_share_of_an_eigenvalue_is_furthest_from_that_for_small_ones(p):
    noise, limit = Noise(0.1, 0.9, p, nesterov=True), 10.0
    values = np.linspace(1e-6, limit, 20001)
    furthest = max(abs(kernel_norm(noise, [value], trace=value) - trace_part(noise, value)) / value for value in values)

    error = estimate(noise, [limit], trace=limit + 3.0, rank=9)[1]

    # Between points of the grid a smooth function differs by the square of their distance.
    assert error == pytest.approx(3.0 * furthest, rel=1e-6)


def test_weight_decay_lowers_k():
    plain, decayed = (Noise(lr=0.3, momentum=0.0, p=0.4, weight_decay=rho) for rho in (0.0, 0.5))

    assert kernel_norm(decayed, SPECTRUM, trace=sum(SPECTRUM)) < kernel_norm(plain, SPECTRUM, trace=sum(SPECTRUM))


@pytest.mark.parametrize("outputs", [1, 10])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_threshold_is_the_trace_whose_part_of_k_is_one(momentum, outputs):
    noise = Noise(lr=0.3, momentum=momentum, p=0.4)

    assert trace_part(noise, threshold(noise, num_outputs=outputs)) / outputs == pytest.approx(1, rel=1e-14)


# --- the error ---

KINDS = [
    *(Noise(0.3, 0.0, p, rho) for p in (0.05, 0.9) for rho in (0.0, 0.01, 1.0)),
    *(Noise(0.1, 0.9, p, rho) for p in (0.02, 0.5) for rho in (0.0, 0.01, 1.0)),
    *(Noise(0.1, 0.8, p, nesterov=True) for p in (0.02, 1.0)),
    *(Noise(0.1, 0.9, p, shrinkage=shrinkage) for p, shrinkage in ((0.02, 0.3), (0.5, 0.01))),
]
"""p (1 + b) / (1 - b) below and above 1, without decay, with a little and with much, and by Nesterov."""


def estimate(noise, known, *, trace, rank, errors=None, sem=0.0, frobenius=None):
    """K of the known eigenvalues and the trace, and its error."""
    errors = [0.0] * len(known) if errors is None else errors
    error = kernel_norm_error(noise, known, trace=trace, errors=errors, sem=sem, rank=rank, frobenius=frobenius)
    return kernel_norm(noise, known, trace=trace), error


@pytest.mark.slow
@pytest.mark.parametrize("noise", KINDS)
@pytest.mark.parametrize("count", [0, 1, 5])
def test_k_of_the_whole_spectrum_lies_within_the_error(noise, count):
    rng = np.random.default_rng(0)
    for decay in rng.uniform(0.1, 3, 100):
        spectrum = np.sort(4 * rng.exponential(size=20) * np.arange(1, 21.0) ** -decay)[::-1]
        spectrum *= min(1, 3 / spectrum[0])
        values, trace = spectrum.tolist(), spectrum.sum()

        k, error = estimate(noise, values[:count], trace=trace, rank=20)
        closer = estimate(noise, values[:count], trace=trace, rank=20, frobenius=np.sum(spectrum**2))[1]

        assert error is None or abs(kernel_norm(noise, values, trace=trace) - k) <= closer * (1 + 1e-9) <= error * (1 + 1e-9)
        assert error is not None or count == 0


@pytest.mark.parametrize("noise", [noise for noise in KINDS if not (noise.damping and noise.strength > 1)])
def test_the_error_of_what_is_not_known_is_that_of_the_worst_spectrum_there_is(noise):
    known = [3.0, 2.0]
    worst = [[2.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], [0.5] * 8]

    k, error = estimate(noise, known, trace=9.0, rank=10)

    assert error == pytest.approx(max(abs(kernel_norm(noise, known + rest, trace=9.0) - k) for rest in worst), rel=1e-12)


@pytest.mark.parametrize("noise", [noise for noise in KINDS if not noise.damping and not noise.nesterov])
def test_the_sum_of_squares_bounds_what_is_not_known_and_is_reached(noise):
    known, small, limit = [3.0, 2.0], [1e-3] * 2000, 2.0 if noise.p < (1 - noise.momentum) / (1 + noise.momentum) else 1e-6
    trace, squares = 7.0, 9.0 + 4.0 + 2000 * 1e-6

    k, error = estimate(noise, known, trace=trace, rank=4000, frobenius=squares)

    off = abs(kernel_norm(noise, known + small, trace=trace) - k)
    assert off <= error < estimate(noise, known, trace=trace, rank=4000)[1] / 10
    worst = known + [limit] * 4
    k, error = estimate(noise, known, trace=sum(worst), rank=6, frobenius=13.0 + 4 * limit**2)
    assert error == pytest.approx(abs(kernel_norm(noise, worst, trace=sum(worst)) - k), rel=1e-5)


@pytest.mark.parametrize("noise", KINDS)
def test_the_error_covers_eigenvalues_and_a_trace_that_are_off(noise):
    spectrum, trace, errors, sem = [3.0, 2.0, 1e-3, 1e-3], 5.002, [0.3, 0.2], 0.4
    exact = kernel_norm(noise, spectrum, trace=trace)

    for low, high in itertools.product((-1, 0, 1), (-1, 0, 1)):
        known = [value - low * error for value, error in zip(spectrum, errors, strict=False)]
        k, error = estimate(noise, known, trace=trace + high * sem, rank=4, errors=errors, sem=sem)
        assert abs(k - exact) <= error


def test_with_the_whole_spectrum_known_the_trace_alone_adds_its_standard_error_through_its_part():
    noise = Noise(lr=1e-6, momentum=0.5, p=0.3)

    error = estimate(noise, SPECTRUM, trace=sum(SPECTRUM), rank=8, sem=0.2)[1]

    assert error == pytest.approx(trace_part(noise, 0.2), rel=1e-5)


def test_without_noise_k_has_no_error():
    assert estimate(Noise(lr=0.1, momentum=0.0, p=0.0), [3.0], trace=5.0, rank=9, sem=1.0) == (0, 0)
    assert estimate(Noise(lr=0.0, momentum=0.0, p=0.5), [3.0], trace=5.0, rank=9, sem=1.0) == (0, 0)


@pytest.mark.parametrize(
    ("known", "errors", "trace"),
    [((100.0,), (0.0,), 110.0), ((6.5,), (0.5,), 8.0), ((), (), 9.0), ((math.nan,), (0.0,), 5.0), ((3.0,), (0.0,), math.nan)],
)
def test_there_is_no_error_where_nothing_bounds_k(known, errors, trace):
    assert estimate(Noise(lr=0.3, momentum=0.0, p=0.4), known, trace=trace, rank=20, errors=errors)[1] is None


# --- limits ---


@pytest.mark.parametrize("lr_times_sharpness", [2.0, 2.5, 1e200])
@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_k_is_infinite_from_the_optimizers_own_edge_on(momentum, lr_times_sharpness):
    sharpness = lr_times_sharpness * (1 + momentum) / 0.25

    assert kernel_norm(Noise(lr=0.25, momentum=momentum, p=0.1), [sharpness], trace=sharpness) == math.inf


def test_a_learning_rate_of_zero_makes_k_zero_and_has_no_threshold():
    noise = Noise(lr=0.0, momentum=0.0, p=0.5)

    assert kernel_norm(noise, SPECTRUM, trace=10.0) == 0
    assert threshold(noise) is None


def test_eigenvalues_that_rounding_made_negative_count_as_zero():
    noise = Noise(lr=0.3, momentum=0.0, p=0.4)

    assert kernel_norm(noise, [2.0, -1e-9], trace=2.0 - 1e-9) == kernel_norm(noise, [2.0], trace=2.0)


@pytest.mark.parametrize(("eigenvalues", "trace"), [((math.nan,), 1.0), ((1.0,), math.nan), ((math.nan, math.nan), math.nan)])
def test_what_could_not_be_measured_makes_k_not_a_number(eigenvalues, trace):
    assert math.isnan(kernel_norm(Noise(lr=0.3, momentum=0.0, p=0.4), eigenvalues, trace=trace))


def test_what_could_not_be_measured_makes_the_bound_not_a_number():
    assert math.isnan(necessary_bound(Noise(lr=0.3, momentum=0.0, p=0.4), trace=math.nan, frobenius=1.0, example_frobenius=1.0))


@pytest.mark.parametrize("optimizer", [NormalizedGd(), SignDescent(), Sam(), Muon(), CustomOptimizer(target="a:b")])
def test_no_noise_is_known_of_other_optimizers(optimizer):
    assert noise_kernel.noise(replace(optimizer, batch_size=4), lr=0.1, num_examples=50) is None
    assert not noise_kernel.is_known(optimizer)


@pytest.mark.parametrize("optimizer", [Adam(), AdamW(), RmsProp(), CustomOptimizer(target="a:b", beta1=0.9)])
def test_with_weight_decay_no_noise_is_known_of_adaptive_optimizers(optimizer):
    assert noise_kernel.is_known(optimizer)
    assert not noise_kernel.is_known(optimizer, weight_decay=0.1)


@pytest.mark.parametrize("noise", [Noise(0.1, 0.9, 0.5), Noise(0.1, 0.0, 0.5, weight_decay=0.1), Noise(0.1, 0.0, 0.5, shrinkage=0.1)])
def test_no_necessary_bound_is_known_with_momentum_or_decay(noise):
    assert necessary_bound(noise, trace=1.0, frobenius=1.0, example_frobenius=1.0) is None
