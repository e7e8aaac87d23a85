"""What a sweep's runs say together: where the best learning rate lies, how layers move over the width, how far widths are apart."""

import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from scipy import stats
from typer.testing import CliRunner

from eos_tui.cli import app
from eos_tui.figures import draw
from eos_tui.reports import consistency, coordinates, members, transfer
from eos_tui.reports.consistency import Moment
from eos_tui.reports.fitting import power
from eos_tui.reports.members import Member
from eos_tui.reports.transfer import Trial
from eos_tui.snapshot import Status
from runners import expansion, grid, sweeps
from runners.errors import OutputError
from runners.records import ActivationsRecord
from runners.sweeps import SweepFolder
from tests.eos_tui.evidences import evidence
from tests.eos_tui.fakes import FakeRun

LRS = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0]


def bowl(lr: float, best: float, *, lowest: float = 0.1) -> float:
    """A loss that is a parabola in logarithms, with its vertex at `best`."""
    return lowest * math.exp(math.log(lr / best) ** 2)


def trials(best_of: Callable[[int], float], *, widths: Sequence[int] = (64, 256, 1024), diverges_from: float = math.inf) -> list[Trial]:
    return [
        Trial({"model.width": width}, lr, "", bowl(lr, best_of(width)) if lr < diverges_from else math.inf)
        for width in widths
        for lr in LRS
    ]


# Power laws


def test_a_power_law_is_found_exactly() -> None:
    found = power([1, 2, 4, 8], [3 * x**-0.5 for x in (1, 2, 4, 8)])

    assert found is not None
    assert found == pytest.approx((-0.5, 0, 3), abs=1e-12)


def test_a_level_line_has_the_exponent_zero_without_error() -> None:
    assert power([1, 2, 4], [3, 3, 3]) == pytest.approx((0, 0, 3))


def test_the_interval_of_an_exponent_covers_the_true_one_in_nineteen_of_twenty_cases() -> None:
    rng = random.Random(0)
    xs = [64, 128, 256, 512] * 2
    covered = 0
    for _ in range(400):
        found = power(xs, [x**0.3 * math.exp(rng.gauss(0, 0.1)) for x in xs])
        assert found is not None
        assert found.error is not None
        covered += abs(found.exponent - 0.3) <= found.error

    # Binomial: 380 +- 4 standard deviations of sqrt(400 * 0.95 * 0.05).
    assert abs(covered - 380) <= 4 * 4.36


def test_the_interval_covers_as_often_where_narrow_nets_scatter_more() -> None:
    rng = random.Random(0)
    xs = [64, 128, 256, 512, 1024, 2048] * 3
    covered = 0
    for _ in range(400):
        found = power(xs, [x**0.3 * math.exp(rng.gauss(0, 10 / x)) for x in xs])
        assert found is not None
        assert found.error is not None
        covered += abs(found.exponent - 0.3) <= found.error

    # Were all points taken to be equally far off, 336 would be expected.
    assert abs(covered - 380) <= 4 * 4.36


def test_a_point_alone_at_its_end_leaves_the_deviations_to_be_taken_as_equal() -> None:
    found = power([1, 1, 1, 1, 2], [1, 2, 3, 4, 5])

    assert found is not None
    line = stats.linregress([0, 0, 0, 0, math.log(2)], [math.log(y) for y in range(1, 6)])
    assert (found.exponent, found.error) == pytest.approx((line.slope, stats.t.ppf(0.975, 3) * line.stderr))


def test_what_is_not_positive_and_finite_is_no_point_of_a_power_law() -> None:
    assert power([1, 2, 4], [1, 0, math.inf]) is None
    assert power([1, 2], [1, 2]) == pytest.approx((1, None, 1))


# Transfer


def test_the_best_learning_rate_stays_where_the_losses_have_the_same_best_one() -> None:
    found = transfer.group(trials(lambda width: 1.1), values={}, tolerance=1)

    assert [best.lr for best in found.bests] == [1.0, 1.0, 1.0]
    assert (found.verdict, found.shift, found.grid_step) == ("stays", 0, 2)
    assert found.warnings == ()


