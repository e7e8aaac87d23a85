"""How long a preset takes from the start of its process to its first step, the first time and after that.

The budget is 3 s for any start but the first: what XLA compiles then is kept, here in a folder that is empty at first.
Each later start is followed by a process that only imports jax, flax and optax, so that the ratio of the two says how
much is ours, whatever else the machine is doing. Run `python benchmarks/first_step.py [--preset NAME] [--repeat N] [--json]`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from eos_tui import launch
from runners import spec_file
from runners.experiments import Spec

BUDGETS = {"later_seconds": 3.0, "later_compiled": 0.0}
IMPORTS = [sys.executable, "-c", "import jax, flax, optax"]
STEP = b'"kind":"step"'
POLL_SECONDS = 0.005
GIVE_UP_SECONDS = 300.0


def first_step(spec: Spec, runs: Path) -> float:
    """Seconds from the start of a runner to the first step in its log."""
    begun = time.perf_counter()
    launched = launch.start(spec, name="bench", runs=runs)
    while not (launched.folder.log.exists() and STEP in launched.folder.log.read_bytes()):
        if launched.process.poll() is not None or time.perf_counter() - begun > GIVE_UP_SECONDS:
            raise SystemExit(launch.death(launched.folder))
        time.sleep(POLL_SECONDS)
    seconds = time.perf_counter() - begun
    launched.process.wait()
    return seconds


def import_seconds() -> float:
    """How long it takes to import what training needs at least."""
    begun = time.perf_counter()
    subprocess.run(IMPORTS, check=True)
    return time.perf_counter() - begun


def measure(preset: str, *, repeat: int) -> dict[str, float]:
    """One first start, then later ones in pairs with the imports; medians."""
    spec = spec_file.load(preset, ["run.steps=1"])
    with tempfile.TemporaryDirectory() as folder:
        cache, runs = Path(folder) / "cache", Path(folder) / "runs"
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(cache)
        first = first_step(spec, runs)
        compiled = len(list(cache.glob("*-cache")))
        pairs = [(first_step(spec, runs), import_seconds()) for _ in range(repeat)]
        compiled_later = len(list(cache.glob("*-cache"))) - compiled
    return {
        "first_seconds": first,
        "first_compiled": compiled,
        "later_seconds": statistics.median(later for later, _ in pairs),
        "later_best_seconds": min(later for later, _ in pairs),
        "later_compiled": compiled_later,
        "import_seconds": statistics.median(imports for _, imports in pairs),
        "later_over_import": statistics.median(later / imports for later, imports in pairs),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--preset", default="digits-gd")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = measure(arguments.preset, repeat=arguments.repeat)
    if arguments.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        budget = f" (budget {BUDGETS[name]:g})" if name in BUDGETS else ""
        print(f"{name:<20} {value:.3f}{budget}")


if __name__ == "__main__":
    main()
