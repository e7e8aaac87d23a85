from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest
from msgspec import UNSET

from runners import curvature, models, objectives, spec, thresholds
from runners.curvature import Curvature
from runners.measure import noise_kernel
from runners.measure.eigenvalues import EigenMeter, Eigenvalues
from runners.measure.noise_kernel import Noise
from runners.measure.ntk import Norms, Ntk, NtkMeter
from runners.records import EventRecord

NUM_TRAIN, OUTPUTS, LR = 20, 3, 0.05
TRACE, EIGENVALUES, ERRORS = 30.0, (8.0, 4.0), (0.2, 0.1)
PRECONDITIONED_TRACE = 70.0
NORMS = Norms(frobenius=90.0, frobenius_sem=2.0, examples=900.0)
SHARPNESS, PRECONDITIONED, SMALLEST = 12.0, 25.0, -3.0
FOUND = {"hessian": SHARPNESS, "preconditioned_hessian": PRECONDITIONED, "negated_hessian": -SMALLEST}
"""Largest eigenvalue by the function that makes the operator."""


class FakeNtkMeter(NtkMeter):
    """Finds what it was asked for, and always the same."""

    program = None

    def __init__(self, problem, params, *, x, num_eigenvalues, with_norms, preconditioned, **asked):
        self.start = jnp.zeros(1)
        self.with_norms = with_norms
        self.preconditioned = preconditioned
        self._found = Ntk(
            trace=PRECONDITIONED_TRACE if preconditioned else TRACE,
            sem=0.5,
            eigenvalues=EIGENVALUES[:num_eigenvalues],
            errors=ERRORS[:num_eigenvalues],
            norms=NORMS if with_norms else None,
            method="hutchinson per example",
            num_probes=4,
            seconds=0.1,
        )

    def measure(self, params, start, key, preconditioner=None):
        assert (preconditioner is not None) == self.preconditioned
        return self._found, start + 1


class FakeEigenMeter(EigenMeter):
    """Finds always the same for an operator, and keeps the keys that it was given."""

    program = None

    def __init__(self, operator, params, *further, top_k, **asked):
        self.start = jnp.zeros((1, 12))
        self.keys = []
        self._value = FOUND[operator.__qualname__.partition(".")[0]]
        self._top_k = top_k

    def measure(self, params, start, key, *further):
        self.keys.append(jax.random.key_data(key).tolist())
        found = Eigenvalues(
            values=(self._value, 1.0)[: self._top_k],
            residuals=(0.3, 0.2)[: self._top_k],
            errors=(0.1, 0.2)[: self._top_k],
            num_products=7,
            converged=True,
            known=1.0,
            seconds=0.1,
            vectors=jnp.ones((self._top_k, 12)) / 12**0.5,
        )
        return found, start + 1


@pytest.fixture(autouse=True)
def fake_meters(monkeypatch):
    monkeypatch.setattr(curvature, "NtkMeter", FakeNtkMeter)
    monkeypatch.setattr(curvature, "EigenMeter", FakeEigenMeter)


MODEL = models.build(spec.Linear(), input_shape=(4,), num_outputs=OUTPUTS, seed=0, dtype="float32")


def made(optimizer, objective=None, *, model=MODEL, **measure):
    objective = objective or spec.Mse()
    name = "mse" if isinstance(objective, spec.Mse) else "cross_entropy"
    asked = spec.Train(optimizer=optimizer, objective=objective, measure=spec.Measure(**measure))
    return Curvature(
        asked,
        model,
        objective=objectives.Objective(name, objective.weight_decay),
        x=jnp.zeros((NUM_TRAIN, 4)),
        y=jnp.zeros(NUM_TRAIN, int),
        preconditioned=isinstance(optimizer, spec.Adam | spec.RmsProp),
    )


def ntk_of(curvature, preconditioner=None, *, lr=LR):
    return curvature.ntk(MODEL.params, preconditioner, lr=lr, step=50, time=1.5)


def sharpness_of(curvature, preconditioner=None, *, lr=LR, step=10):
    return curvature.sharpness(MODEL.params, preconditioner, lr=lr, step=step, time=1.5)


