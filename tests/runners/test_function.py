"""Descent of functions: trajectories and limits that are known, the log, and resuming."""

import json
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from msgspec import UNSET
from msgspec.structs import replace

from runners import kinds, run_folder, spec_file
from runners.errors import SpecError
from runners.experiments import CustomFunction, Function, FunctionMeasure, FunctionRun, Quadratic, Valley, Value
from runners.function import FunctionRunner
from runners.records import MetricsRecord, SharpnessRecord, StablenessRecord, StepRecord
from runners.spec import NormalizedGd, Sgd
from tests.runners.measure import dense
from tests.runners.test_resume import cut_off_after, measured, sit

QUIET = FunctionMeasure(sharpness_every=0)
SQRT = Value(transform="sqrt")
A = np.array([1.0, 0.4])
CUBE = CustomFunction(target="tests.runners.test_function:cube", start=(1.0, 2.0), arguments={"factor": 2.0})


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with dense.double_precision():
        yield


def cube(x, factor):
    return factor * jnp.sum(x**3)


def not_single(x):
    return x


def run(function, *, steps, optimizer, objective=Value(), measure=QUIET):  # noqa: B008
    spec = Function(function=function, objective=objective, optimizer=optimizer, measure=measure, run=FunctionRun(steps=steps))
    runner = kinds.build(spec)
    records = []
    while runner.step < runner.steps and not runner.diverged:
        records += [*runner.measure(lambda: 0.0), *runner.advance(lambda: 0.0)]
    return runner, [*records, *runner.measure(lambda: 0.0)]


def of(kind, records):
    return [record for record in records if isinstance(record, kind)]


def path(records):
    return np.array([list(record.values.values()) for record in of(MetricsRecord, records) if "measured_loss" not in record.values])


def test_gradient_descent_on_the_root_goes_down_the_valley_on_the_published_path():
    _, records = run(Valley(start=(14.7, 3.0)), steps=11, optimizer=Sgd(lr=0.5), objective=SQRT)

    found = path(records)

    expected = [(14.7, 3.0), (13.203459, -4.366987), (11.026201, 2.253650), (9.903982, -3.282078)]
    roots = "44.20192 57.82447 24.95118 32.67091 14.12261 18.52199 8.03151 10.56314 4.60520 6.08616 2.67780 3.56763"
    assert found[:4] == pytest.approx(np.array(expected), abs=5e-7)
    assert np.sqrt((1 + found[:, 0] ** 2) * found[:, 1] ** 2) == pytest.approx(np.array(list(map(float, roots.split()))), abs=5e-6)
    assert [record.loss**0.5 for record in of(StepRecord, records)] == pytest.approx(list(map(float, roots.split()))[:-1], abs=5e-6)


def test_normalised_gradient_descent_goes_down_the_valley_as_by_hand():
    _, records = run(Valley(start=(14.7, -3.0)), steps=9, optimizer=NormalizedGd(lr=5.0))

    point = np.array([14.7, -3.0])
    for found in path(records):
        assert found == pytest.approx(point, rel=1e-12)
        x, y = point
        gradient = np.array([2 * x * y**2, 2 * (1 + x**2) * y])
        point = point - 5 * gradient / np.linalg.norm(gradient)


@pytest.mark.parametrize(("optimizer", "objective"), [(NormalizedGd(lr=0.7), Value()), (Sgd(lr=0.7), SQRT)])
def test_on_a_quadratic_both_follow_one_recursion_whose_norms_in_a_row_add_up_to_the_sharpness(optimizer, objective):
    scaled = 0.001 * np.array([(1 - (0.05 / 0.399) ** 2) ** 0.5, -0.05 / 0.399])
    root = np.sqrt(2 * A) if objective is SQRT else A
    start = tuple((0.7 * scaled / root).tolist())

    _, records = run(Quadratic(spectrum=tuple(A), start=start), steps=11, optimizer=optimizer, objective=objective)

    norms = np.linalg.norm(path(records) * root / 0.7, axis=1)
    expected = ".001 .9923855 .03080015 .43042428 .31767664 .68018956 .31980699 .68016912 .31983085 .68016890 .31983110 .68016890"
    assert norms == pytest.approx(np.array(list(map(float, expected.split()))), abs=1e-8)
    assert norms[-1] + norms[-2] == pytest.approx(1, abs=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "objective"), [(NormalizedGd, Value()), (Sgd, SQRT)])
