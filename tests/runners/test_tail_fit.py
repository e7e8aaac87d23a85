import json

import numpy as np
import pytest

from runners import tail_fit
from runners.errors import DataError, SpecError
from runners.measure import stable, tails
from runners.tail_fit import Request


@pytest.fixture(autouse=True)
def without_searches(monkeypatch):
    """The two that take a second: what they are is tested beside them."""
    for name in ("power_law", "double_bootstrap"):
        monkeypatch.setattr(tails, name, lambda samples: tails.hill(samples, 0.1))


def report(path, numbers=None, **request):
    if numbers is not None:
        np.savetxt(path, numbers)
    return tail_fit.report(Request(path=str(path), **request))


@pytest.fixture
def numbers():
    return 3 + np.random.default_rng(0).standard_t(4, 2000)


def test_all_estimators_see_the_numbers_less_their_mean(tmp_path, numbers):
    found = report(tmp_path / "values.txt", numbers)

    centered = numbers - numbers.mean()
    expected = [tails.student_t(centered), tails.hill(centered, 0.025), tails.pareto(centered, 0.125)]
    assert [row.index for row in found.estimates[:3]] == pytest.approx([tail.index for tail in expected])
    assert [row.error for row in found.estimates[:3]] == pytest.approx([tail.error for tail in expected])
    assert [row.num_used for row in found.estimates[:3]] == [2000, 50, 250]
    assert found.estimates[5].index == found.stable.index == pytest.approx(stable.stable(centered).index)
    assert found.estimates[6].index == pytest.approx(tails.mohammadi(centered).index)
    assert found.estimates[1].used == "largest 0.025 of all"
    assert (found.num_samples, found.mean, found.centered) == (2000, pytest.approx(numbers.mean()), True)
    assert found.student_t.index == found.estimates[0].index
    assert found.survival.shares == tails.survival(centered).shares
    assert found.quantiles.fit[-1] == pytest.approx(tails.quantiles(centered, expected[0]).fit[-1])
    assert found.notes == []


def test_the_mean_may_stay(tmp_path, numbers):
    found = report(tmp_path / "values.txt", numbers, center=False)

    assert found.student_t.index == pytest.approx(tails.student_t(numbers).index)
    assert not found.centered


def test_an_estimator_that_cannot_be_had_says_why_in_its_row(tmp_path):
    found = report(tmp_path / "values.txt", np.append(np.zeros(10), np.arange(1.0, 41.0)), center=False)

    rows = {row.estimator: row for row in found.estimates}
    assert rows["Student t, likelihood"].why.startswith("10 of 50 samples are 0")
    assert rows["Hill"].why.startswith("The largest 10.00% of 50 samples are 5")
    assert rows["generalised Pareto"].why is None
    assert (found.student_t, found.quantiles, rows["Hill"].index) == (None, None, None)


STABLE = "The symmetric stable law does not fit: p = "
NOTES = {
    "a mean without a variance": (
        np.tan(np.linspace(-1.57, 1.5, 200)),
        ["the mean is far from the centre", "Student's t does not fit", STABLE],
    ),
    "a Gaussian": (np.random.default_rng(0).standard_normal(200), ["Nothing bounds the index above: a Gaussian is not rejected"]),
    "two values": (np.tile([-1.0, 1.0, 1.5], 50), ["Student's t does not fit: p = ", STABLE, "Nothing bounds the index above"]),
}


@pytest.mark.parametrize(("values", "expected"), NOTES.values(), ids=NOTES.keys())
def test_notes_say_what_stands_against_the_numbers(tmp_path, values, expected):
    notes = report(tmp_path / "values.txt", values).notes

    assert len(notes) == len(expected)
    assert all(words in note for words, note in zip(expected, notes, strict=True))


@pytest.mark.parametrize("name", ["values.txt", "values.csv", "values.npy", "table.csv", "bare.csv"])
def test_numbers_are_read_in_each_form(tmp_path, numbers, name):
    path, column = tmp_path / name, None
    if name == "values.npy":
        np.save(path, numbers)
    elif name == "table.csv":
        column = "x"
        np.savetxt(path, np.column_stack([0 * numbers, numbers]), delimiter=",", header="y,x", comments="")
    elif name == "bare.csv":
        column = "1"
        np.savetxt(path, np.column_stack([0 * numbers, numbers]), delimiter=",")
    else:
        np.savetxt(path, numbers)

    found = report(path, column=column)

    assert found.mean == pytest.approx(numbers.mean())
    assert found.source == str(path) + (f", column {column}" if column else "")


@pytest.mark.parametrize(
    ("name", "text", "column", "error", "message"),
    [
        ("a.txt", "1\nx", None, DataError, "could not convert string to float: 'x'"),
        ("a.txt", "1\n2", None, DataError, "There are 2 samples: expected at least 10"),
        ("a.txt", "3\n" * 20, None, DataError, "All 20 samples are 3: expected numbers that differ"),
        ("a.csv", "a,b\n1,2", None, DataError, "2 columns, a, b: expected one. Name it by --column"),
        ("a.csv", "1,2\n1,2", None, DataError, "2 columns, 0, 1: expected one. Name it by --column"),
        ("a.csv", "one,two\n1,2", "twoo", DataError, "--column = 'twoo': .* has the columns one, two. Did you mean 'two'"),
        ("a.csv", "a,b\n1,x", "b", DataError, "line 2, column 'b': found 'x', expected a finite number"),
        ("a.json", "[1, 2]", "b", SpecError, "--column = 'b': .*a.json has no columns. Expected a comma-separated file"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, name, text, column, error, message):
    path = tmp_path / name
    path.write_text(text)

    with pytest.raises(error, match=message):
        report(path, column=column)


def test_it_answers_in_json_or_says_what_is_wrong(tmp_path, numbers, capsys):
    path = tmp_path / "values.txt"
    np.savetxt(path, numbers)

    good, answer = tail_fit.main([json.dumps({"path": str(path)})]), capsys.readouterr()
    bad, complaint = tail_fit.main([json.dumps({"path": str(tmp_path / "none")})]), capsys.readouterr()

    assert (good, bad) == (0, 2)
    assert json.loads(answer.out)["student_t"]["is_bounded"] is True
    assert len(json.loads(answer.out)["survival"]["levels"]) == 60
    assert complaint.out == ""
    assert "No such file" in complaint.err
