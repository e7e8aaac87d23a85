import gc
import os
import signal
import tempfile
import uuid
from collections import Counter
from pathlib import Path

import pytest

from tests.programs import ALL, PROGRAMS

LEFT_OUT = "left out for want of "

# Programs that the tests compile are kept, apart from the user's, for the processes that they start and for the next time.
# XLA prints two long lines for each of them, of "machine features" that are its own options.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / "eos-test-compilations"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")

# Under nohup, or in the background of a script, these are ignored, and the processes that the tests start would inherit that.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out a test whose program of the system is missing, or fail it where all have to be there."""
    for marker, program in PROGRAMS.items():
        if item.get_closest_marker(marker) and program.path is None:
            reason = f"{program.names[0]} (apt-get install {program.package})"
            if os.environ.get(ALL):
                pytest.fail(f"{ALL} is set, and there is no {reason}", pytrace=False)
            pytest.skip(LEFT_OUT + reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what was left out so."""
    reasons = [report.longrepr[2] for report in terminalreporter.stats.get("skipped", ()) if isinstance(report.longrepr, tuple)]
    wanted = Counter(reason.partition(LEFT_OUT)[2] for reason in reasons if LEFT_OUT in reason)
    for program, count in wanted.items():
        terminalreporter.write_line(f"left out: {count} {'test that needs' if count == 1 else 'tests that need'} {program}")


@pytest.fixture(autouse=True)
def no_settings_of_the_user(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of whoever runs the tests count for none of them, and are left alone."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / f"settings-{uuid.uuid4().hex}"))


def pytest_collection_finish() -> None:
    """Spare the garbage collector what stands for good by now: going through it took a fifth of the suite's time."""
    gc.collect()
    gc.freeze()