def test_in_the_valley_the_pairs_stand_at_two_and_the_roots_of_losses_add_up_as_predicted(optimizer, objective):
    lr = 0.05
    depth = 0.3 * lr * (5**0.5 if objective is SQRT else 1)
    measure = FunctionMeasure(sharpness_every=0, stableness_every=100, parameters_every=0)

    _, records = run(Valley(start=(2.0, depth)), steps=400, optimizer=optimizer(lr=lr), objective=objective, measure=measure)

    last = of(StablenessRecord, records)[-1]
    error = np.arccos(last.alignment**0.5) + lr
    assert (last.harmonic_mean, last.effective_harmonic_mean) == pytest.approx((2, 2), abs=2 * error)
    assert last.loss_ratio == pytest.approx(1, abs=error)
    assert max(last.value, last.next_value) > 2.2, "each of them is far from it"


def test_the_threshold_on_the_root_is_that_of_the_loss_of_the_step():
    _, records = run(Valley(), steps=3, optimizer=Sgd(lr=0.5), objective=SQRT, measure=FunctionMeasure())

    for step, sharpness in zip(of(StepRecord, records), of(SharpnessRecord, records), strict=False):
        assert sharpness.threshold == pytest.approx(4 * step.loss**0.5 / 0.5, rel=1e-12)
        assert sharpness.ratio == pytest.approx(sharpness.value / sharpness.threshold, rel=1e-12)


@pytest.mark.parametrize(("optimizer", "objective"), [(NormalizedGd(), Value()), (Sgd(), SQRT)])
def test_at_the_minimum_nothing_moves(optimizer, objective):
    start = (0.0, 0.0)

    runner, records = run(Quadratic(spectrum=(2.0, 1.0), start=start), steps=3, optimizer=optimizer, objective=objective)

    assert not runner.diverged
    assert np.array_equal(path(records), np.zeros((4, 2)))


def test_noise_of_normalised_descent_resumes_bit_for_bit(tmp_path):
    optimizer = NormalizedGd(lr=0.1, noise=0.01, noise_every=3)
    asked = Function(
        function=Valley(start=(2.0, 0.1)),
        optimizer=optimizer,
        measure=QUIET,
        run=FunctionRun(steps=24, checkpoint_every=6),
    )
    whole, cut_off = (run_folder.create(tmp_path, name, spec_file.to_json(asked)) for name in ("whole", "cut-off"))
    sit(whole, asked)
    cut_off_after(cut_off, 40, whole)

    sit(cut_off, asked)

    assert measured(cut_off) == measured(whole)
    without = replace(asked, optimizer=replace(optimizer, noise=0.0))
    still = run_folder.create(tmp_path, "still", spec_file.to_json(without))
    sit(still, without)
    assert measured(still)[:6] == measured(whole)[:6]
    assert measured(still) != measured(whole)


def test_the_header_tells_of_no_examples_and_shows_the_parameters():
    header = FunctionRunner(Function(function=Valley(), measure=QUIET)).header("run")

    assert (header.runner, header.precision, header.num_params) == ("function", "float64", 2)
    assert {header.data, header.num_examples, header.batch_size, header.num_measured} == {UNSET}
    assert [panel.title for panel in header.panels] == ["loss", "parameters"]
    assert [curve.field for curve in header.panels[-1].series] == ["values.x", "values.y"]
    assert header.loss_convention == "the function's value"
    json.dumps(header.spec)


