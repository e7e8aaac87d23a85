"""Events where a run crosses an edge of stability."""

import math
import signal

import pytest
from msgspec.structs import replace

from runners.checkpoint import Checkpoints
from runners.control import Requests, Signals
from runners.crossings import Crossings
from runners.log_writer import LogWriter
from runners.panels import ntk, sharpness
from runners.records import MeanSquareRecord, StepRecord
from runners.run_folder import create
from runners.session import Session
from tests.runners.test_session import Countdown, records

PANELS = (sharpness("2/lr"), ntk(has_noise_kernel=True))
EDGE = replace(
    PANELS[0], edge=replace(PANELS[0].edge, name="mean-square", ratio=replace(PANELS[0].edge.ratio, record="mean_square", field="ratio"))
)
RATIOS = (0.5, 0.99, 1.02, 0.97, 1.05, 0.91, 1.01, 0.85, 0.95, 1.1, 1.2)


def measured(step, ratio):
    return MeanSquareRecord(
        step=step, time=0.0, lr=0.1, threshold=0.1, error=0.0, ratio=ratio, num_products=1, converged=True, num_examples=1, method="",
        seconds=0.0,
    )  # fmt: skip


def steps_of(crossings, ratios):
    return [event.step for step, ratio in enumerate(ratios) for event in crossings.crossed(measured(step, ratio))]


def test_an_edge_is_crossed_once_until_the_run_has_left_it():
    assert steps_of(Crossings([EDGE]), RATIOS) == [2, 9]


def test_the_event_says_which_edge_and_how_far():
    (event,) = Crossings([EDGE]).crossed(measured(7, 1.0234))

    assert (event.step, event.event, event.message) == (7, "edge_crossed", "Past the mean-square edge, at 1.02.")
    assert event.data == {"edge": "mean-square", "ratio": 1.0234}


@pytest.mark.parametrize("ratio", [None, math.nan, 1.0, 0.3])
def test_what_is_not_past_an_edge_crosses_none(ratio):
    assert steps_of(Crossings([EDGE]), [ratio]) == []


def test_records_of_other_kinds_cross_nothing():
    assert list(Crossings(PANELS).crossed(StepRecord(step=0, time=0.0, loss=2.0, lr=3.0))) == []


@pytest.mark.parametrize("count", range(len(RATIOS) + 1))
def test_what_is_still_to_come_follows_from_which_edges_a_run_is_past(count):
    whole = Crossings([EDGE])
    first = steps_of(whole, RATIOS[:count])

    second = steps_of(Crossings([EDGE], whole.past), RATIOS[count:])

    assert first + [count + step for step in second] == [2, 9]


class Measured(Countdown):
    """A countdown with an edge, one of the ratios at each step."""

    def header(self, run):
        return replace(super().header(run), panels=(EDGE,))

    def measure(self, clock):
        return [] if self.step in self.measured else [*super().measure(clock), measured(self.step, RATIOS[self.step])]

    def restore(self, state, *, step, first_loss):
        super().restore(state, step=step, first_loss=first_loss)
        self.measured.append(step)


@pytest.mark.parametrize("stop", [3, 7])
def test_a_resumed_run_writes_the_events_of_one_that_was_not_stopped(tmp_path, stop):
    folder = create(tmp_path, "countdown", b"{}")
    signals = Signals()
    from_start = {"log": LogWriter(folder.log), "signals": signals, "requests": Requests(folder.control, from_start=True)}
    stopped = Session(Measured(chunk=1, on_step=lambda step: step == stop and signals.accept(signal.SIGTERM)), folder, **from_start)
    stopped.start()
    stopped.run()
    runner = Measured(chunk=1)
    resumed = Session(runner, folder, **from_start | {"signals": Signals()})
    checkpoints = Checkpoints(folder.checkpoints)
    resumed.resume(checkpoints, *checkpoints.restore(runner.state()))
    resumed.run()

    assert [event["step"] for event in records(folder, "event") if event["event"] == "edge_crossed"] == [2, 9]
