"""Whatever stands behind a header, the viewer shows it or says why not; nothing else is ever raised."""

import json
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eos_tui import filtering, summary
from eos_tui.app import EosApp, once
from eos_tui.charts import draw, draw_profiles
from eos_tui.plain import PlainLog
from eos_tui.runs import RunsWatcher
from eos_tui.snapshot import RunSnapshot, profiles
from eos_tui.view import PAN, SMOOTHINGS, View, extents
from eos_tui.watcher import RunWatcher
from eos_tui.widgets.event_line import edge_rows, event_rows, panel_rows
from eos_tui.widgets.panel import Source, title_parts, title_row
from eos_tui.widgets.run_header import header_rows
from eos_tui.widgets.runs_table import columns
from eos_tui.widgets.words import ending, farewell
from eos_tui.window import UNITS
from runners.errors import LogError
from runners.records import AnyRecord, Panel
from tests.eos_tui.fakes import DENSITY, NOW, PANELS, FakeRun
from tests.eos_tui.pilots import settled

EXAMPLES = {"suite": 25, "thorough": 1500}
SIZES = [(0, 0), (1, 1), (3, 7), (20, 5), (80, 24), (200, 60)]

numbers = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-3, 50),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0, -0.0, 1e308, -1e308, 5e-324, 1e-308, 2**53, 2**64, 10**30]),
)
words = st.one_of(st.text(max_size=20), st.sampled_from(["NaN", "paused", "resumed", "checkpoint", "\x1b[2J", "[bold]", "漢" * 50]))
anything = st.recursive(
    st.one_of(numbers, words, st.booleans()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(words, inner, max_size=4)),
    max_leaves=8,
)
KINDS = [record for record in get_args(AnyRecord) if record.__struct_config__.tag != "header"]


def _value(field: Any) -> st.SearchStrategy[Any]:
    """Mostly what the field takes, as wild as its type allows."""
    types = {field.type, *get_args(field.type)}
    if float in types or int in types:
        return numbers if float in types else st.one_of(st.integers(-5, 50), st.integers(-(2**63), 2**63 - 1))
    if bool in types:
        return st.booleans()
    if str in types:
        return words
    texts = str(field.type)
    if "tuple" in texts:
        return st.lists(numbers, max_size=6)
    if "dict" in texts:
        return st.dictionaries(st.one_of(words, st.just("test_loss")), numbers, max_size=3)
    return anything


@st.composite
def records(draw_from: Any) -> bytes:
    """A line like a record's, with each field in its type's extremes, or now and then of another type."""
    kind = draw_from(st.sampled_from(KINDS))
    line: dict[str, Any] = {"kind": kind.__struct_config__.tag}
    for field in msgspec.structs.fields(kind):
        if field.required or draw_from(st.booleans()):
            literals = [choice for choice in get_args(field.type) if isinstance(choice, str)]
            value = st.sampled_from(literals) if literals else st.integers(-3, 60) if field.name == "step" else _value(field)
            line[field.name] = draw_from(value)
    if draw_from(st.integers(0, 19)) == 0:
        line[draw_from(st.sampled_from(sorted(line)))] = draw_from(anything)
    return json.dumps(line).encode()


lines = st.one_of(
    records(),
    records(),
    records(),
    st.binary(max_size=60),
    anything.map(lambda value: json.dumps(value).encode()),
    st.sampled_from(
        [
            b"",
            b"\xff\xfe",
            b"[" * 5000,
            b'{"kind":"event","step":0,"time":0,"event":"e","message":"m","data":' + b'{"a":' * 5000,
            b"x" * 70_000,
        ]
    ),
)
tails = st.lists(lines, max_size=12).map(b"\n".join)
valid_tails = st.lists(records(), max_size=12).map(lambda found: b"".join(line + b"\n" for line in found))


def written(place: str, tail: bytes) -> FakeRun:
    run = FakeRun(Path(place))
    run.header(panels=(*PANELS, DENSITY))
    with run.folder.log.open("ab") as log:
        log.write(tail)
    return run


def read(run: FakeRun) -> RunSnapshot:
    """All that can be read, up to the first bad line."""
    watcher = RunWatcher(run.folder, clock=lambda: NOW)
    for _ in range(4):
        try:
            watcher.poll()
        except LogError:
            break
    return watcher._snapshot


