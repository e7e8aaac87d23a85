"""The statements on width and depth, on runs made by hand: all hold where they should, and each fails by itself."""

import math

import pytest

from eos_tui.claims import super_consistency as claims
from eos_tui.claims.execution import check_data
from eos_tui.claims.statements import rows
from eos_tui.claims.super_consistency import CLAIM, DEPTH, LR, WIDTH
from runners.errors import DataError
from tests.eos_tui.evidences import evidence

FORM = "form-mup-ours"
BEST = {
    "sgd-mup": lambda size: 3.0,
    "sgd-ntp": lambda size: size / 2.2,
    "adam-mup": lambda size: 0.008,
    "adam-sp": lambda size: 0.008 * 64 / size,
    "depth-half": lambda size: 1.0,
    "depth-zero": lambda size: 4.0 / size,
    "cifar-mup": lambda size: 2.0,
    "cifar-ntp": lambda size: size / 2,
}
"""The best learning rate of each size."""
SLOPES = {"mup": 0.0, "adam-mup": -0.05, "ntp": -0.5, "sp": 0.7, "adam-sp": 1.0, "multiplier": 0.5, "exponent": 0.5}
"""Of the change over the width; of the outputs under NTP 0."""


def bowl(lr, best):
    return math.exp(math.log(lr / best) ** 2)


def check(name, width, slope):
    layers = ("layer_0", "layer_1", "layer_2")
    changes = {
        f"changes.{layer}": lambda step, b=(0.0 if (slope, layer) == (-0.5, "layer_2") else slope): step * width**b for layer in layers
    }
    return evidence(name, steps=4, every=1, activations=changes | {f"sizes.{layer}": 1.0 for layer in layers})


def sharp(name, value, *, steps, every, threshold=1.0, loss=1.0):
    of = value if callable(value) else lambda step: value
    values = {"value": of, "ratio": lambda step: of(step) / threshold, "error": 0.0}
    return evidence(name, steps=steps, every=every, sharpness=values, step={"loss": loss})


def world():
    found = {}
    for study in claims.STUDIES:
        for name, point in study.points().items():
            size = point.get(WIDTH) or point.get(DEPTH)
            match study.name:
                case "edge":
                    found[name] = sharp(name, 2 / point[LR], steps=400, every=20, threshold=2 / point[LR])
                case "cifar-edge":
                    found[name] = sharp(name, 2.0, steps=200, every=20, threshold=2.0)
                case "lazy":
                    found[name] = sharp(name, 0.1 + 5 / size, steps=600, every=50)
                case "ce-mup":
                    found[name] = sharp(name, 1 + 1 / size, steps=150, every=10, loss=1 + 1 / size)
                case "ce-ntp":
                    found[name] = sharp(name, 1 / size, steps=150, every=10, loss=math.sqrt(size))
                case "linear-mup":
                    found[name] = sharp(name, lambda step: 0.279 if step == 0 else 0.4583, steps=300, every=50)
                case "linear-ntp":
                    found[name] = sharp(name, 0.1, steps=300, every=50)
                case "cifar-check":
                    found[name] = check(name, size, 0.0)
                case study_name if study_name.startswith("check-"):
                    found[name] = check(name, size, SLOPES[study_name.removeprefix("check-")])
                case study_name:
                    found[name] = evidence(name, steps=100, every=1, step={"loss": bowl(point[LR], BEST[study_name](size))})
    for form in claims.FORMS:
        for which in (0, 1):
            name = claims._form_name(form, which)
            found[name] = sharp(name, 1.0, steps=50, every=10)
    return found


def changed(prefix, key, value):
    """The runs whose names begin so, with another series."""
    runs = world()
    for name, run in runs.items():
        if name.startswith(prefix):
            steps, _ = run.series[key]
            run.series[key] = (steps, [value(step) if callable(value) else value for step in steps])
    return runs


def test_where_every_number_is_as_stated_every_statement_holds():
    found = rows(CLAIM, world())

    assert [row.why for row in found if not row.holds] == []
    assert len(found) == len(CLAIM.statements)


def test_every_run_of_the_claim_is_of_a_statement():
    assert {name for statement in CLAIM.statements for name in statement.runs} == {run.name for run in CLAIM.runs} == set(world())


SHARPNESS, RATIO, LOSS, CHANGE = ("sharpness", "value"), ("sharpness", "ratio"), ("step", "loss"), ("activations", "changes.layer_1")