def records_of(measured, step):
    due = measured.measure(
        MODEL.params, lambda: None, lr=LR, step=step, clock=lambda: 1.5, is_due=lambda every: every > 0 and step % every == 0
    )
    return {type(record).__name__: record for record in due}


# --- the NTK ---


def test_with_the_full_batch_there_is_a_trace_and_no_noise_kernel():
    record = ntk_of(made(spec.Sgd()))

    assert (record.trace, record.sem, record.step, record.time) == (TRACE, 0.5, 50, 1.5)
    assert (record.method, record.num_probes, record.num_examples) == ("hutchinson per example", 4, NUM_TRAIN)
    kernel = (record.noise_kernel, record.noise_kernel_trace, record.noise_kernel_bound, record.noise_kernel_error)
    assert {record.threshold, record.ratio, *kernel, record.eigenvalues, record.eigenvalue_errors} == {UNSET}


@pytest.mark.parametrize("optimizer", [spec.Sgd(), spec.Adam()])
def test_eigenvalues_that_are_asked_for_are_there_without_a_noise_kernel_too(optimizer):
    record = ntk_of(made(optimizer, ntk_eigenvalues=1))

    assert (record.eigenvalues, record.eigenvalue_errors) == (EIGENVALUES[:1], ERRORS[:1])
    assert record.noise_kernel is UNSET


def test_the_crossover_batch_comes_with_the_eigenvalues_and_its_error_from_theirs_and_the_trace():
    record = ntk_of(made(spec.Sgd(batch_size=4)))

    wanted = noise_kernel.crossover_batch(
        spec.Sgd(batch_size=4), lr=LR, trace=TRACE, largest=EIGENVALUES[0], num_examples=NUM_TRAIN, num_outputs=3
    )
    assert wanted is not None
    assert record.crossover_batch == pytest.approx(wanted)
    assert record.crossover_batch_error == pytest.approx(wanted * (0.5 / TRACE + ERRORS[0] / EIGENVALUES[0]))
    assert ntk_of(made(spec.Sgd(batch_size=4), ntk_eigenvalues=0)).crossover_batch is UNSET
    assert ntk_of(made(spec.Sgd(batch_size=4), spec.CrossEntropy(weight_decay=0.5))).crossover_batch is UNSET


def test_the_tail_gauge_takes_the_largest_error_that_a_bound_has_and_is_there_when_asked_for():
    record = ntk_of(made(spec.Sgd(batch_size=4), tail_gauge=True))

    share = ERRORS[0] / EIGENVALUES[0]
    by_trace = 0.5 / OUTPUTS / EIGENVALUES[0]
    assert record.tail_index_error == pytest.approx(
        max((record.tail_index_upper - 1) * share, (record.tail_index_lower - 2) * share + by_trace)
    )
    assert record.tail_index_upper == pytest.approx(1 + 2 / (LR * (20 - 4) / (4 * 19) * EIGENVALUES[0]))
    assert ntk_of(made(spec.Sgd(batch_size=4))).tail_index_upper is UNSET


def test_the_tail_gauge_has_no_lower_bound_from_k_1_on():
    record = ntk_of(made(spec.Sgd(batch_size=4), tail_gauge=True), lr=1.0)

    assert record.noise_kernel_trace > 1
    assert (record.tail_index_upper, record.tail_index_threshold) == (2, 2)
    assert {record.tail_index_lower, record.tail_index_error} == {UNSET}


def test_eigenvalues_that_are_not_wanted_are_not_in_the_noise_kernel():
    record = ntk_of(made(spec.Sgd(batch_size=4), ntk_eigenvalues=0))

    assert record.eigenvalues is UNSET
    assert record.noise_kernel == record.noise_kernel_trace


