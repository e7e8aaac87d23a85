"""Batch sharpness against all batches written out: their gradients and dense Hessians in float64."""

import functools
import itertools
from math import lgamma

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from runners.measure.batch_sharpness import Batches, Momentum, batch_sharpness, estimates, measure_batches
from runners.measure.operators import Problem
from runners.objectives import Objective
from tests.runners.measure import dense

CROSS_ENTROPY, MSE = "mlp, cross-entropy with weight decay", "mlp, mse with real targets and weight decay"
QUANTITIES = ("batch_sharpness", "ratio_of_means", "gradient_noise_interaction", "interaction_aware_sharpness")
RATIOS = ("ratio_of_means", "interaction_aware_sharpness")
SIGMAS = 4
"""Standard errors that a mean may be off: chance alone does that once in 16,000 tests."""
REPEATS = 1000
SIZE, DRAWN = 2, 8
"""Examples in a batch and batches in a measurement, where measurements are repeated."""

measure = jax.jit(measure_batches, static_argnums=0, static_argnames="with_full_hessian")
estimate = jax.jit(estimates)
sharpness = jax.jit(
    batch_sharpness, static_argnums=0, static_argnames=("batch_size", "num_batches", "with_replacement", "with_full_hessian")
)


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with dense.double_precision():
        yield


# --- the naive transcription ---


class Examples:
    """Each example's own gradient [examples, dim] and Hessian [examples, dim, dim], from which those of any batch follow."""

    def __init__(self, case):
        flat, unravel = ravel_pytree(case.params)

        def loss(w, x, y):
            losses = case.objective.example_losses(case.model.apply(unravel(w), x[None]), y[None])
            return losses[0] + case.objective.weight_decay / 2 * jnp.sum(w**2)

        each = (None, 0, 0)
        self.gradients = np.asarray(jax.jit(jax.vmap(jax.grad(loss), each))(flat, case.x, case.y))
        self.hessians = np.asarray(jax.jit(jax.vmap(jax.hessian(loss), each))(flat, case.x, case.y))

    def batch(self, batch):
        return self.gradients[list(batch)].mean(0), self.hessians[list(batch)].mean(0)

    def moments(self, batches):
        """|g_B|^2, g_B^T H_B g_B and g_B^T H g_B of each batch, and |g|^2."""
        full_gradient, full_hessian = self.batch(range(len(self.gradients)))
        found = []
        for gradient, hessian in map(self.batch, batches):
            found.append((gradient @ gradient, gradient @ hessian @ gradient, gradient @ full_hessian @ gradient))
        return (*np.array(found).T, full_gradient @ full_gradient)


def naive(moments, chances=None):
    """The four quantities over all batches, which have these chances, or the same one."""
    squares, curved, curved_fully, full_square = moments
    mean = functools.partial(np.average, weights=chances, axis=-1)
    return {
        "batch_sharpness": mean(curved / squares),
        "ratio_of_means": mean(curved) / mean(squares),
        "gradient_noise_interaction": mean(curved_fully) / full_square,
        "interaction_aware_sharpness": mean(curved_fully) / mean(squares),
    }


def naive_sems(moments, counts):
    """Their standard errors where each batch came so many times: counts [..., batches]."""
    squares, curved, curved_fully, full_square = moments
    drawn = counts.sum(axis=-1, keepdims=True)

    def error(values):
        values = np.broadcast_to(values, counts.shape)
        mean = np.sum(counts * values, axis=-1, keepdims=True) / drawn
        return np.sqrt(np.sum(counts * (values - mean) ** 2, axis=-1) / (drawn * (drawn - 1))[..., 0])

    def ratio_error(values):
        ratio = np.sum(counts * values, axis=-1) / np.sum(counts * squares, axis=-1)
        return error(values - ratio[..., None] * squares) / (np.sum(counts * squares, axis=-1) / drawn[..., 0])

    return {
        "batch_sharpness": error(curved / squares),
        "ratio_of_means": ratio_error(curved),
        "gradient_noise_interaction": error(curved_fully / full_square),
        "interaction_aware_sharpness": ratio_error(curved_fully),
    }


@functools.cache
def examples(name):
    return Examples(dense.named(name))


def subset_case(name, num_examples):
    """The first examples of a case."""
    case = dense.named(name)
    return dense.Case(case.model, case.params, case.objective, case.x[:num_examples], case.y[:num_examples])


