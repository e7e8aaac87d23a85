import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from runners import models, spec
from runners.measure import operators
from runners.measure.operators import Problem
from runners.objectives import Objective
from runners.programs import Program
from tests.runners.measure import dense

SMOOTH, POOLED = "mlp, cross-entropy with weight decay", "cnn with max pooling, cross-entropy"


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with dense.double_precision():
        yield


def both(problem, params, x, y):
    """Loss, H and G, column by column."""
    unit = jnp.eye(ravel_pytree(params)[0].size)
    loss, hessian = operators.hessian(problem, params, x=x, y=y)
    gauss_newton = operators.gauss_newton(problem, params, x=x)
    return loss, jax.vmap(hessian)(unit), jax.vmap(gauss_newton)(unit)


@functools.cache
def program(problem):
    return jax.jit(functools.partial(both, problem))


def matrices(case, chunk_size=1000, *, order=range(7)):
    found = program(case.problem(chunk_size))(case.params, case.x[np.asarray(order)], case.y[np.asarray(order)])
    return tuple(map(np.asarray, found))


def close(found, wanted, *, rounding=dense.ROUNDING):
    np.testing.assert_allclose(found, wanted, rtol=0, atol=rounding * np.linalg.norm(wanted))


# --- against dense matrices ---


@pytest.mark.parametrize("name", dense.NAMES)
def test_the_hessian_product_is_that_of_the_dense_hessian(name):
    case = dense.named(name)

    _, hessian, _ = matrices(case)

    close(hessian, case.hessian)


@pytest.mark.parametrize("name", dense.NAMES)
def test_the_gauss_newton_product_is_that_of_the_explicit_jacobian_without_weight_decay(name):
    case = dense.named(name)

    _, _, gauss_newton = matrices(case)

    close(gauss_newton, case.gauss_newton)


def test_the_loss_that_comes_with_the_hessian_is_the_objectives():
    case = dense.named(SMOOTH)

    losses = [matrices(case, size)[0] for size in (3, 1000)]

    np.testing.assert_allclose(losses, case.loss, rtol=dense.ROUNDING)


def test_the_hessian_of_a_squared_error_that_a_linear_model_makes_is_that_of_its_inputs():
    x, y = jnp.asarray(np.random.default_rng(0).standard_normal((2, 9, 4)))
    problem = Problem(lambda params, x: x @ params["kernel"], Objective("mse"), 5)

    _, hessian = operators.hessian(problem, {"kernel": jnp.ones((4, 4))}, x=x, y=y)
    columns = jax.jit(jax.vmap(hessian))(np.eye(16))

    close(columns, np.kron(x.T @ x / 9, np.eye(4)))


def test_the_hessian_of_an_indefinite_quadratic_of_a_nested_pytree_is_its_matrix():
    quadratic = dense.quadratic([-30.0, -2, 0, 0.5, 1, 2])

    _, product = operators.hessian(quadratic.problem, quadratic.params, x=quadratic.x, y=quadratic.y)

    close(jax.jit(jax.vmap(product))(np.eye(6)), quadratic.matrix)


@pytest.mark.parametrize("size", [3, 1000])
def test_the_gradient_of_a_curvature_is_what_the_curvature_changes_by(size):
    case = dense.named(SMOOTH)
    flat, unravel = ravel_pytree(case.params)
    u, v, along = np.random.default_rng(0).normal(size=(3, flat.size))
    problem = case.problem(size)

    @jax.jit
    def found(w, u, v):
        return operators.curvature_gradient(problem, unravel(w), x=case.x, y=case.y, u=u, v=v)

    value, gradient = found(flat, u, v)

    step = 1e-4
    change = (found(flat + step * along, u, v)[0] - found(flat - step * along, u, v)[0]) / (2 * step)
    assert float(value) == pytest.approx(u @ case.hessian @ v, rel=1e-10)
    # A central difference is off by step^2 / 6 of the third derivative along it, and by rounding / step: some 1e-8 of the whole.
    assert float(gradient @ along) == pytest.approx(float(change), abs=1e-6 * float(np.linalg.norm(gradient) * np.linalg.norm(along)))


# --- invariants ---


@pytest.mark.parametrize(("name", "size"), [(SMOOTH, 1), (SMOOTH, 3), (POOLED, 3)])
def test_the_size_of_the_chunks_does_not_show(name, size):
    case = dense.named(name)

    found = matrices(case, size)

    for one, other in zip(found, matrices(case), strict=True):
        close(one, other)


@pytest.mark.parametrize("size", [3, 1000])
def test_the_order_of_the_examples_does_not_show(size):
    case = dense.named(SMOOTH)

    found = matrices(case, size, order=[3, 0, 6, 5, 1, 4, 2])

    for one, other in zip(found, matrices(case), strict=True):
        close(one, other)


