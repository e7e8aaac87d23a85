"""The optax chains against ten lines of NumPy, and their edges against `thresholds`."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import brentq

from runners import optimizers, spec, thresholds

CURVATURES = np.array([0.3, 2.0, 11.0])
WARMUP = spec.Warmup(peak=0.05, steps=7, start=0.01)
COSINE = spec.Cosine(peak=0.05, steps=15, warmup_steps=4, final=0.005)
PIECEWISE = spec.Piecewise(values=(0.05, 0.02, 0.04), boundaries=(5, 12))
RATES = [0.03, WARMUP, COSINE, PIECEWISE]
NOT_ADAPTIVE = [spec.Sgd, spec.HeavyBall, spec.Nesterov, spec.EmaMomentum, spec.NormalizedGd, spec.SignDescent, spec.Sam]
TABLES = [*NOT_ADAPTIVE, spec.Adam, spec.AdamW, spec.RmsProp]
NEWTON_SCHULZ = (3.4445, -4.775, 2.0315)
"""Of Jordan et al. (2024), https://github.com/KellerJordan/Muon."""


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


def rate_in_numpy(lr, step):
    match lr:
        case spec.Warmup():
            return lr.start + (lr.peak - lr.start) * min(step / lr.steps, 1)
        case spec.Cosine() if step < lr.warmup_steps:
            return lr.peak * step / lr.warmup_steps
        case spec.Cosine():
            progress = min((step - lr.warmup_steps) / (lr.steps - lr.warmup_steps), 1)
            return lr.final + (lr.peak - lr.final) * (1 + np.cos(np.pi * progress)) / 2
        case spec.Piecewise():
            return lr.values[sum(step >= boundary for boundary in lr.boundaries)]
        case _:
            return lr


def update_in_numpy(table, x, m, nu, step):
    """One update of x, with the memory m and nu, from the docstring of the spec's table."""
    g, lr = CURVATURES * x, rate_in_numpy(table.lr, step)
    match table:
        case spec.Sgd():
            return x - lr * g, m, nu
        case spec.HeavyBall(momentum=b):
            m = b * m + g
            return x - lr * m, m, nu
        case spec.Nesterov(momentum=b):
            m = b * m + g
            return x - lr * (g + b * m), m, nu
        case spec.EmaMomentum(momentum=b):
            m = b * m + (1 - b) * g
            return x - lr * m, m, nu
        case spec.Adam(beta1=b1, beta2=b2, eps=eps):
            m, nu, t = b1 * m + (1 - b1) * g, b2 * nu + (1 - b2) * g**2, step + 1
            decay = getattr(table, "decoupled_decay", 0.0)
            return x - lr * (m / (1 - b1**t)) / (np.sqrt(nu / (1 - b2**t)) + eps) - lr * decay * x, m, nu
        case spec.RmsProp(decay=b, eps=eps):
            nu = b * nu + (1 - b) * g**2
            return x - lr * g / (np.sqrt(nu) + eps), m, nu
        case spec.NormalizedGd():
            return x - lr * g / np.linalg.norm(g), m, nu
        case spec.SignDescent():
            return x - lr * np.sign(g), m, nu
        case spec.Sam(rho=rho):
            return x - lr * CURVATURES * (x + rho * g / np.linalg.norm(g)), m, nu


def path_in_numpy(table, x, steps):
    m, nu, path = np.zeros_like(x), np.zeros_like(x), []
    for step in range(steps):
        x, m, nu = update_in_numpy(table, x, m, nu, step)
        path.append(x)
    return np.array(path)


def path_in_optax(optimizer, x, *, steps, curvatures=CURVATURES):
    def gradient(params):
        return {"x": curvatures * params["x"]}

    def update(state, _):
        params, opt_state = state
        at = optimizer.perturb(params, gradient(params)) if optimizer.perturb else params
        updates, opt_state = optimizer.transformation.update(gradient(at), opt_state, params)
        params = optax.apply_updates(params, updates)
        return (params, opt_state), params["x"]

    params = {"x": jnp.asarray(x)}
    (_, opt_state), path = jax.lax.scan(update, (params, optimizer.transformation.init(params)), length=steps)
    return np.asarray(path), opt_state


@pytest.mark.parametrize("lr", RATES)
@pytest.mark.parametrize("kind", TABLES)
def test_the_chain_follows_the_rule_in_the_specs_docstring(kind, lr):
    table = kind(lr=lr)
    start = np.array([1.0, -2.0, 0.5])

    path, _ = path_in_optax(optimizers.build(table), start, steps=20)

    # 20 steps of a few roundings each; the slowest-contracting rule amplifies none of them.
    assert path == pytest.approx(path_in_numpy(table, start, 20), rel=1e-11, abs=1e-13)