def test_the_squared_error_of_several_outputs_is_held_against_the_threshold_per_output():
    record = ntk_of(made(spec.Sgd(batch_size=4)))

    p = (20 - 4) / (4 * 19)
    assert record.convention == "per_output"
    assert record.threshold == pytest.approx(OUTPUTS * 2 / (p * LR))
    assert record.noise_kernel_trace == pytest.approx(p * LR * TRACE / 2 / OUTPUTS)
    assert record.ratio == pytest.approx(record.noise_kernel_trace)
    modes = sum(p * LR * value / (2 - (1 - p) * LR * value) for value in EIGENVALUES)
    assert record.noise_kernel == pytest.approx((modes + p * LR * (TRACE - sum(EIGENVALUES)) / 2) / OUTPUTS)
    assert (record.eigenvalues, record.eigenvalue_errors) == (EIGENVALUES, ERRORS)


def test_the_error_of_the_noise_kernel_is_in_its_convention_and_knows_the_rank():
    record = ntk_of(made(spec.Sgd(batch_size=4), num_examples=3))

    noise = Noise(lr=LR, momentum=0.0, p=(20 - 4) / (4 * 19))
    error = noise_kernel.kernel_norm_error(noise, EIGENVALUES, trace=TRACE, errors=ERRORS, sem=0.5, rank=3 * OUTPUTS, frobenius=92.0)
    assert record.noise_kernel_error == pytest.approx(error / OUTPUTS)


def test_the_necessary_bound_knows_no_convention():
    record = ntk_of(made(spec.Sgd(batch_size=4)))

    p = (20 - 4) / (4 * 19)
    wanted = LR / (2 * TRACE) * ((1 - p) * NORMS.frobenius + p * NORMS.examples)
    assert record.noise_kernel_bound == pytest.approx(wanted)


def test_the_cross_entropy_is_held_against_the_threshold_of_the_sum():
    record = ntk_of(made(spec.Sgd(batch_size=4), spec.CrossEntropy()))

    p = (20 - 4) / (4 * 19)
    assert record.convention == "sum"
    assert record.threshold == pytest.approx(2 / (p * LR))
    assert record.noise_kernel_trace == pytest.approx(p * LR * TRACE / 2)


def test_one_output_has_the_convention_of_the_sum():
    model = models.build(spec.Linear(), input_shape=(4,), num_outputs=1, seed=0, dtype="float32")

    record = ntk_of(made(spec.Sgd(batch_size=4, sampling="with_replacement"), model=model))

    assert record.convention == "sum"
    assert record.threshold == pytest.approx(2 * 4 / LR)


def test_momentum_lowers_the_threshold_and_has_no_necessary_bound():
    record = ntk_of(made(spec.HeavyBall(batch_size=4, momentum=0.9), spec.CrossEntropy()))

    noise = Noise(lr=LR, momentum=0.9, p=(20 - 4) / (4 * 19))
    assert record.threshold == pytest.approx(2 * 0.1 / (noise.p * LR))
    assert record.noise_kernel == pytest.approx(noise_kernel.kernel_norm(noise, EIGENVALUES, trace=TRACE))
    assert record.noise_kernel_bound is UNSET


def test_weight_decay_enters_the_noise_kernel_and_leaves_no_necessary_bound_to_measure_for():
    measured = made(spec.Sgd(batch_size=4), spec.CrossEntropy(weight_decay=0.5))

    record = ntk_of(measured)

    noise = Noise(lr=LR, momentum=0.0, p=(20 - 4) / (4 * 19), weight_decay=0.5)
    assert record.noise_kernel == pytest.approx(noise_kernel.kernel_norm(noise, EIGENVALUES, trace=TRACE))
    assert record.noise_kernel_bound is UNSET
    assert not measured._ntk.with_norms


@pytest.mark.parametrize(
    ("optimizer", "objective"),
    [(spec.Muon(batch_size=4), spec.Mse()), (spec.Adam(batch_size=4), spec.Mse(weight_decay=0.1)), (spec.RmsProp(), spec.Mse())],
)
def test_where_no_noise_kernel_is_known_there_is_none_and_nothing_is_measured_for_it(optimizer, objective):
    measured = made(optimizer, objective)

    record = ntk_of(measured, MODEL.params)

    assert record.trace == TRACE
    assert {record.threshold, record.ratio, record.noise_kernel, record.noise_kernel_bound, record.eigenvalues} == {UNSET}
    assert {record.preconditioned_trace, record.preconditioned_eigenvalues, record.crossover_batch} == {UNSET}
    assert "preconditioned_ntk" not in measured.state


