"""The statements on normalised descent and sqrt(L), on iterates computed here: all hold where they should, and each fails by itself."""

import math

import pytest

from eos_tui.claims.normalized import CLAIM, RATES
from eos_tui.claims.statements import rows
from tests.eos_tui.evidences import evidence


def valley(name, *, lr, start, steps):
    """(x, y) by step."""
    (x, y), found = start, [start]
    for _ in range(steps):
        loss, (a, b) = (1 + x * x) * y * y, (2 * x * y * y, 2 * (1 + x * x) * y)
        rate = lr / (2 * math.sqrt(loss)) if name.startswith("sqrt") else lr / math.hypot(a, b)
        x, y = x - rate * a, y - rate * b
        found.append((x, y))
    return found


def valley_run(name, *, every=1, stableness=None, **keys):
    places = valley(name, **keys)

    def loss(step):
        x, y = places[step]
        return (1 + x * x) * y * y

    values = {"metrics": {"values.x": lambda step: places[step][0], "values.y": lambda step: places[step][1]}, "step": {"loss": loss}}
    return evidence(name, steps=len(places) - 1, every=every, **values, **({"stableness": stableness} if stableness else {}))


def quadratic_run():
    u, v = 1e-3 * math.sqrt(1 - (0.05 / 0.399) ** 2), -1e-3 * 0.05 / 0.399
    found = [(u, v)]
    for _ in range(11):
        norm = math.hypot(u, v)
        u, v = u - u / norm, v - 0.4 * v / norm
        found.append((u, v))
    places = {"values.x1": lambda step: found[step][0], "values.x2": lambda step: found[step][1] / 0.4}
    return evidence("quadratic", steps=11, every=1, metrics=places, stableness=PAIR)


PAIR = {
    "value": 3.0,
    "reciprocal_sum": 1.01,
    "effective_reciprocal_sum": 0.99,
    "effective_sharpness": 3.0,
    "next_effective_sharpness": 1.5,
    "effective_harmonic_mean": 2.0,
    "loss_ratio": 1.02,
    "alignment": 1 - 1e-8,
}


