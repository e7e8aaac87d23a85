"""Programs compile once, for the shapes they were made for, and give what the function gives."""

import jax
import jax.numpy as jnp
import pytest

from runners.programs import Program


def test_a_program_gives_the_functions_result():
    program = Program(lambda x, y: {"sum": x + y}, jnp.zeros(3), jnp.zeros(3))

    assert program(jnp.arange(3.0), jnp.ones(3))["sum"].tolist() == [1, 2, 3]


def test_a_program_is_traced_when_it_is_made_and_never_again():
    traces = []

    def function(x):
        traces.append(x.shape)
        return 2 * x

    program = Program(function, jax.ShapeDtypeStruct((2,), jnp.float32))
    program.wait()
    for _ in range(3):
        program(jnp.ones(2))

    assert traces == [(2,)]


def test_other_shapes_are_refused_instead_of_compiled():
    program = Program(jnp.sum, jnp.zeros(3))

    with pytest.raises(TypeError, match=r"float32\[3\].* float32\[4\]"):
        program(jnp.zeros(4))


def test_what_xla_cannot_compile_is_an_error_for_whoever_waits():
    program = Program(jax.ffi.ffi_call("no_such_target", jax.ShapeDtypeStruct((), jnp.float32)), jnp.zeros(()))

    with pytest.raises(jax.errors.JaxRuntimeError, match="no_such_target"):
        program.wait()


def test_a_donated_argument_is_used_up():
    program = Program(lambda x: x + 1, jnp.zeros(3), donate=(0,))
    given = jnp.zeros(3)

    program(given)

    assert given.is_deleted()


def test_what_was_begun_is_the_result_of_the_first_call_with_its_very_arguments_and_of_no_other():
    seen = []
    program = Program(lambda x: jax.pure_callback(lambda x: seen.append(1) or x, x, x) + 1, jnp.zeros(3))
    begun, equal = jnp.ones(3), jnp.ones(3)

    program.begin(begun)
    first, second = program(begun), program(begun)
    program.begin(begun)
    other = program(equal + 1)

    assert first.tolist() == second.tolist() == [2.0] * 3
    assert other.tolist() == [3.0] * 3
    assert len(seen) == 4
