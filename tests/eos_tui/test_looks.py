"""Every screen as a picture, at two sizes: what stands in docs/screens is what the app draws.

The pictures hold what a person has looked at; write them anew with EOS_WRITE_GOLDEN=1 after looking again.
"""

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Footer

from eos_tui.app import EosApp
from eos_tui.replay import replay
from runners.run_folder import RunFolder
from tests.eos_tui.fakes import DENSITY, NOW, PANELS, FakeRun, live
from tests.eos_tui.pilots import look, settled
from tests.eos_tui.test_sweep_screen import ended, half_done, made

PICTURES = Path(__file__).parents[2] / "docs" / "screens"
SIZES = [(80, 24), (200, 60)]
DRAWN_WITH = "8.2.8"
"""The Textual of constraints.txt: another one draws the same cells in other words."""
SPECS = {
    "digits-gd-20270115T075000Z-0a1b": {"lr": 0.3, "batch_size": "full"},
    "digits-sgd-20270115T073000Z-00bb": {"lr": 0.3, "batch_size": 32},
    "digits-edge-20270114T080000Z-00cc": {"lr": 0.25, "batch_size": 64},
}
LIVE = next(iter(SPECS))
BOXES = {"help": ["question_mark"], "palette": ["colon"], "rename": ["end", "R"], "delete": ["end", "d"]}
"""Boxes over the list of runs, and the keys that open them."""


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Three runs, of which one lives; named by a path that is the same everywhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EOS_RUNS", "runs")
    for name in ("NO_COLOR", "TEXTUAL_THEME", "EOS_DATA"):
        monkeypatch.delenv(name, raising=False)
    with ExitStack() as stack:
        for number, (name, optimizer) in enumerate(SPECS.items()):
            made = FakeRun(Path("runs"), name=name, steps=2000)
            spec = {"data": {"name": "digits"}, "model": {"name": "mlp", "width": 128}, "optimizer": {"name": "sgd", **optimizer}}
            hour = name.partition("T")[2][:4]
            created = f"{name[-21:-17]}-{name[-17:-15]}-{name[-15:-13]}T{hour[:2]}:{hour[2:]}:00Z"
            made.header(spec=spec, created=created, panels=(*PANELS, DENSITY) if not number else PANELS)
            until = (1401, 2001, 801)[number]
            made.progress(range(until))
            made.density(until - 1)
            made.event(1000, "checkpoint", "Checkpoint 1000.")
            if number:
                made.end(until, status=("finished", "stopped")[number - 1])
            else:
                stack.enter_context(live(made))
        yield Path("runs")


def app_of(shown: object) -> EosApp:
    return EosApp(shown, poll_seconds=0, clock=lambda: NOW)  # type: ignore[arg-type]


async def without_keys(pilot: Pilot[str]) -> None:
    """Hide the keys below a screen, whose place depends on what a box over it takes for itself."""
    pilot.app.screen.query_one(Footer).display = False
    await settled(pilot)


async def assert_looks(pilot: Pilot[str], name: str) -> None:
    await settled(pilot)
    width, height = pilot.app.size
    svg = pilot.app.export_screenshot(title=name)
    # The picture's own names are made of a hash of its text, which says nothing.
    svg = re.sub(r"terminal-\d+-", "t-", svg)
    picture = PICTURES / f"{name}-{width}x{height}.svg"
    if os.environ.get("EOS_WRITE_GOLDEN"):
        picture.parent.mkdir(exist_ok=True)
        picture.write_text(svg)
    if version("textual") == DRAWN_WITH:
        assert svg == picture.read_text()
    else:
        assert len(svg.splitlines()) > height


@pytest.mark.parametrize("size", SIZES)
async def test_the_list_of_runs(runs, size):
    async with app_of(runs).run_test(size=size) as pilot:
        await look(pilot)
        await pilot.press("down", "space")
        await assert_looks(pilot, "home")


@pytest.mark.slow
@pytest.mark.parametrize("size", [SIZES[0], pytest.param(SIZES[1], marks=pytest.mark.slow)])
@pytest.mark.parametrize("box", BOXES)
async def test_a_box_over_the_list(runs, box, size):
    async with app_of(runs).run_test(size=size) as pilot:
        await look(pilot)
        # Textual draws the keys below a box anew some time after the box.
        await without_keys(pilot)
        await pilot.press(*BOXES[box])
        await assert_looks(pilot, box)


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
async def test_a_run_with_a_cursor(runs, size):
    async with app_of(RunFolder(runs / LIVE)).run_test(size=size) as pilot:
        await look(pilot)
        await pilot.press("left", "less_than_sign", "less_than_sign")
        await assert_looks(pilot, "run")


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
async def test_the_panels_of_a_run_are_chosen(runs, size):
    async with app_of(RunFolder(runs / LIVE)).run_test(size=size) as pilot:
        await look(pilot)
        await without_keys(pilot)
        await pilot.press("v", "down", "down", "space")
        await assert_looks(pilot, "panels")


@pytest.mark.parametrize("size", SIZES)
async def test_runs_over_each_other(runs, size):
    async with app_of([RunFolder(runs / name) for name in SPECS]).run_test(size=size) as pilot:
        await look(pilot)
        await assert_looks(pilot, "compare")


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
async def test_a_sweep(runs, size):
    folder = made(runs, ["model.width=64,256", "optimizer.lr=0.1:0.8:x2"])
    ended(folder, "width256-lr0.4", loss=0.07)
    with folder.held(), live(half_done(folder)):
        async with app_of(folder).run_test(size=size) as pilot:
            await look(pilot)
            await pilot.press("right")
            await assert_looks(pilot, "sweep")


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
async def test_a_new_run(runs, size):
    async with app_of(runs).run_test(size=size) as pilot:
        await look(pilot)
        await pilot.press("n", "slash", *"digits-gd", "enter")
        await assert_looks(pilot, "new-run")


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
async def test_a_replay(runs, size):
    folder = replay(RunFolder(runs / list(SPECS)[1]), speed=20.0, at=600, clock=lambda: 0.0)
    async with app_of(folder).run_test(size=size) as pilot:
        await look(pilot)
        await assert_looks(pilot, "replay")