def test_a_best_learning_rate_that_goes_with_the_width_moves_with_its_exponent() -> None:
    found = transfer.group(trials(lambda width: 2.2 * (64 / width) ** 0.5), values={}, tolerance=1)

    assert found.verdict == "moves"
    assert found.shift == pytest.approx(2)
    assert found.exponent == pytest.approx(-0.5)


def test_a_parabola_is_lowest_between_the_learning_rates_where_it_says() -> None:
    assert transfer.vertex({lr: bowl(lr, 1.3) for lr in LRS}) == pytest.approx(1.3)
    assert transfer.vertex({lr: bowl(lr, 100) for lr in LRS}) is None
    assert transfer.vertex({1: 3.0, 2: 1.0, 4: math.inf}) is None


def test_a_best_learning_rate_at_an_end_leaves_open_whether_it_stays() -> None:
    found = transfer.group(trials(lambda width: 20), values={}, tolerance=1)

    assert found.verdict == "open"
    assert [best.end for best in found.bests] == ["highest"] * 3
    assert found.warnings[0] == "width 64: the best learning rate, 8, is the highest one tried. Try some above it."


def test_a_run_that_diverged_is_worse_than_any_other() -> None:
    found = transfer.group(trials(lambda width: 20, diverges_from=4), values={}, tolerance=1)

    assert [(best.lr, best.diverges_from, best.end) for best in found.bests] == [(2, 4, None)] * 3
    assert found.verdict == "stays"


def test_one_diverged_seed_is_enough() -> None:
    both = [Trial({"model.width": 8}, lr, f"seed {seed}", bowl(lr, 4.0)) for lr in LRS for seed in (0, 1)]
    both = [each._replace(loss=math.inf) if (each.lr, each.seed) == (4, "seed 1") else each for each in both]

    found = transfer.best(both)

    assert (found.lr, found.by_seed, found.diverges_from) == (2, (4, 2), 4)


def test_the_error_of_the_place_between_the_learning_rates_is_that_of_the_seeds() -> None:
    places = {"seed 0": 1.0, "seed 1": 1.2, "seed 2": 1.5}
    found = transfer.best([Trial({"model.width": 8}, lr, seed, bowl(lr, place)) for lr in LRS for seed, place in places.items()])

    logs = [math.log(place) for place in places.values()]
    center = sum(logs) / 3
    assert found.between_error == pytest.approx(math.sqrt(sum((each - center) ** 2 for each in logs) / 2 / 3))


def test_seeds_that_disagree_are_said() -> None:
    places = {"seed 0": 0.5, "seed 1": 4.0}
    every = [Trial({"model.width": 8}, lr, seed, bowl(lr, place)) for lr in LRS for seed, place in places.items()]

    found = transfer.group(every, values={}, tolerance=1)

    assert found.warnings[0] == "width 8: the seeds disagree, their best ones lie from 0.5 to 4. Take more seeds, or more steps."
    assert found.shift_by_seed == (0, 0)


def scattered(rng: random.Random, *, seeds: int, noise: float, shift: float = 0.0) -> list[Trial]:
    """Flat bowls of three widths, their best learning rates a factor of 2^shift apart, with noise in the logarithm of the loss."""
    return [
        Trial({"model.width": width}, lr, f"seed {seed}", bowl(lr, 1.4 * 2 ** (shift * place)) ** 0.1 * math.exp(rng.gauss(0, noise)))
        for place, width in enumerate((64, 256, 1024), start=-1)
        for lr in (2.0**power for power in range(-4, 6))
        for seed in range(seeds)
    ]


@pytest.mark.parametrize("seeds", [2, 5])
def test_noise_of_the_seeds_is_no_shift(seeds: int) -> None:
    rng = random.Random(0)
    found = [transfer.group(scattered(rng, seeds=seeds, noise=0.1), values={}, tolerance=1) for _ in range(100)]

    seems = sum(group.shift > 1 for group in found)
    moves = sum(group.verdict == "moves" for group in found)

    assert moves <= 6 < seems
    seeming = [group for group in found if group.shift > 1 and group.verdict != "moves"]
    assert all("noise of the seeds may do as much" in transfer.words(group, tolerance=1) for group in seeming)


def test_a_shift_beyond_the_noise_moves() -> None:
    rng = random.Random(0)
    found = [transfer.group(scattered(rng, seeds=2, noise=0.1, shift=2.5), values={}, tolerance=1) for _ in range(50)]

    assert all(group.verdict == "moves" for group in found)
    assert all(group.least_shift <= group.shift for group in found)


