"""All gauges, and those that a spec asks for."""

from runners.gauges.activations import ActivationsGauge
from runners.gauges.batches import BatchSharpnessGauge, MeanSquareGauge
from runners.gauges.eigenvalues import GaussNewtonGauge, LayersGauge
from runners.gauges.gauge import Gauge, Setting
from runners.gauges.gradient import GradientGauge
from runners.gauges.limiting_flow import LimitingFlowGauge
from runners.gauges.spectrum import DensityGauge, HessianTraceGauge
from runners.gauges.stableness import StablenessGauge

GAUGES: tuple[type[Gauge], ...] = (
    GaussNewtonGauge,
    LayersGauge,
    GradientGauge,
    HessianTraceGauge,
    DensityGauge,
    BatchSharpnessGauge,
    MeanSquareGauge,
    StablenessGauge,
    LimitingFlowGauge,
    ActivationsGauge,
)


def asked(setting: Setting) -> list[Gauge]:
    """A gauge for each quantity that the spec asks for, compiling."""
    return [make(setting) for make in GAUGES if getattr(setting.spec.measure, f"{make.name}_every")]