def subsets(num_examples, size):
    return list(itertools.combinations(range(num_examples), size))


def measured(case, batches, *, chunk_size=1000, momentum=None):
    problem, indices = case.problem(chunk_size), jnp.asarray(batches)
    return measure(problem, case.params, x=case.x, y=case.y, indices=indices, with_full_hessian=True, momentum=momentum)


def drawn(
    case, *, key=0, batch_size=SIZE, num_batches=DRAWN, with_replacement=False, with_full_hessian=True, chunk_size=1000, momentum=None
):
    return sharpness(
        case.problem(chunk_size),
        case.params,
        x=case.x,
        y=case.y,
        batch_size=batch_size,
        num_batches=num_batches,
        with_replacement=with_replacement,
        with_full_hessian=with_full_hessian,
        key=jax.random.key(key),
        momentum=momentum,
    )


def values(found):
    return {name: float(getattr(found, name).value) for name in QUANTITIES}


def sems(found):
    return {name: float(getattr(found, name).sem) for name in QUANTITIES}


def size_of_hessians(name):
    """The largest |eigenvalue| that a batch's Hessian can have: rounding in a curvature is in proportion to it."""
    return np.abs(np.linalg.eigvalsh(examples(name).hessians)).max()


def close(found, wanted, *, scale):
    np.testing.assert_allclose(found, wanted, rtol=dense.ROUNDING, atol=dense.ROUNDING * scale)


# --- closed forms ---


def scaled_quadratic():
    """Five examples of losses c_i w^T A w / 2 with A indefinite: g_B = c_B A w and H_B = c_B A, c_B the mean over the batch."""
    made = dense.quadratic([5.0, 2.0, 0.5, 0.1, 0.0, -1.0, -3.0])
    factors = np.array([0.5, 1.0, 2.0, 3.0, 4.5])
    w = np.asarray(ravel_pytree(made.params)[0])
    gradient = made.matrix @ w
    return made, factors, gradient @ made.matrix @ gradient / (gradient @ gradient)


def test_a_quadratic_that_batches_only_scale_has_the_quotient_along_its_gradient_times_moments_of_the_scale():
    quadratic, factors, quotient = scaled_quadratic()
    batches = subsets(len(factors), 2)

    found = values(
        estimate(
            measure(
                quadratic.problem,
                quadratic.params,
                x=jnp.asarray(factors)[:, None],
                y=quadratic.y,
                indices=jnp.asarray(batches),
                with_full_hessian=True,
            )
        )
    )

    c, mean = np.array([factors[list(batch)].mean() for batch in batches]), factors.mean()
    assert found["batch_sharpness"] == pytest.approx(c.mean() * quotient, rel=dense.ROUNDING)
    assert found["ratio_of_means"] == pytest.approx((c**3).mean() / (c**2).mean() * quotient, rel=dense.ROUNDING)
    assert found["gradient_noise_interaction"] == pytest.approx((c**2).mean() / mean * quotient, rel=dense.ROUNDING)
    assert found["interaction_aware_sharpness"] == pytest.approx(mean * quotient, rel=dense.ROUNDING)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "chunk_size"), [(MSE, 3), (CROSS_ENTROPY, 1000)])
def test_the_full_batch_gives_the_curvature_along_the_full_gradient_four_times_without_any_error(name, chunk_size):
    case = dense.named(name)
    gradient, hessian = examples(name).batch(range(7))

    found = drawn(case, batch_size=7, chunk_size=chunk_size)

    for quantity in values(found).values():
        close(quantity, gradient @ hessian @ gradient / (gradient @ gradient), scale=size_of_hessians(name))
    assert set(sems(found).values()) == {0.0}
    assert int(found.num_undefined) == 0


def linear(params, x):
    return x @ params["kernel"]


def linear_regression():
    """A linear model with one output on six examples: example i has the gradient z_i x_i and the Hessian x_i x_i^T."""
    rng = np.random.default_rng(0)
    x, y = jnp.asarray(rng.standard_normal((6, 4))), jnp.asarray(rng.standard_normal((6, 1)))
    return Problem(linear, Objective("mse"), 1000), {"kernel": jnp.asarray(rng.standard_normal((4, 1)))}, x, y


def in_single_precision(problem, *arrays):
    return problem, *(jax.tree.map(lambda leaf: leaf.astype(jnp.float32), part) for part in arrays)