def test_with_one_seed_nothing_is_known_of_noise() -> None:
    found = transfer.group(trials(lambda width: 2.2 * (64 / width) ** 0.5), values={}, tolerance=1)

    assert found.least_shift == found.shift
    assert "One seed does not tell it from noise." in transfer.words(found, tolerance=1)


def test_learning_rates_of_the_grid_alone_have_no_exponent() -> None:
    """All at an end, or below one that diverges, would be an exponent of 0 without an error, whatever the best ones are."""
    at_end = transfer.group(trials(lambda width: 20), values={}, tolerance=1)
    at_edge = transfer.group(trials(lambda width: 20, diverges_from=4), values={}, tolerance=1)

    assert (at_end.exponent, at_end.exponent_error, at_edge.exponent) == (None, None, None)


def test_two_learning_rates_have_no_best() -> None:
    every = [Trial({"model.width": 8}, lr, "", 1.0) for lr in LRS]

    with pytest.raises(OutputError, match="width 8: runs at 2 learning rates have ended; a best one needs 3"):
        transfer.best(every[:2])


def test_a_size_that_diverges_at_each_learning_rate_has_its_best_one_below_them() -> None:
    every = [each._replace(loss=math.inf) if each.size["model.width"] == 1024 else each for each in trials(lambda width: 1.0)]

    found = transfer.group(every, values={}, tolerance=1)

    assert (found.verdict, found.shift) == ("moves", 2)
    assert found.warnings == ("width 1024: at each learning rate a run diverged. Try lower ones.",)


def test_the_loss_of_a_run_is_its_mean_over_the_last_tenth_of_the_steps_or_the_last_of_what_is_asked_for() -> None:
    run = evidence("a", steps=1000, every=1, step={"loss": lambda step: float(step)}, metrics={"values.test_loss": lambda step: -step})
    member = Member({"optimizer.lr": 1, "model.width": 8}, run)

    assert transfer.final_loss(member) == 950
    assert transfer.final_loss(member, "metrics.values.test_loss") == -1000
    with pytest.raises(OutputError, match=r"has no metrics.values.loss in its log. Expected a kind of record and its field"):
        transfer.final_loss(member, "metrics.values.loss")


def test_a_schedule_has_no_place_among_learning_rates() -> None:
    with pytest.raises(OutputError, match="is no number"):
        transfer.placed({"optimizer.lr": {"kind": "cosine"}, "model.width": 8}, ["model.width"], loss=1.0)


# Coordinate check


def moving(exponent: float, *, widths: Sequence[int] = (64, 128, 256, 512), noise: float = 0.0, seeds: int = 2) -> list[Member]:
    """Runs whose one layer changes by the width to a power, up to noise."""
    rng = random.Random(1)
    return [
        Member(
            {"model.width": width, "run.seed": seed},
            evidence(
                f"{width}-{seed}",
                steps=2,
                every=1,
                activations={
                    "changes.layer_0": lambda step, width=width: step * width**exponent * math.exp(rng.gauss(0, noise)),
                    "sizes.layer_0": 1.0,
                },
            ),
        )
        for width in widths
        for seed in range(seeds)
    ]


@pytest.mark.parametrize(
    ("exponent", "verdict", "why"),
    [(0.0, "pass", ""), (0.5, "fail", "moves more the wider the net is"), (-0.5, "fail", "moves less the wider the net is")],
)
def test_a_layer_passes_when_its_change_does_not_go_with_the_width(exponent: float, verdict: str, why: str) -> None:
    found, charts = coordinates.check(moving(exponent), name="check", tolerance=0.1)

    assert [(layer.layer, layer.verdict, layer.why) for layer in found.layers] == [("layer_0", verdict, why)]
    assert [slope.value for slope in found.layers[0].slopes] == pytest.approx([exponent, exponent])
    assert found.passes is (verdict == "pass")
    assert [chart.y for chart in charts] == ["change after 1 step", "change after 2 steps"]


