"""What measuring the sharpness at every step, or every few, costs: the time of a step with it over the time of a step without.

The budget is 3 at every step, on `digits-gd`, which follows the sharpness from one solve to the next (`measure.solve_every`).
Two runs of the same updates take turns, some steps each, so that the machine's other work slows both alike; medians over the
turns, apart for the steps before the sharpness has reached its edge and those after.
With `--errors` it says instead how far what was followed lies below the sharpness, from solves to 1e-4 at the same parameters.
Run `python benchmarks/every_step.py [--steps N] [--every N] [--errors] [--set KEY=VALUE]... [--json]`.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence

import numpy as np

from runners import spec_file
from runners.records import SharpnessRecord
from runners.spec import Train
from runners.train import TrainRunner

PRESET = "digits-gd"
TURN = 10
"""Steps that a run takes in one turn."""
BUDGET = 3.0


def runner(settings: Sequence[str], *, sharpness_every: int, steps: int) -> TrainRunner:
    """The preset with no other measurement."""
    nothing = [f"measure.{key}=0" for key in ("ntk_every", "evaluate_every", "verify_every")]
    # A runner goes on at most to the next checkpoint, which nobody writes here: so each turn has as many steps.
    always = [f"run.steps={steps}", f"run.checkpoint_every={TURN}", f"measure.sharpness_every={sharpness_every}"]
    spec = spec_file.load(PRESET, [*nothing, *always, *settings])
    assert isinstance(spec, Train)
    return TrainRunner(spec)


def turn(run: TrainRunner) -> tuple[float, list[SharpnessRecord]]:
    """Seconds of the next steps, and what was measured."""
    began, until, found = time.perf_counter(), run.step + TURN, list[SharpnessRecord]()
    while run.step < until:
        found += [record for record in run.measure(time.perf_counter) if isinstance(record, SharpnessRecord)]
        list(run.advance(time.perf_counter))
    return time.perf_counter() - began, found


def measure(settings: Sequence[str], *, steps: int, every: int) -> dict[str, float]:
    """Ratios and products, before the edge and at it."""
    plain, measured = (runner(settings, sharpness_every=interval, steps=steps) for interval in (0, every))
    ratios: dict[str, list[float]] = {"before": [], "at": []}
    products: dict[str, list[int]] = {"before": [], "at": []}
    phase = "before"
    for count in range(steps // TURN - 1):
        seconds, found = turn(measured)
        others = turn(plain)[0]
        phase = "at" if phase == "at" or any(record.ratio and record.ratio >= 1 for record in found if record.step) else "before"
        if count:
            ratios[phase].append(seconds / others)
            products[phase] += [record.num_hvps for record in found]
    return {
        f"{name}_{phase}_edge": float(statistics.mean(values) if name == "products" else statistics.median(values))
        for name, lists in (("ratio", ratios), ("products", products))
        for phase, values in lists.items()
        if values
    }


def shortfalls(settings: Sequence[str], *, steps: int) -> dict[str, float]:
    """Relative, of the values that were followed: median, nine of ten and the worst; and how often within the record's error."""
    run = runner([*settings, "run.checkpoint_every=1"], sharpness_every=1, steps=steps)
    exact = runner(["measure.tolerance=1e-4"], sharpness_every=1, steps=steps)._curvature
    found: dict[str, list[tuple[float, bool]]] = {"before": [], "at": []}
    phase = "before"
    while run.step < steps - 1:
        records = [*run.measure(time.perf_counter)]
        params, step = run._state.params, run.step
        truth = exact.sharpness(params, None, lr=1.0, step=step, time=0.0).value
        [record] = [record for record in [*records, *run.advance(time.perf_counter)] if isinstance(record, SharpnessRecord)]
        assert truth is not None
        assert record.value is not None
        assert record.error is not None
        phase = "at" if step and record.ratio and record.ratio >= 1 else phase
        if not record.converged:
            found[phase].append((1 - record.value / truth, truth - record.value <= record.error))
    result: dict[str, float] = {}
    for phase, pairs in found.items():
        below, within = (np.asarray(column) for column in zip(*pairs, strict=True))
        result |= {
            f"below_median_{phase}_edge": float(np.median(below)),
            f"below_9_in_10_{phase}_edge": float(np.quantile(below, 0.9)),
            f"below_most_{phase}_edge": float(np.max(below)),
            f"within_error_{phase}_edge": float(np.mean(within)),
        }
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--every", type=int, default=1, choices=[n for n in range(1, TURN + 1) if TURN % n == 0])
    parser.add_argument("--errors", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.errors:
        found = shortfalls(arguments.set, steps=arguments.steps)
    else:
        found = measure(arguments.set, steps=arguments.steps, every=arguments.every)
    if arguments.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:<24} {value:.4g}" + (f" (budget {BUDGET:g})" if name.startswith("ratio") else ""))


if __name__ == "__main__":
    main()
