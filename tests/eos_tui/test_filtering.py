"""The language that filters a list of runs."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eos_tui.filtering import Candidate, FilterError, parse, unknown

RUN = Candidate(
    name="Digits-b16-0a1b",
    fields={"status": "running", "loss": 0.02, "K": None, "step": 300},
    spec={
        "optimizer": {"name": "adam", "lr": 0.01, "batch_size": "full", "beta1": 0.9},
        "model": {"name": "mlp", "width": 128, "bias": True},
        "objective": {"name": "mse", "weight_decay": 0.0},
        "runner": "train",
    },
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "digits",
        "B16",
        "/b(8|16)-/",
        "/^D/",
        "status:running",
        "status=RUNNING",
        "status!=failed",
        "-status:failed",
        "loss<0.1",
        "loss<=2e-2",
        "loss=0.02",
        "step>=300",
        "lr>0.001",
        "optimizer.lr=1e-2",
        "optimizer=adam",
        "optimizer.name:adam",
        "batch_size:full",
        "bias:true",
        "runner:train",
        "digits lr<1 -/b8/",
        "name!=adam",
        "-nonsense:3",
        "K:none",
    ],
)
def test_a_run_is_wanted_by_what_it_is(text):
    assert parse(text)(RUN)


@pytest.mark.parametrize(
    "text",
    ["cifar", "/b8-/", "status:failed", "-digits", "loss>0.02", "lr>0.01", "K>0", "K<0", "optimizer=sgd", "digits lr>1", "nonsense:3"],
)
def test_a_run_is_not_wanted_by_what_it_is_not(text):
    assert not parse(text)(RUN)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/b(/", "not a regular expression"),
        ("lr>", "expected something behind >"),
        ("status:", "expected something behind :"),
        ("lr>fast", "expected a number behind >"),
        ("-lr>fast", "expected a number behind >"),
    ],
)
def test_what_is_not_a_filter_is_said_with_what_was_expected(text, words):
    with pytest.raises(FilterError, match=words):
        parse(text)


def test_a_key_that_no_run_has_is_said_with_the_nearest_one():
    assert unknown("digits optimiser=adam", RUN.keys()) == "No run has 'optimiser'. Did you mean 'optimizer'?"
    assert unknown("digits -lr>1 optimizer.lr<3 /a:b/", RUN.keys()) == ""


@given(st.text(max_size=40))
def test_whatever_is_typed_is_a_filter_or_said_not_to_be_one(text):
    with suppress(FilterError):
        assert parse(text)(RUN) in (True, False)