def test_k_of_an_adaptive_optimizer_is_that_of_the_preconditioned_matrix_with_the_plain_trace_beside_it():
    optimizer = spec.Adam(batch_size=4, beta1=0.5)
    measured = made(optimizer)

    record = ntk_of(measured, MODEL.params)

    noise = Noise(lr=LR / 2, momentum=0.5, p=(20 - 4) / (4 * 19))
    assert (record.trace, record.sem, record.eigenvalues) == (TRACE, 0.5, UNSET)
    assert (record.preconditioned_trace, record.preconditioned_sem) == (PRECONDITIONED_TRACE, 0.5)
    assert (record.preconditioned_eigenvalues, record.preconditioned_eigenvalue_errors) == (EIGENVALUES, ERRORS)
    assert record.preconditioned_method == record.method
    assert record.seconds == pytest.approx(0.2)
    assert record.threshold == pytest.approx(noise_kernel.threshold(noise, num_outputs=OUTPUTS))
    assert record.ratio == pytest.approx(PRECONDITIONED_TRACE / record.threshold)
    assert record.noise_kernel == pytest.approx(noise_kernel.kernel_norm(noise, EIGENVALUES, trace=PRECONDITIONED_TRACE) / OUTPUTS)
    crossover = noise_kernel.crossover_batch(
        optimizer, lr=LR, trace=PRECONDITIONED_TRACE, largest=EIGENVALUES[0], num_examples=20, num_outputs=OUTPUTS
    )
    assert record.crossover_batch == pytest.approx(crossover)
    assert measured.state["preconditioned_ntk"] == 1


def test_plain_steps_of_a_preconditioned_matrix_have_the_necessary_bound():
    record = ntk_of(made(spec.RmsProp(batch_size=4)), MODEL.params)

    noise = Noise(lr=LR, momentum=0.0, p=(20 - 4) / (4 * 19))
    norms = {"frobenius": NORMS.frobenius, "example_frobenius": NORMS.examples}
    assert record.noise_kernel_bound == pytest.approx(noise_kernel.necessary_bound(noise, trace=PRECONDITIONED_TRACE, **norms))


def test_before_its_first_update_an_adaptive_optimizer_has_a_trace_and_no_noise_kernel():
    record = ntk_of(made(spec.Adam(batch_size=4)))

    assert record.trace == TRACE
    assert {record.preconditioned_trace, record.noise_kernel, record.threshold, record.crossover_batch} == {UNSET}


def test_eigenvalues_that_are_asked_for_are_those_of_both_matrices():
    record = ntk_of(made(spec.Adam(batch_size=4), ntk_eigenvalues=1), MODEL.params)

    assert record.eigenvalues == record.preconditioned_eigenvalues == EIGENVALUES[:1]


def test_the_noise_is_that_of_all_training_examples_when_fewer_are_measured():
    few = ntk_of(made(spec.Sgd(batch_size=4), num_examples=5))

    everything = ntk_of(made(spec.Sgd(batch_size=4)))

    assert (few.num_examples, everything.num_examples) == (5, NUM_TRAIN)
    assert few.threshold == everything.threshold
    assert few.noise_kernel == everything.noise_kernel


def test_while_the_learning_rate_is_zero_k_is_zero_and_there_is_no_threshold():
    record = ntk_of(made(spec.Sgd(batch_size=4)), lr=0.0)

    assert (record.noise_kernel, record.noise_kernel_trace) == (0, 0)
    assert {record.threshold, record.ratio} == {UNSET}


# --- the sharpness ---


