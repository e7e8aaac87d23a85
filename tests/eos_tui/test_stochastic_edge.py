"""The stochastic edge's statements on runs made by hand: all hold where they should, and each fails by itself."""

import pytest

from eos_tui.claims.statements import rows
from eos_tui.claims.stochastic_edge import CLAIM
from tests.eos_tui.evidences import evidence

SHARPNESS = {1: 8.0, 2: 18.0, 4: 44.0, 8: 100.0, 16: 164.0, 32: 187.0, 1000: 203.0}
ONE_STEPS = {1: 48000, 2: 12000, 4: 12000, 8: 12000, 16: 6000, 32: 4000, 1000: 2000}
TRACE_PARTS = {2: 0.65, 4: 0.64, 8: 0.58, 16: 0.42}
TEN_TRACES = {1: 600.0, 2: 1320.0, 4: 3000.0, 8: 6600.0, 16: 8000.0, 1000: 8000.0}
ONLY = "Only lr / B counts: trace and K at lr x steps"
PEAKS = {1: 1.2, 4: 1.1, 16: 0.47, 64: 0.16}


def fitted(step):
    return 0.5 if step == 0 else 0.01


def sharpness(value):
    return {"value": value, "ratio": value * 0.01 / 2, "error": 0.01}


def one(batch):
    trace = 530.0 if batch < 16 else lambda step: 1300.0 - 1000.0 / (1 + step / 500)
    return evidence(
        f"one-b{batch}",
        steps=ONE_STEPS[batch],
        sharpness=sharpness(SHARPNESS[batch]),
        ntk={"trace": trace, "noise_kernel": 0.65, "noise_kernel_trace": TRACE_PARTS.get(batch, 0.6), "noise_kernel_bound": 0.75},
        batch_sharpness={"value": 160.0, "ratio": 0.8, "sem": 2.0},
        mean_square={"ratio": 0.95, "threshold": 0.0105, "error": 0.0},
        metrics={"values.measured_loss": fitted},
    )


def ten(batch):
    def trace(step):
        return 3600.0 if step == 0 else TEN_TRACES[batch]

    return evidence(
        f"ten-b{batch}",
        steps=1500 if batch == 1000 else 24000,
        sharpness=sharpness(203.0),
        ntk={"trace": trace, "noise_kernel": lambda step: 1.8 if step == 0 else 0.35, "noise_kernel_bound": 0.7},
    )


def cross_entropy(batch):
    steps = 16000 if batch < 16 else 4000

    def kernel(step):
        return 3.3 if batch == step + 1 else PEAKS[batch] if batch == 1 or 0 < step < steps else 0.3 * PEAKS[batch]

    return evidence(
        f"ce-b{batch}",
        steps=steps,
        sharpness={"value": 50.0, "ratio": 0.5, "error": 0.1},
        ntk={"trace": lambda step: 600.0 if step == 0 else 110.0, "noise_kernel": kernel},
    )


def collapsed(batch, lr):
    ntk = {"trace": 540.0, "noise_kernel": 0.66}
    return evidence(f"collapse-b{batch}", steps=round(120 / lr), sharpness=sharpness(44.0), ntk=ntk)


def dropped():
    def kernel(step):
        return 0.65 if step < 3000 else 0.1625 * (1 + (step - 3000) / 9000)

    trace = {"trace": lambda step: 530.0 * (1 + max(step - 3000, 0) / 9000), "noise_kernel": kernel}
    values = {"value": lambda step: 44.0 * (1 + max(step - 3000, 0) / 9000), "error": 0.01}
    return evidence("lr-drop", steps=12000, sharpness=values, ntk=trace)


def world():
    """Runs of which every statement holds."""
    momentum = evidence("momentum", steps=12000, sharpness=sharpness(46.0), ntk={"trace": 545.0, "noise_kernel": 0.67})
    return (
        {f"one-b{batch}": one(batch) for batch in ONE_STEPS}
        | {f"ten-b{batch}": ten(batch) for batch in TEN_TRACES}
        | {f"ce-b{batch}": cross_entropy(batch) for batch in PEAKS}
        | {f"collapse-b{batch}": collapsed(batch, lr) for batch, lr in ((1, 0.0025), (2, 0.005), (8, 0.02))}
        | {"momentum": momentum, "lr-drop": dropped()}
    )


