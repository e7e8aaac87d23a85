"""Which runs train as one program."""

import pytest
from msgspec.structs import replace

from runners import grouping
from runners.errors import SpecError
from runners.expansion import PlannedRun
from runners.experiments import Flow, Function, Valley
from runners.grouping import UNLIKE
from runners.spec import (
    Adam,
    Cosine,
    CustomData,
    CustomModel,
    CustomOptimizer,
    Digits,
    EdgeBatch,
    EdgeRate,
    Gaussian,
    Mlp,
    Run,
    Sgd,
    Train,
    Vgg11,
)

BASE = Train(optimizer=Sgd(lr=0.1), run=Run(steps=10))


def planned(*specs):
    return [PlannedRun(name=f"run{number}", values={}, spec=spec) for number, spec in enumerate(specs)]


def classes(*specs):
    return [[run.name for run in found] for found in grouping.alike(planned(*specs)).classes]


def with_run(spec, **seeds):
    return replace(spec, run=replace(spec.run, **seeds))


def with_seeds(width, count):
    return [with_run(replace(BASE, model=Mlp(width=width)), seed=seed) for seed in range(count)]


@pytest.mark.parametrize(
    "other",
    [
        replace(BASE, optimizer=Sgd(lr=0.2)),
        with_run(BASE, seed=1),
        with_run(BASE, init_seed=1),
        with_run(BASE, data_seed=1),
        with_run(replace(BASE, optimizer=Sgd(lr=0.2)), order_seed=1),
    ],
)
def test_runs_that_differ_in_their_learning_rate_and_their_seeds_train_together(other):
    assert classes(BASE, other) == [["run0", "run1"]]


@pytest.mark.parametrize(
    "other",
    [
        replace(BASE, model=Mlp(width=3)),
        replace(BASE, data=Digits(num_train=7)),
        replace(BASE, optimizer=Sgd(lr=0.1, batch_size=8)),
        replace(BASE, optimizer=Adam(lr=0.1)),
        replace(BASE, optimizer=Sgd(lr=Cosine(peak=0.1, steps=10))),
        replace(BASE, measure=replace(BASE.measure, sharpness_every=3)),
        with_run(BASE, steps=11),
        with_run(BASE, precision="float64"),
    ],
)
def test_runs_that_differ_in_anything_else_do_not(other):
    assert classes(BASE, other) == []
    assert grouping.alike(planned(BASE, other)).alone == {UNLIKE: ["run0", "run1"]}


def test_a_schedule_is_shared_by_runs_that_differ_in_their_seeds():
    scheduled = [replace(BASE, optimizer=Sgd(lr=lr)) for lr in (Cosine(peak=0.1, steps=10), EdgeRate(of="sharpness", initial=0.1))]

    assert classes(*scheduled, *(with_run(spec, seed=1) for spec in scheduled)) == [["run0", "run2"], ["run1", "run3"]]


@pytest.mark.parametrize(
    ("spec", "bound", "free"),
    [
        (replace(BASE, model=CustomModel(target="a:b")), "init_seed", "data_seed"),
        (replace(BASE, model=Vgg11(train_output=False)), "init_seed", "order_seed"),
        (replace(BASE, data=CustomData(target="a:b")), "data_seed", "init_seed"),
    ],
)
def test_a_seed_that_decides_more_than_arrays_has_to_be_the_same(spec, bound, free):
    assert classes(spec, with_run(spec, **{free: 1})) == [["run0", "run1"]]
    assert classes(spec, with_run(spec, **{bound: 1})) == []
    assert classes(spec, with_run(spec, seed=1)) == []
    assert classes(spec, with_run(spec, seed=1, **{bound: 0})) == [["run0", "run1"]]


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (Flow(), 'runner = "flow"'),
        (Function(function=Valley()), 'runner = "function"'),
        (replace(BASE, optimizer=CustomOptimizer(target="a:b")), "optimizer of your own"),
        (replace(BASE, optimizer=Sgd(batch_size=EdgeBatch(initial=4, target=0.5))), "batch size changes"),
    ],
)
def test_what_cannot_train_in_one_program_says_why(spec, reason):
    found = grouping.alike(planned(spec, spec))

    assert found.classes == ()
    [(said, names)] = found.alone.items()
    assert reason in said
    assert names == ["run0", "run1"]
    with pytest.raises(SpecError, match=f"cannot train as one program: .*{reason}"):
        grouping.check([spec, spec])


def test_a_runner_refuses_folders_whose_runs_differ_in_more():
    grouping.check([BASE, with_run(BASE, seed=1)])
    with pytest.raises(SpecError, match=r"they differ in more than optimizer\.lr and seeds"):
        grouping.check([BASE, replace(BASE, model=Mlp(width=3))])


@pytest.mark.parametrize(
    ("sizes", "jobs", "groups"),
    [
        ((16,), 1, [16]),
        ((16,), 2, [8, 8]),
        ((7,), 2, [4, 3]),
        ((3, 3), 2, [3, 3]),
        ((9, 2), 2, [5, 4, 2]),
        ((4,), 8, []),
        ((70,), 1, [24, 23, 23]),
    ],
)
def test_groups_are_so_many_that_all_processes_have_work_and_none_is_too_large(sizes, jobs, groups):
    runs = planned(
        *(with_run(replace(BASE, model=Mlp(width=2 + width)), seed=seed) for width, size in enumerate(sizes) for seed in range(size))
    )

    found = grouping.alike(runs).groups(jobs=jobs)

    assert sorted(map(len, found), reverse=True) == groups


@pytest.mark.parametrize(("sizes", "jobs"), [((16,), 8), ((3,), 1), ((2, 2, 2), 3), ((1, 1), 2), ((5, 1), 3)])
def test_there_is_work_for_a_process_a_class_and_one_for_every_two_runs(sizes, jobs):
    runs = planned(
        *(with_run(replace(BASE, model=Mlp(width=2 + width)), seed=seed) for width, size in enumerate(sizes) for seed in range(size))
    )

    assert grouping.alike(runs).default_jobs() == jobs


def test_gaussian_data_of_different_seeds_have_the_same_shapes():
    spec = replace(BASE, data=Gaussian())

    assert classes(spec, with_run(spec, data_seed=1)) == [["run0", "run1"]]
