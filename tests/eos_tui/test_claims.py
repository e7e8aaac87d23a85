"""Claims: numbers from logs with their errors, and rows that say what holds, what does not, and why."""

from pathlib import Path

import numpy as np
import pytest
import scipy.signal

from eos_tui import evidence as evidence_of
from eos_tui.claims import catalog, report
from eos_tui.claims.statements import CONFIGS, Bounds, Claim, PlannedRun, Row, Statement, listed, rows, worst
from eos_tui.evidence import KERNEL, RATIO, SHARPNESS, TRACE, Measured, NotMeasuredError, mean, mean_over_time, over, spread
from eos_tui.snapshot import Status
from runners import spec_file
from runners.errors import EosError, OutputError
from tests.eos_tui.evidences import evidence
from tests.eos_tui.fakes import FakeRun

CLAIMS = catalog.CLAIMS.values()


def claim(*, tolerance: Bounds, otherwise: str = "") -> Claim:
    """One statement: of the plateau of the sharpness of one run."""
    statement = Statement(
        claim="It is sharp.",
        source="derived",
        runs=("a",),
        tolerance=tolerance,
        find=lambda runs: worst({"a": runs["a"].plateau(SHARPNESS)}, tolerance),
        otherwise=otherwise,
    )
    return Claim(
        name="tiny",
        summary="",
        source="",
        cost="",
        runs=(PlannedRun(name="a", config="digits"),),
        statements=(statement,),
        charts=lambda _: [],
    )


# The evidence


def test_a_log_is_read_whole_with_the_error_of_each_number(tmp_path: Path) -> None:
    run = FakeRun(tmp_path, steps=5000)
    run.header()
    for step in range(5000):
        run.step(step, loss=1.0 / (1 + step))
    run.sharpness(0, 2.0, threshold=4.0, error=0.1)
    run.ntk(0, 90.0, sem=None)
    run.ntk(50, 91.0, sem=3.0)
    run.end(5000)

    found = evidence_of.read(run.folder)

    assert found.snapshot.status is Status.FINISHED
    assert len(found.all(evidence_of.BATCH_LOSS)) == 5000
    assert found.at(RATIO, 0) == Measured(0.5, pytest.approx(0.025))
    assert [measured.error for measured in found.all(TRACE).values()] == [0.0, 3.0]
    assert found.at(KERNEL, 50).error is None


def test_a_number_that_is_not_in_the_log_is_said_to_be_missing() -> None:
    run = evidence("a", steps=1000, sharpness={"value": 1.0})

    with pytest.raises(NotMeasuredError, match=r"a has no ntk\.trace in its log"):
        run.last(TRACE)
    with pytest.raises(NotMeasuredError, match=r"a has no sharpness\.value at step 7"):
        run.at(SHARPNESS, 7)


def test_a_plateau_is_the_mean_over_the_last_third_with_errors_of_measuring_and_of_the_mean() -> None:
    run = evidence("a", steps=3000, sharpness={"value": lambda step: step / 1000, "error": 0.01})

    plateau = run.plateau(SHARPNESS)

    assert plateau.value == pytest.approx(2.5)
    assert plateau.error == pytest.approx(0.01 + 0.5)