def net_run(name):
    loss = {"loss": lambda step: 1e-3 if step // 50 % 2 else 2e-3}
    sharpness = {"value": lambda step: 10 - step / 1000, "error": 1e-6}
    return evidence(name, steps=3000, every=50, step=loss, sharpness=sharpness, stableness=PAIR)


def digits_run(name):
    loss = {"loss": lambda step: 1e-3 if step // 200 % 2 else 2e-3}
    sharpness = {"value": lambda step: 10 - step / 1000, "error": 1e-6}
    gradient = {"directional_sharpness": lambda step: 0.99 * (10 - step / 1000)}
    return evidence(name, steps=6000, every=200, step=loss, sharpness=sharpness, stableness=PAIR, gradient=gradient)


def world():
    runs = {name: net_run(name) for name in ("ngd-net", "sqrt-net")} | {name: digits_run(name) for name in ("ngd-digits", "sqrt-digits")}
    runs["sqrt-toy"] = valley_run("sqrt-toy", lr=0.5, start=(14.7, 3.0), steps=60, stableness=PAIR)
    runs["ngd-toy"] = valley_run("ngd-toy", lr=5.0, start=(14.7, -3.0), steps=9)
    runs["quadratic"] = quadratic_run()
    for lr in RATES:
        for algorithm, length in (("ngd", lr), ("sqrt", lr * math.sqrt(5))):
            steps = round(2 / lr**2)
            name = f"{algorithm}-{lr:g}"
            runs[name] = valley_run(name, lr=lr, start=(2.0, 0.3 * length), steps=steps, every=steps // 10)
    return runs


def changed(name, key, value):
    runs = world()
    steps, numbers = runs[name].series[key]
    runs[name].series[key] = (steps, [value(step, number) for step, number in zip(steps, numbers, strict=True)])
    return runs


def test_where_every_number_is_as_stated_every_statement_holds():
    found = rows(CLAIM, world())

    assert [row.why for row in found if not row.holds] == []
    assert len(found) == len(CLAIM.statements)


def test_an_orbit_without_short_steps_is_said_to_have_none():
    found = [row for row in rows(CLAIM, changed("quadratic", ("metrics", "values.x1"), lambda *_: 0.6)) if not row.holds]

    assert "quadratic has fewer than two steps with a norm of at most 1/2." in {row.why for row in found}


XS, YS = ("metrics", "values.x"), ("metrics", "values.y")


@pytest.mark.parametrize(
    ("name", "key", "value", "words"),
    [
        ("sqrt-toy", XS, lambda step, x: x * 1.00001 if step == 2 else x, "In the valley gradient descent on sqrt(L)"),
        ("ngd-toy", YS, lambda _, y: abs(y), "Both algorithms jump"),
        ("ngd-toy", XS, lambda step, x: x + step, "... and each step leads"),
        ("sqrt-toy", ("step", "loss"), lambda step, loss: loss * 4**step, "Of sqrt(L) the sum"),
        ("sqrt-toy", ("stableness", "effective_harmonic_mean"), lambda *_: 2.01, "At the end of this run"),
        ("quadratic", ("metrics", "values.x1"), lambda step, x: x * 1.00001 if step == 3 else x, "On a quadratic normalised steps"),
        ("quadratic", ("metrics", "values.x1"), lambda _, x: x * 1.01, "Two of these in a row"),
        ("quadratic", ("metrics", "values.x1"), lambda *_: 0.45, "... though neither is half"),
        ("quadratic", ("metrics", "values.x1"), lambda step, x: x * 0.9**step, "Of the steps with a norm"),
        ("quadratic", ("stableness", "alignment"), lambda *_: 0.999, "The quadratic's gradient turns"),
        ("ngd-0.05", XS, lambda step, x: x + 0.002 * (step > 0), "Along the valley's floor, normalised"),
        ("sqrt-0.05", XS, lambda step, x: x + 0.003 * (step > 0), "Along the valley's floor, on sqrt(L)"),
        ("ngd-0.2", XS, lambda step, x: x + 0.05 * (step > 0), "The flow's constant is no other, normalised"),
        ("sqrt-0.2", XS, lambda step, x: x + 0.05 * (step > 0), "The flow's constant is no other, on sqrt(L)"),
        ("sqrt-net", ("stableness", "alignment"), lambda *_: 0.9, "On a net too"),
        ("ngd-net", ("stableness", "reciprocal_sum"), lambda step, _: 0.9 if step == 2500 else 1.0, "Of two normalised steps in a row"),
        ("sqrt-net", ("stableness", "effective_reciprocal_sum"), lambda *_: 1.1, "With the effective sharpness"),
        ("ngd-net", ("stableness", "effective_harmonic_mean"), lambda *_: 2.25, "So their harmonic mean is 2"),
        ("ngd-net", ("stableness", "loss_ratio"), lambda *_: 0.5, "Two sqrt(L) in a row"),
        ("sqrt-net", ("stableness", "loss_ratio"), lambda *_: 0.5, "On sqrt(L) they add up"),
        ("ngd-net", ("step", "loss"), lambda step, _: 1 / (1 + step), "At its floor the net's loss rises at every other step, normalised"),
        ("sqrt-net", ("step", "loss"), lambda step, _: 1 / (1 + step), "At its floor the net's loss rises at every other step, on sqrt(L)"),
        ("sqrt-net", ("sharpness", "value"), lambda *_: 10.0, "While the loss is at its floor"),
        ("ngd-net", ("sharpness", "value"), lambda step, value: value + 0.1 * (step == 2500), "... slowly and steadily"),
        ("ngd-digits", ("stableness", "alignment"), lambda *_: 0.9, "On digits the gradient turns"),
        ("sqrt-digits", ("gradient", "directional_sharpness"), lambda *_: 3.0, "... or among the top eigenvectors"),
        ("ngd-digits", ("stableness", "effective_reciprocal_sum"), lambda *_: 1.1, "There 1/S + 1/S' = 1"),
        ("sqrt-digits", ("stableness", "loss_ratio"), lambda *_: 0.5, "... two sqrt(L) in a row"),
        ("sqrt-digits", ("step", "loss"), lambda step, _: 1 / (1 + step), "... the loss rises at every other step"),
        ("ngd-digits", ("sharpness", "value"), lambda step, value: value + 0.3 * (step == 5000), "... and the sharpness falls"),
    ],
)
def test_a_number_that_is_not_as_stated_refutes_the_statement_about_it(name, key, value, words):
    found = [row for row in rows(CLAIM, changed(name, key, value)) if not row.holds]

    assert any(row.claim.startswith(words) for row in found), [row.claim for row in found]


def test_the_runs_along_the_floor_start_off_it_by_less_than_a_step_and_come_to_the_same_time():
    specs = {run.name: run.spec() for run in CLAIM.runs}

    for lr in RATES:
        for algorithm in ("ngd", "sqrt"):
            spec = specs[f"{algorithm}-{lr:g}"]
            assert spec.optimizer.lr == lr
            assert spec.optimizer.lr**2 * spec.run.steps == pytest.approx(2.0)
            assert spec.objective.transform == ("sqrt" if algorithm == "sqrt" else "none")
            assert 0 < spec.function.start[1] < lr


def test_the_charts_have_every_run_along_the_floor_and_the_flow_ends_where_its_closed_form_says():
    charts = CLAIM.charts(world())

    assert all(line.points for chart in charts for line in chart.lines)
    assert {f"{algorithm}, lr={lr:g}" for algorithm in ("ngd", "sqrt") for lr in RATES} == {line.label for line in charts[1].lines}
    [line] = [line for line in charts[0].lines if line.label == "sqrt, flow"]
    tau, x = line.points[-1]
    assert x == pytest.approx(line.points[0][1] * math.exp(-tau / 2))
