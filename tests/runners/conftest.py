from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def precision_as_before() -> Iterator[None]:
    """A run in double precision sets it for the whole process: the tests of another module begin without it."""
    before = jax.config.read("jax_enable_x64")
    yield
    jax.config.update("jax_enable_x64", before)