def test_single_examples_of_a_linear_model_with_one_output_have_their_squared_inputs_as_curvatures():
    problem, params, x, y = linear_regression()

    batches = measure(problem, params, x=x, y=y, indices=jnp.arange(6)[:, None], with_full_hessian=False)

    norms = np.sum(np.asarray(x) ** 2, axis=1)
    close(batches.curvatures, norms, scale=0)
    assert float(estimate(batches).batch_sharpness.value) == pytest.approx(norms.mean(), rel=dense.ROUNDING)


# --- all batches enumerated ---


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), [(MSE, 3), (CROSS_ENTROPY, 3), (CROSS_ENTROPY, 1)])
def test_over_all_batches_the_quantities_and_their_errors_are_those_of_the_dense_hessians(name, size):
    batches, scale = subsets(7, size), size_of_hessians(name)
    moments = examples(name).moments(batches)

    found = estimate(measured(dense.named(name), batches))

    wanted, errors = naive(moments), naive_sems(moments, np.ones(len(batches)))
    amplification = np.mean(moments[0]) / moments[3]
    for quantity in QUANTITIES:
        by_full_gradient = amplification if quantity == "gradient_noise_interaction" else 1
        close(values(found)[quantity], wanted[quantity], scale=scale * by_full_gradient)
        close(sems(found)[quantity], errors[quantity], scale=scale * by_full_gradient)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "with_replacement"), [(4, False), (3, True)])
def test_random_batches_give_the_means_over_all_batches(size, with_replacement):
    case = subset_case(CROSS_ENTROPY, 5)
    every = list(itertools.product(range(5), repeat=size)) if with_replacement else subsets(5, size)
    wanted = naive(Examples(case).moments(every))

    # The bias of a ratio is of the order of its squared error and lies far within it at this number of batches.
    found = drawn(case, batch_size=size, num_batches=1000, with_replacement=with_replacement)

    for quantity in QUANTITIES:
        assert abs(values(found)[quantity] - wanted[quantity]) < SIGMAS * sems(found)[quantity]
        assert sems(found)[quantity] > 0


# --- momentum ---


def along_updates(batches, velocity, present):
    """s_B^T g_B and s_B^T H_B s_B of each batch, by the dense Hessians."""
    found = []
    for gradient, hessian in map(examples(MSE).batch, batches):
        step = velocity + present * gradient
        found.append((step @ gradient, step @ hessian @ step))
    return np.array(found).T


def buffer_like(params, scale):
    flat, unravel = ravel_pytree(params)
    return unravel(scale * jnp.asarray(np.random.default_rng(0).standard_normal(flat.shape)))


@pytest.fixture(scope="module")
def slopes_and_curvatures():
    """Of all batches of three of seven examples: what is measured and what is true, with a velocity that takes some uphill."""
    case, batches = dense.named(MSE), subsets(7, 3)
    momentum = Momentum(buffer_like(case.params, -2.0), past=0.9, present=0.7)
    found = measured(case, batches, momentum=momentum)
    return found, along_updates(batches, 0.9 * np.asarray(ravel_pytree(momentum.buffer)[0]), 0.7)


def test_over_all_batches_momentum_batch_sharpness_and_its_error_are_those_of_the_dense_hessians(slopes_and_curvatures):
    found, (slopes, curved) = slopes_and_curvatures

    sharpness = estimate(found).momentum_batch_sharpness

    count, ratio = len(slopes), curved.mean() / slopes.mean()
    error = np.std(curved - ratio * slopes, ddof=1) / count**0.5 / abs(slopes.mean())
    assert slopes.min() < 0 < slopes.max(), "a mean of ratios means nothing here"
    close(found.step_slopes, slopes, scale=abs(slopes).max())
    close(found.step_curvatures, curved, scale=abs(curved).max())
    assert float(sharpness.value) == pytest.approx(ratio, rel=dense.ROUNDING * abs(slopes).max() / abs(slopes.mean()))
    assert float(sharpness.sem) == pytest.approx(error, rel=dense.ROUNDING * abs(slopes).max() / abs(slopes.mean()))


def test_random_batches_give_the_momentum_batch_sharpness_of_all_batches(slopes_and_curvatures):
    case, (slopes, curved) = dense.named(MSE), slopes_and_curvatures[1]
    momentum = Momentum(buffer_like(case.params, -2.0), past=0.9, present=0.7)

    found = drawn(case, batch_size=3, num_batches=1000, with_full_hessian=False, momentum=momentum).momentum_batch_sharpness

    assert 0 < abs(float(found.value) - curved.mean() / slopes.mean()) < SIGMAS * float(found.sem)