@pytest.mark.parametrize("optimizer", [spec.Sgd(), spec.Sgd(batch_size=4), spec.HeavyBall(momentum=0.5)])
def test_the_sharpness_is_held_against_the_edge_at_the_present_learning_rate(optimizer):
    measured = made(optimizer, top_k=2)

    record = sharpness_of(measured)

    assert (record.value, record.values, record.errors) == (SHARPNESS, (SHARPNESS, 1.0), (0.1, 0.2))
    assert (record.residual, record.error, record.num_hvps, record.converged) == (0.3, 0.1, 7, True)
    assert record.threshold == thresholds.threshold(optimizer, LR)
    assert record.ratio == pytest.approx(SHARPNESS / record.threshold)
    assert record.preconditioned is UNSET
    assert "at step 10" in measured.last_words


def test_one_value_is_not_told_twice():
    assert sharpness_of(made(spec.Sgd(), top_k=1)).values is UNSET


def test_an_adaptive_optimizer_holds_its_preconditioned_sharpness_against_the_edge():
    measured = made(spec.Adam(beta1=0.9))

    record = sharpness_of(measured, MODEL.params)

    assert (record.value, record.preconditioned) == (SHARPNESS, PRECONDITIONED)
    assert (record.preconditioned_residual, record.preconditioned_error) == (0.3, 0.1)
    assert (record.preconditioned_num_hvps, record.preconditioned_converged) == (7, True)
    assert record.threshold == pytest.approx(3.8 / (0.1 * LR))
    assert record.ratio == pytest.approx(PRECONDITIONED / record.threshold)


def test_before_its_first_update_an_adaptive_optimizer_has_an_edge_and_nothing_to_hold_against_it():
    record = sharpness_of(made(spec.Adam()), None, step=0)

    assert record.value == SHARPNESS
    assert record.threshold is not UNSET
    assert {record.ratio, record.preconditioned, record.preconditioned_num_hvps} == {UNSET}


def test_while_the_learning_rate_is_zero_there_is_no_edge():
    record = sharpness_of(made(spec.Sgd()), lr=0.0)

    assert {record.threshold, record.ratio} == {UNSET}


def test_the_smallest_eigenvalue_stands_beside_the_largest_with_its_own_quality():
    record = sharpness_of(made(spec.Sgd(), smallest=True))

    assert (record.value, record.smallest) == (SHARPNESS, SMALLEST)
    assert (record.smallest_residual, record.smallest_error, record.smallest_num_hvps, record.smallest_converged) == (0.3, 0.1, 7, True)
    assert record.seconds == pytest.approx(0.2)


# --- a random start ---


class OvertakenMeter(FakeEigenMeter):
    """Finds more from a random start than from what it left."""

    more = 1.0

    def measure(self, params, start, key, *further):
        found, left = super().measure(params, start, key, *further)
        is_fresh = not float(start.max())
        return (replace(found, values=(SHARPNESS + self.more,)) if is_fresh else found), left


def made_after_one_measurement(monkeypatch, more, **measure):
    monkeypatch.setattr(OvertakenMeter, "more", more)
    monkeypatch.setattr(curvature, "EigenMeter", OvertakenMeter)
    measured = made(spec.Sgd(), sharpness_every=1, ntk_every=0, **measure)
    records_of(measured, 1)
    return measured


def test_a_larger_eigenvalue_from_a_random_start_is_taken_and_told(monkeypatch):
    measured = made_after_one_measurement(monkeypatch, 1.0, verify_every=4)

    records = records_of(measured, 4)

    assert records["SharpnessRecord"].value == SHARPNESS + 1
    assert records["SharpnessRecord"].num_hvps == 14
    assert "found a sharpness of 13, where the eigenvectors kept from before gave 12." in records["EventRecord"].message
    assert measured.state["sharpness"].max() == 1, "the next measurement starts from what the random start left"
    assert "EventRecord" not in records_of(measured, 5)


@pytest.mark.parametrize("more", [0.19, -5.0, float("nan")])
def test_a_random_start_that_finds_no_more_than_the_errors_allow_only_costs(monkeypatch, more):
    measured = made_after_one_measurement(monkeypatch, more, verify_every=4)

    records = records_of(measured, 4)

    assert list(records) == ["SharpnessRecord"]
    assert records["SharpnessRecord"].value == SHARPNESS
    assert records["SharpnessRecord"].num_hvps == 14
    assert measured.state["sharpness"].max() == 2


