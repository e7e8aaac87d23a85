"""What a figure shows of one run and of several."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from msgspec.json import encode
from msgspec.structs import replace

from eos_tui import plots
from eos_tui.labels import run_labels
from eos_tui.log_reader import LogReader
from eos_tui.plots import plot
from eos_tui.snapshot import empty, fold
from runners.errors import LogError, OutputError
from runners.records import AnyRecord, Curve, Header, Panel, StepRecord
from runners.run_folder import RunFolder
from tests.eos_tui.fakes import DENSITY, FakeRun

GOLDEN = Path(__file__).parents[1] / "golden" / "log-schema-1.jsonl"
RECORDS = LogReader(GOLDEN).read().records
LOSS = Panel(title="loss", series=(Curve(record="step", field="loss", label="train"),))
EDGE = Panel(title="edge", series=LOSS.series, references=(Curve(record="step", field="lr", label="2/lr"),))


def header(**fields: Any) -> Header:
    assert isinstance(RECORDS[0], Header)
    return replace(RECORDS[0], **fields)


def steps(losses: Sequence[float | None], lr: float = 0.1) -> list[StepRecord]:
    return [StepRecord(step=number, time=float(number), loss=loss, lr=lr) for number, loss in enumerate(losses)]


def make_run(parent: Path, records: Sequence[AnyRecord] = RECORDS, name: str = "run-20260101T000000Z-aaaa") -> RunFolder:
    folder = RunFolder(parent / name)
    folder.path.mkdir()
    folder.log.write_bytes(b"".join(encode(record) + b"\n" for record in records))
    return folder


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved, as they are."""
    figures: list[Figure] = []
    save = plots.save

    def keep(figure: Figure, path: Path, kind: str) -> None:
        figures.append(figure)
        save(figure, path, kind)

    monkeypatch.setattr(plots, "save", keep)
    return figures


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "beginning"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml"), (".SVG", b"<?xml")])
def test_the_ending_says_the_format(tmp_path: Path, ending: str, beginning: bytes) -> None:
    output = tmp_path / "new folder" / f"figure{ending}"

    path = plot([make_run(tmp_path)], output)

    assert path == output
    assert output.read_bytes().startswith(beginning)
    assert list(output.parent.iterdir()) == [output]


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["svg", "pdf", "png"])
def test_the_same_log_makes_the_same_file(tmp_path: Path, ending: str) -> None:
    run = make_run(tmp_path)

    first = plot([run], tmp_path / f"1.{ending}").read_bytes()
    second = plot([run], tmp_path / f"2.{ending}").read_bytes()

    assert first == second


def test_a_pdf_has_its_fonts_as_outlines_that_publishers_take(tmp_path: Path) -> None:
    data = plot([make_run(tmp_path)], tmp_path / "figure.pdf").read_bytes()

    assert b"/Type3" not in data
    assert b"/CIDFontType2" in data


def test_there_is_one_chart_a_panel_over_one_axis_of_steps(tmp_path: Path, drawn: list[Figure]) -> None:
    plot([make_run(tmp_path)], tmp_path / "figure.png")

    loss, sharpness, ntk = drawn[0].axes
    assert [axes.get_ylabel() for axes in drawn[0].axes] == ["loss", "preconditioned sharpness", "NTK trace"]
    assert [axes.get_yscale() for axes in drawn[0].axes] == ["log", "linear", "linear"]
    assert loss.get_xlim() == sharpness.get_xlim() == ntk.get_xlim()
    assert (loss.get_xlabel(), ntk.get_xlabel()) == ("", "step")


def test_a_unit_stands_behind_the_title(tmp_path: Path, drawn: list[Figure]) -> None:
    plot([make_run(tmp_path, [header(panels=(replace(LOSS, unit="nats"),)), *steps([1.0])])], tmp_path / "figure.png")

    assert drawn[0].axes[0].get_ylabel() == "loss (nats)"


