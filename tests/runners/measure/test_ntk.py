import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy import stats

from runners import models, spec
from runners.measure import example_gradients, ntk
from runners.measure.eigenvalues import Accuracy
from runners.measure.noise_kernel import Noise, kernel_norm, kernel_norm_error
from runners.measure.ntk import EXACT_ENTRIES, EXACT_OUTPUTS, GROUP, GROUPED_OUTPUTS, PROBED_ENTRIES, NtkMeter
from runners.objectives import Objective
from tests.runners.measure import dense

TIGHT = Accuracy(tolerance=1e-10, max_products=300)
CROSS_ENTROPY, MSE = "mlp, cross-entropy with weight decay", "mlp, mse with real targets and weight decay"
GROUPED = [(CROSS_ENTROPY, 3), ("cnn with average pooling, mse with labels", 2), (MSE, 7)]
"""Problems of 7 examples with the size of their groups: two that do not divide 7, and all in one, whose probes run one at a
time."""
PROBES = 8
REPEATS = 400
SIGMAS = 4
"""Standard errors that a mean may be off: chance alone does that once in 16,000 tests."""


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with dense.double_precision():
        yield


def made(case, *, method, num_eigenvalues=0, with_norms=False, chunk_size=1000, preconditioned=False):
    return NtkMeter(
        case.problem(chunk_size),
        case.params,
        x=case.x,
        method=method,
        num_probes=PROBES,
        num_eigenvalues=num_eigenvalues,
        accuracy=TIGHT,
        with_norms=with_norms,
        preconditioned=preconditioned,
    )


@pytest.fixture(params=[CROSS_ENTROPY, MSE])
def exact(request):
    return measured_exactly(request.param)


@functools.cache
def measured_exactly(name):
    """A problem with the exact measurements of it."""
    case = dense.named(name)
    return case, repeated(made(case, method="exact", num_eigenvalues=2, with_norms=True), case)


@pytest.fixture(scope="module")
def per_example():
    """A problem with the measurements of it from probes that each example has of its own."""
    case = dense.named(CROSS_ENTROPY)
    return case, repeated(made(case, method="hutchinson", with_norms=True), case)


@pytest.fixture(params=GROUPED)
def grouped(request):
    return measured_in_groups(*request.param)


