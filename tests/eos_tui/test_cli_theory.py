"""`eos theory`: what it prints, and how it passes on what its process finds wrong."""

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from eos_tui.cli import theorizing
from runners import tail_fit, tails
from runners.errors import OutputError
from tests.eos_tui.test_cli import eos

SPECTRUM = ["1", "0.5"]


@pytest.fixture(autouse=True)
def spectrum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "values.txt"
    path.write_text("\n".join(SPECTRUM))
    return path


def test_a_table_names_bounds_index_and_critical_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        theorizing, "_computed", lambda _, request: msgspec.to_builtins(tails.report(msgspec.convert(request, tails.Request)))
    )

    result = eos("theory", "tail-index", "--spectrum", "values.txt", "--lr", "1")

    assert result.exit_code == 0
    rows = {line.split("  ")[0]: line for line in result.stdout.splitlines()}
    assert rows["spectrum of"].endswith("values.txt")
    assert "2.5 " in rows["eta_*"]
    assert "3 " in rows["eta^*"]
    assert "2.60853 +- " in rows["exact index"]
    assert "1.33333" in rows["lr_2"]
    assert "- lr (eigenvalue + ridge) = 1 is not small" in result.stdout


def test_json_has_the_same_numbers() -> None:
    result = eos("theory", "tail-index", "--spectrum", "values.txt", "--lr", "1", "--json")

    found = json.loads(result.stdout)
    assert (found["lower"], found["upper"]) == pytest.approx((2.5, 3))
    assert found["critical"]["fourth_moment"] < found["critical"]["second_moment"] == pytest.approx(4 / 3)


def test_a_table_says_what_each_estimator_found_and_cannot_see(monkeypatch: pytest.MonkeyPatch) -> None:
    def computed(module: str, request: dict[str, Any]) -> Any:
        assert module == "runners.tail_fit"
        return msgspec.to_builtins(tail_fit.report(msgspec.convert(request, tail_fit.Request)))

    monkeypatch.setattr(theorizing, "_computed", computed)
    monkeypatch.setattr(tail_fit.tails, "double_bootstrap", lambda samples: raising("No tailestim."))
    np.savetxt("numbers.csv", 5 + np.random.default_rng(0).standard_t(4, (400, 2)), delimiter=",", header="a,b", comments="")

    result = eos("theory", "tail-fit", "numbers.csv", "--column", "b")

    assert result.exit_code == 0
    rows = {line.split("  ")[0]: line for line in result.stdout.splitlines()}
    assert rows["numbers of"].endswith("numbers.csv, column b")
    assert ", subtracted" in rows["mean"]
    assert rows["estimator"].split("  ")[-1].strip() == "cannot see"
    assert {"Student t, likelihood", "Hill", "generalised Pareto", "power law (powerlaw)", "stable (Mohammadi)"} <= rows.keys()
    assert "- Hill (tailestim): No tailestim." in result.stdout


def raising(message: str) -> Any:
    raise OutputError(message)


@pytest.mark.slow
def test_numbers_are_fitted_in_a_process_of_its_own() -> None:
    np.savetxt("numbers.txt", np.random.default_rng(0).standard_t(4, 300))

    found = json.loads(eos("theory", "tail-fit", "numbers.txt", "--no-center", "--json").stdout)

    assert not found["centered"]
    assert found["student_t"]["index"] == found["estimates"][0]["index"]
    assert all(row["why"] is None for row in found["estimates"])
    assert len(found["survival"]["levels"]) == 60


def test_what_is_wrong_is_passed_on_as_a_message_and_an_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys; sys.stderr.write('lr = 0: expected more.\\n'); sys.exit(2)"
    monkeypatch.setattr(theorizing, "NUMERICS", (sys.executable, "-S", "-c", code))

    result = eos("theory", "tail-index", "--data", "digits", "--lr", "0")

    assert (result.exit_code, result.stdout, result.stderr) == (2, "", "eos: lr = 0: expected more.\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "one of --data NAME and --spectrum FILE"),
        (("--data", "digits", "--spectrum", "values.txt"), "one of --data NAME and --spectrum FILE"),
        (("--spectrum", "values.txt", "--set", "data.num_train=5"), "--set is for --data"),
    ],
)
def test_options_that_do_not_go_together_are_named(arguments: tuple[str, ...], words: str) -> None:
    result = eos("theory", "tail-index", "--lr", "0.1", *arguments)

    assert result.exit_code == 2
    assert words in result.stderr