@pytest.mark.parametrize(("step", "num_hvps"), [(3, 7), (4, 14)])
def test_the_check_comes_at_its_own_steps(monkeypatch, step, num_hvps):
    measured = made_after_one_measurement(monkeypatch, 0.0, verify_every=4)

    assert records_of(measured, step)["SharpnessRecord"].num_hvps == num_hvps


# --- what a measurement says of itself ---


def events_after(monkeypatch, *, steps=(4,), **changed):
    class Changed(FakeEigenMeter):
        def measure(self, params, start, key, *further):
            found, left = super().measure(params, start, key, *further)
            return replace(found, **changed), left

    monkeypatch.setattr(curvature, "EigenMeter", Changed)
    measured = made(spec.Sgd(), sharpness_every=1, ntk_every=0)
    records = []
    for step in steps:
        records += measured.measure(MODEL.params, lambda: None, lr=LR, step=step, clock=lambda: 1.5, is_due=lambda every: every == 1)
    return [(record.step, record.event, record.message) for record in records if isinstance(record, EventRecord)]


def test_an_eigenvalue_that_was_not_followed_is_told_when_it_comes_out_on_top(monkeypatch):
    [(step, event, message)] = events_after(monkeypatch, known=0.06)

    assert (step, event) == (4, "overtaken")
    assert "6% of the new top eigenvector lies along those followed so far" in message


def test_a_top_eigenvector_that_was_followed_is_no_news(monkeypatch):
    assert events_after(monkeypatch, known=0.6) == []


def test_a_sharpness_that_was_not_found_to_the_tolerance_is_told_the_first_time_and_if_it_is_finite(monkeypatch):
    [(step, event, message)] = events_after(monkeypatch, steps=(4, 5, 6), converged=False, num_products=300, known=0.06)

    assert (step, event) == (4, "warning")
    assert "did not converge within 300 Hessian-vector products: 12 with an estimated error of 0.1." in message
    assert events_after(monkeypatch, converged=False, values=(float("nan"),)) == []


# --- further quantities ---


def test_each_quantity_is_measured_at_its_own_steps():
    measured = made(spec.Sgd(), sharpness_every=2, ntk_every=3, gauss_newton_every=4)

    found = [set(records_of(measured, step)) for step in (1, 2, 3, 4, 12)]

    assert measured.intervals == (2, 3, 500, 4)
    sharpness, ntk, gauss_newton = "SharpnessRecord", "NtkRecord", "GaussNewtonRecord"
    assert found == [set(), {sharpness}, {ntk}, {sharpness, gauss_newton}, {sharpness, ntk, gauss_newton}]


# --- state and keys ---


def test_each_measurement_starts_from_what_its_own_kind_left():
    measured = made(spec.Adam(batch_size=4))

    sharpness_of(measured, MODEL.params, step=10)
    sharpness_of(measured, MODEL.params, step=20)
    ntk_of(measured)
    ntk_of(measured, MODEL.params)

    left = {name: value.max().item() for name, value in measured.state.items()}
    assert left == {"sharpness": 2, "preconditioned": 2, "ntk": 2, "preconditioned_ntk": 1, "unconverged": False}


def test_every_measurement_has_random_numbers_of_its_own_that_its_step_decides():
    one, other = made(spec.Adam()), made(spec.Adam())

    for measured, steps in ((one, (10, 20)), (other, (20,))):
        for step in steps:
            sharpness_of(measured, MODEL.params, step=step)

    keys = [*one._sharpness.keys, *one._preconditioned.keys]
    assert len({tuple(key) for key in keys}) == 4
    assert [*other._sharpness.keys, *other._preconditioned.keys] == keys[1::2]


def test_chunks_are_those_of_all_training_examples_so_that_evaluation_has_no_smaller_ones():
    assert made(spec.Sgd(), num_examples=5).chunk_size == NUM_TRAIN
    assert made(spec.Sgd(), chunk_size=7).chunk_size == 7
