"""What is said of a spec while it is typed."""

from pathlib import Path

import pytest

from eos_tui.drafts import judge
from runners import spec_file, thresholds
from runners.measure import noise_kernel
from runners.spec import Sgd

RUNS = Path("runs")


def facts(text):
    verdict = judge(text, name="a", runs=RUNS)
    assert verdict.spec is not None, verdict.problem
    return dict(verdict.facts)


@pytest.mark.parametrize("preset", spec_file.presets(), ids=lambda preset: preset.name)
def test_something_is_said_of_every_preset(preset, tmp_path, monkeypatch):
    monkeypatch.setenv("EOS_DATA", str(tmp_path))

    verdict = judge(preset.path.read_text(), name=preset.name, runs=RUNS)

    needs_files = preset.name.startswith(("cifar10", "mnist", "text"))
    assert (verdict.spec is None) == needs_files
    assert bool(verdict.problem) == needs_files
    assert dict(verdict.facts)["edge"]
    assert "steps" in dict(verdict.facts)["length"]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("lr = 0.5", "sharpness 2/lr = 4.00 at lr 0.5"),
        ('name = "heavy_ball"\nlr = 0.1\nmomentum = 0.9', "sharpness (2+2b)/lr = 38.0 at lr 0.1"),
        ('name = "adam"\nlr = 0.01\nbeta1 = 0.9', "preconditioned sharpness (2+2b1)/((1-b1)lr) = 3,800 at lr 0.01"),
        ('name = "sam"\nlr = 0.1', "sharpness 4/(lr(1+sqrt(1+8rho/(lr|g|)))), which moves from step to step"),
        ('name = "muon"\nlr = 0.1', "none is known for this optimizer"),
        ('lr = { kind = "cosine", peak = 0.5, steps = 10 }', "sharpness 2/lr = 4.00 at lr 0.5, its peak"),
        ('lr = { kind = "piecewise", values = [0.5, 0.2], boundaries = [3] }', "sharpness 2/lr = 4.00 at lr 0.5, then 10.0 at lr 0.2"),
        ('lr = { kind = "edge", of = "sharpness", initial = 0.5 }', "4.00 at lr 0.5, at first; then lr follows what is measured"),
        ('name = "adamw"\nlr = 1.0\ndecoupled_decay = 3', "no step size is stable"),
    ],
)
def test_the_edge_of_the_optimizer_is_said_with_its_number(table, said):
    assert said in facts(f"[optimizer]\n{table}")["edge"]


def test_the_numbers_are_those_of_the_functions_that_the_run_uses():
    found = facts("[data]\nnum_train = 100\n[optimizer]\nlr = 0.37\nbatch_size = 7")

    noise = noise_kernel.noise(Sgd(lr=0.37, batch_size=7), lr=0.37, num_examples=100)
    assert f"{thresholds.gradient_descent(0.37):.3g}" in found["edge"]
    assert f"trace of the NTK of {noise_kernel.threshold(noise):.3g}, for each output" in found["stochastic"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "none: all examples in each step"),
        ("[data]\nnum_train = 50\n[optimizer]\nbatch_size = 50", "none: all examples in each step"),
        ('[optimizer]\nname = "sign_descent"\nbatch_size = 5', "no K is known"),
        ('[optimizer]\nname = "adam"\nbatch_size = 5', "preconditioned NTK"),
    ],
)
def test_the_noise_of_the_batches_is_said(text, said):
    assert said in facts(text)["stochastic"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[data]\nnum_train = 100\n[run]\nsteps = 1200", "1,200 steps, each of all 100 examples"),
        ("[data]\nnum_train = 100\n[optimizer]\nbatch_size = 10\n[run]\nsteps = 1000", "1,000 steps of 10 examples: 100 passes over 100"),
        ('runner = "linear-model"\n[simulation]\nnum_paths = 32\n[run]\nsteps = 50', "50 steps of 32 simulated runs"),
        ('runner = "function"\n[function]\nname = "valley"\n[run]\nsteps = 9', "9 steps"),
    ],
)
def test_how_long_it_is_is_said(text, said):
    assert facts(text)["length"] == said


def test_how_often_what_is_measured_is_said():
    text = "[run]\nsteps = 100\n[measure]\nsharpness_every = 10\nntk_every = 0\nevaluate_every = 0\nhessian_trace_every = 30"

    assert facts(text)["measured"] == "sharpness 11 times, hessian trace 4 times"


def test_where_it_goes_is_said():
    assert facts("")["stored in"] == "runs/a-..."


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("[run]\nsteps 5", 2, "not TOML"),
        ("[run]\nstps = 5", 2, "Did you mean 'steps'?"),
        ("[run]\nseed = 1\nsteps = -5", 3, "run.steps = -5: expected an integer >= 1"),
        ('[data]\nname = "npz"', 1, "data.path is missing"),
        ("[data]\nnum_train = 10\n[optimizer]\nbatch_size = 20", 4, "expected at most data.num_train = 10"),
        ("[data]\nnum_train = 9000", 2, "data.num_train = 9,000: digits has 1,797 training examples"),
        ('[data]\nname = "npz"\npath = "gone.npz"', None, "gone.npz"),
        ('[model]\nname = "no_such_module:Net"', 2, "there is no module 'no_such_module'"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text, line, said):
    verdict = judge(text, name="a", runs=RUNS)

    assert verdict.spec is None
    assert said in verdict.problem
    if line is not None:
        assert verdict.line == line


def test_a_name_that_no_folder_can_have_is_a_problem():
    assert "is not a name for a run" in judge("", name="a/b", runs=RUNS).problem


def test_paths_of_what_would_run_are_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("x,y\n" + "1,2\n" * 30)

    spec = judge('[data]\nname = "csv"\npath = "a.csv"', name="a", runs=RUNS).spec

    assert spec.data.path == str(tmp_path / "a.csv")