def refuted(runs):
    return [row for row in rows(CLAIM, runs) if not row.holds]


def changed(name, key, value):
    """The world with another value of a number, at every step, in one run."""
    runs = world()
    steps, _ = runs[name].series[key]
    runs[name].series[key] = (steps, [value(step) if callable(value) else value for step in steps])
    return runs


def test_where_every_number_is_as_stated_every_statement_holds():
    found = rows(CLAIM, world())

    assert [row.why for row in found if not row.holds] == []
    assert len(found) == len(CLAIM.statements)
    assert all(row.measured is not None and row.values and row.seconds > 0 for row in found)


@pytest.mark.parametrize(
    ("name", "key", "value", "words"),
    [
        ("one-b2", ("sharpness", "value"), 50.0, "Conservative sharpening"),
        ("ten-b1000", ("sharpness", "ratio"), 0.98, "With the full batch the sharpness goes to 2/lr"),
        ("one-b1000", ("sharpness", "ratio"), 0.98, "The same for one output"),
        ("one-b8", ("sharpness", "ratio"), 0.9, "Stochastic edge"),
        ("one-b4", ("metrics", "values.measured_loss"), 0.5, "And not because training has come to rest"),
        ("ten-b2", ("ntk", "trace"), 1000.0, "At small batches the plateau of the NTK trace"),
        ("ten-b16", ("ntk", "trace"), 16000.0, "Then it saturates"),
        ("one-b16", ("ntk", "noise_kernel"), 1.0, "The plateau of K does not depend"),
        ("one-b2", ("sharpness", "value"), 43.0, "While the plateau of the sharpness does"),
        ("one-b16", ("ntk", "noise_kernel_trace"), 0.6, "The trace part of K alone"),
        ("one-b8", ("mean_square", "ratio"), 1.2, "The runs stand at the exact edge"),
        ("collapse-b1", ("ntk", "trace"), lambda step: 540.0 if step > 4000 else 300.0, f"{ONLY} = 10 "),
        ("collapse-b8", ("ntk", "noise_kernel"), lambda step: 0.9 if step == 6000 else 0.66, f"{ONLY} = 120"),
        ("momentum", ("sharpness", "value"), 60.0, "Heavy ball"),
        ("lr-drop", ("ntk", "trace"), 530.0, "The learning rate divided by 4 lifts"),
        ("one-b4", ("ntk", "trace"), lambda step: 540.0 if step <= 3000 or step == 4000 else 700.0, "Without the drop"),
        ("ten-b4", ("ntk", "noise_kernel"), 0.065, "K as a sum over outputs"),
        ("ten-b4", ("ntk", "noise_kernel_bound"), 0.4, "The bound K_MM"),
        ("one-b1", ("batch_sharpness", "ratio"), 0.5, "Batch sharpness rises"),
        ("one-b32", ("sharpness", "ratio"), 0.7, "... to near it"),
        ("ce-b1", ("ntk", "noise_kernel"), 0.5, "Cross-entropy with B = 1"),
        ("ce-b16", ("sharpness", "ratio"), 0.7, "With cross-entropy the sharpness never"),
        ("ten-b1", ("ntk", "trace"), lambda step: 1200.0 if step == 0 else 600.0, "A K above 1 at the start"),
        ("one-b16", ("ntk", "trace"), lambda step: 300.0 if step == 1500 else 500.0 + step, "A K far below 1"),
    ],
)  # fmt: skip
def test_a_number_that_is_not_as_stated_refutes_the_statement_about_it(name, key, value, words):
    found = refuted(changed(name, key, value))

    assert any(row.claim.startswith(words) for row in found), [row.claim for row in found]
    assert all(row.why for row in found)


def test_the_charts_have_every_batch_size():
    charts = CLAIM.charts(world())

    assert [line.label for line in charts[0].lines] == [f"B={batch}" for batch in ONE_STEPS]
    assert all(line.points for chart in charts for line in chart.lines)