def test_both_matrices_scale_with_the_loss():
    case = dense.named(SMOOTH)
    scaled = Problem(case.model.apply, dense.Scaled(case.objective, 2.5), 1000)

    found = program(scaled)(case.params, case.x, case.y)

    for one, other in zip(found, matrices(case), strict=True):
        close(one, 2.5 * other)


def test_the_preconditioned_product_has_the_eigenvalues_of_the_matrix_after_division():
    case = dense.named(SMOOTH)
    diagonal = np.random.default_rng(1).uniform(0.1, 10, len(case.hessian))

    product = operators.preconditioned(lambda v: case.hessian @ v, jnp.asarray(1 / np.sqrt(diagonal)))
    matrix = np.stack([product(column) for column in np.eye(len(diagonal))])

    wanted = np.sort(np.linalg.eigvals(case.hessian / diagonal[:, None]).real)
    # An eigenvalue of the divided matrix is as exact as its eigenvectors are well conditioned: sqrt(max P / min P) <= 10.
    close(np.linalg.eigvalsh(matrix), wanted, rounding=10 * dense.ROUNDING)


# --- precision ---


def precisions(jaxpr):
    """The precision of every matrix product and convolution, inner programs included."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            found.append(equation.params["precision"])
        for parameter in jax.tree.leaves(equation.params, is_leaf=lambda leaf: hasattr(leaf, "jaxpr") or hasattr(leaf, "eqns")):
            inner = getattr(parameter, "jaxpr", parameter)
            found += precisions(inner) if hasattr(inner, "eqns") else []
    return found


@pytest.mark.parametrize("size", [3, 1000])
@pytest.mark.parametrize("name", [SMOOTH, POOLED])
def test_every_matrix_product_and_convolution_is_in_full_precision_on_every_device(name, size):
    case, full = dense.named(name), jax.lax.Precision.HIGHEST

    traced = jax.make_jaxpr(functools.partial(both, case.problem(size)))(case.params, case.x, case.y)

    assert set(precisions(traced.jaxpr)) == {(full, full)}


# --- chunks ---


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 7, 100])
def test_chunks_hold_every_example_once_and_differ_by_as_little_as_they_can(size):
    x = np.arange(14).reshape(7, 2)

    chunks, weights = operators.split(jnp.asarray(x), size=size)

    assert weights.shape == chunks.shape[:2]
    assert chunks.shape[1] <= size
    assert len(chunks) == -(-7 // size)
    assert np.sum(~weights) < len(chunks)
    np.testing.assert_array_equal(np.asarray(chunks)[np.asarray(weights)], x)


def test_what_fills_up_the_last_chunk_are_examples():
    chunks, weights = operators.split(jnp.arange(1, 8), size=3)

    assert set(np.asarray(chunks)[~np.asarray(weights)]) <= set(range(1, 8))


# --- memory ---


def test_all_examples_are_one_chunk_while_the_linearised_gradient_of_them_is_small():
    case = dense.named(SMOOTH)

    assert operators.choose_chunk_size(case.problem(), case.params, x=case.x, y=case.y) == len(case.x)


@pytest.mark.parametrize("examples", [1, 3, 6])
def test_a_chunk_has_the_examples_that_fit(monkeypatch, examples):
    case = dense.named(SMOOTH)
    whole = operators.linearized_bytes(case.problem(), case.params, x=case.x, y=case.y)
    monkeypatch.setattr(operators, "LINEARIZED_BYTES", -(-whole * examples // len(case.x)))

    assert operators.choose_chunk_size(case.problem(), case.params, x=case.x, y=case.y) == examples


def test_one_example_is_a_chunk_whatever_it_keeps(monkeypatch):
    case = dense.named(SMOOTH)
    monkeypatch.setattr(operators, "LINEARIZED_BYTES", 1)

    assert operators.choose_chunk_size(case.problem(), case.params, x=case.x, y=case.y) == 1


@pytest.mark.parametrize("table", [spec.Cnn(width=8, depth=2), spec.Mlp(width=256, depth=3)], ids=["cnn", "mlp"])
@pytest.mark.parametrize("examples", [100, 400])
def test_what_the_gradient_keeps_predicts_what_the_compiled_product_takes(table, examples):
    with jax.enable_x64(False):
        model = models.build(table, input_shape=(16, 16, 3), num_outputs=10, seed=0, dtype="float32")
        x, y, v = jnp.zeros((examples, 16, 16, 3)), jnp.zeros(examples, jnp.int32), jnp.zeros(model.num_params)
        problem = Problem(model.apply, Objective("mse"), examples)

        kept = operators.linearized_bytes(problem, model.params, x=x, y=y)
        program = Program(lambda params, x, y, v: operators.hessian(problem, params, x=x, y=y)[1](v), model.params, x, y, v)

    # XLA may compute some of it again rather than keep it, and needs room for what stands between the two.
    assert kept / 3 < program.temporary_bytes < 3 * kept
