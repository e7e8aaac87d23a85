"""A training run beside its flows: what is run, and what is told of it."""

import json
import subprocess
import sys

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from eos_tui import beside
from eos_tui.cli.commands import app
from eos_tui.evidence import Evidence
from eos_tui.snapshot import empty
from runners import run_folder, spec_file
from runners.errors import SpecError
from runners.experiments import CentralFlow, GradientFlow, LimitingFlow, SelfStabilization
from runners.spec import Adam, Digits, HeavyBall, Measure, Mlp, Mse, NormalizedGd, RmsProp, Run, Sgd, Train, WarmStart

TRAIN = Train(
    data=Digits(num_train=40, num_test=0),
    model=Mlp(width=4, depth=2, init_scale=0.3),
    optimizer=Sgd(lr=0.5),
    measure=Measure(sharpness_every=5, ntk_every=0, evaluate_every=0),
    run=Run(steps=20),
)


def folder(tmp_path, spec, name="mine"):
    return run_folder.create(tmp_path, name, spec_file.to_json(spec))


def evidence(tmp_path, series):
    return Evidence(empty(tmp_path), series)


@pytest.fixture
def runs(tmp_path):
    """A run of six steps at lr 0.5 that oscillates between 1 and 3, and its flows."""
    steps = list(range(6))
    measured = [0, 2, 4]
    return {
        "run": evidence(
            tmp_path,
            {
                ("step", "loss"): (steps, [1.0, 3.0] * 3),
                ("step", "lr"): (steps, [0.5] * 6),
                ("sharpness", "value"): (measured, [3.0, None, 4.1]),
                ("sharpness", "threshold"): (measured, [4.0] * 3),
            },
        ),
        "gradient": evidence(tmp_path, {("step", "loss"): (steps, [1.0] * 6), ("sharpness", "value"): (measured, [3.0, 4.0, 5.0])}),
        "central": evidence(
            tmp_path,
            {
                ("step", "loss"): (steps, [1.5] * 6),
                ("sharpness", "value"): (measured, [3.0, 4.0, 4.0]),
                ("flow", "averaged_loss"): (steps, [2.0] * 6),
            },
        ),
    }


@pytest.mark.parametrize(
    ("optimizer", "kinds"),
    [
        (Sgd(lr=0.5), ["gradient", "central"]),
        (RmsProp(), ["gradient", "central"]),
        (HeavyBall(), ["gradient"]),
        (Sgd(batch_size=10), ["gradient"]),
        (NormalizedGd(warm_start=WarmStart(steps=5, lr=0.1)), ["limiting"]),
    ],
)
def test_the_flows_that_the_optimizer_has_are_planned_from_the_same_tables(tmp_path, optimizer, kinds):
    spec = replace(TRAIN, optimizer=optimizer)

    planned = beside.plan(folder(tmp_path, spec), from_step=3)

    assert list(planned) == kinds
    for kind, flow in planned.items():
        asked = flow.spec()
        assert flow.name == f"{kind}-flow-mine"
        assert asked.flow == {"gradient": GradientFlow, "central": CentralFlow, "limiting": LimitingFlow}[kind](from_step=3)
        assert all(getattr(asked, name) == getattr(spec, name) for name in ("data", "model", "objective", "optimizer", "run"))
        assert asked.measure.sharpness_every == 5


def test_descent_of_the_root_of_the_loss_has_its_limiting_flow(tmp_path):
    planned = beside.plan(folder(tmp_path, replace(TRAIN, objective=Mse(transform="sqrt"))), from_step=0)

    assert [flow.spec().flow for flow in planned.values()] == [LimitingFlow()]


def test_beside_a_limiting_flow_charts_are_over_the_step_and_rows_have_its_time(tmp_path):
    run = evidence(
        tmp_path,
        {
            ("step", "loss"): ([0, 1, 2, 3], [1.0, 0.1, 0.3, 0.1]),
            ("step", "lr"): ([0, 1, 2, 3], [0.5] * 4),
            ("sharpness", "value"): ([0, 2], [8.0, 4.0]),
        },
    )
    flow = evidence(
        tmp_path,
        {("step", "loss"): ([0, 2], [1.0, 0.01]), ("flow", "tau"): ([2], [0.25]), ("sharpness", "value"): ([0, 2], [9.0, 4.4])},
    )
    runs = {"run": run, "limiting": flow}

    rows, (loss, sharpness) = beside.rows(runs, most=10), beside.charts(runs)

    assert [(row.step, row.time, row.sharpness["limiting"]) for row in rows] == [(0, 0.0, 9.0), (2, 0.25, 4.4)]
    assert (loss.x, loss.lines[0].points[:2]) == ("step", [(0.0, 1.0), (1.0, 0.1)])
    assert (sharpness.x, sharpness.lines[1].points) == ("step", [(0.0, 9.0), (2.0, 4.4)])
    assert beside.apart(runs) == pytest.approx(0.1)


def test_a_sharpness_that_is_followed_is_measured_of_the_flows_where_it_is_solved_for(tmp_path):
    spec = replace(TRAIN, measure=Measure(sharpness_every=1, solve_every=7))

    planned = beside.plan(folder(tmp_path, spec), from_step=0)

    assert planned["gradient"].spec().measure.sharpness_every == 7


def test_an_optimizer_without_a_flow_and_a_run_that_is_one_are_refused(tmp_path):
    with pytest.raises(SpecError, match=r'optimizer\.name = "adam": the gradient flow is known for'):
        beside.plan(folder(tmp_path, replace(TRAIN, optimizer=Adam())), from_step=0)

    flow = beside.plan(folder(tmp_path, TRAIN), from_step=0)["central"].spec()
    with pytest.raises(SpecError, match='has runner = "flow": expected a training run'):
        beside.plan(folder(tmp_path, flow, "flow"), from_step=0)