def test_a_users_function_is_descended():
    _, records = run(CUBE, steps=1, optimizer=Sgd(lr=0.1))

    assert path(records).tolist() == [[1.0, 2.0], pytest.approx([1 - 0.6, 2 - 2.4])]
    assert of(StepRecord, records)[0].loss == 18


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("not_single", r"maps float64 \(2,\) to float64 \(2,\), expected a single float64"),
        ("cube", r"raised TypeError on 2 parameters: .*factor"),
        ("cub", "'cub' is not there"),
    ],
)
def test_a_users_function_that_cannot_be_used_is_refused(name, problem):
    with pytest.raises(SpecError, match=problem):
        FunctionRunner(Function(function=replace(CUBE, target=f"tests.runners.test_function:{name}", arguments={})))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[function]\nname = "quadratic"\nspectrum = [1, 2]\nstart = [1]', r"function.start = \[1.0\]: expected 2 parameters"),
        ('[function]\nname = "valley"\nstart = [1]', r"function.start = \[1.0\]: expected 2 parameters, x and y, not 1"),
        ('[function]\nname = "valley"\n[measure]\nntk_every = 5', r"measure.ntk_every = 5: a function has no examples, outputs or layers"),
        ('[function]\nname = "valley"\n[optimizer]\nbatch_size = 5', r"optimizer.batch_size = 5: a function has no examples"),
        ('[function]\nname = "valley"\n[objective]\nminimum = 1', r"objective.minimum = 1.0: it counts with"),
        ('[function]\nname = "vally"', r'function.name = "vally": expected "quadratic", "valley" or "package.module:attribute"'),
        ("", "function is missing"),
    ],
)
def test_a_spec_that_is_not_valid_is_refused(tmp_path, text, problem):
    file = tmp_path / "a.toml"
    file.write_text(f'runner = "function"\n{text}')

    with pytest.raises(SpecError, match=problem):
        spec_file.read(file)


def test_an_import_path_is_a_users_function(tmp_path):
    file = tmp_path / "a.toml"
    file.write_text('runner = "function"\n[function]\nname = "a.b:f"\nstart = [1, 2]\n[function.arguments]\nk = 3')

    assert spec_file.read(file).function == CustomFunction(target="a.b:f", start=(1.0, 2.0), arguments={"k": 3})


def test_the_spec_of_the_page_on_measuring_is_valid(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "measuring.md").read_text()
    [text] = re.findall(r"^```toml\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    file = tmp_path / "a.toml"
    file.write_text(text)

    assert spec_file.read(file).function == Valley(start=(14.7, 3.0))


def preset(name):
    """The records of a preset's run."""
    runner = kinds.build(spec_file.read(name))
    records = []
    while runner.step < runner.steps:
        records += [*runner.measure(lambda: 0.0), *runner.advance(lambda: 0.0)]
    return [*records, *runner.measure(lambda: 0.0)]


@pytest.mark.slow
def test_the_toy_on_the_root_shows_what_its_preset_says():
    records = preset("toy-sqrt")

    pairs, points = of(StablenessRecord, records), path(records)
    assert points[53, 0] == pytest.approx(0.01, abs=5e-4)
    assert np.all(points[1:, 1] * points[:-1, 1] < 0)
    assert (pairs[0].harmonic_mean, pairs[-1].harmonic_mean) == pytest.approx((2.37, 2.000), abs=5e-3)
    assert sorted(record.value for record in pairs[-2:]) == pytest.approx([1.606, 2.649], abs=6e-4)


@pytest.mark.slow
def test_the_toy_of_normalised_descent_shows_what_its_preset_says():
    records = preset("toy-ngd")

    pairs, points = of(StablenessRecord, records), path(records)
    assert points[-1, 0] == pytest.approx(3.95, abs=5e-3)
    assert np.all(points[1:, 1] * points[:-1, 1] < 0)
    assert (pairs[0].harmonic_mean, pairs[-1].harmonic_mean) == pytest.approx((2.25, 4.77), abs=5e-3)


@pytest.mark.slow
def test_the_quadratic_shows_what_its_preset_says():
    records = preset("quadratic-ngd")

    norms = [record.grad_norm for record in of(StepRecord, records)]
    assert norms[1:6] == pytest.approx([0.992, 0.031, 0.430, 0.318, 0.680], abs=6e-4)
    assert sorted(norms[-2:]) == pytest.approx([0.3198, 0.6802], abs=6e-5)
    assert sorted(record.value for record in of(StablenessRecord, records)[-2:]) == pytest.approx([1.470, 3.127], abs=6e-4)
    assert of(StablenessRecord, records)[-1].harmonic_mean == pytest.approx(2, abs=1e-6)
