"""The presets on digits show what their opening comments claim."""

import pytest
from msgspec.structs import replace

from runners import spec_file
from runners.records import NtkRecord, SharpnessRecord, StepRecord
from runners.spec import Measure
from runners.train import TrainRunner


def run(name, *, steps, **measure):
    """The records of a preset's first steps, measured less often than it asks for."""
    spec = spec_file.read(name)
    spec = replace(spec, run=replace(spec.run, steps=steps), measure=Measure(evaluate_every=0, **measure))
    runner = TrainRunner(spec)
    records = []
    while runner.step < steps:
        records += [*runner.measure(lambda: 0.0), *runner.advance(lambda: 0.0)]
        assert not runner.diverged
    return [*records, *runner.measure(lambda: 0.0)]


def ratios(records, *, since=0):
    found = [record for record in records if isinstance(record, SharpnessRecord) and record.step >= since]
    assert all(record.converged for record in found)
    return [record.ratio for record in found]


def losses(records):
    return [record.loss for record in records if isinstance(record, StepRecord)]


def test_gradient_descent_sharpens_to_two_over_lr_and_stays_there_while_the_loss_falls():
    records = run("digits-gd", steps=700, sharpness_every=50, ntk_every=0)

    assert ratios(records)[0] < 0.6
    assert max(ratios(records)[: 200 // 50 + 1]) > 1
    assert all(0.95 <= ratio <= 1.15 for ratio in ratios(records, since=400))
    assert losses(records)[-1] < 0.7 * losses(records)[300]


@pytest.mark.slow
def test_heavy_ball_sharpens_to_its_own_edge_far_beyond_two_over_lr():
    records = run("digits-momentum", steps=800, sharpness_every=100, ntk_every=0)

    assert ratios(records)[0] < 0.5
    assert all(0.9 <= ratio <= 1.1 for ratio in ratios(records, since=600))


@pytest.mark.slow
def test_adam_brings_the_preconditioned_sharpness_to_its_edge():
    records = run("digits-adam", steps=500, sharpness_every=100, ntk_every=0)

    found = [record.ratio for record in records if isinstance(record, SharpnessRecord) and record.step >= 300]
    assert all(0.9 <= ratio <= 1.1 for ratio in found)


@pytest.mark.slow
def test_a_small_batch_stays_below_two_over_lr_with_k_near_its_edge():
    records = run("digits-sgd", steps=1000, sharpness_every=250, ntk_every=500)

    assert all(ratio < 0.45 for ratio in ratios(records, since=500))
    kernel = [record.noise_kernel for record in records if isinstance(record, NtkRecord) and record.step >= 500]
    assert all(0.35 <= value <= 0.6 for value in kernel)


@pytest.mark.slow
def test_feedback_holds_k_at_its_target_from_a_learning_rate_that_is_far_too_small():
    records = run("digits-edge", steps=600, sharpness_every=25, ntk_every=25)

    found = [record for record in records if isinstance(record, NtkRecord)]
    assert found[0].noise_kernel < 0.1
    assert all(0.44 <= record.noise_kernel <= 0.56 for record in found if record.step >= 500)
    assert 0.25 <= [record.lr for record in records if isinstance(record, StepRecord)][-1] <= 0.36


@pytest.mark.slow
def test_gradient_descent_on_a_chebyshev_polynomial_reaches_the_edge():
    records = run("chebyshev", steps=4000, sharpness_every=50, ntk_every=0)

    assert max(ratios(records)) > 0.98
    assert all(ratio < 1.1 for ratio in ratios(records))
