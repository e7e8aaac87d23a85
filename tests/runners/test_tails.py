import json

import numpy as np
import pytest

from runners import tails
from runners.errors import DataError, SpecError
from runners.tails import Request


def report(**request):
    return tails.report(Request(**({"lr": 0.1} | request)))


def test_the_digits_are_taken_as_the_spec_says():
    found = report(data="digits", overrides=("data.standardize=min-max", "data.num_train=500"))

    source = found.source
    assert (source.num_examples, source.num_features) == (500, 64)
    assert source.standardization.startswith("min-max: ")
    assert 50 < found.rank < 64
    assert found.singular_value == pytest.approx(np.sqrt(500 * found.eigenvalue))
    assert found.known == (found.lower, found.upper)
    assert found.exact is None


def test_the_seed_of_random_examples_can_be_set():
    def largest(*overrides):
        return report(data="gaussian", overrides=overrides).eigenvalue

    assert largest() == largest("run.data_seed=0") != largest("run.data_seed=1")


@pytest.mark.parametrize("name", ["values.txt", "values.csv", "values.json", "values.npy"])
def test_a_spectrum_is_read_in_each_form(tmp_path, name):
    path = tmp_path / name
    if name.endswith("npy"):
        np.save(path, np.array([0.5, 1.0]))
    else:
        path.write_text({"txt": "0.5\n1\n", "csv": "0.5, 1\n", "json": "[0.5, 1]"}[path.suffix[1:]])

    found = report(spectrum=str(path), lr=1.0)

    assert (found.eigenvalue, found.rank, found.singular_value) == (1, 2, None)
    assert found.exact == pytest.approx(2.6085, abs=5e-5)


def test_singular_values_and_zeros(tmp_path):
    path = tmp_path / "values"
    path.write_text("0 3 6 1e-20")

    found = report(spectrum=str(path), singular_values=True, num_examples=9, ridge=0.5, batch_size=2)

    assert (found.rank, found.eigenvalue, found.singular_value) == (2, pytest.approx(4), pytest.approx(6))
    assert found.upper == pytest.approx(1 + 2 * 2 * 4.5 / (0.1 * 16))


@pytest.mark.parametrize(
    ("text", "options", "error", "message"),
    [
        ("1\ntwo", {}, DataError, "could not convert string to float: 'two'. Expected numbers, one a line"),
        ("", {}, DataError, "expected numbers, one a line .* at least one"),
        ("1 nan", {}, DataError, "all of them finite"),
        ("1 -0.5", {}, DataError, r"-0\.5 is below 0, which no eigenvalue of A\^T A / n is"),
        ("0 0", {}, SpecError, "no eigenvalue above 0"),
        ("1 2", {"singular_values": True}, SpecError, "Singular values take the number of examples"),
        ("1 2", {"num_examples": 2}, SpecError, "The rank is 2, as many as there are examples.* Expected a ridge > 0"),
        ("1 2 3", {"num_examples": 2}, SpecError, "There are 3 eigenvalues above 0 and 2 examples: expected no more"),
        ("1 2 3", {"num_examples": 2, "ridge": 0.1}, SpecError, "There are 3 eigenvalues above 0 and 2 examples"),
        ("1 2", {"lr": -1.0}, SpecError, "lr = -1: expected a number > 0"),
        ("1 2", {"batch_size": 0}, SpecError, "batch_size = 0: expected a number > 0"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, options, error, message):
    path = tmp_path / "values.txt"
    path.write_text(text)

    with pytest.raises(error, match=message):
        report(spectrum=str(path), **options)


def test_keys_that_are_not_of_the_data_are_refused():
    with pytest.raises(SpecError, match=r"--set optimizer\.lr=2: expected a key of \[data\]"):
        report(data="digits", overrides=("optimizer.lr=2",))


def test_examples_that_can_be_fitted_take_a_ridge():
    with pytest.raises(SpecError, match="The rank is 30, as many as there are examples"):
        report(data="gaussian", overrides=("data.num_train=30",))

    assert report(data="gaussian", overrides=("data.num_train=30",), ridge=0.1).rank == 30


NOTES = {
    "small steps": (0.001, []),
    "steps that are not small": (0.5, ["is not small"]),
    "no second moment": (1.7, ["K is not below 1", "is not small"]),
    "gradient descent is unstable": (2.5, ["K is not below 1", "is not below 2: full-batch"]),
}


@pytest.mark.parametrize(("lr", "expected"), NOTES.values(), ids=NOTES.keys())
def test_notes_say_what_stands_against_the_numbers(tmp_path, lr, expected):
    path = tmp_path / "values.txt"
    path.write_text("1 0.3")

    notes = report(spectrum=str(path), lr=lr).notes

    assert len(notes) == len(expected)
    assert all(words in note for words, note in zip(expected, notes, strict=True))


def test_a_ridge_ends_the_lower_bound_before_the_second_moment(tmp_path):
    path = tmp_path / "values.txt"
    path.write_text("1 0.1")

    found = report(spectrum=str(path), lr=3.8, ridge=1.0)

    assert found.noise_kernel < 1
    assert not found.lower_holds
    assert "too large for the lower bound" in found.notes[0]
    assert found.known[0] == 2


def test_equal_eigenvalues_may_have_no_stationary_law(tmp_path):
    path = tmp_path / "values.txt"
    path.write_text("1 " * 9)

    found = report(spectrum=str(path), lr=1.0)

    assert (found.exact, found.exact_error, found.known) == (None, None, None)
    assert "the index would be -5: there is no stationary law" in found.notes[0]


def test_steps_that_stretch_nothing_are_said_to_have_all_moments():
    found = report(data="digits", overrides=("data.standardize=min-max", "data.num_train=200"), lr=0.05)

    assert 0.05 * found.source.largest_row < 2
    assert "lr max |a_i|^2 = 1.03 is below 2" in found.notes[-1]


def test_it_answers_in_json_or_says_what_is_wrong(tmp_path, capsys):
    path = tmp_path / "values.txt"
    path.write_text("1 0.3")

    good, answer = tails.main([json.dumps({"spectrum": str(path), "lr": 0.1})]), capsys.readouterr()
    bad, complaint = tails.main([json.dumps({"spectrum": str(path), "lr": float("nan")})]), capsys.readouterr()

    assert (good, bad) == (0, 2)
    assert json.loads(answer.out)["upper"] == pytest.approx(21)
    assert (complaint.out, complaint.err) == ("", "lr = nan: expected a number > 0.\n")


def test_the_spectrum_of_features_that_are_computed():
    found = report(data="digits-features", overrides=("data.num_features=20", "data.num_train=100"))

    assert found.source.num_features == 20 >= found.rank
    assert found.source.standardization.startswith("min-max: ")
