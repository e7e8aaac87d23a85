import numpy as np
import pytest
from msgspec.structs import replace

from runners import spec_file
from runners.errors import SpecError
from runners.experiments import LinearModel, LinearTable, Simulation
from runners.linear_model import LinearModelRunner
from runners.measure.noise_kernel import Noise, kernel_norm
from runners.records import EventRecord, MetricsRecord, NtkRecord, SharpnessRecord, StepRecord
from runners.spec import HeavyBall, Piecewise, Run, Sgd
from tests.runners.measure import dense
from tests.runners.test_resume import cut_off_after, make, measured, sit

TABLE = LinearTable(num_examples=8, exponent=0.5)
PLAIN, MOMENTUM = Sgd(lr=0.4, batch_size=2), HeavyBall(lr=0.15, momentum=0.6, batch_size=3)


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with dense.double_precision():
        yield


def asked(optimizer, *, table=TABLE, steps=20, num_paths=4, record_every=10, **run):
    simulation = Simulation(num_paths=num_paths, record_every=record_every)
    given = Run(steps=steps, precision="float64", checkpoint_every=0, **run)
    return LinearModel(linear_model=table, optimizer=optimizer, simulation=simulation, run=given)


def finished(spec):
    """The runner at its end, and its records."""
    runner, records = LinearModelRunner(spec), []
    while runner.step < runner.steps and not runner.diverged:
        records += [*runner.measure(lambda: 0.0), *runner.advance(lambda: 0.0)]
    return runner, [*records, *runner.measure(lambda: 0.0)]


def of(kind, records):
    return {record.step: record for record in records if isinstance(record, kind)}


@pytest.fixture(scope="module")
def plain(double_precision):
    return finished(asked(PLAIN, num_paths=4000, record_every=5))


@pytest.mark.parametrize("name", ["plain", "momentum", "with replacement"])
def test_the_mean_of_the_simulated_losses_is_the_exact_one(plain, name):
    other = replace(MOMENTUM, sampling="with_replacement" if name == "with replacement" else "without_replacement")
    _, records = plain if name == "plain" else finished(asked(other, num_paths=4000, record_every=5))

    losses, metrics = of(StepRecord, records), of(MetricsRecord, records)
    assert losses.keys() == metrics.keys() == {0, 5, 10, 15, 20}
    for step, record in losses.items():
        values = metrics[step].values
        assert abs(record.loss - values["exact_loss"]) < 4 * values["loss_sem"]
    assert metrics[20].values["exact_loss"] < 0.3 * metrics[0].values["exact_loss"]


def test_without_noise_every_path_is_the_exact_one():
    _, records = finished(asked(HeavyBall(lr=0.7), table=replace(TABLE, residual="fixed")))

    losses, metrics = of(StepRecord, records), of(MetricsRecord, records)
    for step, record in losses.items():
        assert record.loss == pytest.approx(metrics[step].values["exact_loss"], rel=1e-12)
        assert metrics[step].values["loss_sem"] < 1e-15
    assert not of(NtkRecord, records)


def test_long_after_the_loss_moves_as_the_second_moment_does_in_the_long_run():
    # The slowest mode decays by 0.1 lr a step in amplitude, the next by 0.5 lr: it has e^120 of the others' share in the end.
    table = LinearTable(num_examples=8, spectrum=(1.0, 0.9, 0.8, 0.7, 0.6, 0.6, 0.5, 0.1))
    _, records = finished(asked(PLAIN, table=table, steps=300))

    last = of(MetricsRecord, records)[300].values

    assert last["exact_growth"] == pytest.approx(last["long_run_growth"], rel=2e-6)
    assert last["long_run_growth"] < 1


def test_the_edges_are_those_of_the_spectrum(plain):
    lr, p = 0.4, (8 - 2) / (2 * 7)
    _, records = plain
    values = np.arange(1.0, 9.0) ** -0.5

    sharpness, ntk = of(SharpnessRecord, records)[0], of(NtkRecord, records)[0]

    assert sharpness.value == 1
    assert sharpness.ratio == pytest.approx(lr / 2)
    assert ntk.trace == pytest.approx(values.sum())
    assert ntk.noise_kernel == pytest.approx(kernel_norm(Noise(lr, 0.0, p), values.tolist(), trace=values.sum()))


@pytest.mark.parametrize("basis", ["examples", "flat"])
def test_in_a_basis_that_the_closure_is_exact_for_it_is(basis):
    _, records = finished(asked(MOMENTUM, table=replace(TABLE, basis=basis)))

    values = of(MetricsRecord, records)[20].values

    assert values["closure_loss"] == pytest.approx(values["exact_loss"], rel=1e-12)
    is_flat = values["high_dimensional_loss"] == pytest.approx(values["exact_loss"], rel=1e-12)
    assert is_flat == (basis == "flat")


def test_divergence_is_a_result_that_says_where_the_rate_stands():
    runner, records = finished(asked(HeavyBall(lr=1.5, batch_size=1), steps=1000, divergence_factor=100))

    assert runner.diverged
    assert "between steps" in runner.diverged
    assert "K is" in runner.diverged
    assert runner.step < 1000
    assert of(NtkRecord, records)[0].noise_kernel > 1


def test_a_change_of_the_learning_rate_is_told():
    schedule = Piecewise(values=(0.1, 0.2), boundaries=(10,))
    _, records = finished(asked(replace(MOMENTUM, lr=schedule), record_every=5))

    assert list(of(EventRecord, records)) == [0, 10]
    assert [record.lr for record in of(StepRecord, records).values()] == [0.1, 0.1, 0.2, 0.2, 0.2]


def test_every_curve_of_the_panels_has_numbers(plain):
    runner, records = plain
    fields = {record.__struct_config__.tag: record for record in records if record.step == 20}

    for panel in runner.header("run").panels:
        for curve in (*panel.series, *panel.references, *panel.notes, *filter(None, (panel.error, panel.ratio))):
            *path, name = curve.field.split(".")
            record = fields[curve.record]
            assert name in (record.values if path else record.__struct_fields__), curve


def test_a_run_that_was_cut_off_resumes_bit_for_bit(tmp_path):
    spec = asked(MOMENTUM, steps=40, record_every=5)
    spec = replace(spec, run=replace(spec.run, checkpoint_every=8))
    whole, cut_off = make(tmp_path, "whole", spec), make(tmp_path, "cut-off", spec)
    sit(whole, spec)
    cut_off_after(cut_off, 20, whole)

    sit(cut_off, spec)

    assert measured(cut_off) == measured(whole)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("linear_model.spectrum=[1.0, 0.5]", "200 eigenvalues, not 2"),
        ("linear_model.basis=flat", "a power of 2"),
        ("optimizer.batch_size=300", "at most linear_model.num_examples = 200"),
        ("optimizer.sampling=epochs", "independent"),
        ("optimizer.lr={kind = 'edge', of = 'sharpness', initial = 0.1}", "nothing is measured"),
        ("optimizer.batch_size={kind = 'edge', initial = 4}", "nothing is measured"),
        ("optimizer.name=adam", "sgd"),
    ],
)
def test_a_spec_that_cannot_be_is_refused(override, says):
    with pytest.raises(SpecError, match=says):
        spec_file.load("linear-model", [override])