@functools.cache
def measured_in_groups(name, size):
    """A problem, the size of its groups, and the measurements of it from probes that the examples of a group share."""
    case = dense.named(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(example_gradients, "by_layer", lambda *_: None)
        patch.setattr(ntk, "GROUP", size)
        patch.setattr(ntk, "GROUPED_OUTPUTS", 1)
        if size == len(case.x):
            patch.setattr(ntk, "GRADIENT_BYTES", 1)
        meter = made(case, method="hutchinson")
    return case, size, repeated(meter, case)


def repeated(meter, case, preconditioner=None, *, times=REPEATS):
    """Measurements with independent keys."""
    start, found = meter.start, []
    for key in jax.random.split(jax.random.key(0), times):
        result, start = meter.measure(case.params, start, key, preconditioner)
        found.append(result)
    return found


def traces(measurements):
    return np.array([found.trace for found in measurements])


def sems(measurements):
    return np.array([found.sem for found in measurements])


def standard_error(values):
    return np.std(values, ddof=1) / len(values) ** 0.5


def probe_variance(matrices):
    """Variance of v^T M v for independent random signs v, of each matrix M."""
    return 2 * (np.sum(matrices**2, axis=(-2, -1)) - np.sum(np.diagonal(matrices, axis1=-2, axis2=-1) ** 2, axis=-1))


# --- exact ---


def test_the_exact_trace_is_that_of_the_explicit_jacobian(exact):
    case, (found, *_) = exact

    assert found.trace == pytest.approx(np.trace(case.gauss_newton), rel=dense.ROUNDING)
    assert found.trace == pytest.approx(np.mean(np.trace(case.grams, axis1=1, axis2=2)), rel=dense.ROUNDING)
    assert (found.method, found.sem, found.num_probes) == ("exact, by layer", None, 0)


def test_the_eigenvalues_are_the_largest_of_the_gauss_newton_matrix_and_of_the_ntk(exact):
    case, (found, *_) = exact

    np.testing.assert_allclose(found.eigenvalues, np.linalg.eigvalsh(case.gauss_newton)[:-3:-1], rtol=TIGHT.tolerance)
    np.testing.assert_allclose(found.eigenvalues, np.linalg.eigvalsh(case.ntk())[:-3:-1], rtol=TIGHT.tolerance)


def test_the_mean_norm_of_the_examples_matrices_is_exact_where_the_trace_is(exact):
    case, (found, *_) = exact

    assert found.norms.examples == pytest.approx(np.mean(np.sum(case.grams**2, axis=(1, 2))), rel=dense.ROUNDING)


def test_the_norm_of_the_whole_matrix_is_right_on_average(exact):
    case, measurements = exact

    norms = np.array([found.norms.frobenius for found in measurements])

    assert abs(norms.mean() - np.sum(case.gauss_newton**2)) < SIGMAS * standard_error(norms)
    assert standard_error(norms) > 0
    reported, deviations = np.array([found.norms.frobenius_sem for found in measurements]) ** 2, (norms - norms.mean()) ** 2
    assert abs(reported.mean() - deviations.mean()) < SIGMAS * np.hypot(standard_error(reported), standard_error(deviations))


def test_the_noise_kernel_of_the_whole_spectrum_lies_within_the_error_of_the_measured_one(exact):
    case, (found, *_) = exact
    spectrum = np.linalg.eigvalsh(case.gauss_newton)[::-1].tolist()
    noise = Noise(lr=1 / spectrum[0], momentum=0.0, p=0.3)

    k = kernel_norm(noise, found.eigenvalues, trace=found.trace)
    measured = {"trace": found.trace, "errors": found.errors, "sem": 0.0, "rank": len(spectrum)}
    error = kernel_norm_error(noise, found.eigenvalues, **measured)
    closer = kernel_norm_error(noise, found.eigenvalues, **measured, frobenius=found.norms.frobenius + found.norms.frobenius_sem)

    assert 0 < abs(kernel_norm(noise, spectrum, trace=sum(spectrum)) - k) <= closer <= error


def test_a_linear_model_has_as_trace_the_mean_squared_input_times_its_outputs():
    x = jnp.asarray(np.random.default_rng(0).integers(0, 17, (300, 20)), jnp.float32)

    with jax.enable_x64(False):
        model = models.build(spec.Linear(), input_shape=(20,), num_outputs=3, seed=0, dtype="float32")
        case = dense.Case(model=model, params=model.params, objective=Objective("mse"), x=x, y=None)
        meter = made(case, method="exact")
        found, _ = meter.measure(model.params, meter.start, jax.random.key(0))

    assert found.trace == pytest.approx(3 * np.mean(np.sum(np.asarray(x, float) ** 2, axis=1)), rel=1e-5)


# --- probes that each example has of its own ---


@pytest.mark.slow
def test_examples_own_probes_give_the_trace_on_average(per_example):
    case, measurements = per_example

    found = traces(measurements)

    assert measurements[0].method == "hutchinson per example, by layer"
    assert abs(found.mean() - np.trace(case.gauss_newton)) < SIGMAS * standard_error(found)


def test_the_standard_error_of_examples_own_probes_is_that_of_theory(per_example):
    case, measurements = per_example

    theory = np.sum(probe_variance(case.grams)) / PROBES / len(case.x) ** 2

    agrees_with(theory, measurements)


def test_the_true_trace_lies_within_two_standard_errors_as_often_as_it_should_with_examples_own_probes(per_example):
    case, measurements = per_example

    covers(np.trace(case.gauss_newton), measurements, freedom=len(case.x) * (PROBES - 1))


def test_examples_own_probes_give_the_mean_norm_of_their_matrices_on_average(per_example):
    case, measurements = per_example

    norms = np.array([found.norms.examples for found in measurements])

    assert abs(norms.mean() - np.mean(np.sum(case.grams**2, axis=(1, 2)))) < SIGMAS * standard_error(norms)


# --- probes that the examples of a group share ---


def group_variances(case, size):
    """Variance of each group's part of the trace, from one probe."""
    matrix = case.ntk()
    length = len(matrix) // len(case.x) * size
    return [probe_variance(matrix[i : i + length, i : i + length]) for i in range(0, len(matrix), length)]


@pytest.mark.slow
def test_probes_of_groups_give_the_trace_on_average(grouped):
    case, size, measurements = grouped

    found = traces(measurements)

    assert (measurements[0].method, measurements[0].norms) == (f"hutchinson in groups of {size}", None)
    assert abs(found.mean() - np.trace(case.gauss_newton)) < SIGMAS * standard_error(found)


def test_the_standard_error_of_probes_of_groups_is_that_of_theory(grouped):
    case, size, measurements = grouped

    agrees_with(sum(group_variances(case, size)) / PROBES, measurements)


def test_the_true_trace_lies_within_two_standard_errors_as_often_as_it_should_with_probes_of_groups(grouped):
    case, size, measurements = grouped

    # Welch and Satterthwaite's degrees of freedom of a sum of variances.
    variances = np.array(group_variances(case, size))
    covers(np.trace(case.gauss_newton), measurements, freedom=(PROBES - 1) * sum(variances) ** 2 / sum(variances**2))


def agrees_with(variance, measurements):
    """Both the squared error that is reported, on average, and the scatter of the traces are this variance."""
    reported = sems(measurements) ** 2
    deviations = (traces(measurements) - traces(measurements).mean()) ** 2 * REPEATS / (REPEATS - 1)
    for estimates in (reported, deviations):
        assert abs(estimates.mean() - variance) < SIGMAS * standard_error(estimates)


def covers(trace, measurements, *, freedom):
    """The share of measurements within two standard errors is that of Student's distribution."""
    hits = np.mean(abs(traces(measurements) - trace) <= 2 * sems(measurements))
    share = 1 - 2 * stats.t.sf(2, freedom)
    assert abs(hits - share) < SIGMAS * (share * (1 - share) / REPEATS) ** 0.5


# --- with a preconditioner ---


@functools.cache
def preconditioned(method, size=None):
    """Measurements with a diagonal P, and the matrix P^-1/2 G P^-1/2 and the rows S^T J P^-1/2 written out."""
    case = dense.named(CROSS_ENTROPY)
    flat, unravel = ravel_pytree(case.params)
    diagonal = 10 ** np.random.default_rng(0).uniform(-2, 2, flat.size)
    with pytest.MonkeyPatch.context() as patch:
        if size:
            patch.setattr(example_gradients, "by_layer", lambda *_: None)
            patch.setattr(ntk, "GROUP", size)
            patch.setattr(ntk, "GROUPED_OUTPUTS", 1)
        is_exact = method == "exact"
        meter = made(case, method=method, num_eigenvalues=2 * is_exact, with_norms=is_exact, preconditioned=True)
    measurements = repeated(meter, case, unravel(jnp.asarray(diagonal)), times=40 if is_exact else REPEATS)
    return measurements, case.gauss_newton / np.sqrt(np.outer(diagonal, diagonal)), case.jacobian / np.sqrt(diagonal)


def test_with_a_preconditioner_everything_is_that_of_the_scaled_matrix():
    measurements, matrix, jacobian = preconditioned("exact")
    found = measurements[0]

    assert (found.method, found.sem) == ("exact, by layer", None)
    assert found.trace == pytest.approx(np.trace(matrix), rel=dense.ROUNDING)
    np.testing.assert_allclose(found.eigenvalues, np.linalg.eigvalsh(matrix)[:-3:-1], rtol=TIGHT.tolerance)
    grams = np.einsum("ncd,nkd->nck", jacobian, jacobian)
    assert found.norms.examples == pytest.approx(np.mean(np.sum(grams**2, axis=(1, 2))), rel=dense.ROUNDING)
    norms = np.array([found.norms.frobenius for found in measurements])
    assert abs(norms.mean() - np.sum(matrix**2)) < SIGMAS * standard_error(norms)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "method"), [(None, "hutchinson per example, by layer"), (3, "hutchinson in groups of 3")])
