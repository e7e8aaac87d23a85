"""The command line with one small claim and runners that compute nothing: `python fake_claim.py WAY ARGUMENTS...`.

WAY is one of `fake_runner`'s; WAY:STEPS asks for so many steps instead of 100.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from eos_tui import launch
from eos_tui.claims import catalog
from eos_tui.claims.statements import Bounds, Claim, PlannedRun, Statement, worst
from eos_tui.cli import main
from eos_tui.evidence import SHARPNESS
from eos_tui.figures import Chart, Line

FAKE = (sys.executable, str(Path(__file__).with_name("fake_runner.py")))


def tiny(*, steps: str) -> Claim:
    """Two runs of digits; the first of two statements holds."""
    runs = ("first", "second")

    def statement(bounds: Bounds) -> Statement:
        def find(found):
            return worst({name: found[name].last(SHARPNESS) for name in runs}, bounds)

        return Statement(claim=f"The sharpness is {bounds}.", source="derived", runs=runs, tolerance=bounds, find=find)

    def charts(found):
        return [Chart(x="step", y="sharpness", lines=(Line("first", [(0.0, found["first"].last(SHARPNESS).value)]),))]

    return Claim(
        name="tiny",
        summary="It is small.",
        source="nobody",
        cost="2 runs.",
        runs=tuple(
            PlannedRun(name=name, config="digits", overrides=(f"run.steps={steps}", f"run.seed={seed}")) for seed, name in enumerate(runs)
        ),
        statements=(statement(Bounds(1.5, 2.5)), statement(Bounds(high=1.0))),
        charts=charts,
    )


if __name__ == "__main__":
    way, _, steps = sys.argv.pop(1).partition(":")
    launch.RUNNER = (*FAKE, way)
    claim = tiny(steps=steps or "100")
    catalog.CLAIMS = {claim.name: claim}
    main()
