"""What `eos sweep --vmap` gains: the same runs as processes and as vectorised programs, as a ratio of wall times.

Both ways are the sweep itself, with as many processes at a time as there are cores, by turns, so that the machine's other work slows both
alike. The first turn of each begins with an empty compilation cache and is told apart.
Run `python benchmarks/vmap.py [--runs N] [--turns N] [--jobs N] [--json] [CASE ...]`.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eos_tui import scheduling, sweeping
from runners import expansion, grouping, spec_file, sweeps
from runners.grid import Axis
from runners.overrides import parse_override, with_overrides

SELDOM = ("measure.sharpness_every=0", "measure.ntk_every=0", "measure.evaluate_every=0", "run.checkpoint_every=0")
CASES = {
    "short": ("model.width=16", "optimizer.batch_size=8", "run.steps=1000", *SELDOM),
    "narrow": ("model.width=16", "optimizer.batch_size=8", "run.steps=100000", *SELDOM),
    "preset": ("model.width=128", "optimizer.batch_size=8", "run.steps=20000", *SELDOM),
    "wide": ("model.width=512", "optimizer.batch_size=256", "run.steps=500", *SELDOM),
    "measured": ("model.width=32", "run.steps=300", "measure.evaluate_every=0", "run.checkpoint_every=0"),
}
"""Overrides of `digits-gd`: a net that is narrow, or wide, with no measurement; and one measured every 10 steps."""


def seconds(settings: Sequence[str], place: Path, *, runs: int, jobs: int, vmap: bool) -> float:
    """Wall time of a sweep over learning rates, from its start to its end."""
    document, label = spec_file.read_document("digits-gd")
    document = with_overrides(document, [parse_override(setting) for setting in settings])
    rates = Axis(tuple(parse_override(f"optimizer.lr={0.05 + 0.25 * index / runs:.6g}") for index in range(runs)))
    planned = expansion.expand(document, [rates], label=label)
    groups = grouping.alike(planned).groups(jobs=jobs) if vmap else ()
    folder = sweeps.create(place, "vmap", planned, source=label, document=document, grid={}, jobs=jobs, groups=groups)
    began = time.perf_counter()
    code = sweeping.carry_out(folder, scheduling.LocalPool(jobs), interrupted=lambda: 0)
    assert code == 0, f"{folder.path}: {folder.output}"
    return time.perf_counter() - began


def measure(settings: Sequence[str], *, runs: int, jobs: int, turns: int) -> dict[str, Any]:
    """Seconds of all turns, and how many times as long the processes take."""
    found: dict[bool, list[float]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as place:
        for _ in range(turns):
            for vmap, times in found.items():
                os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{place}/cache-{vmap}"
                times.append(seconds(settings, Path(place), runs=runs, jobs=jobs, vmap=vmap))
    ratios = [pool / program for pool, program in zip(*found.values(), strict=True)]
    return {"pool_seconds": found[False], "vmap_seconds": found[True], "first_ratio": ratios[0], "ratio": statistics.median(ratios[1:])}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("cases", nargs="*", metavar="CASE", default=list(CASES), help=", ".join(CASES))
    parser.add_argument("--runs", type=int, default=16)
    parser.add_argument("--turns", type=int, default=3, help="2 or more")
    parser.add_argument("--jobs", type=int, default=scheduling.num_cores())
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    for case in arguments.cases:
        found = measure(CASES[case], runs=arguments.runs, jobs=arguments.jobs, turns=arguments.turns)
        if arguments.json:
            print(json.dumps({"case": case, **found}), flush=True)
            continue
        both = " against ".join(" ".join(f"{taken:.1f}" for taken in found[key]) for key in ("pool_seconds", "vmap_seconds"))
        print(f"{case:<9} ratio {found['ratio']:.2f}, with nothing compiled {found['first_ratio']:.2f}; {both} s", flush=True)


if __name__ == "__main__":
    main()