def test_a_threshold_is_dashed_in_the_colour_of_its_series(tmp_path: Path, drawn: list[Figure]) -> None:
    plot([make_run(tmp_path)], tmp_path / "figure.png")

    series, threshold = drawn[0].axes[1].lines

    assert (series.get_linestyle(), threshold.get_linestyle()) == ("-", "--")
    assert series.get_color() == threshold.get_color()
    assert [text.get_text() for text in drawn[0].axes[1].get_legend().get_texts()] == ["sharpness", "38/lr"]


def test_of_many_series_the_first_has_the_colour_and_the_others_one_line_of_the_legend(tmp_path: Path, drawn: list[Figure]) -> None:
    series = tuple(Curve(record="sharpness", field=f"values.{rank}", label=f"{rank + 1}th") for rank in range(6))
    run = FakeRun(tmp_path)
    run.header(panels=(Panel(title="top", series=series),))
    for step in (0, 10):
        run.sharpness(step, 6.0, values=tuple(6.0 - rank for rank in range(6)))

    plot([run.folder], tmp_path / "figure.png")

    axes = drawn[0].axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["1th", "2th to 6th"]
    assert [line.get_color() for line in axes.lines] == [plots.COLOURS[0], *[plots.GREY] * 5]


def test_every_number_of_a_short_log_is_drawn_and_what_is_not_finite_breaks_the_line(tmp_path: Path, drawn: list[Figure]) -> None:
    plot([make_run(tmp_path, [header(panels=(LOSS,)), *steps([3.0, None, 2.0, 0.1 + 0.2])])], tmp_path / "figure.png")

    [line] = drawn[0].axes[0].lines

    np.testing.assert_array_equal(line.get_xdata(), [0, 1, 2, 3])
    np.testing.assert_array_equal(line.get_ydata(), [3.0, math.nan, 2.0, 0.1 + 0.2])


def test_a_long_log_is_drawn_by_its_extremes(tmp_path: Path, drawn: list[Figure], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "MAX_POINTS", 1000)
    monkeypatch.setattr(plots, "COLUMNS", 50)
    losses: list[float | None] = [1.0 + number / 5000 for number in range(5000)]
    losses[777], losses[3333] = 9.0, -9.0
    losses[2000:2400] = [None] * 400

    plot([make_run(tmp_path, [header(panels=(LOSS,)), *steps(losses)])], tmp_path / "figure.png")

    [line] = drawn[0].axes[0].lines
    xs, ys = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
    assert len(xs) < 50 * 5
    assert (np.nanmax(ys), np.nanmin(ys)) == (9.0, -9.0)
    assert np.isnan(ys).any()
    assert not ((xs > 2100) & (xs < 2300) & np.isfinite(ys)).any()
    assert (np.diff(xs) >= 0).all()


def test_the_error_is_a_band_around_the_headline(tmp_path: Path, drawn: list[Figure]) -> None:
    plot([make_run(tmp_path)], tmp_path / "figure.png")

    *_, ntk = drawn[0].axes

    assert [len(axes.collections) for axes in drawn[0].axes] == [0, 1, 1]
    [first, *_] = [record for record in RECORDS if getattr(record, "sem", None)]
    vertices = ntk.collections[0].get_paths()[0].vertices
    assert vertices[:, 1].min() == pytest.approx(first.trace - first.sem)


def test_several_runs_lie_over_each_other_in_a_colour_each(tmp_path: Path, drawn: list[Figure]) -> None:
    spec = {"optimizer": {"name": "sgd", "lr": 0.1}}
    one = make_run(tmp_path, [header(panels=(EDGE,), spec=spec), *steps([3.0, 2.0])], "one-20260101T000000Z-aaaa")
    spec = {"optimizer": {"name": "sgd", "lr": 0.2}}
    two = make_run(tmp_path, [header(panels=(EDGE,), spec=spec), *steps([3.0, 1.0, 0.5], lr=0.2)], "two-20260101T000000Z-bbbb")

    plot([one, two], tmp_path / "figure.png")

    [axes] = drawn[0].axes
    colours = [line.get_color() for line in axes.lines]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    [legend] = drawn[0].legends
    assert [text.get_text() for text in legend.get_texts()] == ["lr = 0.1", "lr = 0.2"]
    assert [line.get_color() for line in legend.get_lines()] == [colours[0], colours[2]]


