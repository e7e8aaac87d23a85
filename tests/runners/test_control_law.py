import itertools

import numpy as np
import pytest
from msgspec.structs import replace

from runners import control_law
from runners.measure import noise_kernel
from runners.records import EventRecord, NtkRecord, SharpnessRecord, StepRecord
from runners.spec import Digits, EdgeBatch, EdgeRate, Gaussian, Linear, Measure, Mlp, Run, Sgd, Train
from runners.train import TrainRunner

RATE = EdgeRate(of="sharpness", initial=0.1, target=0.8, gain=1.0, factor=2.0)
TRAINED = Train(
    data=Digits(num_train=64, num_test=0),
    model=Mlp(width=8, depth=2),
    optimizer=Sgd(lr=0.1, batch_size=4),
    measure=Measure(sharpness_every=5, ntk_every=5, evaluate_every=0),
    run=Run(steps=20),
)


def run(spec):
    runner, ticks = TrainRunner(spec), itertools.count()
    records = []
    while runner.step < runner.steps and not runner.diverged:
        records += [*runner.measure(lambda: float(next(ticks))), *runner.advance(lambda: float(next(ticks)))]
    return records


def of(kind, records):
    return [record for record in records if isinstance(record, kind)]


def test_with_full_gain_a_ratio_proportional_to_the_learning_rate_meets_its_target_at_once():
    sharpness = 30.0

    lr = control_law.next_lr(RATE, 0.1, 0.1 * sharpness / 2)

    assert lr * sharpness / 2 == pytest.approx(0.8, rel=1e-12)


@pytest.mark.parametrize("start", [0.01, 0.5])
def test_with_less_gain_the_logarithm_of_the_distance_shrinks_by_it(start):
    control = replace(RATE, gain=0.25, factor=100.0)

    lr = control_law.next_lr(control, start, start * 15)

    assert np.log(lr * 15 / 0.8) == pytest.approx(0.75 * np.log(start * 15 / 0.8), rel=1e-12)


@pytest.mark.parametrize(
    ("control", "ratio", "expected"),
    [
        (RATE, 0.01, 0.2),
        (RATE, 0.0, 0.2),
        (RATE, -0.5, 0.2),
        (RATE, 8.0, 0.05),
        (RATE, np.inf, 0.05),
        (replace(RATE, min=0.07), 8.0, 0.07),
        (replace(RATE, max=0.15), 0.01, 0.15),
    ],
)
def test_the_learning_rate_changes_by_no_more_than_it_may_and_stays_within_its_limits(control, ratio, expected):
    assert control_law.next_lr(control, 0.1, ratio) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("of_", "standing", "expected"),
    [
        ("sharpness", {"sharpness": 0.3, "noise_kernel": 0.7}, 0.3),
        ("noise_kernel", {"sharpness": 0.3, "noise_kernel": 0.7}, 0.7),
        ("nearest", {"sharpness": 0.3, "noise_kernel": 0.7}, 0.7),
        ("nearest", {"sharpness": 0.9, "noise_kernel": 0.7}, 0.9),
        ("nearest", {"sharpness": 0.9}, None),
        ("noise_kernel", {"sharpness": 0.9}, None),
    ],
)
def test_what_is_followed_is_what_was_asked_for_if_all_of_it_was_measured(of_, standing, expected):
    assert control_law.followed(replace(RATE, of=of_), standing) == expected


@pytest.mark.parametrize("sampling", ["without_replacement", "with_replacement"])
def test_the_batch_doubles_until_the_trace_part_of_k_is_at_most_its_target(sampling):
    trace, lr, target = 500.0, 0.1, 0.6
    optimizer = Sgd(lr=lr, batch_size=3, sampling=sampling)

    def kernel(size):
        noise = noise_kernel.noise(control_law.resized(optimizer, size), lr=lr, num_examples=1000)
        return noise_kernel.trace_part(noise, trace)

    size = control_law.next_batch_size(EdgeBatch(initial=3, target=target), optimizer, kernel(3), num_examples=1000)

    assert size == next(3 * 2**power for power in range(10) if kernel(3 * 2**power) <= target)
    assert size > 3


@pytest.mark.parametrize(("most", "expected"), [(None, 64), (20, 16), (8, 8)])
def test_the_batch_grows_no_further_than_the_examples_or_its_limit(most, expected):
    control = EdgeBatch(initial=8, target=1e-9, max=most)

    assert control_law.next_batch_size(control, Sgd(batch_size=8), 1.0, num_examples=100) == expected


def test_the_batch_does_not_grow_where_only_the_learning_rate_helps():
    assert control_law.next_batch_size(EdgeBatch(initial=8), Sgd(batch_size=8), np.inf, num_examples=100) == 8


def test_the_batch_never_shrinks():
    assert control_law.next_batch_size(EdgeBatch(initial=8), Sgd(batch_size=32), 1e-6, num_examples=100) == 32


def test_feedback_holds_the_sharpness_of_a_quadratic_at_its_target_from_the_first_measurement_on():
    data = Gaussian(num_train=40, num_test=0, num_features=5, covariance="empirical", spectrum=(4.0, 2.0, 1.0, 0.5, 0.25))
    spec = replace(
        TRAINED, data=data, model=Linear(), optimizer=Sgd(lr=replace(RATE, factor=10.0)), measure=replace(TRAINED.measure, ntk_every=0)
    )

    records = run(spec)

    first, *others = of(SharpnessRecord, records)
    assert first.ratio == pytest.approx(0.1 * 4.0 / 2, rel=1e-4)
    assert [record.ratio for record in others] == pytest.approx([0.8] * len(others), rel=1e-4)
    assert [record.lr for record in of(StepRecord, records)] == pytest.approx([0.4] * 20, rel=1e-4)


@pytest.mark.slow
def test_the_learning_rate_of_feedback_is_the_one_that_the_updates_take():
    steady = EdgeRate(of="noise_kernel", initial=0.05, min=0.05, max=0.05)

    small = replace(TRAINED, model=Linear(), measure=replace(TRAINED.measure, sharpness_every=0, ntk_eigenvalues=0))

    controlled, plain = (of(StepRecord, run(replace(small, optimizer=Sgd(lr=lr, batch_size=4)))) for lr in (steady, 0.05))

    assert [record.loss for record in controlled] == pytest.approx([record.loss for record in plain], rel=1e-5)


def test_a_batch_that_grows_is_told_and_logged_and_its_own_k_is_measured_from_then_on():
    measure = replace(TRAINED.measure, sharpness_every=0, ntk_eigenvalues=0)
    spec = replace(TRAINED, model=Linear(), measure=measure, optimizer=Sgd(lr=0.01, batch_size=EdgeBatch(initial=2, target=1e-4, max=16)))

    records = run(spec)

    event = next(record for record in of(EventRecord, records) if record.event == "batch_size")
    grown, steps = event.data["to"], of(StepRecord, records)
    assert (event.step, event.data["from"]) == (0, 2)
    assert {record.batch_size for record in steps} == {grown} == {16}
    before, after = of(NtkRecord, records)[:2]
    noise = noise_kernel.noise(Sgd(batch_size=grown), lr=0.01, num_examples=64)
    assert before.noise_kernel_trace == pytest.approx(0.01 / 2 * (64 - 2) / (2 * 63) * before.trace / 10, rel=1e-6)
    assert after.noise_kernel_trace == pytest.approx(noise_kernel.trace_part(noise, after.trace) / 10, rel=1e-6)
