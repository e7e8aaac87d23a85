"""Batches: what each way of sampling promises, and that it is uniform.

Statistical bounds: a statistic with a chi-square law of k degrees of freedom lies above k + 5 sqrt(2k) + 25 with a
probability below 1e-5 (Laurent and Massart (2000), Lemma 1: P(X > k + 2 sqrt(k t) + 2 t) <= exp(-t), at t = 12.5).
"""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from runners.sampling import FEISTEL_ROUNDS, batch_indices

SAMPLINGS = ["without_replacement", "with_replacement", "epochs"]


def batches(steps, *, num_examples, batch_size, sampling, seed=0):
    """The batches of the first steps, drawn in one jitted loop: [steps, batch_size]."""

    @jax.jit
    def draw(key):
        def one(step):
            return batch_indices(key, step, num_examples=num_examples, batch_size=batch_size, sampling=sampling)

        return jax.lax.map(one, jnp.arange(steps))

    return np.asarray(draw(jax.random.key(seed)))


def chi_square(counts):
    expected = counts.sum() / counts.size
    return ((counts - expected) ** 2 / expected).sum()


def bound(degrees):
    return degrees + 2 * math.sqrt(degrees * 12.5) + 25


def counts_of_ordered_choices(drawn, num_examples):
    """How often each ordered choice of distinct examples occurs."""
    place = {choice: number for number, choice in enumerate(itertools.permutations(range(num_examples), drawn.shape[1]))}
    return np.bincount([place[tuple(row)] for row in drawn.tolist()], minlength=len(place))


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize(("num_examples", "batch_size"), [(1, 1), (20, 20), (50_000, 8)])
def test_indices_are_int32_and_within_the_examples(sampling, num_examples, batch_size):
    drawn = batches(20, num_examples=num_examples, batch_size=batch_size, sampling=sampling)

    assert drawn.shape == (20, batch_size)
    assert drawn.dtype == np.int32
    assert drawn.min() >= 0
    assert drawn.max() < num_examples


@pytest.mark.slow
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_any_step_can_be_redone_alone(sampling):
    looped = batches(60, num_examples=100, batch_size=16, sampling=sampling)
    key = jax.random.key(0)

    again = [batch_indices(key, step, num_examples=100, batch_size=16, sampling=sampling) for step in (59, 0, 23)]

    assert np.array_equal(again, looped[[59, 0, 23]])


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_steps_and_keys_give_other_batches(sampling):
    first = batches(30, num_examples=1000, batch_size=16, sampling=sampling, seed=0)
    second = batches(30, num_examples=1000, batch_size=16, sampling=sampling, seed=1)

    assert len({tuple(row) for row in [*first.tolist(), *second.tolist()]}) == 60


@pytest.mark.parametrize("batch_size", [1, 50, 51, 100])
def test_a_batch_without_replacement_repeats_nothing(batch_size):
    drawn = batches(50, num_examples=100, batch_size=batch_size, sampling="without_replacement")

    assert all(len(set(row)) == batch_size for row in drawn.tolist())


@pytest.mark.parametrize(("num_examples", "batch_size"), [(6, 2), (7, 3), (5, 5)])
def test_without_replacement_every_ordered_choice_is_equally_likely(num_examples, batch_size):
    drawn = batches(40_000, num_examples=num_examples, batch_size=batch_size, sampling="without_replacement")

    counts = counts_of_ordered_choices(drawn, num_examples)

    assert chi_square(counts) < bound(counts.size - 1)


def test_without_replacement_a_large_set_is_covered_evenly():
    drawn = batches(4000, num_examples=1500, batch_size=64, sampling="without_replacement")

    counts = np.bincount(drawn.ravel(), minlength=1500)

    # Counts of draws without replacement vary less than independent ones, so the bound holds all the more.
    assert chi_square(counts) < bound(1499)


def test_with_replacement_draws_are_uniform_and_independent():
    drawn = batches(40_000, num_examples=8, batch_size=2, sampling="with_replacement")

    pairs = np.bincount(drawn[:, 0] * 8 + drawn[:, 1], minlength=64)

    assert chi_square(pairs) < bound(63)


@pytest.mark.parametrize(("num_examples", "batch_size"), [(1500, 8), (1797, 256), (20, 3), (5, 1)])
def test_an_epoch_visits_distinct_examples_and_drops_the_last_incomplete_batch(num_examples, batch_size):
    per_epoch = num_examples // batch_size

    drawn = batches(3 * per_epoch, num_examples=num_examples, batch_size=batch_size, sampling="epochs")

    for epoch in drawn.reshape(3, per_epoch * batch_size):
        assert len(set(epoch.tolist())) == per_epoch * batch_size


@pytest.mark.slow
@pytest.mark.parametrize("num_examples", [2, 3, 5, 7])
def test_every_order_of_an_epoch_is_equally_likely(num_examples):
    drawn = batches(60_000, num_examples=num_examples, batch_size=num_examples, sampling="epochs")

    counts = counts_of_ordered_choices(drawn, num_examples)

    assert chi_square(counts) < bound(counts.size - 1)


def test_in_a_long_epoch_every_example_is_as_likely_at_every_place():
    drawn = batches(4000, num_examples=100, batch_size=100, sampling="epochs")

    counts = np.array([np.bincount(drawn[:, place], minlength=100) for place in range(100)])

    # Rows and columns have fixed sums: 99 x 99 degrees of freedom.
    assert chi_square(counts) < bound(99 * 99)


def test_in_a_long_epoch_neighbours_are_unrelated():
    drawn = batches(400, num_examples=1797, batch_size=1797, sampling="epochs").astype(np.int64)

    steps = (np.diff(drawn, axis=1) % 1797).ravel()

    assert chi_square(np.bincount(steps, minlength=1797)[1:]) < bound(1795)


def test_epochs_have_unrelated_orders():
    drawn = batches(40_000, num_examples=8, batch_size=8, sampling="epochs")

    pairs = np.bincount(drawn[:-1:2, 3] * 8 + drawn[1::2, 3], minlength=64)

    assert chi_square(pairs) < bound(63)


def order_in_python(keys, num_examples):
    """The order of an epoch, a number at a time."""
    low = 2 * math.ceil(math.sqrt(num_examples) / 2)
    high = math.ceil(num_examples / low)

    def mixed(bits):
        bits = (bits ^ (bits >> 16)) * 0x7FEB352D % 2**32
        bits = (bits ^ (bits >> 15)) * 0x846CA68B % 2**32
        return bits ^ (bits >> 16)

    def permuted(number):
        right, left = divmod(number, low)
        for turn, key in enumerate(keys):
            if turn % 2 == 0:
                left = (left + mixed(right ^ key)) % low
            else:
                right = (right + mixed(left ^ key)) % high
        number = left + low * right
        return number if number < num_examples else permuted(number)

    return [permuted(place) for place in range(num_examples)]


def test_an_epochs_order_is_that_of_a_plain_transcription():
    epoch_key = jax.random.fold_in(jax.random.key(0), 1)
    keys = jax.random.bits(epoch_key, (FEISTEL_ROUNDS // 2, 2), jnp.uint32).ravel().tolist()

    drawn = batches(20, num_examples=1797, batch_size=179, sampling="epochs")[10:]

    assert drawn.ravel().tolist() == order_in_python(keys, 1797)[:1790]
