"""The expected loss beside a training run that is least squares."""

import pytest

from runners import kinds, spec_file
from runners.expected import is_least_squares
from runners.records import MetricsRecord

LINEAR = {"name": "linear", "bias": True}


def asked(**tables):
    document = {
        "data": {"name": "digits", "num_train": 600, "num_test": 0},
        "model": LINEAR,
        "optimizer": {"name": "sgd", "lr": 0.01, "batch_size": 32},
        "measure": {"sharpness_every": 10, "ntk_every": 0, "evaluate_every": 0, "verify_every": 0},
        "run": {"steps": 60},
    }
    for table, keys in tables.items():
        document[table] = {**document.get(table, {}), **keys} if table != "model" else keys
    return spec_file.checked(document, label="test", given=())


def now():
    return 0.0


def metrics(spec):
    runner = kinds.build(spec)
    found = [*runner.measure(now)]
    while runner.step < runner.steps:
        list(runner.advance(now))
        found += runner.measure(now)
    header = runner.header("test")
    return header, {record.step: record.values for record in found if isinstance(record, MetricsRecord)}


@pytest.mark.parametrize("data", [{}, {"name": "gaussian", "num_features": 20, "num_outputs": 2, "noise_std": 0.3}])
def test_a_linear_models_loss_goes_as_the_equation_expects(data):
    header, found = metrics(asked(data=data))

    assert found[0]["expected_loss"] == pytest.approx(found[0]["measured_loss"], rel=1e-5)
    assert found[60]["expected_loss"] < 0.9 * found[0]["expected_loss"]
    # One run in batches of 32 goes up and down about the mean by some hundredths.
    assert [values["measured_loss"] for values in found.values()] == pytest.approx(
        [values["expected_loss"] for values in found.values()], rel=0.06
    )
    assert [curve.label for curve in header.panels[0].references] == ["Volterra"]


@pytest.mark.parametrize(("lr", "is_known"), [(0.9, True), (1.9, False), (2.1, False)])
def test_where_k_in_steps_is_not_below_1_none_is_known(lr, is_known):
    """The largest eigenvalue is near 1: K in steps is 0.2, then 1.2, and then steps of gradient descent are unstable themselves."""
    data = {"name": "gaussian", "num_train": 400, "num_features": 20, "exponent": 1.0, "noise_std": 0.3, "covariance": "empirical"}

    runner = kinds.build(asked(data=data, optimizer={"name": "sgd", "lr": lr, "batch_size": 32}))

    [values] = [record.values for record in runner.measure(now) if isinstance(record, MetricsRecord)]
    assert ("expected_loss" in values) == is_known


@pytest.mark.parametrize(
    "tables",
    [
        {"model": {"name": "mlp", "width": 8}},
        {"objective": {"name": "cross_entropy"}},
        {"objective": {"name": "mse", "weight_decay": 0.1}},
        {"optimizer": {"batch_size": "full"}},
        {"optimizer": {"name": "heavy_ball"}},
        {"optimizer": {"lr": {"kind": "cosine", "peak": 0.1, "steps": 10}}},
        {"measure": {"num_examples": 100}},
    ],
)
def test_of_any_other_run_none_is_known(tables):
    assert is_least_squares(asked())
    assert not is_least_squares(asked(**tables))