def test_with_a_preconditioner_probes_give_the_trace_of_the_scaled_matrix_on_average(size, method):
    measurements, matrix, jacobian = preconditioned("hutchinson", size)

    found = traces(measurements)

    assert measurements[0].method == method
    assert abs(found.mean() - np.trace(matrix)) < SIGMAS * standard_error(found)
    rows = [jacobian[i : i + (size or 1)].reshape(-1, matrix.shape[0]) for i in range(0, len(jacobian), size or 1)]
    agrees_with(sum(probe_variance(part @ part.T) for part in rows) / PROBES / len(jacobian) ** 2, measurements)


# --- the method ---


def chosen(asked="auto", *, num_examples, num_params, outputs=10, num_probes=4, chunk_size=10**6, with_norms=False, by_layer=False):
    sizes = {"chunk_size": chunk_size, "num_examples": num_examples, "num_params": num_params, "outputs": outputs, "num_probes": num_probes}
    return str(ntk.choose_method(asked, **sizes, with_norms=with_norms, by_layer=by_layer))


def test_the_trace_is_exact_where_that_costs_little():
    most = EXACT_ENTRIES // 10 // 10_000

    assert chosen(num_examples=10_000, num_params=most) == "exact"
    assert chosen(num_examples=10_000, num_params=most + 1) == f"hutchinson in groups of {GROUP}"