def test_a_slope_outside_of_the_tolerance_by_less_than_its_error_is_unclear() -> None:
    found, _ = coordinates.check(moving(0.15, noise=0.3), name="check", tolerance=0.1)

    assert [layer.verdict for layer in found.layers] == ["unclear"]
    assert not found.passes


def test_two_widths_and_diverged_runs_are_no_check() -> None:
    with pytest.raises(OutputError, match="takes 3 widths; there are 2"):
        coordinates.check(moving(0, widths=(64, 128)), name="check", tolerance=0.1)

    found = moving(0)
    found[0] = Member(found[0].values, evidence("64-0", steps=2, status=Status.DIVERGED))
    with pytest.raises(OutputError, match=r"64-0 diverged. Lower optimizer.lr"):
        coordinates.check(found, name="check", tolerance=0.1)


def test_runs_that_did_not_measure_their_layers_are_told_how_to() -> None:
    found = [Member({"model.width": width}, evidence(str(width), steps=2)) for width in (1, 2, 3)]

    with pytest.raises(OutputError, match="activations_every = 1"):
        coordinates.check(found, name="check", tolerance=0.1)


# Consistency


def apart(widths: Sequence[int], seeds: Sequence[float] = (0.0,), *, grows: float = 1.0) -> list[tuple[dict[str, int], list[Member]]]:
    """Sizes whose sharpness is 1 - (step / 1000)^grows / width, and 1 for the last one, up to what seeds add."""
    limit = widths[-1]

    def value(step: int, width: int, extra: float) -> float:
        return 1.0 + extra - (0 if width == limit else (step / 1000) ** grows / width)

    return [
        (
            {"model.width": width},
            [
                Member(
                    {"model.width": width},
                    evidence(str(width), steps=1000, every=50, sharpness={"value": lambda s, w=width, e=e: value(s, w, e)}),
                )
                for e in seeds
            ],
        )
        for width in widths
    ]


def test_the_distance_between_widths_and_its_growth_are_those_of_the_curves() -> None:
    found, charts = consistency.group(apart([4, 16, 64], grows=2.0), values={}, num_diverged=0)

    [sharpness] = found.quantities
    assert (sharpness.quantity, found.largest) == ("sharpness", {"model.width": 64})
    # Mean of (s / 1000)^2 over the steps from 700, the first one past two thirds, to 1000.
    late = sum((step / 1000) ** 2 for step in range(700, 1001, 50)) / 7
    assert [distance.late for distance in sharpness.distances] == pytest.approx([late / 4, late / 16])
    assert [distance.exponent for distance in sharpness.distances] == pytest.approx([2, 2])
    assert sharpness.stays_within == pytest.approx(late / 4)
    assert [line.label for line in charts[0].lines] == ["width 4", "width 16", "width 64"]


def test_the_error_of_a_distance_is_that_of_the_seeds() -> None:
    found, _ = consistency.group(apart([4, 64], seeds=[-0.1, 0.1]), values={}, num_diverged=0)

    # Means over two seeds at 1 -+ 0.1 have a standard error of 0.1, their ratio q one of hypot(1, q) * 0.1.
    ratios = [1 - step / 1000 / 4 for step in range(700, 1001, 50)]
    assert found.quantities[0].distances[0].late_error == pytest.approx(sum(0.1 * math.hypot(1, q) for q in ratios) / 7)


STEPS = range(50, 1001, 50)


def drifting(rng: random.Random, *, level: float, noise: float, seeds: int, grows: float = 0.0) -> list[Moment]:
    """What begins at a level and grows with the step, up to noise of which a run forgets a tenth from one point to the next."""
    curves = []
    for _ in range(seeds):
        off = rng.gauss(0, noise)
        curve = []
        for step in STEPS:
            off = 0.9 * off + rng.gauss(0, noise * math.sqrt(1 - 0.9**2))
            curve.append(level + grows * step / STEPS[-1] + off)
        curves.append(curve)
    return [Moment(step, values) for step, values in zip(STEPS, zip(*curves, strict=True), strict=True)]