@pytest.mark.parametrize(("scale", "past"), [(-2.0, 0.0), (0.0, 0.9)])
def test_without_momentum_or_velocity_momentum_batch_sharpness_is_the_plain_ratio_of_means(scale, past):
    case = dense.named(MSE)

    found = drawn(case, batch_size=3, with_full_hessian=False, momentum=Momentum(buffer_like(case.params, scale), past, 1.0))

    assert float(found.momentum_batch_sharpness.value) == pytest.approx(float(found.ratio_of_means.value), rel=dense.ROUNDING)
    assert float(found.momentum_batch_sharpness.sem) == pytest.approx(float(found.ratio_of_means.sem), rel=dense.ROUNDING)


# --- standard errors ---


def compositions(total, parts):
    """Every way of writing the total as so many counts: [ways, parts]."""
    bars = np.array(list(itertools.combinations(range(total + parts - 1), parts - 1)))
    edges = np.concatenate([np.full((len(bars), 1), -1), bars, np.full((len(bars), 1), total + parts - 1)], axis=1)
    return np.diff(edges, axis=1) - 1


def law(moments, num_batches):
    """Every outcome of so many draws from equally likely batches: its chance, its values, its reported errors."""
    kinds = len(moments[0])
    counts = compositions(num_batches, kinds)
    factorials = np.array([lgamma(k + 1) for k in range(num_batches + 1)])
    chances = np.exp(factorials[num_batches] - factorials[counts].sum(axis=1) - num_batches * np.log(kinds))
    outcomes = naive((*(np.broadcast_to(m, counts.shape) for m in moments[:3]), moments[3]), counts)
    return chances, outcomes, naive_sems(moments, counts)


def moments_of(numbers, chances):
    """Mean and variance."""
    mean = np.sum(chances * numbers)
    return mean, np.sum(chances * (numbers - mean) ** 2)


@functools.cache
def few():
    """Four examples, which make six batches of two."""
    case = subset_case(CROSS_ENTROPY, 4)
    return case, Examples(case).moments(subsets(4, SIZE))


@functools.cache
def fewer():
    """The moments of three batches, of which even many have a law that can be written out."""
    return Examples(subset_case(CROSS_ENTROPY, 3)).moments(subsets(3, SIZE))


@functools.cache
def repeated():
    """Values and standard errors of measurements with independent keys: [repeats] for each quantity."""
    case, _ = few()
    found = jax.jit(lambda keys: jax.lax.map(functools.partial(drawn_with, case), keys))(jax.random.split(jax.random.key(1), REPEATS))
    return tuple({name: np.asarray(getattr(getattr(found, name), part)) for name in QUANTITIES} for part in ("value", "sem"))


def drawn_with(case, key):
    return sharpness(
        case.problem(),
        case.params,
        x=case.x,
        y=case.y,
        batch_size=SIZE,
        num_batches=DRAWN,
        with_replacement=False,
        with_full_hessian=True,
        key=key,
    )


@pytest.mark.slow
@pytest.mark.parametrize("quantity", QUANTITIES)
def test_measurements_with_many_keys_have_the_mean_the_scatter_and_the_reported_error_of_their_law(quantity):
    chances, outcomes, errors = law(few()[1], DRAWN)
    found, reported = (part[quantity] for part in repeated())

    mean, variance = moments_of(outcomes[quantity], chances)
    for numbers, theory in ((found, mean), ((found - mean) ** 2, variance), (reported**2, np.sum(chances * errors[quantity] ** 2))):
        assert abs(numbers.mean() - theory) < SIGMAS * np.std(numbers, ddof=1) / REPEATS**0.5


@pytest.mark.parametrize("quantity", sorted(set(QUANTITIES) - set(RATIOS)))
def test_the_squared_error_that_a_mean_reports_is_its_variance_on_average(quantity):
    chances, outcomes, errors = law(few()[1], DRAWN)

    _, variance = moments_of(outcomes[quantity], chances)

    assert np.sum(chances * errors[quantity] ** 2) == pytest.approx(variance, rel=dense.ROUNDING)