def test_adamw_decays_beside_the_preconditioned_step():
    table = spec.AdamW(lr=0.03, decoupled_decay=0.7)
    start = np.array([1.0, -2.0, 0.5])

    path, _ = path_in_optax(optimizers.build(table), start, steps=20)

    assert path == pytest.approx(path_in_numpy(table, start, 20), rel=1e-11, abs=1e-13)


def orthogonalised_in_numpy(matrix):
    a, b, c = NEWTON_SCHULZ
    matrix = matrix / (np.linalg.norm(matrix) + 1e-8)
    for _ in range(5):
        gram = matrix @ matrix.T
        matrix = a * matrix + (b * gram + c * gram @ gram) @ matrix
    return matrix


@pytest.mark.parametrize("shape", [(3, 3), (3, 5), (3, 2)])
@pytest.mark.parametrize("lr", RATES)
def test_muon_orthogonalises_matrices_and_leaves_all_else_to_adam(shape, lr):
    table = spec.Muon(lr=lr, momentum=0.8)
    optimizer = optimizers.build(table)
    kernel = np.random.default_rng(0).standard_normal(shape)
    params = {"kernel": jnp.asarray(kernel), "bias": jnp.array([1.0, -2.0, 0.5])}
    alone = {"bias": params["bias"]}
    adam = optax.nadam(optimizer.lr, 0.9, 0.999, 1e-8)
    opt_state, adam_state, m = optimizer.transformation.init(params), adam.init(alone), np.zeros(shape)

    for step in range(8):
        gradients = {"kernel": CURVATURES[:, None] * params["kernel"], "bias": CURVATURES * params["bias"]}
        updates, opt_state = jax.jit(optimizer.transformation.update)(gradients, opt_state, params)
        params = optax.apply_updates(params, updates)

        g = CURVATURES[:, None] * kernel
        m = 0.8 * m + 0.2 * g
        blend = 0.8 * m / (1 - 0.8 ** (step + 2)) + 0.2 * g / (1 - 0.8 ** (step + 1))
        kernel = kernel - rate_in_numpy(lr, step) * max(1, shape[1] / shape[0]) ** 0.5 * orthogonalised_in_numpy(blend)
        updates, adam_state = adam.update({"bias": CURVATURES * alone["bias"]}, adam_state, alone)
        alone = optax.apply_updates(alone, updates)

    # Five iterations magnify a rounding in a small singular value at most by 3.4445^5 = 485, and a step by lr passes on a fraction.
    assert np.asarray(params["kernel"]) == pytest.approx(kernel, rel=1e-10, abs=1e-11)
    assert np.asarray(params["bias"]) == pytest.approx(np.asarray(alone["bias"]), rel=1e-12)


def test_sam_takes_its_gradient_a_distance_of_rho_uphill_measured_over_all_parameters():
    params = {"kernel": jnp.array([[1.0, 2.0], [3.0, 4.0]]), "bias": jnp.array([5.0])}
    gradient = {"kernel": jnp.array([[2.0, 0.0], [0.0, -4.0]]), "bias": jnp.array([4.0])}

    perturbed = optimizers.build(spec.Sam(rho=0.3)).perturb(params, gradient)

    assert np.asarray(perturbed["kernel"]) == pytest.approx(np.array([[1.1, 2.0], [3.0, 3.8]]), rel=1e-15)
    assert np.asarray(perturbed["bias"]) == pytest.approx(np.array([5.2]), rel=1e-15)


def test_without_ascent_sam_is_gradient_descent_bit_for_bit():
    start = np.array([1.0, -2.0, 0.5])

    sam, _ = path_in_optax(optimizers.build(spec.Sam(lr=COSINE, rho=0.0)), start, steps=20)
    plain, _ = path_in_optax(optimizers.build(spec.Sgd(lr=COSINE)), start, steps=20)

    assert sam.tolist() == plain.tolist()


@pytest.mark.parametrize("kind", [spec.NormalizedGd, spec.SignDescent, spec.Sam])
def test_where_the_gradient_is_zero_there_is_no_step(kind):
    path, _ = path_in_optax(optimizers.build(kind()), np.zeros(3), steps=3)

    assert path.tolist() == [[0.0] * 3] * 3


@pytest.mark.parametrize("kind", [kind for kind in TABLES if kind is not spec.Sam])
def test_the_other_optimizers_take_their_gradient_at_the_parameters(kind):
    assert optimizers.build(kind()).perturb is None


@pytest.mark.parametrize("lr", [*RATES, spec.Cosine(peak=0.05, steps=15), spec.Warmup(peak=0.05, steps=1)])
def test_the_rate_is_the_one_that_the_spec_describes(lr):
    rate = optimizers.build(spec.Sgd(lr=lr)).lr

    rates = [float(rate(step)) for step in range(25)]

    assert rates == pytest.approx([rate_in_numpy(lr, step) for step in range(25)], rel=1e-12, abs=1e-17)


