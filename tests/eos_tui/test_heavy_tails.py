"""The statements on tails, on runs made by hand: all but three hold where they should, and each fails by itself."""

import pytest

from eos_tui.claims import heavy_tails
from eos_tui.claims.heavy_tails import CLAIM, EQUAL, PLACES
from eos_tui.claims.statements import rows
from tests.eos_tui.evidences import evidence

REFUTED = (
    "The tail index of the diffusion is above 1.",
    "So does the index of Student's t fitted to SGD's own iterates",
    "A stable law is rejected for them",
)
"""What the paper says and is not so."""


def tails(name, index, *, upper=3.0, **more):
    fields = {
        "index": index,
        "error": 0.01,
        "lower": 2.5,
        "upper": upper,
        "noise_kernel": 0.7,
        "distance": 0.01,
        "stable_distance": 0.01,
        "hill": 3.0,
        "hill_error": 0.01,
    }
    losses = {"metrics": {"values.expected_loss": 1.0, "values.loss_sem": 0.001}, "step": {"loss": 1.0}}
    return evidence(name, steps=10, every=10, tails=fields | more, **losses)


def world():
    found = {name: tails(name, index) for name, (_, index) in EQUAL.items()}
    for place in PLACES:
        found[f"{place}-diffusion"] = tails(place, 2.7)
        found[f"{place}-sgd"] = tails(place, 16.0)
        found[f"{place}-sgd-few"] = tails(place, 16.0)
    found |= {name: tails(name, 2.7, upper=5.0) for name in ("digits-batches", "digits-slower", "digits-ridge")}
    return found | {"volterra": tails("a", 3.0), "volterra-sgd": tails("b", 3.0), "fresh": tails("c", 3.0, exact=3.0)}


def changed(name, key, value):
    runs = world()
    steps, _ = runs[name].series[key]
    runs[name].series[key] = (steps, [value] * len(steps))
    return runs


def test_where_every_number_is_as_stated_all_but_what_the_paper_says_too_much_holds():
    found = rows(CLAIM, world())

    refuted = [row.claim for row in found if not row.holds]
    assert [claim.startswith(words) for claim, words in zip(refuted, REFUTED, strict=True)] == [True] * 3
    assert {name for statement in CLAIM.statements for name in statement.runs} == {run.name for run in CLAIM.runs} == set(world())


INDEX, LOSS = ("tails", "index"), ("step", "loss")


@pytest.mark.parametrize(
    ("name", "key", "value", "words"),
    [
        ("five-4", INDEX, 4.5, "With equal eigenvalues"),
        ("three-3", INDEX, 5.0, "Three equal eigenvalues"),
        ("three-past-2", INDEX, 2.1, "Past K = 1"),
        ("features-diffusion", INDEX, 3.5, "On the paper's three data sets"),
        ("digits-sgd-few", ("tails", "distance"), 0.05, "Student's t is not rejected"),
        ("digits-batches", ("tails", "upper"), 4.0, "Twice the batch size"),
        ("digits-slower", ("tails", "upper"), 4.0, "Half the learning rate"),
        ("digits-ridge", ("tails", "upper"), 3.0, "Ridge makes"),
        ("volterra", LOSS, 1.1, "The mean loss of the diffusion"),
        ("volterra-sgd", LOSS, 0.9, "The mean loss of SGD"),
        ("fresh", ("tails", "hill"), 2.0, "On fresh Gaussian data"),
    ],
)
def test_a_number_that_is_not_as_stated_refutes_the_statement_about_it(name, key, value, words):
    found = [row.claim for row in rows(CLAIM, changed(name, key, value)) if not row.holds and not row.claim.startswith(REFUTED)]

    assert any(claim.startswith(words) for claim in found), found


def test_what_the_paper_says_holds_where_the_runs_bear_it_out():
    runs = world()
    runs["three-below-1"] = tails("a", 1.2)
    runs |= {f"{place}-sgd": tails(place, 2.6) for place in PLACES}
    runs |= {f"{place}-sgd-few": tails(place, 2.6, stable_distance=0.06) for place in PLACES}

    assert all(row.holds for row in rows(CLAIM, runs))


def test_a_fit_that_ends_at_a_gaussian_is_said_and_alone_is_no_evidence():
    runs = world()
    for place in PLACES:
        runs[f"{place}-sgd"] = tails(place, 16.0)
        runs[f"{place}-sgd"].series[INDEX] = ([0, 10], [None, None])

    [row] = [row for row in rows(CLAIM, runs) if row.claim.startswith(REFUTED[1])]

    assert row.why == "A Gaussian fits all of them as well as Student's t."


def test_a_lone_eigenvalue_has_the_learning_rate_of_its_index():
    assert [heavy_tails._lr_of(rank, index) for rank, index in ((1, 3.0), (3, 3.0))] == [1.0, 0.5]
