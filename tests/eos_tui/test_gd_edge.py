"""The full batch's statements on runs made by hand: all hold where they should, and each fails by itself."""

import pytest

from eos_tui.claims.gd_edge import CENTRAL, CLAIM, CYCLE, GRADIENT, LR, SMALL
from eos_tui.claims.statements import rows
from tests.eos_tui.evidences import evidence

EDGES = {"gd": 2 / 0.3, "gd-half": 2 / 0.15, "heavy-ball": 3.8 / 0.3, "nesterov": 3.8 / 2.8 / 0.1, "sam": 4.0}


def rising(edge):
    return lambda step: min(edge * 1.02, 3.0 + (edge * 1.02 - 3.0) * step / 300)


def run(name):
    """Sharpening to the edge by step 300; the loss falls at each step below it, and at every second one from there on."""
    edge = EDGES.get(name, 4000.0)
    values = {"value": rising(edge), "ratio": lambda step: rising(edge)(step) / edge, "error": 0.01}
    if name not in EDGES:
        values |= {"preconditioned": 4000.0, "preconditioned_error": 1.0, "value": lambda step: 10.0 + step / 100}
    if name == "cross-entropy":
        values |= {"ratio": lambda step: 1.1 if step == 20 else 0.2, "value": 0.2}

    def loss(step):
        return 0.5 * 0.99 ** (step / 5) * (1.05 if step > 300 and step // 5 % 2 else 1.0)

    return evidence(name, steps=300 if name == "cross-entropy" else 900, every=5, sharpness=values, step={"loss": loss})


def beside(name):
    """Gradient descent at its edge of 5 from step 100 on, the gradient flow beyond it, and the central flow with the oscillation's part."""

    def sharpness(step):
        return 3 + step / 50 if name == GRADIENT else min(3 + step / 50, 5.05 if name == SMALL else 5.0)

    values = {"sharpness": {"value": sharpness, "ratio": lambda step: sharpness(step) / 5, "error": 0.01}}
    values["step"] = {"loss": 0.2 if name == SMALL else 0.15}
    if name == CENTRAL:
        values["flow"] = {"averaged_loss": 0.21}
    return evidence(name, steps=600, every=5, **values)


def cycle():
    """A burst about an edge of 4, of which the prediction, from step 50 on, says three quarters."""
    values = {"step": {"loss": lambda step: 0.4 if step % 20 == 10 else 0.1}}
    values["sharpness"] = {"value": lambda step: 4 + 0.4 * (-1) ** (step // 10), "threshold": 4.0, "error": 0.001}
    values["prediction"] = {"loss": lambda step: 0.3 if step % 20 == 10 else 0.1, "sharpness": lambda step: 4 + 0.3 * (-1) ** (step // 10)}
    return evidence(CYCLE, steps=100, every=5, **values)


def world():
    return {name: run(name) for name in LR} | {name: beside(name) for name in (SMALL, GRADIENT, CENTRAL)} | {CYCLE: cycle()}


def changed(name, key, value):
    runs = world()
    steps, _ = runs[name].series[key]
    runs[name].series[key] = (steps, [value(step) if callable(value) else value for step in steps])
    return runs


def test_where_every_number_is_as_stated_every_statement_holds():
    found = rows(CLAIM, world())

    assert [row.why for row in found if not row.holds] == []
    assert len(found) == len(CLAIM.statements)


@pytest.mark.parametrize(
    ("name", "key", "value", "words"),
    [
        *((name, ("sharpness", "ratio"), lambda step: 0.8 if step == 800 else 1.0, words) for name, words in (
            ("gd", "Gradient descent's "), ("heavy-ball", "Heavy ball's "), ("nesterov", "Nesterov's "), ("adam", "Adam's "),
            ("rmsprop", "RMSProp's "), ("sam", "SAM's "))),
        ("gd", ("sharpness", "value"), 6.8, "Progressive sharpening"),
        ("gd-half", ("sharpness", "value"), 6.8, "Half the learning rate"),
        ("gd", ("step", "loss"), lambda step: 1.0 + step % 2, "Below the edge"),
        ("gd", ("step", "loss"), lambda step: 0.99**step, "At the edge the loss goes up and down"),
        ("gd", ("step", "loss"), 0.5, "... and falls in the long run"),
        ("heavy-ball", ("sharpness", "value"), 6.0, "Heavy ball stays stable"),
        ("sam", ("sharpness", "value"), 10.0, "SAM keeps the sharpness below"),
        ("rmsprop", ("sharpness", "value"), lambda step: 20.0 - step / 100, "At their edge Adam and RMSProp"),
        ("cross-entropy", ("sharpness", "ratio"), 1.1, "With cross-entropy the sharpness falls"),
        (GRADIENT, ("sharpness", "value"), 6.0, "Up to the edge gradient descent is gradient flow"),
        (GRADIENT, ("sharpness", "ratio"), lambda step: min(step / 100, 1.2), "But gradient flow goes on sharpening"),
        (CYCLE, ("prediction", "sharpness"), 4.0, "At the edge self-stabilisation predicts"),
        (CYCLE, ("prediction", "loss"), 0.4, "And so is its loss"),
        (CENTRAL, ("flow", "averaged_loss"), lambda step: 0.2 if step < 500 else 0.15, "At the edge the central flow predicts"),
        (CENTRAL, ("step", "loss"), 0.2, "Of this the oscillation makes a part"),
        (CENTRAL, ("sharpness", "value"), 8.0, "And its sharpness is gradient descent's average"),
    ],
)  # fmt: skip
def test_a_number_that_is_not_as_stated_refutes_the_statement_about_it(name, key, value, words):
    found = [row for row in rows(CLAIM, changed(name, key, value)) if not row.holds]

    assert any(row.claim.startswith(words) for row in found), [row.claim for row in found]


def test_a_run_that_never_crosses_its_edge_is_said_not_to():
    found = [row for row in rows(CLAIM, changed("gd", ("sharpness", "ratio"), 0.95)) if not row.holds]

    assert {row.why for row in found} == {"gd was never above its threshold."}


def test_the_charts_have_every_optimizer():
    assert all(line.points for chart in CLAIM.charts(world()) for line in chart.lines)