@pytest.mark.parametrize("lr", RATES)
def test_the_rate_read_from_python_is_bit_for_bit_the_one_that_an_update_applies(lr):
    with jax.enable_x64(False):
        optimizer = optimizers.build(spec.Sgd(lr=lr))

        @jax.jit
        def applied(first):
            def update(opt_state, step):
                updates, opt_state = optimizer.transformation.update(jnp.float32(-1.0), opt_state, jnp.float32(0.0))
                return opt_state, (updates, optimizer.lr(step))

            return jax.lax.scan(update, optimizer.transformation.init(jnp.float32(0.0)), first + jnp.arange(40))[1]

        applied_rates, logged_rates = applied(0)
        read_rates = [float(optimizer.lr(step)) for step in range(40)]

    assert applied_rates.dtype == jnp.float32
    assert applied_rates.tolist() == logged_rates.tolist() == read_rates


@pytest.mark.parametrize("kind", [*TABLES, spec.Muon])
def test_a_state_taken_out_halfway_goes_on_as_if_never_interrupted(kind):
    optimizer = optimizers.build(kind(lr=COSINE))
    params = {"x": jnp.array([1.0, -2.0, 0.5]), "kernel": jnp.arange(6.0).reshape(2, 3)}
    update = jax.jit(optimizer.transformation.update)

    def run(params, opt_state, steps):
        for _ in range(steps):
            updates, opt_state = update({name: CURVATURES * value for name, value in params.items()}, opt_state, params)
            params = optax.apply_updates(params, updates)
        return params, opt_state

    whole, _ = run(params, optimizer.transformation.init(params), 12)
    half = run(params, optimizer.transformation.init(params), 5)
    leaves, structure = jax.tree.flatten(half)
    restored = jax.tree.unflatten(structure, [jnp.asarray(np.asarray(leaf)) for leaf in leaves])
    resumed, _ = run(*restored, 7)

    assert resumed["x"].tolist() == whole["x"].tolist()
    assert resumed["kernel"].tolist() == whole["kernel"].tolist()


@pytest.mark.parametrize("kind", [spec.Adam, spec.AdamW, spec.RmsProp])
@pytest.mark.parametrize("steps", [1, 2, 30])
def test_the_preconditioner_is_the_one_that_the_last_update_divided_by(kind, steps):
    table = kind(lr=0.03)
    optimizer = optimizers.build(table)
    start = np.array([1.0, -2.0, 0.5])
    before = np.concatenate([start[None], path_in_numpy(table, start, steps)])[:-1]
    gradients = CURVATURES * before

    path, opt_state = path_in_optax(optimizer, start, steps=steps)
    preconditioner = optimizer.preconditioner(opt_state, steps)

    decay = getattr(table, "decoupled_decay", 0.0)
    momentum = getattr(table, "beta1", 0.0)
    average = sum((1 - momentum) * momentum ** (steps - 1 - t) * gradients[t] for t in range(steps))
    expected = before[-1] - 0.03 * (average / preconditioner["x"] + decay * before[-1])
    assert optimizer.uses_preconditioner
    assert path[-1] == pytest.approx(np.asarray(expected), rel=1e-10)


@pytest.mark.parametrize("kind", [*TABLES, spec.Muon])
def test_there_is_no_preconditioner_before_the_first_update(kind):
    optimizer = optimizers.build(kind())

    assert optimizer.preconditioner(optimizer.transformation.init({"x": jnp.ones(3)}), 0) is None


@pytest.mark.parametrize("kind", [*NOT_ADAPTIVE, spec.Muon])
def test_optimizers_that_do_not_adapt_have_no_preconditioner(kind):
    optimizer = optimizers.build(kind())
    _, opt_state = path_in_optax(optimizer, np.ones(3), steps=3)

    assert not optimizer.uses_preconditioner
    assert optimizer.preconditioner(opt_state, 3) is None


def growth(table, curvatures):
    """How the largest coordinate changed over the last half of a run from 1e-60."""
    path, _ = path_in_optax(optimizers.build(table), np.full_like(curvatures, 1e-60), steps=400, curvatures=curvatures)
    return np.abs(path[-20:]).max() / np.abs(path[180:200]).max()


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("kind", [spec.Sgd, spec.HeavyBall, spec.Nesterov, spec.EmaMomentum])
def test_the_optax_chain_turns_unstable_at_the_threshold(kind, momentum):
    table = kind(lr=0.1) if kind is spec.Sgd else kind(lr=0.1, momentum=momentum)
    edge = thresholds.threshold(table, 0.1)

    assert growth(table, np.array([0.1, 0.5, 0.99]) * edge) < 1
    assert growth(table, np.array([0.1, 0.5, 1.01]) * edge) > 1