@pytest.mark.parametrize("seeds", [2, 5])
def test_the_interval_of_the_growth_covers_the_true_one(seeds: int) -> None:
    rng = random.Random(0)
    covered = 0
    for _ in range(150):
        own, limit = (drifting(rng, level=2.0, noise=0.02, seeds=seeds, grows=grows) for grows in (0.5, 0.0))
        found = consistency.distance({}, own, limit)
        assert found.exponent is not None
        assert found.exponent_error is not None
        covered += abs(found.exponent - 1) <= found.exponent_error

    # 87 of 100 at least, less 4 standard deviations; an interval from the scatter along the runs has 50.
    assert covered >= 0.87 * 150 - 4 * math.sqrt(150 * 0.87 * 0.13)


def test_the_error_of_a_large_distance_has_that_of_the_widest_times_the_ratio() -> None:
    rng = random.Random(0)
    distances = [
        consistency.distance({}, drifting(rng, level=5.0, noise=0.1, seeds=3), drifting(rng, level=1.0, noise=0.1, seeds=3))
        for _ in range(200)
    ]

    found = [distance.late for distance in distances if distance.late is not None]
    center = sum(found) / len(found)
    spread = math.sqrt(sum((late - center) ** 2 for late in found) / (len(found) - 1))
    errors = [distance.late_error for distance in distances if distance.late_error is not None]
    # Points that move together but for a part average out some of it: at correlations of 0.9^k over seven points a tenth. Three seeds'
    # deviations are 0.89 of the true one in the mean. Without the ratio it would be a fifth.
    assert math.sqrt(sum(error**2 for error in errors) / len(errors)) == pytest.approx(spread, rel=0.25)


def test_noise_has_no_exponent() -> None:
    rng = random.Random(0)

    found = consistency.distance({}, *(drifting(rng, level=2.0, noise=0.1, seeds=3) for _ in range(2)))

    assert found.late is not None
    assert (found.exponent, found.exponent_error) == (None, None)


def test_a_long_series_is_averaged_over_stretches() -> None:
    runs = [Member({"model.width": w}, evidence(str(w), steps=6000, every=1, step={"loss": lambda s, w=w: s + w})) for w in (1, 2)]

    [size] = consistency.group([({"model.width": w}, [run]) for w, run in enumerate(runs)], values={}, num_diverged=0)[0].quantities

    assert size.distances[0].exponent == pytest.approx(0, abs=1e-9)
    # The mean of s + 2 over the 100 steps about s = 50, 150, ... is s + 1.5; the first third has twenty of them.
    assert size.distances[0].early == pytest.approx(sum(1 / (mid + 1.5) for mid in range(50, 2000, 100)) / 20)


# From a sweep's folder


def made(runs: Path, axes: Sequence[str], loss: Callable[[dict[str, float]], float], *, name: str = "base") -> SweepFolder:
    """A sweep whose runs finished with these losses, and layers that changed by width^-0.5."""
    found = expansion.axes({}, [grid.parse_axis(axis) for axis in axes], seeds=None)
    planned = expansion.expand({}, found, label="base.toml")
    folder = sweeps.create(runs, name, planned, source="base.toml", document={}, grid={}, jobs=1)
    for run in planned:
        (folder.path / run.name / "spec.json").rename(folder.path / "spec.json")
        (folder.path / run.name).rmdir()
        fake = FakeRun(folder.path, name=run.name, steps=1)
        fake.header()
        fake.step(0, loss=loss(dict(run.values)))
        change = {"layer_0": run.values.get("model.width", 1) ** -0.5}
        fake.write(ActivationsRecord(step=1, time=1.0, sizes={"layer_0": 1.0}, changes=change, num_examples=2, seconds=0.1))
        fake.step(1, loss=loss(dict(run.values)))
        fake.end(1)
    return folder


def invoke(*arguments: str, runs: Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [*arguments, "--runs-dir", str(runs)])
    return result.exit_code, result.stdout, result.stderr