@pytest.mark.parametrize("quantity", RATIOS)
def test_the_squared_error_that_a_ratio_reports_is_its_variance_up_to_a_share_of_the_order_of_one_over_the_batches(quantity):
    limits = []
    for num_batches in (8, 32, 128):
        chances, outcomes, errors = law(fewer(), num_batches)
        reported = np.sum(chances * errors[quantity] ** 2)
        limits.append(num_batches * (reported / moments_of(outcomes[quantity], chances)[1] - 1))

    # With the share c / m + d / m^2 + ..., m times it comes four times nearer to c at four times m; half leaves room for the rest.
    assert abs(limits[2] - limits[1]) < abs(limits[1] - limits[0]) / 2


@pytest.mark.parametrize("quantity", RATIOS)
def test_the_bias_of_a_ratio_is_the_one_of_first_order_up_to_terms_of_the_second(quantity):
    num_batches = 64
    squares, curved, curved_fully, _ = fewer()
    numerators = curved if quantity == "ratio_of_means" else curved_fully
    ratio = numerators.mean() / squares.mean()
    chances, outcomes, _ = law(fewer(), num_batches)

    bias = moments_of(outcomes[quantity], chances)[0] - ratio

    # r - R = e / (1 + d) = e - e d + e d^2 - e d^3 + ..., with e and d the means over the batches of
    e, d = (numerators - ratio * squares) / squares.mean(), squares / squares.mean() - 1
    first, second = -np.mean(e * d) / num_batches, (np.mean(e * d**2) - 3 * np.mean(e * d) * np.mean(d**2)) / num_batches**2
    assert abs(bias - first - second) < abs(second)


# --- relations ---


@pytest.mark.parametrize("name", [MSE, CROSS_ENTROPY])
def test_no_batch_has_a_curvature_outside_its_spectrum_nor_batch_sharpness_above_the_largest(name):
    batches, rounding = subsets(7, 3), dense.ROUNDING * size_of_hessians(name)
    spectra = np.linalg.eigvalsh([examples(name).batch(batch)[1] for batch in batches])
    full_spectrum = np.linalg.eigvalsh(examples(name).batch(range(7))[1])

    found = measured(dense.named(name), batches)

    assert np.all(spectra[:, 0] - rounding <= found.curvatures)
    assert np.all(found.curvatures <= spectra[:, -1] + rounding)
    assert np.all(full_spectrum[0] - rounding <= found.full_curvatures)
    assert np.all(found.full_curvatures <= full_spectrum[-1] + rounding)
    assert values(estimate(found))["batch_sharpness"] <= spectra[:, -1].mean() + rounding


def test_the_two_quantities_with_the_full_hessian_differ_by_the_ratio_of_the_squared_gradients():
    batches = measured(dense.named(MSE), subsets(7, 3))

    found = values(estimate(batches))

    ratio = float(jnp.mean(batches.squares) / batches.full_square)
    assert found["gradient_noise_interaction"] == pytest.approx(ratio * found["interaction_aware_sharpness"], rel=dense.ROUNDING)


# --- invariants ---


def test_the_size_of_the_chunks_does_not_show():
    case = dense.named(CROSS_ENTROPY)
    momentum = Momentum(case.params, past=0.9, present=1.0)

    one, other = (measured(case, subsets(7, 3), chunk_size=size, momentum=momentum) for size in (2, 1000))

    for part, same in zip(one, other, strict=True):
        close(part, same, scale=size_of_hessians(CROSS_ENTROPY))


def test_the_order_of_the_batches_and_of_the_examples_in_them_does_not_show():
    case, batches = dense.named(CROSS_ENTROPY), np.array(subsets(7, 3))
    shuffled = np.random.default_rng(0).permutation(batches)[:, ::-1]

    one, other = (estimate(measured(case, order)) for order in (batches, shuffled))

    close([*values(one).values()], [*values(other).values()], scale=size_of_hessians(CROSS_ENTROPY))
    close([*sems(one).values()], [*sems(other).values()], scale=size_of_hessians(CROSS_ENTROPY))


@pytest.mark.slow
def test_all_quantities_and_errors_scale_with_the_loss():
    case, factor = dense.named(MSE), 3.0
    scaled = dense.Case(case.model, case.params, dense.Scaled(case.objective, factor), case.x, case.y)

    one, other = (drawn(each) for each in (case, scaled))

    scale = factor * size_of_hessians(MSE)
    close([*values(other).values()], factor * np.array([*values(one).values()]), scale=scale)
    close([*sems(other).values()], factor * np.array([*sems(one).values()]), scale=scale)


