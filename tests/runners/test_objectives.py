import jax
import jax.numpy as jnp
import numpy as np
import pytest

from runners import data, objectives, spec
from runners.errors import SpecError
from runners.objectives import Objective

OUTPUTS = np.array([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]])
LABELS = np.array([2, 1], np.int32)
BOTH = [Objective("mse"), Objective("cross_entropy")]


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def linear(params, x):
    return x @ params["kernel"]


# --- losses ---


def test_the_squared_error_is_half_the_sum_over_outputs():
    targets = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])

    losses = Objective("mse").example_losses(jnp.asarray(OUTPUTS), jnp.asarray(targets))

    np.testing.assert_allclose(losses, [(0 + 4 + 0.25) / 2, (0 + 4 + 4) / 2])


def test_the_squared_error_takes_labels_as_one_hot_targets():
    losses = Objective("mse").example_losses(jnp.asarray(OUTPUTS), jnp.asarray(LABELS))

    np.testing.assert_allclose(losses, [(1 + 4 + 0.25) / 2, (0 + 4 + 1) / 2])


def test_two_classes_have_two_outputs():
    losses = Objective("mse").example_losses(jnp.array([[0.0, 1.0]]), jnp.array([0]))

    np.testing.assert_allclose(losses, [1.0])


def test_the_cross_entropy_is_minus_the_log_of_the_labels_probability():
    losses = Objective("cross_entropy").example_losses(jnp.asarray(OUTPUTS), jnp.asarray(LABELS))

    probabilities = np.exp(OUTPUTS) / np.exp(OUTPUTS).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(losses, -np.log(probabilities[[0, 1], LABELS]), rtol=1e-14)


def test_the_cross_entropy_of_large_outputs_is_finite():
    outputs = jnp.array([[1e5, 0.0], [-1e5, 0.0]])

    losses = Objective("cross_entropy").example_losses(outputs, jnp.array([1, 1]))

    np.testing.assert_allclose(losses, [1e5, 0.0])


def test_the_loss_is_the_mean_over_examples_plus_half_the_weight_decay_times_the_squared_norm():
    params = {"kernel": jnp.array([[1.0, 2.0]]), "scale": jnp.array(3.0)}
    x, y = jnp.array([[1.0], [2.0]]), jnp.array([[0.0, 0.0], [2.0, 0.0]])

    plain = Objective("mse").loss(linear, params, x, y)
    decayed = Objective("mse", weight_decay=0.1).loss(linear, params, x, y)

    assert float(plain) == pytest.approx((2.5 + 8.0) / 2)
    assert float(decayed) == pytest.approx((2.5 + 8.0) / 2 + 0.05 * 14)


def test_the_accuracy_is_the_share_of_right_labels_and_none_for_real_targets():
    assert float(Objective("mse").accuracy(jnp.asarray(OUTPUTS), jnp.asarray(LABELS))) == 0.5
    assert Objective("mse").accuracy(jnp.asarray(OUTPUTS), jnp.asarray(OUTPUTS)) is None


# --- second derivatives ---


@pytest.mark.parametrize("objective", BOTH, ids=str)
def test_the_root_squares_to_the_hessian_in_the_outputs(objective):
    hessian = jax.vmap(jax.hessian(lambda f, label: objective.example_losses(f[None], label[None])[0]))

    root = objective.output_hessian_root(jnp.asarray(OUTPUTS))

    np.testing.assert_allclose(root @ np.transpose(root, (0, 2, 1)), jax.jit(hessian)(OUTPUTS, LABELS), atol=1e-15)


def test_the_root_of_a_saturated_cross_entropy_is_finite():
    root = Objective("cross_entropy").output_hessian_root(jnp.array([[1e4, 0.0, -1e4]]))

    np.testing.assert_allclose(root, np.zeros((1, 3, 3)), atol=1e-15)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("objective", [*BOTH, Objective("mse", weight_decay=0.5)], ids=str)
