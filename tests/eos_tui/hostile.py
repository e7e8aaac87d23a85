"""A run whose every text tries to act on the terminal that shows it."""

import json

from runners.records import Curve, Edge, EventRecord, Panel
from tests.eos_tui.fakes import NOW, FakeRun

MARK = "PWNED"
"""What the escapes below would put into the window's title, or elsewhere on the screen."""
EVIL = (
    f"\x1b]0;{MARK}\x07\x1b]2;{MARK}\x1b\\\x1b[2J\x1b[1;1H\x1b[31m\x9b7m\x90q\x9c\x1bc\x07\x08\r\n\t"
    "[bold red]x[/] [link=http://e]y[/link] $primary \\[ "
    "\u202eabc\u2066\u200b\u200d\ufeff\u2028\x85\ue000\xad "
    "漢字 é\u0301 👩‍👩‍👧 ❤️ 🇩🇪 👍🏽 \u1160\u3164 "
)
NAME = "digits-\x1b[31m[bold]漢\n\u202e-20260131T120000Z-0a1b"


def curve(record, field):
    return Curve(record=record, field=field, label=EVIL)


PANELS = (
    Panel(
        title=EVIL,
        unit=EVIL,
        scale="log",
        series=(curve("step", "loss"), curve("metrics", f"values.{EVIL}"), curve("metrics", "values.b"), curve("metrics", "values.c")),
    ),
    Panel(
        title=EVIL,
        series=(Curve(record="sharpness", field="value", label="漢"),),
        references=(Curve(record="sharpness", field="threshold", label="阈值 e\u0301 \x1b[5m"),),
        error=curve("sharpness", "error"),
        ratio=curve("sharpness", "ratio"),
        notes=(curve("sharpness", "residual"),),
        edge=Edge(name=EVIL, ratio=curve("sharpness", "ratio"), moved_by=EVIL),
    ),
    Panel(title="漢字" * 100, series=(curve("density", "density"),), x=curve("density", "at")),
)


def hostile(runs, *, status=None):
    run = FakeRun(runs, name=NAME)
    spec = {EVIL: {EVIL: EVIL}, "optimizer": {"name": EVIL, "lr": EVIL}, "model": EVIL}
    run.folder.spec.write_text(json.dumps(spec))
    run.folder.lock.write_text(json.dumps({"pid": 1, "host": EVIL, "started": EVIL}))
    run.folder.output.write_text((EVIL + "\n") * 40)
    strings = dict.fromkeys(("run", "runner", "created", "device", "host", "precision", "loss_convention", "threshold_formula"), EVIL)
    run.header(panels=PANELS, versions={EVIL: EVIL}, **{**strings, "spec": spec})
    run.progress(range(300))
    run.metrics(300, **{EVIL: 1.0, "b": 2.0, "c": 3.0})
    run.density(300)
    run.write(EventRecord(step=300, time=3.0, event=EVIL, message=EVIL, data={EVIL: EVIL}))
    run.write(EventRecord(step=300, time=3.0, event="warning", message=EVIL * 200))
    if status:
        run.end(300, status=status, reason=EVIL)
    return run


def clock():
    return NOW
