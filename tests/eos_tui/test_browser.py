"""`eos serve` in a real Chromium: the page is drawn, its keys work, and those that would touch a run do not."""

import io
from pathlib import Path

import pytest
from PIL import Image

from tests.eos_tui.chromium import chromium
from tests.eos_tui.fakes import FakeRun, requests
from tests.eos_tui.test_serving import Served, run  # noqa: F401 - a fixture

pytestmark = pytest.mark.browser
WIDTH, HEIGHT = 1200, 800


def colours(picture: bytes) -> set[tuple[int, int, int]]:
    """The colours of many of its pixels: letters drawn in full."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    assert image.size == (WIDTH, HEIGHT)
    return {colour for count, colour in image.getcolors(WIDTH * HEIGHT) or [] if count > 100}


async def test_the_page_shows_the_runs_takes_keys_and_loads_nothing_from_elsewhere(run: FakeRun, tmp_path: Path) -> None:  # noqa: F811
    with Served("--token") as served:
        async with chromium(tmp_path / "profile") as page:
            place = served.address.partition("?")[0]
            await page.open(served.address, width=WIDTH, height=HEIGHT)
            assert "q quit" in await page.shows("? help")

            await page.press("Enter")
            shown = await page.shows("2/lr = ")
            assert "step 1,860 of 3,000" in shown
            assert "stop" not in shown.splitlines()[-1]
            for key in "sy ":
                await page.press(key)
            await page.press("?")
            assert "Stop" not in await page.shows("how to read the screen")
            picture = await page.picture()

            assert await page.evaluate("location.href") == place
            assert len(page.asked_for) > 4
            assert {address.partition("//")[2].partition("/")[0] for address in page.asked_for} == {place.split("/")[2]}
            assert [said for said in page.complained if "software WebGL" not in said] == []

    assert len(colours(picture)) > 4
    assert requests(run) == []
