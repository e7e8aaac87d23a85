"""Programs that an earlier start has traced are taken from the folder where they are kept, and nothing but the same ones."""

import os
from contextlib import contextmanager
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from runners import imports, kept_programs
from runners.programs import Program
from runners.spec import Mlp


class Pair(NamedTuple):
    sum: jax.Array
    both: dict[str, jax.Array]


class Traced:
    """A function that counts how often it is traced."""

    def __init__(self):
        self.times = 0

    def __call__(self, x, y):
        self.times += 1
        values, _ = jnp.linalg.eigh(jnp.outer(x, y) + jnp.outer(y, x))
        return Pair(x + y, {"values": values, "x": x})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(imports, "_loaded", set())
    kept_programs.keep_in(tmp_path / "programs")
    yield tmp_path / "programs"
    kept_programs.keep_in(None)


@contextmanager
def start(width=3):
    with kept_programs.known_by(Mlp(width=width)):
        yield


def arguments():
    return jnp.arange(3.0), np.ones(3, np.float32)


def made(function=None, width=3, **options):
    function = function or Traced()
    with start(width):
        return function, Program(function, *arguments(), **options)


def test_the_second_start_traces_nothing_and_finds_the_same_bits(folder):
    first, one = made()
    second, other = made()

    assert (first.times, second.times) == (1, 0)
    left, right = one(*arguments()), other(*arguments())
    assert isinstance(right, Pair)
    assert [leaf.tolist() for leaf in jax.tree.leaves(left)] == [leaf.tolist() for leaf in jax.tree.leaves(right)]


def test_what_is_kept_gives_what_the_function_gives(folder):
    made()
    function, program = made()

    found, expected = program(*arguments()), function(*arguments())
    np.testing.assert_allclose(found.both["values"], expected.both["values"], rtol=1e-6, atol=1e-6)
    assert found.sum.tolist() == expected.sum.tolist()


def test_another_spec_is_traced_anew(folder):
    made()
    other, _ = made(width=4)

    assert other.times == 1


def test_the_programs_of_a_start_are_told_apart_by_their_order(folder):
    def once():
        with start():
            functions = [lambda x, y, factor=factor: factor * x + y for factor in (2, 3)]
            return [Program(function, *arguments())(*arguments()).tolist() for function in functions]

    assert once() == once() == [[1, 3, 5], [1, 4, 7]]


def test_other_code_is_traced_anew(folder, monkeypatch):
    made()
    monkeypatch.setattr(kept_programs, "_surroundings", lambda: b"another release")
    function, _ = made()

    assert function.times == 1


@pytest.mark.parametrize("spoil", [lambda content: content[: len(content) // 2], lambda content: b"", lambda content: content[::-1]])
def test_a_file_that_cannot_be_read_is_made_again(folder, spoil):
    made()
    (path,) = folder.iterdir()
    path.write_bytes(spoil(path.read_bytes()))
    second, program = made()
    third, _ = made()

    assert program(*arguments()).sum.tolist() == [1, 2, 3]
    assert (second.times, third.times) == (1, 0)


def test_a_file_of_another_user_is_not_opened(folder, monkeypatch):
    made()
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    function, _ = made()

    assert function.times == 1


def test_a_folder_that_cannot_be_written_changes_nothing(folder):
    folder.write_text("a file in its place")
    _, program = made()

    assert program(*arguments()).sum.tolist() == [1, 2, 3]


def test_a_program_that_holds_arrays_is_not_kept(folder):
    held = jnp.arange(3.0)
    _, program = made(lambda x, y: x + y + held)

    assert program(*arguments()).tolist() == [1, 3, 5]
    assert not folder.exists()


def test_a_program_that_calls_python_is_not_kept(folder):
    _, program = made(lambda x, y: jax.pure_callback(lambda x: x + 1, x, x) + y)

    assert program(*arguments()).tolist() == [2, 3, 4]
    assert not folder.exists()


def test_nothing_is_kept_once_users_code_has_been_imported(folder, monkeypatch):
    monkeypatch.setattr(imports, "_loaded", {"mine:Net"})
    made()

    assert not folder.exists()


def test_a_donated_argument_is_used_up_at_the_second_start_too(folder):
    def function(x, y):
        return x + y

    made(function, donate=(0,))
    _, program = made(function, donate=(0,))
    x, y = jnp.zeros(3), jnp.ones(3)

    assert program(x, y).tolist() == [1, 1, 1]
    assert x.is_deleted()
    assert not y.is_deleted()


def test_what_was_used_longest_ago_goes_first(folder, monkeypatch):
    monkeypatch.setattr(kept_programs, "MOST", 2)
    for age, width in enumerate((3, 4), start=1):
        made(width=width)
        newest = max(folder.iterdir(), key=lambda path: path.stat().st_mtime)
        os.utime(newest, (age, age))
    made(width=3)
    made(width=5)
    kept, _ = made(width=3)
    removed, _ = made(width=4)

    assert (kept.times, removed.times) == (0, 1)


def test_outside_of_a_run_nothing_is_kept(folder):
    Program(Traced(), *arguments())

    assert not folder.exists()
