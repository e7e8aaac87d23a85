"""From a grid to runs: which, called what, with which specs."""

import re

import pytest

from runners import expansion, grid
from runners.errors import SpecError
from runners.spec import Adam, Linear, Mlp, Sgd

BASE = {"model": {"width": 16}, "run": {"steps": 10, "seed": 5}}


def expand(*grids, document=BASE, seeds=None):
    found = expansion.axes(document, [grid.parse_axis(argument) for argument in grids], seeds=seeds)
    runs = expansion.expand(document, found, label="base.toml")
    assert len(runs) == expansion.num_runs(found)
    return runs


def test_the_last_axis_goes_fastest_and_the_seeds_after_all():
    runs = expand("model.width=8,16", "optimizer.lr=0.1,0.2", seeds=2)

    assert [run.name for run in runs] == [f"width{width}-lr{lr}-seed{seed}" for width in (8, 16) for lr in (0.1, 0.2) for seed in (5, 6)]
    assert runs[-1].values == {"model.width": 16, "optimizer.lr": 0.2, "run.seed": 6}
    assert (runs[-1].spec.model.width, runs[-1].spec.optimizer.lr, runs[-1].spec.run.seed) == (16, 0.2, 6)


def test_seeds_begin_at_zero_where_the_spec_says_none():
    assert [run.values for run in expand(document={}, seeds=2)] == [{"run.seed": 0}, {"run.seed": 1}]


def test_another_kind_of_table_has_its_own_defaults():
    sgd, adam = expand("optimizer.name=sgd,adam")

    assert (sgd.name, adam.name) == ("sgd", "adam")
    assert (sgd.spec.optimizer, adam.spec.optimizer) == (Sgd(), Adam())


def test_a_kind_and_its_keys_may_vary_together():
    mlp, linear = expand('model={name="mlp",width=8},{name="linear"}')

    assert (mlp.spec.model, linear.spec.model) == (Mlp(width=8), Linear())


def test_names_are_fit_for_folders_and_no_two_are_the_same():
    runs = expand('data.name="digits"', "optimizer.lr=1e-05,0.1,{kind=\"warmup\",peak=0.1,steps=5},{kind='warmup',peak=0.1,steps=5}")

    assert [run.name for run in runs] == [
        "digits-lr1e-05",
        "digits-lr0.1",
        "digits-lr-kind-warmup-peak-0.1-steps-5",
        "digits-lr-kind-warmup-peak-0.1-steps-5-2",
    ]


def test_a_long_value_makes_no_name_that_a_folder_cannot_have():
    [run] = expand(f"data={{name='npz',path='/{'x' * 300}.npz'}}")

    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}", run.name)


def test_keys_that_end_alike_are_told_apart():
    [run] = expand("model.init_scale=1.5", "run.init_seed=3", "measure.num_examples=50", "data.num_train=60", "optimizer.batch_size=10")
    assert run.name == "init_scale1.5-init_seed3-num_examples50-num_train60-batch_size10"

    warm = {"objective": {"transform": "sqrt"}, "optimizer": {"warm_start": {"steps": 5, "lr": 0.1}}}
    [run] = expand("optimizer.lr=0.1", "optimizer.warm_start.lr=0.2", document=warm)
    assert run.name == "optimizer.lr0.1-optimizer.warm_start.lr0.2"


def test_a_wrong_value_is_named_with_what_gave_it_and_with_its_run():
    with pytest.raises(SpecError, match=r"--grid optimizer\.lr = -1: expected a number > 0.*This is the run width8-lr-1"):
        expand("model.width=8,16", "optimizer.lr=0.1,-1")


def test_a_wrong_key_of_the_file_is_the_files():
    with pytest.raises(SpecError, match=r"base\.toml: model\.widht is not a known key"):
        expand("optimizer.lr=0.1", document={"model": {"widht": 3}})


def test_something_has_to_vary():
    with pytest.raises(SpecError, match="Nothing varies"):
        expand()


@pytest.mark.parametrize(("grids", "seeds"), [(("optimizer.lr=0.1", "optimizer.lr=0.2"), None), (("run.seed=1,2",), 3)])
def test_a_key_varies_once(grids, seeds):
    with pytest.raises(SpecError, match="is varied 2 times"):
        expand(*grids, seeds=seeds)
