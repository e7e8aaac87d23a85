"""The command that does a run again."""

import shlex

import pytest

from eos_tui import reproduction
from runners import run_folder, spec_file


def folder_of(runs, name, *overrides):
    spec = spec_file.with_absolute_paths(spec_file.load(name, list(overrides)))
    return run_folder.create(runs, "mine", spec_file.to_json(spec)), spec


def again(command):
    """The spec that a command line asks for."""
    program, verb, name, *rest = shlex.split(command)
    assert (program, verb, rest[::2]) == ("eos", "run", ["--set"] * (len(rest) // 2))
    return spec_file.with_absolute_paths(spec_file.load(name, rest[1::2]))


def test_a_preset_is_named(tmp_path):
    folder, _ = folder_of(tmp_path, "digits-sgd")

    assert reproduction.command(folder) == "eos run digits-sgd"


def test_what_differs_from_a_preset_is_set(tmp_path):
    folder, _ = folder_of(tmp_path, "digits-gd", "optimizer.lr=0.4", "run.seed=3")

    assert reproduction.command(folder) == "eos run digits-gd --set optimizer.lr=0.4 --set run.seed=3"


@pytest.mark.parametrize(
    "overrides",
    [
        ["model.activation=relu", "optimizer.batch_size=full"],
        ['optimizer.lr={kind="cosine", peak=0.3, steps=100}'],
        ["optimizer.name=adam", "optimizer.lr=0.01"],
        ["data.num_train=64", "model.width=8", "run.steps=7"],
    ],
)
def test_the_command_gives_the_spec_of_the_run(tmp_path, overrides):
    folder, spec = folder_of(tmp_path, "digits-sgd", *overrides)

    assert again(reproduction.command(folder)) == spec


def test_a_spec_far_from_all_presets_is_the_runs_own(tmp_path):
    folder, spec = folder_of(
        tmp_path,
        "digits-gd",
        *("model.width=9", "model.depth=2", "model.activation=relu", "optimizer.lr=0.01", "run.steps=17", "run.seed=9"),
        *("data.num_train=100", "measure.sharpness_every=7", "measure.ntk_every=11", "measure.tolerance=0.01", "run.checkpoint_every=5"),
    )

    command = reproduction.command(folder)

    assert command == f"eos run {folder.spec.absolute()}"
    assert again(command) == spec
