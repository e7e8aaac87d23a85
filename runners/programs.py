"""Compiled programs. Used by whatever runs the same computation again and again: the meters and the training loop."""

import operator
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

import jax

from runners import devices, kept_programs

Result = TypeVar("Result")


class Program(Generic[Result]):
    """A function compiled ahead for arguments of certain shapes, and no others: nothing compiles in the middle of a run.

    XLA compiles in a thread of its own while the caller goes on to trace the next program. On two cores the three
    programs of `digits-gd` took 4.2 s so, and 5.7 s one after the other. With several devices arguments and results are
    whole on each, whatever is divided in between.
    """

    def __init__(self, function: Callable[..., Result], *arguments: Any, donate: tuple[int, ...] = ()) -> None:
        """Trace here and now, unless an earlier start has done so, and start to compile.

        Args:
            function: What to compile.
            arguments: Pytrees of arrays or of their shapes.
            donate: Numbers of the arguments whose memory the results may take.
        """
        self._results: jax.tree_util.PyTreeDef | None = None
        """Structure of the results, where arguments and results are leaves alone."""
        kept = kept_programs.lowered(function, arguments, donate=donate)
        if kept:
            lowered, self._results = kept
        else:
            whole = devices.everywhere()
            lowered = jax.jit(function, in_shardings=whole, out_shardings=whole, donate_argnums=donate).lower(*arguments)
        with_one_thread = ThreadPoolExecutor(1, "compile")
        self._compiled = with_one_thread.submit(lowered.compile)
        with_one_thread.shutdown(wait=False)
        self._begun: tuple[tuple[Any, ...], Future[Result]] | None = None

    def begin(self, *arguments: Any) -> None:
        """Compute, as soon as it is compiled, what a call with these very arguments will ask for, while the caller goes on."""
        in_one_thread = ThreadPoolExecutor(1, "begun")
        self._begun = arguments, in_one_thread.submit(self._run, arguments)
        in_one_thread.shutdown(wait=False)

    def wait(self) -> None:
        """Return once it is compiled."""
        self._compiled.result()

    @property
    def temporary_bytes(self) -> int | None:
        """Memory that it takes beside arguments and results, as the compiler says; None where it does not."""
        analysis = self._compiled.result().memory_analysis()
        return None if analysis is None else int(analysis.temp_size_in_bytes)

    def __call__(self, *arguments: Any) -> Result:
        """The function's result."""
        begun, self._begun = self._begun, None
        if begun and all(map(operator.is_, jax.tree.leaves(begun[0]), jax.tree.leaves(arguments))):
            return begun[1].result()
        return self._run(arguments)

    def _run(self, arguments: tuple[Any, ...]) -> Result:
        compiled = self._compiled.result()
        if self._results is None:
            whole: Result = compiled(*arguments)
            return whole
        result: Result = jax.tree.unflatten(self._results, compiled(*jax.tree.leaves(arguments)))
        return result