@pytest.mark.parametrize(
    "table",
    [
        spec.Adam(lr=0.1, eps=1.0),
        spec.Adam(lr=0.1, eps=1.0, beta1=0.5),
        spec.AdamW(lr=0.1, eps=1.0, decoupled_decay=2.0),
        spec.RmsProp(lr=0.1, eps=1.0),
    ],
)
def test_an_adaptive_chain_with_frozen_preconditioner_turns_unstable_at_its_preconditioned_threshold(table):
    """Gradients far below eps = 1 leave P = 1, so the preconditioned sharpness is the curvature."""
    edge = thresholds.threshold(table, 0.1)

    assert growth(table, np.array([0.1, 0.5, 0.99]) * edge) < 1
    assert growth(table, np.array([0.1, 0.5, 1.01]) * edge) > 1


@pytest.mark.parametrize("table", [spec.NormalizedGd(lr=0.1), spec.Sam(lr=0.1, rho=0.05), spec.Sam(lr=0.1, rho=3.0)])
def test_along_an_eigenvector_the_update_grows_above_the_threshold_and_shrinks_below_it(table):
    """Where the sharpness stands at the threshold of the gradient's norm the update turns x into -x: an orbit of two steps."""
    sharpness = np.array([15.0])
    optimizer = optimizers.build(table)

    def after_one_step(x):
        return path_in_optax(optimizer, np.array([x]), steps=1, curvatures=sharpness)[0].item()

    def ratio(x):
        return 15.0 / thresholds.threshold(table, 0.1, grad_norm=15.0 * x)

    at_edge = brentq(lambda x: ratio(x) - 1, 1e-6, 1e3, xtol=1e-16, rtol=1e-15)

    assert after_one_step(at_edge) == pytest.approx(-at_edge, rel=1e-12)
    assert ratio(1.01 * at_edge) < 1
    assert abs(after_one_step(1.01 * at_edge)) < 1.01 * at_edge
    assert ratio(0.99 * at_edge) > 1
    assert abs(after_one_step(0.99 * at_edge)) > 0.99 * at_edge


def test_normalised_gradient_descent_settles_where_the_ratios_of_two_steps_have_the_harmonic_mean_one():
    table = spec.NormalizedGd(lr=0.03)
    path, _ = path_in_optax(optimizers.build(table), np.array([1.0, -2.0, 0.5]), steps=2000)
    norms = np.linalg.norm(CURVATURES * path[-11:], axis=1)

    ratios = np.array([CURVATURES.max() / thresholds.threshold(table, 0.03, grad_norm=norm) for norm in norms])

    # By then the other eigenvectors have shrunk below the roundings.
    assert 1 / ratios[1:] + 1 / ratios[:-1] == pytest.approx(np.full(10, 2.0), rel=1e-12)
    assert np.mean(ratios[:10]) > 1.001


def noise_of(steps, *, table, seed=0, dim=3):
    """What is added after each of the steps to parameters at zero."""
    shake = optimizers.build(table).shake
    return np.asarray(jax.vmap(lambda step: shake({"x": jnp.zeros(dim)}, jax.random.key(seed), step)["x"])(jnp.asarray(steps)))


@pytest.mark.slow
def test_noise_is_uniform_in_a_ball_and_comes_after_every_so_many_steps():
    table, dim, count = spec.NormalizedGd(noise=0.2, noise_every=4), 3, 4000
    added = noise_of(np.arange(4 * count), table=table, dim=dim).reshape(count, 4, dim)

    points = added[:, 3] / 0.2
    shares = np.linalg.norm(points, axis=1) ** dim

    assert np.all(added[:, :3] == 0)
    assert shares.max() <= 1
    # Uniform numbers have mean 1/2 and variance 1/12, their squares mean 1/3 and variance 4/45; a coordinate has variance 1 / (dim + 2).
    assert shares.mean() == pytest.approx(1 / 2, abs=4 * (1 / 12 / count) ** 0.5)
    assert (shares**2).mean() == pytest.approx(1 / 3, abs=4 * (4 / 45 / count) ** 0.5)
    assert points.mean(axis=0) == pytest.approx(np.zeros(dim), abs=4 * (1 / (dim + 2) / count) ** 0.5)


def test_noise_depends_on_seed_and_step_alone():
    table = spec.NormalizedGd(noise=0.2, noise_every=1)

    first, again, other = (noise_of([5, 6], table=table, seed=seed) for seed in (0, 0, 1))

    assert np.array_equal(first, again)
    assert not np.any(first == other)
    assert not np.any(first[0] == first[1])


def test_without_noise_nothing_is_added():
    assert optimizers.build(spec.NormalizedGd()).shake is None
    assert optimizers.build(spec.Sgd()).shake is None
