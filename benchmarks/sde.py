"""Paths of homogenised SGD: the runner's own loop against diffrax, the library for such equations in JAX, as a ratio of wall times.

The same equation in float32 with the same parts of time by Euler and Maruyama's method; both compiled before, by turns, so that the
machine's other work slows both alike. Then what the process holds at most with more paths, records and their fits with it, which is not
to grow without end.
Run `python benchmarks/sde.py [--paths N] [--parts N] [--turns N] [--json]`; diffrax is in the extra `bench`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from runners import kinds, spec_file
from runners.sde import SdeRunner

RANK, PARTS_OF_A_STEP = 3, 25
MEMORY_PATHS = (100_000, 1_000_000, 4_000_000, 16_000_000)


def runner(*, paths: int, parts: int) -> SdeRunner:
    """The runner of three equal eigenvalues at K = 3/4, whose index is 3."""
    document = {
        "runner": "sde",
        "data": {"name": "gaussian", "num_train": 400, "num_features": RANK, "exponent": 0.0, "covariance": "empirical", "noise_std": 1.0},
        "optimizer": {"name": "sgd", "lr": 0.5, "batch_size": 1},
        "simulation": {"num_paths": paths, "record_every": 10**6, "substeps": PARTS_OF_A_STEP},
        "run": {"steps": parts // PARTS_OF_A_STEP, "checkpoint_every": 0},
    }
    found = kinds.build(spec_file.checked(document, label="benchmark", given=()))
    assert isinstance(found, SdeRunner)
    return found


def ours(*, paths: int, parts: int) -> Callable[[], None]:
    """All parts of all paths by the runner."""
    built = runner(paths=paths, parts=parts)
    start = built.state()

    def run() -> None:
        built.restore(start, step=0, first_loss=None)
        while built.step < built.steps:
            list(built.advance(lambda: 0.0))

    return run


def diffraxs(*, paths: int, parts: int) -> Callable[[], None]:
    """The same by diffrax, with diagonal noise and a fixed step."""
    import diffrax
    import lineax

    theta, noise, floor = 0.5, 0.5 * 2**0.5, 0.5

    def one(key: Key[Array, ""]) -> Array:
        def drift(_: Any, u: Any, __: Any) -> Any:
            return -theta * u

        def diffusion(_: Any, u: Any, __: Any) -> Any:
            return lineax.DiagonalLinearOperator(noise * jnp.sqrt(floor + u @ u / 2) * jnp.ones(RANK))

        path = diffrax.UnsafeBrownianPath(shape=(RANK,), key=key)
        terms = diffrax.MultiTerm(diffrax.ODETerm(drift), diffrax.ControlTerm(diffusion, path))
        end = parts / PARTS_OF_A_STEP
        found = diffrax.diffeqsolve(
            terms, diffrax.Euler(), 0.0, end, 1 / PARTS_OF_A_STEP, jnp.zeros(RANK), max_steps=None, adjoint=diffrax.ForwardMode()
        )
        return jnp.asarray(found.ys)

    program = jax.jit(jax.vmap(one))
    keys = jax.random.split(jax.random.key(0), paths)
    return lambda: jax.block_until_ready(program(keys))


def seconds(run: Callable[[], None]) -> float:
    """Wall time of a call."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def work(*, paths: int) -> None:
    """A step and the records before and after it."""
    built = runner(paths=paths, parts=PARTS_OF_A_STEP)
    list(built.measure(lambda: 0.0))
    list(built.advance(lambda: 0.0))
    list(built.measure(lambda: 0.0))


def peak_mebibytes(paths: int) -> float:
    """What a process with so many paths holds at most."""
    code = f"from benchmarks import sde; import resource; sde.work(paths={paths}); print(resource.getrusage(0).ru_maxrss)"
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout) / 1024


def main() -> None:
    """Print both times and their ratio, and the memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paths", type=int, default=100_000)
    parser.add_argument("--parts", type=int, default=1500)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    ways = {"ours": ours(paths=given.paths, parts=given.parts), "diffrax": diffraxs(paths=given.paths, parts=given.parts)}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(given.turns + 1):
        for name, run in ways.items():
            spent = seconds(run)
            if turn:
                times[name].append(spent)
    ratio = statistics.median(theirs / own for theirs, own in zip(times["diffrax"], times["ours"], strict=True))
    memory = {paths: peak_mebibytes(paths) for paths in MEMORY_PATHS}
    if given.json:
        print(json.dumps({"seconds": times, "ratio": ratio, "peak_mebibytes": memory}))
        return
    print(f"{given.paths:,} paths, {given.parts:,} parts: ours {min(times['ours']):.1f} s, diffrax {ratio:.1f} times as long")
    for paths, peak in memory.items():
        print(f"{paths:>11,} paths: at most {peak:,.0f} MiB, of which the iterates are {paths * RANK * 4 / 2**20:,.0f}")


if __name__ == "__main__":
    main()