def test_everything_has_the_precision_of_the_outputs(objective, precision):
    outputs, params = OUTPUTS.astype(precision), {"kernel": np.eye(3, dtype=precision)}

    def everything(params, outputs, labels):
        losses, root = objective.example_losses(outputs, labels), objective.output_hessian_root(outputs)
        return losses, root, objective.accuracy(outputs, labels), objective.loss(linear, params, outputs, labels)

    results = jax.eval_shape(everything, params, outputs, LABELS)

    assert {result.dtype for result in results} == {np.dtype(precision)}


# --- use ---


def test_an_objective_is_a_static_argument_and_equal_ones_share_a_program():
    traces = []

    def loss(objective, outputs, labels):
        traces.append(objective)
        return objective.example_losses(outputs, labels).mean()

    jitted = jax.jit(loss, static_argnums=0)
    for objective in (Objective("mse"), Objective("mse"), Objective("cross_entropy")):
        jitted(objective, jnp.asarray(OUTPUTS), jnp.asarray(LABELS))

    assert len(traces) == 2


def test_the_convention_says_the_reductions_and_the_weight_decay():
    assert Objective("mse").convention == "1/2 sum over outputs of (output - target)^2, mean over examples"
    assert Objective("cross_entropy", weight_decay=0.01).convention.endswith("mean over examples, plus (0.01 / 2) |parameters|^2")


def test_the_spec_decides_the_objective():
    labels = data.load(spec.Digits(num_train=20), seed=0, precision="float64")

    assert objectives.build(spec.Mse(weight_decay=0.1), labels) == Objective("mse", weight_decay=0.1)
    assert objectives.build(spec.CrossEntropy(), labels) == Objective("cross_entropy")


def test_cross_entropy_of_real_targets_is_refused():
    reals = data.load(spec.Chebyshev(), seed=0, precision="float64")

    with pytest.raises(SpecError, match=r'"cross_entropy": needs class labels, and chebyshev has real targets\. Use "mse"'):
        objectives.build(spec.CrossEntropy(), reals)


# --- evaluation ---


@pytest.mark.parametrize("chunk_size", [1, 4, 10, 100])
@pytest.mark.parametrize("objective", BOTH, ids=str)
def test_an_evaluation_is_the_exact_mean_whatever_the_chunks(objective, chunk_size):
    rng = np.random.default_rng(0)
    x, y, params = rng.standard_normal((10, 2)), rng.integers(0, 3, 10), {"kernel": jnp.asarray(rng.standard_normal((2, 3)))}

    found = objectives.evaluate(objective, linear, params=params, x=x, y=y, chunk_size=chunk_size)

    outputs = jnp.asarray(x @ params["kernel"])
    assert found.loss == pytest.approx(float(objective.example_losses(outputs, jnp.asarray(y)).mean()), rel=1e-14)
    assert found.accuracy == np.mean(np.argmax(outputs, axis=1) == y)


def test_an_evaluation_on_real_targets_has_no_accuracy_and_leaves_weight_decay_out():
    x, y, params = np.ones((3, 1)), np.zeros((3, 2)), {"kernel": jnp.array([[1.0, 2.0]])}

    found = objectives.evaluate(Objective("mse", weight_decay=7.0), linear, params=params, x=x, y=y)

    assert found == objectives.Evaluation(loss=2.5, accuracy=None)


@pytest.mark.parametrize("minimum", [0.0, -2.0, 0.7])
def test_the_slope_of_the_root_is_its_derivative_and_nothing_moves_at_the_minimum(minimum):
    def root(loss):
        return jnp.sqrt(loss - minimum)

    def slope(loss):
        return objectives.slope(jnp.asarray(loss), transform="sqrt", minimum=minimum)

    assert float(slope(1.3)) == pytest.approx(float(jax.grad(root)(1.3)), rel=1e-6)
    assert float(slope(minimum)) == float(slope(minimum - 1)) == 0
    assert float(objectives.slope(jnp.asarray(minimum), transform="none", minimum=minimum)) == 1
