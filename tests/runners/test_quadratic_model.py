import pytest
from msgspec.structs import replace

from runners import spec_file
from runners.errors import SpecError
from runners.experiments import BatchSizes, QuadraticModel, QuadraticTable, Simulation
from runners.quadratic_model import QuadraticModelRunner
from runners.records import MetricsRecord
from runners.spec import Run
from tests.runners.measure import dense
from tests.runners.test_resume import cut_off_after, make, measured, sit

SIZES = (6, 1)
# Terms of the second order in the curvature are about 1e-4 of those of the first, whose standard errors are some per cent.
SMALL = QuadraticTable(num_examples=6, num_params=9, spectrum=(1.0, 0.5, 0.2, 0.1, 0.1, 0.05), curvature=1e-4)


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with dense.double_precision():
        yield


def asked(*, table=SMALL, sizes=SIZES, lr=0.2, steps=8, num_paths=2000, record_every=2, **run):
    given = Run(steps=steps, precision="float64", **{"checkpoint_every": 0, **run})
    simulation = Simulation(num_paths=num_paths, record_every=record_every)
    return QuadraticModel(quadratic_model=table, optimizer=BatchSizes(lr=lr, batch_sizes=sizes), simulation=simulation, run=given)


def finished(spec):
    """The runner at its end, and its metrics by step."""
    runner, records = QuadraticModelRunner(spec), []
    while runner.step < runner.steps and not runner.diverged:
        records += [*runner.measure(lambda: 0.0), *runner.advance(lambda: 0.0)]
    records += runner.measure(lambda: 0.0)
    return runner, {record.step: record.values for record in records if isinstance(record, MetricsRecord)}


def is_as_predicted(values, name):
    return abs(values[name] - values[f"predicted_{name}"]) < 4 * values[f"{name}_sem"]


@pytest.fixture(scope="module")
def small(double_precision):
    return finished(asked())


@pytest.mark.parametrize("size", SIZES)
def test_eigenvalues_grow_as_predicted(small, size):
    _, metrics = small

    assert list(metrics) == [0, 2, 4, 6, 8]
    for step in (2, 4, 6, 8):
        assert is_as_predicted(metrics[step], f"growth_{size}")
        assert is_as_predicted(metrics[step], f"lead_{size}")
    assert metrics[8][f"growth_{size}"] > 8 * metrics[8][f"growth_{size}_sem"]


@pytest.mark.parametrize("size", SIZES)
def test_the_differences_of_the_first_steps_are_those_predicted(small, size):
    values = small[1][0]

    for name in ("first_difference", "second_difference", "second_difference_lead"):
        assert is_as_predicted(values, f"{name}_{size}")


def test_without_second_derivatives_nothing_grows():
    _, metrics = finished(asked(table=replace(SMALL, curvature=0.0), sizes=(2,), num_paths=4))

    assert metrics[8]["largest_2"] == pytest.approx(1, rel=1e-12)
    assert abs(metrics[8]["growth_2"]) < 1e-12
    assert metrics[8]["loss_2"] < metrics[0]["loss_2"]


def test_every_curve_of_the_panels_has_numbers(small):
    runner, metrics = small

    for panel in runner.header("run").panels:
        for curve in (*panel.series, *panel.references, *filter(None, (panel.error,))):
            assert curve.field.removeprefix("values.") in metrics[8]


def test_a_model_that_curves_too_much_diverges():
    runner, _ = finished(asked(table=replace(SMALL, curvature=100.0), sizes=(2,), num_paths=4, steps=200, divergence_factor=10))

    assert runner.diverged
    assert "between steps" in runner.diverged


@pytest.mark.slow
def test_a_run_that_was_cut_off_resumes_bit_for_bit(tmp_path):
    spec = asked(sizes=(6, 2), num_paths=5, steps=12, checkpoint_every=4)
    whole, cut_off = make(tmp_path, "whole", spec), make(tmp_path, "cut-off", spec)
    sit(whole, spec)
    cut_off_after(cut_off, 9, whole)

    sit(cut_off, spec)

    assert measured(cut_off) == measured(whole)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("quadratic_model.num_params=10", "at least quadratic_model.num_examples = 16"),
        ("optimizer.batch_sizes=[4, 30]", "at most quadratic_model.num_examples = 16"),
        ("simulation.num_paths=100000", "second derivatives"),
        ("quadratic_model.num_examples=3", "3 eigenvalues, not 16"),
    ],
)
def test_a_spec_that_cannot_be_is_refused(override, says):
    with pytest.raises(SpecError, match=says):
        spec_file.load("quadratic-model", [override])


@pytest.mark.slow
def test_smaller_batches_let_the_outlier_of_a_spectrum_lead_less():
    table = QuadraticTable(num_examples=24, num_params=100, spectrum=(1.0, *[0.05] * 23), curvature=1e-4)
    _, metrics = finished(asked(table=table, sizes=(24, 12, 6, 4), lr=0.1, steps=1, num_paths=200))
    unit = 2 * 0.1**2 * 1e-4 * 101 / 24**2

    for size, share in {24: 0.850, 12: 0.750, 6: 0.551, 4: 0.351}.items():
        assert is_as_predicted(metrics[0], f"second_difference_lead_{size}")
        # The share is that of many parameters; with 100 there is 1 % more damping at most.
        assert metrics[0][f"predicted_second_difference_lead_{size}"] / unit == pytest.approx(share, abs=0.008)
