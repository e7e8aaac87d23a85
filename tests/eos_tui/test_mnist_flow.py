"""The statements on MNIST, on curves made here: all hold where they should, and each fails by itself."""

import math

import pytest

from eos_tui.claims.mnist_flow import BEGIN, CLAIM, LR
from eos_tui.claims.statements import rows
from tests.eos_tui.evidences import evidence

STEPS = 14_000


def curve(rate):
    """Sharpness by step: 80 up to the end of the warm start, then it decays in tau."""
    return lambda step: 80 * math.exp(-rate * LR**2 * max(step - BEGIN, 0))


def runs(*, rate=1.0, flow_rate=1.01, share=1.0):
    """Loss from one orbit of 0.3 and 0.7 of the sum of roots, times a share."""
    sharpness = curve(rate)

    def loss(step):
        return (share * (0.3 if step % 2 else 0.7) * LR * math.sqrt(sharpness(step) / 2)) ** 2

    descent = evidence("mnist-ngd", steps=STEPS, every=1, step={"loss": loss}, sharpness={"value": sharpness, "error": 1e-6})
    flow = evidence("mnist-flow", steps=STEPS, every=200, step={"loss": 1e-5}, sharpness={"value": curve(flow_rate), "error": 1e-6})
    return {"mnist-ngd": descent, "mnist-flow": flow}


def test_all_statements_hold_where_both_curves_are_one():
    told = rows(CLAIM, runs(flow_rate=1.02))

    assert [row.why for row in told] == [None] * len(told)


@pytest.mark.parametrize(
    ("keys", "failing"),
    [
        ({"flow_rate": 1.2}, [0, 1]),
        ({"rate": 0.3, "flow_rate": 0.301}, [2]),
        ({"share": 1.2}, [3]),
    ],
)
def test_each_statement_fails_where_its_number_is_another(keys, failing):
    told = rows(CLAIM, runs(**keys))

    assert [place for place, row in enumerate(told) if not row.holds] == failing


def test_a_wrong_constant_is_told_by_how_far_it_is_off():
    row = rows(CLAIM, runs(flow_rate=1.02))[1]

    at = [LR**2 * 200 * turn for turn in range(1, 21)]
    right = math.sqrt(sum((math.exp(-0.02 * tau) - 1) ** 2 for tau in at) / 20)
    half = math.sqrt(sum((math.exp(-0.51 * tau + tau) - 1) ** 2 for tau in at[1::2]) / 10)
    assert row.values["right"] == pytest.approx(right, rel=1e-6)
    assert row.values["times 0.5"] == pytest.approx(half, rel=1e-6)