def test_the_trace_is_exact_where_it_takes_no_more_gradients_than_probes():
    few = 3 * GROUPED_OUTPUTS

    assert chosen(num_examples=few, num_params=10**9, outputs=1, num_probes=3) == "exact"
    assert chosen(num_examples=few, num_params=10**9, outputs=1, num_probes=2) == "hutchinson in groups of 3"


def test_the_trace_is_exact_by_layer_up_to_some_tens_of_outputs():
    large = {"num_examples": 10_000, "num_params": 10**9, "by_layer": True}

    assert chosen(outputs=EXACT_OUTPUTS, **large) == "exact, by layer"
    assert chosen(outputs=EXACT_OUTPUTS + 1, **large) == "hutchinson per example, by layer"


def test_few_examples_form_smaller_groups():
    assert chosen(num_examples=GROUPED_OUTPUTS // 10 * 6, num_params=10**9) == "hutchinson in groups of 5"
    assert chosen(num_examples=2, num_params=10**9) == "hutchinson per example"


def test_a_group_has_no_more_examples_than_a_chunk():
    assert chosen(num_examples=1000, num_params=10**9, chunk_size=7) == "hutchinson in groups of 7"


def test_examples_have_their_own_probes_where_their_norms_are_wanted_and_that_is_affordable():
    most = PROBED_ENTRIES // 4 // 10_000

    assert chosen(num_examples=10_000, num_params=most, with_norms=True) == "hutchinson per example"
    assert chosen(num_examples=10_000, num_params=most + 1, with_norms=True) == f"hutchinson in groups of {GROUP}"
    assert chosen(num_examples=10_000, num_params=most, outputs=4, with_norms=True) == "exact"


def test_a_method_that_is_asked_for_is_taken_whatever_it_costs():
    assert chosen("exact", num_examples=10**6, num_params=10**9) == "exact"
    assert chosen("hutchinson", num_examples=10_000, num_params=1) == f"hutchinson in groups of {GROUP}"


# --- invariants ---


def test_the_size_of_the_chunks_does_not_show():
    case = dense.named(CROSS_ENTROPY)
    meters = [made(case, method="exact", with_norms=True, chunk_size=size) for size in (3, 1000)]

    one, other = (meter.measure(case.params, meter.start, jax.random.key(3))[0] for meter in meters)

    assert one.trace == pytest.approx(other.trace, rel=dense.ROUNDING)
    assert one.norms.frobenius == pytest.approx(other.norms.frobenius, rel=dense.ROUNDING)
    assert one.norms.examples == pytest.approx(other.norms.examples, rel=dense.ROUNDING)