def test_runs_with_other_panels_share_those_of_the_same_title(tmp_path: Path, drawn: list[Figure]) -> None:
    one = make_run(tmp_path, [header(panels=(LOSS,)), *steps([3.0, 2.0])], "one")
    two = make_run(tmp_path, [header(panels=(EDGE, LOSS)), *steps([3.0, 1.0])], "two")

    plot([one, two], tmp_path / "figure.png")

    assert [(axes.get_ylabel(), len(axes.lines)) for axes in drawn[0].axes] == [("loss", 2), ("edge", 2)]


def with_density(parent: Path, name: str = "one", **fields: Any) -> RunFolder:
    run = FakeRun(parent, name=name)
    run.header(panels=(DENSITY, LOSS))
    run.progress(range(21))
    run.density(0, **fields)
    run.density(1500, **fields)
    return run.folder


def test_a_density_is_drawn_last_over_its_own_axis_with_the_first_behind_and_an_upright_threshold(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    plot([with_density(tmp_path)], tmp_path / "figure.png")

    loss, density = drawn[0].axes
    assert [(axes.get_ylabel(), axes.get_xlabel()) for axes in (loss, density)] == [
        ("loss", "step"),
        ("Hessian spectral density", "eigenvalue"),
    ]
    last, first, edge = density.lines
    assert [text.get_text() for text in density.get_legend().get_texts()] == ["step 1,500", "step 0", "2/lr"]
    assert (list(edge.get_xdata()), edge.get_linestyle()) == ([6.667, 6.667], "--")
    assert np.asarray(last.get_ydata())[60] > np.asarray(first.get_ydata())[60]
    assert last.get_zorder() > first.get_zorder()
    assert density.get_yscale() == "log"
    assert density.get_ylim()[0] == pytest.approx(1e-5)
    assert len(density.collections) == 1


def test_the_densities_of_several_runs_are_the_last_of_each_in_its_colour(tmp_path: Path, drawn: list[Figure]) -> None:
    plot([with_density(tmp_path, "one"), with_density(tmp_path, "two")], tmp_path / "figure.png")

    colours = [to_hex(line.get_color()) for line in drawn[0].axes[1].lines]
    assert colours == [plots.COLOURS[0].lower()] * 2 + [plots.COLOURS[1].lower()] * 2
    assert [text.get_text() for text in drawn[0].axes[1].get_legend().get_texts()] == ["density", "2/lr"]


@pytest.mark.slow
@pytest.mark.parametrize("numbers", [(), (0.0, 0.0), (None, None), (1e300, 1e-300), (-1.0, 5e-324), (1e-50, 1e50)])
def test_a_density_of_any_numbers_makes_a_figure(tmp_path: Path, numbers: tuple[float | None, ...]) -> None:
    output = plot([with_density(tmp_path, at=numbers, density=numbers, sem=numbers)], tmp_path / "figure.png")

    assert output.exists()


def test_a_panel_without_numbers_says_so(tmp_path: Path, drawn: list[Figure]) -> None:
    plot([make_run(tmp_path, [header(), *steps([1.0, 0.5])])], tmp_path / "figure.png")

    assert [text.get_text() for axes in drawn[0].axes[1:] for text in axes.texts] == ["nothing measured"] * 2


def test_a_threshold_far_off_does_not_press_the_series_flat(tmp_path: Path, drawn: list[Figure]) -> None:
    records = steps([1.0, 2.0, 3.0])
    records = [replace(record, lr=lr) for record, lr in zip(records, [1e6, 100.0, 6.0], strict=True)]

    plot([make_run(tmp_path, [header(panels=(EDGE,)), *records])], tmp_path / "figure.png")

    assert 6.0 < drawn[0].axes[0].get_ylim()[1] < 10.0


@pytest.mark.parametrize("scale", ["linear", "log"])
@pytest.mark.parametrize(
    "losses",
    [[0.0, 0.0], [-1.0, -2.0], [5.0], [2.0, 2.0, 2.0], [1e308, -1e308, 1.0], [5e-324, 1.0], [None, None], [0.0, 1e-3, 1e300]],
)
def test_any_numbers_make_a_figure(tmp_path: Path, scale: Any, losses: list[float | None]) -> None:
    records = [header(panels=(replace(EDGE, scale=scale),)), *steps(losses, lr=1e50)]

    assert plot([make_run(tmp_path, records)], tmp_path / "figure.png").stat().st_size > 1000


def test_text_is_no_formula(tmp_path: Path, drawn: list[Figure]) -> None:
    plot([make_run(tmp_path, [header(panels=(replace(LOSS, title="cost in $ of $x_"),)), *steps([1.0])])], tmp_path / "figure.svg")

    assert drawn[0].axes[0].get_ylabel() == r"cost in \$ of \$x_"


def test_the_colours_are_told_apart_by_the_colour_blind() -> None:
    okabe_ito = {"#000000", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"}

    assert {to_hex(colour) for colour in plots.COLOURS} <= okabe_ito


def test_a_run_that_goes_on_is_drawn_as_far_as_it_is_written(tmp_path: Path, drawn: list[Figure]) -> None:
    run = make_run(tmp_path, [header(panels=(LOSS,)), *steps([3.0, 2.0])])
    with run.log.open("ab") as log:
        log.write(b'{"kind":"step","st')

    plot([run], tmp_path / "figure.png")

    assert list(drawn[0].axes[0].lines[0].get_xdata()) == [0, 1]


@pytest.mark.parametrize("name", ["figure", "figure.txt", "figure.jpg"])
def test_another_ending_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=rf"{name}: expected a name that ends in \.png, \.svg or \.pdf"):
        plot([make_run(tmp_path)], tmp_path / name)


@pytest.mark.parametrize("records", [[], [header(panels=())]])
def test_a_run_without_panels_cannot_be_drawn(tmp_path: Path, records: list[AnyRecord]) -> None:
    with pytest.raises(OutputError, match="run-20260101T000000Z-aaaa has nothing to draw: its log has no header yet"):
        plot([make_run(tmp_path, records)], tmp_path / "figure.png")


def test_a_bad_log_leaves_the_figure_that_was_there(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    before = plot([run], tmp_path / "figure.svg").read_bytes()
    with run.log.open("ab") as log:
        log.write(b"garbage\n")

    with pytest.raises(LogError, match="not a record"):
        plot([run], tmp_path / "figure.svg")

    assert (tmp_path / "figure.svg").read_bytes() == before


def test_without_matplotlib_a_plot_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    with pytest.raises(OutputError, match=r"need the package matplotlib.*pip install 'eos-tui\[plot\]'"):
        plot([make_run(tmp_path)], tmp_path / "figure.png")


def labels(*runs: tuple[str, dict[str, Any]]) -> list[str]:
    return run_labels([fold(empty(Path(name)), [header(spec=spec)]) for name, spec in runs])


def test_runs_are_labelled_by_what_tells_their_specs_apart() -> None:
    spec = {"run": {"steps": 10}, "optimizer": {"lr": 0.1, "batch_size": "full"}}
    other = {"run": {"steps": 10}, "optimizer": {"lr": 0.2, "batch_size": 16}}

    assert labels(("a", spec), ("b", other)) == ["lr = 0.1, batch_size = full", "lr = 0.2, batch_size = 16"]


def test_runs_of_many_differences_are_labelled_by_name_without_time() -> None:
    spec, other = ({"a": {str(key): key + offset for key in range(9)}} for offset in (0, 1))

    assert labels(("gd-20260101T000000Z-aaaa", spec), ("sgd-20260101T000000Z-bbbb", other)) == ["gd", "sgd"]


def test_runs_of_the_same_spec_are_labelled_by_their_whole_names() -> None:
    names = ["gd-20260101T000000Z-aaaa", "gd-20260101T000000Z-bbbb"]

    assert labels(*((name, {"a": 1}) for name in names)) == names
