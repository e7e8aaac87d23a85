"""What a run's details say, as text."""

from pathlib import Path

import pytest

from eos_tui import details
from runners import spec_file
from runners.records import Git, ParameterDescription
from tests.eos_tui.fakes import NAME, FakeRun, snapshot_of

SPEC = {"runner": "train", "optimizer": {"name": "sgd", "lr": 0.3, "warm_start": None}, "run": {"steps": 3000}}


@pytest.fixture
def run(tmp_path: Path) -> FakeRun:
    return FakeRun(tmp_path)


def of(run: FakeRun) -> dict[str, str]:
    """The paragraphs, texts without a title joined to those before."""
    found: dict[str, str] = {}
    title = ""
    for head, text in details.paragraphs(run.folder, snapshot_of(run)):
        title = head or title
        found[title] = f"{found[title]}; {text}" if title in found else text
    return found


def test_the_details_say_what_runs_where(run):
    run.header(spec=SPEC, versions={"jax": "0.10.1", "numpy": "2.4"}, git=Git(commit="0a1b", dirty=True), threshold_formula="2/lr")

    found = of(run)

    assert found["run"] == NAME
    assert found["began"] == "2026-01-31T12:00:00Z on here, process 1"
    assert found["device"] == "cpu"
    assert found["data"] == "digits from scikit-learn: 1,500 to train, 297 to test; standardization: none"
    assert found["model"] == "26,122 parameters, float32"
    assert found["edge"] == "sharpness = 2/lr"
    assert found["versions"] == "jax 0.10.1, numpy 2.4"
    assert found["git"] == "0a1b, with changes"
    assert found["[optimizer]"] == 'name = "sgd", lr = 0.3'
    assert found["[run]"] == "steps = 3000"


PARAMETERS = (
    ParameterDescription(name="in.bias", shape=(512,), role="vector", fan_in=None, init_std=0.0, multiplier=1.0, lr=1.0, eps=1 / 512),
    ParameterDescription(
        name="layer.kernel", shape=(1024, 512), role="hidden", fan_in=1024, init_std=0.02, multiplier=0.5, lr=0.25, eps=1 / 512
    ),
)


def test_what_the_parametrization_makes_of_each_parameter_is_a_line(run):
    run.header(spec=SPEC, parameters=PARAMETERS)

    assert of(run)["parameters"].split("; ") == [
        "name          role    fan-in  first rms  multiplier  lr",
        "in.bias       vector  -       0          1.00        0.300",
        "layer.kernel  hidden  1,024   0.0200     0.500       0.0750",
    ]


def test_under_a_schedule_the_learning_rates_are_those_of_the_last_step(run):
    run.header(spec={"optimizer": {"lr": {"kind": "cosine"}}}, parameters=PARAMETERS)
    before = of(run)["parameters"].split("; ")
    run.step(7, lr=0.4)
    after = of(run)["parameters"].split("; ")

    assert [line.split()[-1] for line in before] == ["lr", "-", "-"]
    assert after[0].endswith("lr at step 7")
    assert [line.split()[-1] for line in after[1:]] == ["0.400", "0.100"]


def test_without_a_header_or_its_parameters_there_is_no_table(run):
    run.header(spec=SPEC)

    assert "parameters" not in of(run)


def test_the_cost_of_measuring_is_said_by_kind_the_dearest_first(run):
    run.header()
    run.progress(range(101))

    found = of(run)["measuring"]

    # 11 measurements of 20 ms and 3 of 50 ms in 1 s.
    assert found == "sharpness 220 ms, 22.0 %, 11 times, 20.0 ms each; ntk 150 ms, 15.0 %, 3 times, 50.0 ms each; all 370 ms, 37.0 %"


def test_a_run_that_measured_nothing_says_so(run):
    run.header()

    assert of(run)["measuring"] == "nothing yet"


def test_sizes_of_files_and_of_checkpoints_are_said(run):
    run.header()
    run.folder.output.write_bytes(bytes(1_234_567))
    for step in (500, 1000):
        part = run.folder.checkpoints / str(step) / "state"
        part.mkdir(parents=True)
        (part / "array").write_bytes(bytes(400))

    found = of(run)

    assert found["folder"] == str(run.folder.path)
    assert "spec.json 2 B, output.txt 1.2 MB, checkpoints 800 B (2)" in found["files"]


def test_a_run_without_a_header_has_the_spec_of_its_folder(run):
    run.folder.spec.write_text('{"optimizer": {"lr": 0.1}}')

    found = of(run)

    assert found["[optimizer]"] == "lr = 0.1"
    assert "began" not in found


def test_what_a_log_says_is_made_fit_for_a_terminal(run):
    run.header(device="cpu\x1b]0;title\x07\n\x1b[2J", spec={"a\nb": {"c": "\x9b31m"}})

    found = details.paragraphs(run.folder, snapshot_of(run))

    assert ("device", "cpu") in found
    assert all(text.isprintable() for paragraph in found for text in paragraph)


def test_the_command_that_does_the_run_again_is_said(run):
    run.folder.spec.write_bytes(spec_file.to_json(spec_file.load("digits-gd", ["optimizer.lr=0.25"])))

    assert of(run)["again"] == "eos run digits-gd --set optimizer.lr=0.25"


def test_a_run_whose_spec_is_gone_has_no_command(run):
    run.header()
    run.folder.spec.unlink()

    assert of(run)["again"] == ""


def test_the_last_lines_that_were_printed_are_those_of_the_file(run):
    run.folder.output.write_text("".join(f"line {k}\n" for k in range(1000)) + "\x1b[31mred\x1b[0m\n")

    found = details.printed(run.folder)

    assert found[-2:] == (("", "line 999"), ("", "red"))
    assert len(found) == details.MAX_LINES


def test_a_process_that_printed_nothing_says_so(run):
    assert details.printed(run.folder) == (("", "Nothing was printed to output.txt."),)