@pytest.mark.parametrize("alike", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("number", [13, 50])
def test_the_truth_is_within_the_error_of_a_mean_over_time_two_times_in_three(alike, number) -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((600, number))
    noise[:, 0] /= (1 - alike**2) ** 0.5
    values = scipy.signal.lfilter([1.0], [1.0, -alike], noise, axis=1)

    means = [mean_over_time([Measured(value) for value in run]) for run in values]

    within = sum(abs(mean.value) <= mean.error for mean in means) / len(means)
    assert 0.57 <= within <= 0.78


@pytest.mark.parametrize(
    ("values", "error"), [([2.0], 0.0), ([1.0, 2.0, 3.0], 1.0), ([4.0] * 20, 0.0), ([1.0, 2.0] * 8, 0.5 * (16 / 15 / 16) ** 0.5)]
)
def test_few_equal_and_alternating_values_have_an_error_as_well(values, error) -> None:
    assert mean_over_time([Measured(value) for value in values]).error == pytest.approx(error, rel=0.01)


def test_shares_of_error_add_up_in_a_ratio_and_an_unknown_one_stays_unknown() -> None:
    assert over(Measured(6.0, 0.6), Measured(3.0, 0.15)) == Measured(2.0, pytest.approx(2 * (0.1 + 0.05)))
    assert over(Measured(6.0), Measured(3.0, None)).error is None
    assert mean([Measured(1.0, None), Measured(1.0)]).error is None
    assert spread([Measured(2.0), Measured(8.0), Measured(4.0)]).value == 4.0


# Rows


def test_what_lies_in_its_bounds_holds_and_needs_no_reason() -> None:
    [row] = rows(claim(tolerance=Bounds(0.9, 1.1)), {"a": evidence("a", steps=1000, sharpness={"value": 1.05, "error": 0.01})})

    assert row == Row(
        claim="It is sharp.",
        source="derived",
        measured=pytest.approx(1.05),
        error=pytest.approx(0.01),
        tolerance="0.9 to 1.1",
        holds=True,
        seconds=10.0,
        values={"a": pytest.approx(1.05)},
    )


def test_what_lies_outside_does_not_hold_and_the_row_says_why() -> None:
    sharp = {"value": 1.2, "error": 0.01}

    [row] = rows(claim(tolerance=Bounds(high=1.1), otherwise="The net is small."), {"a": evidence("a", steps=1000, sharpness=sharp)})

    assert not row.holds
    assert row.why == "1.2 is not <= 1.1 (a: 1.2). The net is small."


def test_a_run_that_diverged_leaves_a_row_that_does_not_hold() -> None:
    run = evidence("a", steps=1000, status=Status.DIVERGED, reason="The loss became inf.", sharpness={"value": 1.0})

    [row] = rows(claim(tolerance=Bounds(low=0)), {"a": run})

    assert (row.holds, row.measured, row.why) == (
        False,
        None,
        "The run a did not come to its end, diverged at step 1,000: The loss became inf.",
    )


def test_a_run_that_lacks_the_number_leaves_a_row_that_does_not_hold() -> None:
    [row] = rows(claim(tolerance=Bounds(low=0)), {"a": evidence("a", steps=1000)})

    assert not row.holds
    assert row.why == "a has no sharpness.value in its log."


def test_of_several_values_the_farthest_out_is_the_measured_one() -> None:
    values = {"low": Measured(0.5), "inside": Measured(1.0), "high": Measured(1.6)}

    finding = worst(values, Bounds(0.8, 1.2))

    assert finding.measured.value == 1.6
    assert finding.values == {"low": 0.5, "inside": 1.0, "high": 1.6}


def test_few_values_are_listed_and_of_many_the_ends() -> None:
    assert listed({"B=1": 0.5, "B=2": 0.25}) == "B=1: 0.5, B=2: 0.25"
    assert listed({f"step {step}": step / 10 for step in range(20)}) == "20 values from 0 (step 0) to 1.9 (step 19)"


# The catalog


@pytest.mark.slow
@pytest.mark.parametrize("found", CLAIMS, ids=lambda found: found.name)
def test_the_specs_of_a_claim_are_valid_and_its_statements_name_runs_that_it_has(found: Claim) -> None:
    names = [run.name for run in found.runs]

    assert len(set(names)) == len(names)
    assert all(run.spec() for run in found.runs)
    assert {name for statement in found.statements for name in statement.runs} == set(names)
    assert len({spec_file.to_json(run.spec()) for run in found.runs}) == len(names)


@pytest.mark.parametrize("found", CLAIMS, ids=lambda found: found.name)
def test_a_statement_says_what_who_and_where_it_has_to_lie(found: Claim) -> None:
    assert found.summary.endswith(".")
    assert f"{len(found.runs)} runs" in found.cost
    for statement in found.statements:
        assert statement.claim.endswith((".", ", ..."))
        assert statement.source == "derived" or "arXiv" in statement.source
        assert statement.tolerance != Bounds()
        assert not statement.otherwise or statement.otherwise.endswith(".")


def test_the_specs_of_claims_are_used_and_are_no_presets() -> None:
    used = {run.config for found in CLAIMS for run in found.runs}

    assert {path.stem for path in CONFIGS.glob("*.toml")} == used
    assert not used & {preset.name for preset in spec_file.presets()}


def test_a_name_that_is_misspelt_is_answered_with_the_nearest() -> None:
    with pytest.raises(EosError, match="Did you mean 'gd-edge'"):
        catalog.find("gd-egde")


# The report


def row(*, holds: bool = True) -> Row:
    return Row(
        claim="K is near 1 | always.",
        source="derived",
        measured=1.2345,
        error=0.021,
        tolerance="0.9 to 1.1",
        holds=holds,
        why=None if holds else "1.235 is not 0.9 to 1.1 (a: 1.23).",
        seconds=12.34,
        values={"a": 1.2345, "b": 1.0},
    )


def test_a_table_has_a_line_a_row_and_the_reason_below_what_does_not_hold() -> None:
    lines = report.table([row(), row(holds=False)], width=90)

    assert lines == [
        "holds  measured    expected    claim",
        "yes    1.23 ±0.02  0.9 to 1.1  K is near 1 | always. [derived]",
        "NO     1.23 ±0.02  0.9 to 1.1  K is near 1 | always. [derived]",
        "                               Why not: 1.235 is not 0.9 to 1.1 (a: 1.23).",
    ]


def test_a_section_of_a_page_replaces_the_one_with_its_title_and_leaves_the_others(tmp_path: Path) -> None:
    page = tmp_path / "claims.md"
    tiny, runs = claim(tolerance=Bounds(high=1.1)), {"a": evidence("a", steps=1000)}

    for text in ("## other\n\nkept\n", report.section(tiny, [row()], runs, machine="here")):
        report.put_section(page, text)
    report.put_section(page, report.section(tiny, [row(holds=False)], runs, machine="here"))

    content = page.read_text()
    assert content.startswith("# Claims\n")
    assert content.count("## tiny") == 1
    assert "## other\n\nkept\n" in content
    assert "| **no** | K is near 1 \\| always. **Why not:** 1.235 is not" in content
    assert "1 runs, 10 s of run time together, on here." in content


def test_a_page_that_cannot_be_read_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be read"):
        report.put_section(tmp_path, "## a\n")
