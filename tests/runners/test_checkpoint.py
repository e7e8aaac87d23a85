import json

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from runners.blocks import Blocks
from runners.checkpoint import Checkpoints, Progress
from runners.errors import CheckpointError, OutputError


def progress(step):
    return Progress(step=step, time=1.25, measure_seconds=0.5, first_loss=2.0, log_bytes=100 + step)


def training_state(value):
    params = {"kernel": jnp.full((3, 2), value), "bias": jnp.asarray([1, 2], dtype=jnp.int32)}
    return params, optax.adam(0.1).init({"kernel": params["kernel"]}), jnp.zeros((0, 5))


def test_without_a_checkpoint_there_is_nothing_to_restore(tmp_path):
    assert Checkpoints(tmp_path / "checkpoints").restore(training_state(0.0)) is None


def test_a_state_comes_back_with_the_same_bits_structure_and_types(tmp_path):
    state = training_state(1 / 3)
    Checkpoints(tmp_path).save(progress(10), state)

    restored_progress, restored = Checkpoints(tmp_path).restore(training_state(0.0))

    assert restored_progress == progress(10)
    np.testing.assert_array_equal(restored[0]["kernel"], state[0]["kernel"])
    assert restored[0]["bias"].dtype == jnp.int32
    assert type(restored[1]) is type(state[1])
    assert restored[2].shape == (0, 5)


def test_the_newest_is_restored_and_old_ones_are_removed(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2, 3):
        checkpoints.save(progress(step), training_state(float(step)))

    assert Checkpoints(tmp_path).restore(training_state(0.0))[0].step == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3"]


def test_a_half_written_checkpoint_does_not_count(tmp_path):
    Checkpoints(tmp_path).save(progress(1), training_state(1.0))
    (tmp_path / "2.orbax-checkpoint-tmp-0").mkdir()
    (tmp_path / "2.orbax-checkpoint-tmp-0" / "state").mkdir()

    assert Checkpoints(tmp_path).restore(training_state(0.0))[0].step == 1


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    Checkpoints(tmp_path).save(progress(1), {"kernel": jnp.zeros((3, 2))})

    with pytest.raises(CheckpointError, match=r"shape \(3, 2\).*\(4, 2\)"):
        Checkpoints(tmp_path).restore({"kernel": jnp.zeros((4, 2))})


def test_a_damaged_checkpoint_is_named(tmp_path):
    Checkpoints(tmp_path).save(progress(1), training_state(1.0))
    for file in (tmp_path / "1" / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")

    with pytest.raises(CheckpointError, match="1: the checkpoint cannot be read"):
        Checkpoints(tmp_path).restore(training_state(0.0))


def test_numbers_beside_the_arrays_keep_their_bits(tmp_path):
    exact = Progress(step=1, time=0.1 + 0.2, measure_seconds=1e-300, first_loss=1 / 3, log_bytes=2**40)
    Checkpoints(tmp_path).save(exact, {"a": jnp.zeros(1)})

    assert Checkpoints(tmp_path).restore({"a": jnp.zeros(1)})[0] == exact
    assert json.dumps(exact.time) == "0.30000000000000004"


def blocks(shape=(3, 2, 5), fill=0.0):
    made = Blocks(shape, "float32")
    for index in range(len(made)):
        made[index] = np.full(shape[1:], fill + index, np.float32)
    return made


@pytest.mark.parametrize("beside", [[], [jnp.arange(3)]])
def test_blocks_come_back_as_they_were(tmp_path, beside):
    saved = blocks(fill=7.0)
    Checkpoints(tmp_path).save(progress(10), [saved, *beside])
    saved[1] = np.zeros((2, 5))
    like = blocks()

    _, restored = Checkpoints(tmp_path).restore([like, *beside])

    assert restored[0] is like
    assert [float(block.max()) for block in like] == [7.0, 8.0, 9.0]
    assert len(restored) == 1 + len(beside)


def test_blocks_of_another_shape_are_refused(tmp_path):
    Checkpoints(tmp_path).save(progress(1), [blocks()])

    with pytest.raises(CheckpointError, match=r"float32 of shape \(3, 2, 5\), and the spec asks for float32 of shape \(2, 2, 5\)"):
        Checkpoints(tmp_path).restore([blocks((2, 2, 5))])


def test_blocks_that_are_cut_short_are_refused(tmp_path):
    Checkpoints(tmp_path).save(progress(1), [blocks()])
    [path] = tmp_path.rglob("*.npy")
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(CheckpointError, match="is cut short"):
        Checkpoints(tmp_path).restore([blocks()])


def test_arrays_where_blocks_are_asked_for_are_refused(tmp_path):
    Checkpoints(tmp_path).save(progress(1), [jnp.zeros((3, 2))])

    with pytest.raises(CheckpointError):
        Checkpoints(tmp_path).restore([blocks()])


def test_blocks_for_which_there_is_no_room_are_refused():
    with pytest.raises(OutputError, match=r"GiB are needed.*Set TMPDIR"):
        Blocks((10**6, 10**6, 10**6), "float64")


def test_a_block_is_read_as_it_was_set():
    made = blocks()
    made[2] = jnp.full((2, 5), np.pi)

    np.testing.assert_array_equal(made[2], np.full((2, 5), np.float32(np.pi)))
    np.testing.assert_array_equal(made[1], np.ones((2, 5)))
    with pytest.raises(IndexError):
        made[3]
