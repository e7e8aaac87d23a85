from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.eos_tui.fakes import FakeRun, live


@pytest.fixture
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder where runs are looked for, and colours as a terminal has them."""
    monkeypatch.setenv("EOS_RUNS", str(tmp_path))
    for name in ("NO_COLOR", "TEXTUAL_THEME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def run(surroundings: Path) -> Iterator[FakeRun]:
    """A live run."""
    with live(FakeRun(surroundings)) as alive:
        yield alive