def drawn(snapshot: RunSnapshot) -> None:
    """Everything that screens make of a snapshot, at any size."""
    views = [View(), View(unit="time", smoothing=SMOOTHINGS[-1]), View(span=(3.0, 40.0), cursor=7)]
    if snapshot.header:
        there = extents(snapshot)
        moved = [View(unit=unit).zoomed(there, 2.0).panned(there, -PAN) for unit in UNITS]
        views += [view.with_cursor(there, view.window(snapshot), columns=-3, width=60) for view in moved]
        views += [view.followed(there) for view in views]
    for width, height in SIZES:
        for rows in (header_rows, edge_rows, event_rows, panel_rows):
            rows(snapshot, width, height)
    for panel in snapshot.header.panels if snapshot.header else ():
        for k, view in enumerate(views):
            width, height = SIZES[k % len(SIZES)]
            source = Source(snapshot, {}, view.cursor)
            title_row(title_parts(panel, source, scale=panel.scale), width)
            found = [[(curve.label, source.trace(curve)) for curve in curves] for curves in (panel.series, panel.references)]
            if panel.x:
                grid = draw_profiles(profiles(snapshot, panel), found[1], width=width, height=height, scale="log", decades=panel.decades)
            else:
                scale = "log" if k % 2 else "linear"
                window, options = view.window(snapshot), {"cursor": view.cursor, "smoothing": view.smoothing}
                bands = [source.trace(panel.error)] if panel.error else []
                grid = draw(*found, width=width, height=height, scale=scale, window=window, bands=bands, **options)
            assert [len(row) for row in grid] == [width] * height
    ending(snapshot, run="x")
    farewell(snapshot, run="x")


def listed(run: FakeRun) -> None:
    with suppress(LogError):
        summary.look(run.folder, now=NOW)
    found = RunsWatcher(run.folder.path.parent, clock=lambda: NOW).poll()
    assert found is not None
    for column in columns():
        for one in found:
            column.text(one, NOW)
            column.style(one)
            column.order(one)
    filtering.parse("lr>0.1")(found[0].candidate)


def check(tail: bytes) -> None:
    with TemporaryDirectory() as place:
        run = written(place, tail)
        drawn(read(run))
        listed(run)


def check_plain(tail: bytes) -> None:
    with TemporaryDirectory() as place:
        run = written(place, tail)
        log = PlainLog()
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            for record in run.folder.log.read_bytes().splitlines():
                list(log.lines([msgspec.json.decode(record, type=AnyRecord)]))


def fuzzed(name: str) -> Any:
    return settings(
        max_examples=EXAMPLES[name],
        deadline=None,
        derandomize=name == "suite",
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
    )


@given(st.one_of(valid_tails, tails))
@fuzzed("suite")
def test_any_lines_behind_a_header_are_drawn_or_said_to_be_none(tail):
    check(tail)


@pytest.mark.slow
@given(st.one_of(valid_tails, tails))
@fuzzed("thorough")
def test_any_lines_behind_a_header_are_drawn_or_said_to_be_none_thoroughly(tail):
    check(tail)
    check_plain(tail)


FOUND = {
    "a rate that is never a number": b'{"kind":"step","step":0,"time":0,"loss":null,"lr":null}\n',
    "times as far apart as numbers go": (
        b'{"kind":"step","step":4,"time":1.7e308,"loss":null,"lr":1}\n{"kind":"step","step":13,"time":0,"loss":0,"lr":-1e308}\n'
    ),
    "a moment that is long past": (
        b'{"kind":"step","step":-2,"time":1e300,"loss":1,"lr":1}\n{"kind":"step","step":9,"time":1e300,"loss":2,"lr":1}\n'
    ),
    "measurements that take less than no time": (
        b'{"kind":"hessian_trace","step":1,"time":1,"value":1,"sem":0,"num_hvps":1,"num_examples":1,"method":"","seconds":-1e308}\n' * 2
    ),
    "nesting without an end": b'{"kind":"event","step":0,"time":0,"event":"e","message":"m","data":' + b'{"a":' * 100_000 + b"\n",
}


@pytest.mark.parametrize("tail", FOUND.values(), ids=list(FOUND))
def test_what_was_found_once_stays_mended(tail):
    check(tail)
    check_plain(tail)


def test_a_header_that_is_no_time_and_panels_without_a_series(tmp_path):
    run = FakeRun(tmp_path, name="strange")
    run.header(created="yesterday", steps=-(2**63))
    run.step(3)
    assert "strange" in once(run.folder, width=100, height=30)
    assert "strange" in once(tmp_path, width=100, height=30)
    empty = FakeRun(tmp_path, name="empty")
    empty.header(panels=(Panel(title="none", series=()),))

    with pytest.raises(LogError, match="length >= 1"):
        once(empty.folder, width=100, height=30)


async def test_what_cannot_be_read_is_said_on_the_screen(tmp_path):
    run = written(str(tmp_path), FOUND["nesting without an end"])
    app = EosApp(run.folder, poll_seconds=0, clock=lambda: NOW)
    async with app.run_test(size=(100, 30)) as pilot:
        app.poll_now()
        app.poll_now()
        shown = await settled(pilot)

    assert "not a record" in shown