def test_transfer_prints_a_table_for_each_group_and_says_by_its_exit_code_whether_all_stay(tmp_path: Path) -> None:
    def loss(values: dict[str, float]) -> float:
        best = 1.0 if values["model.parametrization"] == "mup" else 64 / values["model.width"]
        return bowl(values["optimizer.lr"], best)

    axes = ["model.parametrization=mup,sp", "model.width=64,256", "optimizer.lr=0.125:4:x2"]
    folder = made(tmp_path, axes, loss)

    code, out, _ = invoke("transfer", "base", "-o", str(tmp_path / "figure.svg"), runs=tmp_path)

    assert code == 1
    mup, sp = out.strip().split("\n\n")
    assert mup.startswith("parametrization mup\nwidth  best lr")
    assert "The best learning rate stays: it moves by 0 steps of x2; up to 1 counts as staying." in " ".join(mup.split())
    assert "The best learning rate MOVES: it moves by 2 steps of x2" in " ".join(sp.split())
    assert json.loads(invoke("transfer", folder.name, "--json", runs=tmp_path)[1])["groups"][0]["verdict"] == "stays"
    assert invoke("transfer", "base", "--tolerance", "2", runs=tmp_path)[0] == 0


def test_runs_that_have_not_finished_are_left_out_and_said(tmp_path: Path) -> None:
    folder = made(tmp_path, ["model.width=64,256", "optimizer.lr=0.25:4:x2"], lambda values: bowl(values["optimizer.lr"], 1.0))
    (folder.path / folder.read().runs[4].run / "log.jsonl").unlink()

    code, _, err = invoke("transfer", "base", runs=tmp_path)

    assert code == 0
    assert "1 run has not finished and is left out. `eos sweep --continue" in err


def test_a_sweep_without_what_a_report_needs_is_told_what_varies(tmp_path: Path) -> None:
    made(tmp_path, ["optimizer.lr=0.25:4:x2"], lambda values: 1.0, name="rates")
    made(tmp_path, ["model.width=64,256"], lambda values: 1.0, name="widths")

    assert "rates" in invoke("transfer", "rates", runs=tmp_path)[2]
    assert "expected model.width or model.depth among what varies (optimizer.lr)" in invoke("transfer", "rates", runs=tmp_path)[2]
    assert "does not vary optimizer.lr. What varies: model.width." in invoke("transfer", "widths", runs=tmp_path)[2]
    assert "model.depth does not vary in" in invoke("consistency", "widths", "--size", "model.depth", runs=tmp_path)[2]


def test_a_sweep_of_a_check_is_checked_again_without_new_runs(tmp_path: Path) -> None:
    folder = made(tmp_path, ["model.width=64,128,256"], lambda values: 1.0)

    code, out, _ = invoke("coord-check", folder.name, runs=tmp_path)

    assert code == 1
    assert "layer_0  FAIL  -0.50 ± 0.00  moves less the wider the net is" in out
    assert "Does not pass: layer_0." in out
    assert invoke("coord-check", folder.name, "--tolerance", "0.6", runs=tmp_path)[0] == 0


def test_a_check_of_too_few_widths_makes_no_runs(tmp_path: Path) -> None:
    code, _, errors = invoke("coord-check", "digits-gd", "--widths", "64,128", runs=tmp_path)

    assert code == 2
    assert "--widths has 2: expected 3 or more, for the errors of the slopes. Nothing was started." in errors
    assert not list(tmp_path.iterdir())


def test_consistency_prints_the_distances_to_the_largest(tmp_path: Path) -> None:
    folder = made(tmp_path, ["model.width=64,128,256"], lambda values: 1.0 + 1 / values["model.width"])

    code, out, _ = invoke("consistency", folder.name, runs=tmp_path)

    assert code == 0
    assert out.splitlines()[1] == "distance to width 256"
    # The ratios of 1 + 1/64 and 1 + 1/128 to 1 + 1/256, less 1.
    assert [" ".join(line.split()) for line in out.splitlines()[3:]] == ["loss width 64 1.17 % 1.17 % -", "width 128 0.389 % 0.389 % -"]


def test_all_runs_unfinished_is_an_error(tmp_path: Path) -> None:
    planned = expansion.expand({}, [grid.parse_axis("model.width=64,128")], label="base.toml")
    folder = sweeps.create(tmp_path, "base", planned, source="base.toml", document={}, grid={}, jobs=1)

    with pytest.raises(OutputError, match="none of its 2 runs has finished"):
        members.read(folder)


def test_a_figure_has_the_widths_as_its_ticks_a_band_and_a_star(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    every = trials(lambda width: 1.0)
    found = transfer.group(every, values={}, tolerance=1)

    draw([transfer.chart(every, found, loss="training loss")], tmp_path / "figure.svg")

    assert "<svg" in (tmp_path / "figure.svg").read_text()
