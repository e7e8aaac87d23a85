"""That panels show what is measured, and ask for numbers that the log has."""

import pytest
from msgspec.structs import replace

from runners.panels import train_panels
from runners.records import BatchSharpnessRecord, DensityRecord, NtkRecord, Panel, SharpnessRecord, StablenessRecord
from runners.spec import Adam, HeavyBall, Measure, Mlp, Model, Mse, Muon, NormalizedGd, Optimizer, ResidualMlp, Sgd, Train

DENSITY = Train(measure=Measure(density_every=10))


def density_panel(spec: Train, *, preconditioned: bool = False, num_params: int = 1000) -> Panel:
    panels = train_panels(
        spec, formula="2/lr", preconditioned=preconditioned, per_output=False, has_test=False, layers=[], num_params=num_params
    )
    [panel] = [panel for panel in panels if panel.series[0].record == "density"]
    return panel


def test_a_density_is_drawn_over_eigenvalues_and_held_against_the_edge():
    panel = density_panel(DENSITY)

    assert panel.x is not None
    assert panel.error is not None
    names = {curve.field for curve in (*panel.series, panel.x, panel.error, *panel.notes)}
    assert names <= set(DensityRecord.__struct_fields__)
    assert [(curve.record, curve.label) for curve in panel.references] == [("sharpness", "2/lr")]
    assert panel.references[0].field in SharpnessRecord.__struct_fields__


def test_a_density_has_no_edge_where_the_sharpness_is_not_measured_or_the_edge_is_one_of_another_matrix():
    unmeasured = replace(DENSITY, measure=Measure(density_every=10, sharpness_every=0))
    preconditioned = replace(DENSITY, optimizer=Adam())

    assert density_panel(unmeasured).references == ()
    assert density_panel(preconditioned, preconditioned=True).references == ()


def test_the_axis_of_a_density_reaches_below_a_single_eigenvalue_of_so_many():
    assert [density_panel(DENSITY, num_params=count).decades for count in (1, 1000, 26_122)] == [1, 4, 6]


@pytest.mark.parametrize(
    ("model", "optimizer", "remark"),
    [
        (Mlp(), Sgd(), ""),
        (Mlp(parametrization="ntp"), Sgd(), "gamma^2 x raw"),
        (Mlp(parametrization="mup"), HeavyBall(), "gamma^2 x raw"),
        (Mlp(parametrization="mup"), Adam(), ""),
        (Mlp(parametrization="ntp"), Adam(), ""),
        (ResidualMlp(parametrization="mup", depth_exponent=0.5), Sgd(), "gamma^2 x raw"),
        (ResidualMlp(parametrization="mup", depth_exponent=1.0), Sgd(), ""),
    ],
)
def test_the_sharpness_of_raw_parameters_over_gamma_is_said_to_be_that(model: Model, optimizer: Optimizer, remark: str):
    spec = Train(model=model, optimizer=optimizer, measure=Measure(ntk_every=0))
    panels = train_panels(spec, formula="2/lr", preconditioned=False, per_output=False, has_test=False, layers=[], num_params=9)

    assert [(panel.title, panel.remark) for panel in panels] == [("loss", ""), ("sharpness", remark)]


def test_with_momentum_the_panel_of_batch_sharpness_reads_out_that_along_the_updates():
    def notes(optimizer: Optimizer) -> list[str]:
        spec = Train(optimizer=optimizer, measure=Measure(sharpness_every=0, ntk_every=0, batch_sharpness_every=10))
        panels = train_panels(spec, formula=None, preconditioned=False, per_output=False, has_test=False, layers=[], num_params=9)
        return [note.field for note in panels[-1].notes]

    assert notes(HeavyBall()) == ["ratio_of_means", "momentum_batch_sharpness"]
    assert notes(Sgd()) == ["ratio_of_means"]
    assert {*notes(HeavyBall())} <= {*BatchSharpnessRecord.__struct_fields__}


def test_the_panel_of_the_ntk_shows_the_trace_that_k_is_made_of():
    def panel_of(optimizer: Optimizer, *, weight_decay: float = 0.0) -> Panel:
        spec = Train(optimizer=optimizer, objective=Mse(weight_decay=weight_decay), measure=Measure(sharpness_every=0))
        is_adaptive = isinstance(optimizer, Adam)
        panels = train_panels(spec, formula=None, preconditioned=is_adaptive, per_output=True, has_test=False, layers=[], num_params=9)
        return panels[-1]

    adaptive, plain, full = panel_of(Adam(batch_size=4)), panel_of(Sgd(batch_size=4)), panel_of(Adam())

    assert [(panel.title, panel.series[0].field) for panel in (adaptive, plain, full)] == [
        ("preconditioned NTK trace", "preconditioned_trace"),
        ("NTK trace", "trace"),
        ("NTK trace", "trace"),
    ]
    assert [note.label for note in adaptive.notes] == ["raw trace", "K", "bound", "crossover batch"]
    assert {curve.field for curve in (*adaptive.series, *adaptive.notes, *adaptive.references)} <= {*NtkRecord.__struct_fields__}
    assert adaptive.edge is not None
    for unknown in (full, panel_of(Adam(batch_size=4), weight_decay=0.1), panel_of(Muon(batch_size=4))):
        assert (unknown.title, unknown.edge, unknown.references, unknown.notes, unknown.ratio) == ("NTK trace", None, (), (), None)


def test_a_single_steps_ratio_is_no_edge_where_pairs_of_steps_stand_at_it():
    def edge_of(spec: Train) -> object:
        panels = train_panels(spec, formula="f", preconditioned=False, per_output=False, has_test=False, layers=[], num_params=9)
        return panels[1].edge

    assert edge_of(Train()) is not None
    assert edge_of(Train(optimizer=NormalizedGd())) is None
    assert edge_of(Train(objective=Mse(transform="sqrt"))) is None


def test_pairs_of_steps_are_shown_by_their_harmonic_mean_against_two_and_no_plain_mean():
    spec = Train(measure=Measure(sharpness_every=0, ntk_every=0, stableness_every=10))
    panels = train_panels(spec, formula=None, preconditioned=False, per_output=False, has_test=False, layers=[], num_params=9)

    pairs = panels[-1]

    assert [curve.field for curve in pairs.series] == ["harmonic_mean", "effective_harmonic_mean"]
    assert [curve.field for curve in pairs.references] == ["threshold"]
    assert {curve.field for curve in (*pairs.series, *pairs.references, *pairs.notes)} <= {*StablenessRecord.__struct_fields__}


def test_the_top_eigenvalues_are_lines_against_the_edge_where_more_than_one_is_asked_for():
    def titles(spec: Train, *, preconditioned: bool = False) -> dict[str, Panel]:
        panels = train_panels(
            spec, formula="2/lr", preconditioned=preconditioned, per_output=False, has_test=False, layers=[], num_params=9
        )
        return {panel.title: panel for panel in panels}

    several = Train(measure=Measure(top_k=12))
    panel = titles(several)["top 12 eigenvalues"]

    assert [curve.field for curve in panel.series] == [f"values.{index}" for index in range(12)]
    assert [curve.label for curve in panel.series][:4] == ["largest", "2nd", "3rd", "4th"]
    assert [(curve.field, curve.label) for curve in panel.references] == [("threshold", "2/lr")]
    assert titles(several, preconditioned=True)["top 12 eigenvalues"].references == ()
    assert not any("eigenvalues" in title for title in titles(Train()))