def test_without_the_full_hessian_the_other_two_quantities_are_the_same():
    case = dense.named(MSE)

    one, other = (drawn(case, with_full_hessian=wanted) for wanted in (True, False))

    assert (other.gradient_noise_interaction, other.interaction_aware_sharpness) == (None, None)
    close(other[:2], one[:2], scale=size_of_hessians(MSE))


def test_the_key_decides_the_batches():
    case = dense.named(MSE)

    one, again, other = (values(drawn(case, key=key)) for key in (1, 1, 2))

    assert one == again
    assert one != other


# --- batches without a gradient ---


def half_fitted():
    """A linear regression of which the model fits the examples 0, 1 and 2 exactly."""
    problem, params, x, y = linear_regression()
    x = jnp.round(4 * x)
    params = jax.tree.map(jnp.round, params)
    return problem, params, x, y.at[:3].set(problem.apply(params, x)[:3])


def test_a_batch_without_a_gradient_is_left_out_of_batch_sharpness_and_counted():
    problem, params, x, y = half_fitted()
    batches = jnp.array([[0, 1], [3, 0], [4, 5], [1, 2]])

    found = measure(problem, params, x=x, y=y, indices=batches, with_full_hessian=True)
    all_four, two = estimate(found), estimate(Batches(*(part[1:3] for part in found[:4]), found.full_square))

    assert found.are_defined.tolist() == [False, True, True, False]
    assert int(all_four.num_undefined) == 2
    close(all_four.batch_sharpness, two.batch_sharpness, scale=0)
    assert np.all(np.isfinite([*values(all_four).values(), *sems(all_four).values()]))


def test_a_batch_without_a_gradient_counts_as_zero_in_the_means_of_the_ratios():
    problem, params, x, y = half_fitted()
    batches = jnp.array([[0, 1], [3, 0], [4, 5], [1, 2]])

    found = measure(problem, params, x=x, y=y, indices=batches, with_full_hessian=True)
    all_four, two = values(estimate(found)), values(estimate(Batches(*(part[1:3] for part in found[:4]), found.full_square)))

    for name in RATIOS:
        assert all_four[name] == pytest.approx(two[name], rel=dense.ROUNDING)
    assert all_four["gradient_noise_interaction"] == pytest.approx(two["gradient_noise_interaction"] / 2, rel=dense.ROUNDING)


def test_where_no_batch_has_a_gradient_there_is_no_value_and_the_count_tells():
    problem, params, x, y = half_fitted()

    found = estimate(measure(problem, params, x=x, y=y, indices=jnp.array([[0, 1], [1, 2], [0, 2], [0, 0]]), with_full_hessian=True))

    assert int(found.num_undefined) == 4
    assert np.isnan([*found.batch_sharpness, *found.ratio_of_means, *found.interaction_aware_sharpness]).all()
    assert values(found)["gradient_noise_interaction"] == 0


def test_a_gradient_whose_square_underflows_still_has_its_curvature():
    problem, params, x, y = in_single_precision(*linear_regression())
    params = jax.tree.map(lambda leaf: 1e-25 * leaf, params)

    found = measure(problem, params, x=x, y=1e-25 * y, indices=jnp.arange(6)[:, None], with_full_hessian=True)

    assert not np.any(found.squares)
    np.testing.assert_allclose(found.curvatures, np.sum(np.asarray(x) ** 2, axis=1), rtol=1000 * np.finfo(np.float32).eps)
    assert np.all(found.are_defined)


def test_a_gradient_that_is_not_finite_shows():
    problem, params, x, y = linear_regression()

    found = estimate(measure(problem, params, x=x, y=y.at[2].set(jnp.nan), indices=jnp.arange(6)[:, None], with_full_hessian=False))

    assert int(found.num_undefined) == 0
    assert np.isnan(found.batch_sharpness.value)


# --- precision, arguments ---


def test_a_float32_problem_stays_float32():
    problem, params, x, y = in_single_precision(*linear_regression())

    found = estimate(measure(problem, params, x=x, y=y, indices=jnp.arange(6)[:, None], with_full_hessian=True))

    assert {part.dtype for quantity in found[:4] for part in quantity} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_batches": 1}, r"num_batches = 1: expected at least 2"),
        ({"batch_size": 0}, r"batch_size = 0: expected 1 to 7"),
        ({"batch_size": 8}, r"batch_size = 8: expected 1 to 7"),
    ],
)
def test_too_few_batches_and_batches_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        drawn(dense.named(MSE), **arguments)