def test_a_row_holds_the_runs_mean_to_the_next_row_against_the_prediction(runs):
    rows = beside.rows(runs, most=10)

    assert [(row.step, row.time) for row in rows] == [(0, 0.0), (4, 2.0)]
    assert [row.run_average for row in rows] == [2.0, 2.0]
    assert [row.averaged_loss for row in rows] == [2.0, 2.0]
    assert rows[1].sharpness == {"run": 4.1, "gradient": 5.0, "central": 4.0}


def test_rows_are_thinned_evenly(runs):
    assert [row.step for row in beside.rows(runs, most=1)] == [0]


def test_the_charts_are_over_lr_times_step(runs):
    loss, sharpness = beside.charts(runs)

    assert [line.label for line in loss.lines] == ["optimizer", "gradient flow", "central flow", "central flow, predicted average"]
    assert loss.lines[0].points[:3] == [(0.0, 1.0), (0.5, 3.0), (1.0, 1.0)]
    assert sharpness.lines[1].points == [(0.0, 3.0), (1.0, 4.0), (2.0, 5.0)]
    assert sharpness.references == ((4.0, "threshold"),)


@pytest.fixture
def predicted(tmp_path):
    """Six steps at lr 0.5, predicted from step 2 on: the loss well up to step 4, the sharpness to the end."""
    steps = list(range(6))
    return evidence(
        tmp_path,
        {
            ("step", "loss"): (steps, [1.0, 3.0] * 3),
            ("sharpness", "value"): (steps, [3.0, 3.5, 4.5, 4.2, 4.1, 3.8]),
            ("sharpness", "threshold"): (steps, [4.0] * 6),
            ("prediction", "loss"): (steps[2:], [1.05, 2.9, 1.2, 3.0]),
            ("prediction", "sharpness"): (steps[2:], [4.5, 4.24, 4.06, 3.84]),
            ("prediction", "constrained_loss"): (steps[2:], [0.5] * 4),
            ("prediction", "oscillation"): (steps[2:], [0.1] * 4),
            ("prediction", "actual_oscillation"): (steps[2:], [0.2] * 4),
        },
    )


def test_a_prediction_follows_until_it_is_first_off_by_a_tenth(predicted):
    found = beside.followed(predicted)

    assert found == beside.Followed(begins=2, predicted=4, loss=2, sharpness=4)


def test_where_nothing_was_predicted_nothing_is_told(tmp_path):
    run = evidence(tmp_path, {("step", "loss"): ([0, 1], [1.0, 2.0])})

    assert beside.followed(run) is None
    assert beside.predicted_rows(run, most=10) == []


def test_predicted_rows_have_an_odd_number_of_steps_between_them(predicted):
    assert [row.step for row in beside.predicted_rows(predicted, most=2)] == [2, 5]

    first = beside.predicted_rows(predicted, most=4)[0]
    assert (first.loss, first.predicted_loss, first.sharpness, first.oscillation, first.predicted_oscillation) == (1.0, 1.05, 4.5, 0.2, 0.1)


def test_the_charts_of_a_prediction_begin_where_it_does(predicted):
    loss, sharpness, oscillation = beside.predicted_charts(predicted)

    assert [line.label for line in loss.lines] == ["gradient descent", "predicted", "constrained"]
    assert loss.lines[0].points[0] == (2, 1.0)
    assert sharpness.references == ((4.0, "2/lr"),)
    assert oscillation.lines[1].points == [(step, 0.1) for step in range(2, 6)]


def test_a_prediction_is_of_the_runs_own_steps_measured_at_each(tmp_path):
    asked = beside.plan_prediction(folder(tmp_path, TRAIN), first=5, last=12).spec()

    assert asked.flow == SelfStabilization(from_step=5)
    assert asked.run == replace(TRAIN.run, steps=12)
    assert asked.measure.sharpness_every == 1
    assert all(getattr(asked, name) == getattr(TRAIN, name) for name in ("data", "model", "objective", "optimizer"))


def test_what_cannot_be_predicted_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(SpecError, match=r'optimizer\.name = "heavy_ball": self-stabilisation is known for sgd'):
        beside.plan_prediction(folder(tmp_path, replace(TRAIN, optimizer=HeavyBall())), first=5, last=12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--predict", "12:5"], "expected two steps, the first before the last"),
        (["--predict", "5"], "expected two steps, the first before the last"),
        (["--predict", "5:12", "--from-step", "3"], "it does not go with --predict"),
    ],
)
def test_a_range_that_is_none_is_said(tmp_path, arguments, message):
    folder(tmp_path, TRAIN)

    result = CliRunner().invoke(app, ["compare-flow", "mine", "--runs-dir", str(tmp_path), *arguments])

    assert result.exit_code == 2
    assert message in " ".join(result.output.replace("│", " ").split())


@pytest.mark.slow
def test_the_command_makes_the_flows_once_and_draws_them(tmp_path):
    run = folder(tmp_path, TRAIN)
    subprocess.run([sys.executable, "-P", "-m", "runners", str(run.path)], check=True)

    def compared():
        command = [sys.executable, "-m", "eos_tui", "compare-flow", "mine", "--json", "--runs-dir", str(tmp_path), "-o", str(figure)]
        return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)

    figure = tmp_path / "flows.svg"

    first, second = compared(), compared()

    assert first == second
    assert len(run_folder.all_runs(tmp_path)) == 3
    assert first["rows"][0]["loss"]["gradient"] == pytest.approx(first["rows"][0]["loss"]["run"], rel=1e-6)
    assert figure.read_text().startswith("<?xml")