@pytest.mark.parametrize(
    ("prefix", "key", "value", "words"),
    [
        ("edge-width128-lr2", RATIO, 0.9, "Under muP the sharpness stands at 2/lr"),
        ("edge-width128-lr2", SHARPNESS, 1.1, "Under muP the sharpness at the edge is the same"),
        ("cifar-edge-width32", RATIO, 0.7, "CIFAR-10, convolutional, muP"),
        ("lazy", SHARPNESS, 1.0, "Under NTP the sharpness depends"),
        ("lazy-width512", SHARPNESS, lambda step: 0.1 + step / 1e4, "Under NTP a wide net does not sharpen"),
        ("ce-mup-width256", SHARPNESS, 2.0, "Under muP with small batches"),
        ("ce-ntp", SHARPNESS, 1.0, "Under NTP with small batches"),
        ("ce-mup-width1024", LOSS, 2.0, "Under muP wider nets"),
        ("ce-ntp", LOSS, 1.0, "Under NTP at one learning rate"),
        ("sgd-mup-width32-lr1", LOSS, 0.001, "The best learning rate of SGD under muP"),
        ("sgd-ntp-width32-lr256", LOSS, 0.001, "The best learning rate of SGD under NTP"),
        ("adam-mup-width1024-lr0.00195312", LOSS, 0.001, "The best learning rate of Adam under muP"),
        ("adam-sp-width1024-lr0.0078125", LOSS, 0.001, "Control: that of Adam with SP"),
        ("depth-half-depth32-lr0.25-", LOSS, 0.001, "With branches over sqrt(L)"),
        ("depth-zero-depth8-lr2", LOSS, 0.001, "Without the factor on branches"),
        ("cifar-mup-width16-lr1", LOSS, 0.001, "CIFAR-10, convolutional: the best learning rate under muP"),
        ("cifar-ntp-width16-lr32", LOSS, 0.001, "CIFAR-10, convolutional: the best learning rate under NTP"),
        ("check-mup-width512", CHANGE, 9.0, "Coordinate check, muP with SGD"),
        ("check-adam-mup-width512", CHANGE, 9.0, "Coordinate check, muP with Adam"),
        ("check-ntp", CHANGE, 1.0, "Coordinate check, NTP"),
        ("cifar-check-width256", CHANGE, 9.0, "Coordinate check, muP on CIFAR-10"),
        ("linear-mup-width128", SHARPNESS, 0.48, "Linear net under muP: the last sharpness"),
        ("linear-mup-width512", SHARPNESS, 0.4583, "Linear net under muP: the sharpness grows"),
        ("linear-ntp-width512", SHARPNESS, lambda step: 0.1 + step / 1e4, "Linear net under NTP"),
        (FORM, LOSS, 1.002, "The form with one learning rate"),
        (FORM, RATIO, 0.998, "The form with one learning rate"),
    ],
)  # fmt: skip
def test_a_number_that_is_not_as_stated_refutes_the_statement_about_it(prefix, key, value, words):
    found = [row for row in rows(CLAIM, changed(prefix, key, value)) if not row.holds]

    assert [row.claim for row in found if not row.claim.startswith(words)] == []
    assert found


@pytest.mark.parametrize("control", ["sp", "adam-sp", "multiplier", "exponent"])
def test_a_control_that_passes_the_check_refutes_the_statement_that_it_fails(control):
    runs = world()
    for name, point in claims.CHECKS[control].points().items():
        runs[name] = check(name, point[WIDTH], 0.0)

    found = [row for row in rows(CLAIM, runs) if not row.holds]

    assert [(row.claim.partition(" for ")[0], row.measured) for row in found] == [("Control: the coordinate check fails", 0.0)]


def test_a_best_learning_rate_at_an_end_of_the_grid_is_no_evidence_that_it_stays():
    runs = world()
    for name, point in claims.SGD_MUP.points().items():
        runs[name] = evidence(name, steps=100, every=1, step={"loss": bowl(point[LR], 100.0)})

    [row] = [row for row in rows(CLAIM, runs) if not row.holds]

    assert row.why is not None
    assert "the best learning rate, 8, is the highest one tried" in row.why


def test_rows_whose_data_is_not_here_say_so():
    missing = dict.fromkeys(claims.CIFAR_MUP.names, "cifar10 is not here.")
    runs = {name: run for name, run in world().items() if name not in missing}

    [row] = [row for row in rows(CLAIM, runs, missing) if not row.holds]

    assert (row.measured, row.why) == (None, "Not measured: cifar10 is not here.")


def test_the_charts_have_every_width():
    assert all(line.points for chart in CLAIM.charts(world()) for line in chart.lines)


def test_without_cifar10_the_runs_that_need_it_are_left_out_and_of_another_claim_none_is_made(monkeypatch, tmp_path):
    monkeypatch.setenv("EOS_DATA", str(tmp_path))
    plan = [*claims.CIFAR_CHECK.planned(), *claims.EDGE.planned()]

    missing = check_data(plan, claim="it", optional=CLAIM.optional)

    assert tuple(missing) == claims.CIFAR_CHECK.names
    with pytest.raises(DataError, match="it needs a data set that is not here"):
        check_data(plan, claim="it")
