"""The command line as a user meets it: what it prints, where, and with which exit code."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from eos_tui import __version__, launch
from eos_tui.cli import app, looking, requests
from runners import run_folder
from tests.eos_tui.fakes import FakeRun, live
from tests.eos_tui.test_launch import FAKE

COMMANDS = sorted(command.name or command.callback.__name__ for command in app.registered_commands if command.callback)


def eos(*arguments: str | Path) -> Result:
    """Run a command in this process; an exception that is no exit fails the test."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="eos", catch_exceptions=False)


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and where its runs go."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EOS_RUNS", raising=False)
    monkeypatch.delenv("EOS_DATA", raising=False)
    return tmp_path / "runs"


@pytest.fixture
def finished() -> FakeRun:
    run = FakeRun(Path("runs"))
    run.header(spec={"runner": "train", "optimizer": {"name": "sgd", "lr": 0.3, "batch_size": "full"}})
    run.progress(range(101))
    run.end(101)
    return run


def use_runner(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setattr(launch, "RUNNER", (*FAKE, way))


def test_alone_it_shows_its_help() -> None:
    result = eos()

    assert result.exit_code == 0
    assert all(f"\n  {name} " in result.stdout for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_for_itself_and_for_each_option(command: str) -> None:
    result = eos(command, "--help")

    assert result.exit_code == 0
    usage, _, description = result.stdout.partition("\n\n")
    assert usage.startswith("Usage: eos")
    assert description.strip()
    parameters = typer.main.get_command(app).commands[command].params  # type: ignore[attr-defined]
    assert all(parameter.help for parameter in parameters)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_fits_its_line_in_the_list(command: str) -> None:
    line = next(line for line in eos().stdout.splitlines() if line.startswith(f"  {command} "))

    assert not line.endswith("...")


def test_the_version_is_the_packages() -> None:
    assert eos("--version").stdout == f"eos {__version__}\n"


def test_a_command_that_is_misspelt_is_answered_with_the_nearest() -> None:
    result = eos("rseume", "x")

    assert result.exit_code == 2
    assert "Did you mean 'resume'?" in result.stderr


BAD_INPUT = {
    "no such preset": (("run", "digits-dg"), "digits-dg"),
    "unknown key": (("run", "--set", "optimizer.learning_rte=1"), "learning_rte"),
    "wrong type": (("run", "--set", "run.steps=many"), "run.steps"),
    "lr below 0": (("run", "--set", "optimizer.lr=-0.1"), "lr"),
    "no steps": (("run", "--set", "run.steps=0"), "run.steps"),
    "momentum of 1": (("run", "--set", "optimizer.name=heavy_ball", "--set", "optimizer.momentum=1"), "momentum"),
    "no value": (("run", "--set", "optimizer.lr"), "optimizer.lr"),
    "batch too large": (("run", "small.toml", "--set", "optimizer.batch_size=21"), "optimizer.batch_size = 21: expected at most 2,"),
    "subset too large": (("run", "small.toml", "--set", "measure.num_examples=21"), "measure.num_examples = 21: expected at most 2,"),
    "more data than there is": (("run", "--set", "data.num_train=5000"), "data.num_train = 5,000"),
    "data folder is missing": (("run", "cifar10-fc-tanh", "--set", "data.dir=nowhere"), "nowhere"),
    "no data folder": (("run", "cifar10-fc-tanh"), "EOS_DATA"),
    "no such model": (("run", "--set", "model.name=no_such_module:Net"), "no_such_module"),
    "no such optimizer": (("run", "--set", "optimizer.name=no_such_module:adam"), "no_such_module"),
    "not TOML": (("run", "bad.toml"), "bad.toml"),
    "a folder": (("run", "."), "."),
    "a name with a slash": (("run", "--name", "a/b"), "is not a name for a run"),
    "nothing to watch": (("watch",), "no runs here"),
    "no such run": (("show", "digits"), "no runs here"),
    "nothing to plot": (("plot", "digits", "-o", "x.png"), "no runs here"),
}


@pytest.mark.parametrize(("arguments", "words"), BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_bad_input_is_a_message_exit_code_2_and_no_folder(arguments: tuple[str, ...], words: str, runs: Path) -> None:
    Path("bad.toml").write_text("[data\n")
    Path("small.toml").write_text('[data]\nname = "csv"\npath = "small.csv"\n')
    Path("small.csv").write_text("x,y\n0.5,1\n0.7,0\n")

    result = eos(*arguments)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("eos: ")
    assert words in result.stderr.splitlines()[0]
    assert len(result.stderr.splitlines()) <= 2
    assert not runs.exists()


def test_runs_are_told_apart_when_a_beginning_names_several() -> None:
    for letter in "ab":
        FakeRun(Path("runs"), name=f"digits-gd-20260131T120000Z-000{letter}")

    result = eos("show", "digits")

    assert result.exit_code == 2
    assert "is the beginning of 2 runs (digits-gd-20260131T120000Z-000b, digits-gd-20260131T120000Z-000a). Write" in result.stderr


@pytest.mark.parametrize("command", ["stop", "pause", "unpause"])
def test_a_request_that_cannot_be_written_is_told(finished: FakeRun, command: str) -> None:
    run = FakeRun(Path("runs"), name="live-20260131T120001Z-0a1b")
    run.header()
    run.folder.control.mkdir()

    with live(run):
        result = eos(command, "live")

    assert result.exit_code == 2
    assert "control.jsonl: the request cannot be written (Is a directory)." in result.stderr


def test_of_many_runs_that_a_beginning_names_the_newest_are_told() -> None:
    for letter in "abcd":
        FakeRun(Path("runs"), name=f"digits-gd-20260131T120000Z-000{letter}")

    result = eos("show", "digits")

    assert "4 runs (digits-gd-20260131T120000Z-000d, " in result.stderr
    assert "-000b, ...). Write" in result.stderr


def test_a_run_that_is_misspelt_is_answered_with_the_nearest(finished: FakeRun) -> None:
    result = eos("show", "digit-dg")

    assert result.exit_code == 2
    assert "Did you mean 'digits-gd'?" in result.stderr


def test_a_run_without_a_terminal_prints_its_lines_and_ends_with_0(monkeypatch: pytest.MonkeyPatch, runs: Path) -> None:
    use_runner(monkeypatch, "finish")

    result = eos("run", "--set", "run.steps=100")

    (folder,) = run_folder.all_runs(runs)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1].startswith("step 100  finished after 1 s")
    assert "\x1b" not in result.output
    assert f"eos watch {folder.name}" in result.stderr


@pytest.mark.parametrize(("way", "words"), [("diverge", "diverged: The loss became inf."), ("fail", "failed: The loss became inf.")])
def test_a_run_that_ends_badly_says_why_and_ends_with_1(way: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use_runner(monkeypatch, way)

    result = eos("run", "--plain")

    assert result.exit_code == 1
    assert words in result.stderr
    assert "the end of the output" in result.stderr


@pytest.mark.parametrize(("way", "words"), [("crash", "ended by SIGKILL"), ("die", "exit status 1")])
def test_a_runner_that_dies_is_reported_with_its_output_and_1(way: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use_runner(monkeypatch, way)

    result = eos("run", "--plain")

    assert result.exit_code == 1
    assert words in result.stderr
    assert {"crash": "Killed by the machine", "die": "No module named 'jax'"}[way] in result.stderr
    assert "eos resume" in result.stderr


def test_a_detached_run_goes_on_until_it_is_stopped(monkeypatch: pytest.MonkeyPatch, runs: Path) -> None:
    use_runner(monkeypatch, "wait")

    started = eos("run", "--detach", "--name", "mine")

    name = started.stdout.strip()
    assert started.exit_code == 0
    assert run_folder.find(runs, name).is_held()
    assert eos("pause", name).stderr.startswith(f"eos: {name}: paused at step")
    assert json.loads(eos("list", "--json").stdout)[0]["status"] == "paused"
    assert eos("unpause", name).stderr.startswith(f"eos: {name}: running at step")
    stopped = eos("stop", "mine")
    assert stopped.exit_code == 0
    assert f"`eos resume {name}` continues it." in stopped.stderr
    assert eos("watch").exit_code == 0


def test_a_detached_run_that_dies_at_once_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    use_runner(monkeypatch, "die")

    result = eos("run", "--detach")

    assert result.exit_code == 1
    assert result.stdout == ""
    assert "No module named 'jax'" in result.stderr


def test_stopping_now_ends_the_process(monkeypatch: pytest.MonkeyPatch, runs: Path) -> None:
    use_runner(monkeypatch, "wait")
    name = eos("run", "--detach").stdout.strip()

    result = eos("stop", name, "--now")

    assert result.exit_code == 0
    assert "was ended at once" in result.stderr
    assert eos("watch", name).exit_code == 1


def test_a_run_that_does_not_answer_is_said_to_have_been_asked(finished: FakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "ANSWER_SECONDS", 0.0)

    with live(finished):
        result = eos("stop", "digits")

    assert result.exit_code == 0
    assert "was asked to stop, and will" in result.stderr
    assert b'"request":"stop"' in finished.folder.control.read_bytes()


@pytest.mark.parametrize("command", ["stop", "pause", "unpause"])
def test_nothing_is_asked_of_a_run_that_has_ended(command: str, finished: FakeRun) -> None:
    result = eos(command, "digits")

    assert result.exit_code == 2
    assert f"has ended: finished at step 101. There is nothing to {command}." in result.stderr
    assert not finished.folder.control.exists()


def test_a_crashed_run_is_to_be_resumed_not_stopped() -> None:
    run = FakeRun(Path("runs"))
    run.header()
    run.step(4)

    result = eos("stop", "digits")

    assert result.exit_code == 2
    assert f"its runner is gone, there is nothing to stop. `eos resume {run.folder.name}`" in result.stderr


def test_a_resumed_run_prints_only_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    run = FakeRun(Path("runs"))
    run.header()
    run.progress(range(30))
    run.end(30, status="stopped", reason="Asked to stop.")
    use_runner(monkeypatch, "finish")

    result = eos("resume", "digits", "--plain")

    assert result.exit_code == 0
    assert [line.split("  ")[0].strip() for line in result.stdout.splitlines()] == ["step 50", "step 51", "step 100"]


def test_a_runner_that_dies_in_a_resume_is_not_taken_for_the_stop_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    run = FakeRun(Path("runs"))
    run.header()
    run.end(30, status="stopped", reason="Asked to stop.")
    use_runner(monkeypatch, "die")

    result = eos("resume", "digits", "--plain")

    assert result.exit_code == 1
    assert "the runner died" in result.stderr


@pytest.mark.parametrize(("status", "words"), [("finished", "no step is left"), ("diverged", "would again")])
def test_a_run_with_nothing_to_resume_is_refused(status: str, words: str) -> None:
    run = FakeRun(Path("runs"))
    run.header()
    run.end(30, status=status)

    result = eos("resume", "digits")

    assert result.exit_code == 2
    assert words in result.stderr


def test_a_live_run_is_not_resumed() -> None:
    run = FakeRun(Path("runs"))
    run.header()

    with live(run):
        result = eos("resume", "digits")

    assert result.exit_code == 2
    assert "the run is going on. Watch it with" in result.stderr


def test_watching_a_finished_run_prints_its_lines(finished: FakeRun) -> None:
    result = eos("watch")

    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 12
    assert "eos export" in result.stderr


def test_watching_no_run_in_particular_says_which_it_is(finished: FakeRun) -> None:
    FakeRun(Path("runs"), name="digits-gd-20260131T110000Z-0a1b").header()

    assert eos("watch").stderr.startswith(f"eos: {finished.folder.name} is the newest run of runs.\n")
    assert "newest" not in eos("watch", finished.folder.name).stderr


def test_watching_a_crashed_run_says_so() -> None:
    run = FakeRun(Path("runs"))
    run.header()
    run.folder.output.write_text("Out of memory\n")

    result = eos("watch")

    assert result.exit_code == 1
    assert "the runner died" in result.stderr
    assert "starts it again; it had no checkpoint yet" in result.stderr
    assert "Out of memory" in result.stderr


def test_a_crashed_run_that_has_a_checkpoint_is_said_to_go_on_from_it() -> None:
    run = FakeRun(Path("runs"))
    run.header()
    (run.folder.checkpoints / "10").mkdir(parents=True)

    assert "continues it from its last checkpoint." in eos("watch").stderr


def test_a_failure_that_says_what_to_do_needs_no_traceback() -> None:
    run = FakeRun(Path("runs"))
    run.header()
    run.folder.output.write_text("Traceback (most recent call last):\n  a line\nrunners.errors.DataError: x.npz is gone. Copy it.\n")
    run.end(0, status="failed", reason="x.npz is gone. Copy it.")

    result = eos("watch")

    assert result.exit_code == 1
    assert f"failed: x.npz is gone. Copy it.\nThe traceback is in {run.folder.output}.\n" in result.stderr
    assert "a line" not in result.stderr


def test_watching_a_log_that_is_none_ends_with_3() -> None:
    FakeRun(Path("runs")).folder.log.write_text("hello\n")

    result = eos("watch")

    assert result.exit_code == 3
    assert "log.jsonl: line 1: not a record" in result.stderr


@pytest.mark.parametrize(("columns", "num_lines"), [(80, 4), (120, 2)])
def test_on_a_narrow_terminal_a_list_gives_the_names_lines_of_their_own(
    finished: FakeRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int, num_lines: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)

    looking.list_runs()

    lines = capsys.readouterr().out.splitlines()
    assert (len(lines), max(map(len, lines)) <= columns) == (num_lines, True)
    assert any(line.rstrip() == finished.folder.name for line in lines) == (columns == 80)


def test_a_list_is_a_line_a_run(finished: FakeRun) -> None:
    result = eos("list")

    assert result.exit_code == 0
    title, row = result.stdout.splitlines()
    assert title.split() == ["run", "status", "step", "loss", "sharpness", "of", "its", "threshold", "K", "age"]
    assert row.startswith(f"{finished.folder.name}  finished  101 of 3,000  0.367  2.47       0.370")


def test_a_list_of_nothing_is_no_error() -> None:
    assert eos("list").exit_code == 0
    assert eos("list").stderr == "eos: No runs in runs. `eos run` starts one.\n"
    assert eos("list", "--json").stdout == "[]\n"


def test_a_run_is_shown_with_its_spec_numbers_and_end(finished: FakeRun) -> None:
    result = eos("show", "digits")

    assert result.exit_code == 0
    assert "finished after 1.01 s, 20% of it measuring: All steps are done." in result.stdout
    assert "sharpness 2.470 ±0.001 = 0.370 of 2/lr" in result.stdout
    assert '[optimizer]  name = "sgd", lr = 0.3, batch_size = "full"' in result.stdout


def test_a_run_is_shown_as_json(finished: FakeRun) -> None:
    shown = json.loads(eos("show", "digits", "--json").stdout)

    assert shown["status"] == "finished"
    assert shown["spec"]["optimizer"]["lr"] == 0.3
    assert shown["last"]["sharpness"]["value"] == pytest.approx(2.47)
    assert shown["end"]["reason"] == "All steps are done."


def test_a_folder_with_brackets_in_its_name_is_shown_as_it_is(finished: FakeRun, tmp_path: Path) -> None:
    place = tmp_path / "a [b] c"
    finished.folder.path.parent.rename(place)

    result = eos("show", "digits", "--runs-dir", place)

    assert f"{place}/{finished.folder.name}" in result.stdout
    assert f"eos export '{place}/{finished.folder.name}'" in result.stdout


def test_a_preset_can_be_printed_run_and_changed() -> None:
    text = eos("presets", "digits-gd").stdout
    Path("mine.toml").write_text(text)

    shown = eos("presets", "digits-gd", "--json")

    assert text.startswith("# Claim:")
    assert json.loads(shown.stdout)["optimizer"]["lr"] == 0.3
    assert "digits-gd" in [preset["name"] for preset in json.loads(eos("presets", "--json").stdout)]
    assert "digits-gd" in eos("presets").stdout


def test_an_export_to_stdout_is_json(finished: FakeRun) -> None:
    result = eos("export", "digits", "--format", "json", "-o", "-")

    assert result.exit_code == 0
    assert isinstance(json.loads(result.stdout), dict)


def test_an_export_prints_the_files_that_it_made(finished: FakeRun) -> None:
    result = eos("export", "digits", "--format", "csv", "-o", "out")

    assert result.exit_code == 0
    assert "out/step.csv" in result.stdout.splitlines()
    assert all(Path(line).is_file() for line in result.stdout.splitlines())


def test_an_export_of_a_run_without_an_end_says_how_far_it_goes() -> None:
    run = FakeRun(Path("runs"))
    run.header()
    run.progress(range(101))

    with live(run):
        result = eos("export", "digits", "-o", "out.json")

    assert result.exit_code == 0
    assert "has come to no end (running, step 100 of 3,000): this is what it had so far." in result.stderr


def test_help_loads_nothing_that_is_slow() -> None:
    code = "import sys, typer.testing; from eos_tui.cli import app; typer.testing.CliRunner().invoke(app, '-h'); print(*sys.modules)"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert not {"jax", "numpy", "textual", "rich", "msgspec", "pydantic"} & set(loaded)
