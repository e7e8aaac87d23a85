"""Which panels the screen of a training run shows, as data for the log's header."""

import math
from collections.abc import Sequence

from msgspec.structs import replace

from runners.expected import is_least_squares
from runners.experiments import Descent
from runners.measure import noise_kernel
from runners.parametrization import is_raw_over_gamma
from runners.records import Curve, Edge, Panel
from runners.spec import EdgeBatch, EmaMomentum, HeavyBall, Nesterov, NormalizedGd, Sgd, Train

RAW = "gamma^2 x raw"
"""Of the sharpness of raw parameters over gamma: so is that of the raw ones drawn in Noci et al. (2024), arXiv 2402.17457."""
MOST_LINES = 4
"""Lines that one panel can tell apart where they cross."""


def train_panels(
    spec: Descent,
    *,
    formula: str | None,
    preconditioned: bool,
    per_output: bool,
    has_test: bool,
    layers: Sequence[str],
    modules: Sequence[str] = (),
    num_params: int,
) -> tuple[Panel, ...]:
    """Loss; sharpness against the optimizer's edge; NTK trace against the stochastic threshold; and what else is measured.

    Args:
        spec: The run's spec.
        formula: The optimizer's edge in words, such as `2/lr`; None when none is known.
        preconditioned: Whether the edge, and K, are of the preconditioned curvature.
        per_output: Whether K and its threshold are in the per-output convention.
        has_test: Whether there are test examples.
        layers: The names of the model's layers, from its input on.
        modules: The names of what has outputs of its own in it.
        num_params: Trained numbers of the model.

    Returns:
        The panels that the run has numbers for, from the top of the screen down.
    """
    minibatch = spec.optimizer.drawn != "full"
    panels = [_loss(spec, minibatch=minibatch, has_test=has_test)]
    if spec.measure.sharpness_every:
        in_pairs = isinstance(spec.optimizer, NormalizedGd) or spec.objective.transform == "sqrt"
        held = sharpness(formula, preconditioned=preconditioned, in_pairs=in_pairs)
        ratio = held.ratio and replace(held.ratio, label="of its threshold")
        is_scaled = isinstance(spec, Train) and is_raw_over_gamma(spec.model, spec.optimizer)
        panels.append(replace(held, remark=RAW if is_scaled else "", ratio=ratio if spec.optimizer.warm_steps else held.ratio))
        if spec.measure.top_k > 1:
            panels.append(_eigenvalues(None if preconditioned else formula, top_k=spec.measure.top_k))
    if spec.measure.ntk_every:
        has_noise_kernel = minibatch and noise_kernel.is_known(spec.optimizer, weight_decay=spec.objective.weight_decay)
        panels.append(ntk(has_noise_kernel=has_noise_kernel, preconditioned=preconditioned and has_noise_kernel, per_output=per_output))
        if spec.measure.tail_gauge:
            panels.append(_tail_index())
    if spec.measure.gauss_newton_every:
        panels.append(_gauss_newton())
    if spec.measure.layers_every:
        panels.append(_layers(layers))
    if spec.measure.activations_every:
        panels.append(_activations(modules))
    if spec.measure.gradient_every:
        panels.append(_gradient())
    if spec.measure.hessian_trace_every:
        panels.append(_hessian_trace())
    if spec.measure.density_every:
        has_edge = spec.measure.sharpness_every > 0 and not preconditioned
        panels.append(_density(formula if has_edge else None, num_params=num_params))
    if spec.measure.batch_sharpness_every:
        panels.append(_batch_sharpness(spec))
    if spec.measure.mean_square_every:
        panels.append(_mean_square())
    elif not isinstance(spec.optimizer.lr, int | float):
        panels.append(Panel(title="learning rate", series=(Curve(record="step", field="lr", label="lr"),)))
    if isinstance(spec.optimizer.batch_size, EdgeBatch):
        panels.append(_batch_size())
    if spec.measure.limiting_flow_every:
        panels.append(_limiting_flow())
    if spec.measure.stableness_every:
        # Where a warm start ends the gradient is small, and normalised steps are far from stable until they have left.
        panels.append(replace(_pairs(), scale="log") if spec.optimizer.warm_steps else _pairs())
    return tuple(panels)


def flow_panels(panels: Sequence[Panel], *, is_central: bool) -> tuple[Panel, ...]:
    """The panels of a flow: those of the training run that it stands beside, with what it predicts of the run.

    The edge is one of the optimizer's: a flow without oscillations goes past it, and no learning rate moves it away.

    Args:
        panels: Of the training run, the loss first.
        is_central: Whether it is a central flow.
    """
    loss, *others = panels
    test = tuple(curve for curve in loss.series if curve.label == "test")
    at_flow = Curve(record="step", field="loss", label="flow")
    if not is_central:
        error = Curve(record="flow", field="error", label="integration error")
        return replace(loss, series=(at_flow, *test), notes=(error,)), *(replace(panel, edge=None) for panel in others)
    averaged = Curve(record="flow", field="averaged_loss", label="predicted average")
    oscillation = Panel(
        title="variance of the oscillation",
        series=(Curve(record="flow", field="variance", label="variance"),),
        notes=(Curve(record="flow", field="num_critical", label="curvatures at the edge"),),
    )
    return replace(loss, series=(averaged, at_flow, *test)), *others[:1], oscillation, *others[1:]


def self_stabilization_panels(panels: Sequence[Panel]) -> tuple[Panel, ...]:
    """The panels of gradient descent beside its prediction: loss, sharpness, and the oscillation itself.

    Args:
        panels: Of the training run, the loss first and the sharpness second.
    """

    def predicted(field: str, label: str = "predicted") -> Curve:
        return Curve(record="prediction", field=field, label=label)

    loss, sharpness, *others = panels
    oscillation = Panel(
        title="oscillation",
        scale="log",
        series=(predicted("actual_oscillation", "measured"), predicted("oscillation")),
        references=(predicted("equilibrium", "equilibrium"),),
        notes=(predicted("period", "steps of a small cycle"), predicted("error", "error of the prediction")),
    )
    return (
        replace(loss, series=(*loss.series, predicted("loss"), predicted("constrained_loss", "constrained"))),
        replace(sharpness, series=(replace(sharpness.series[0], label="measured"), predicted("sharpness"))),
        oscillation,
        *others,
    )


def limiting_flow_panels(panels: Sequence[Panel]) -> tuple[Panel, ...]:
    """The panels of a limiting flow: those of the training run that it stands beside, without an edge of the sharpness.

    Args:
        panels: Of the training run, the loss first.
    """
    loss, *others = flow_panels(panels, is_central=False)
    descended = Curve(record="flow", field="projection_steps", label="steps of projection")
    without = (replace(panel, references=(), ratio=None, edge=None) if panel.title == "sharpness" else panel for panel in others)
    return replace(loss, notes=(*loss.notes, descended)), *without


def parameters_panel(names: Sequence[str]) -> Panel:
    """The parameters of a function, the first few of them."""
    series = tuple(Curve(record="metrics", field=f"values.{name}", label=name) for name in names[:MOST_LINES])
    return Panel(title="parameters", series=series)


def _loss(spec: Descent, *, minibatch: bool, has_test: bool) -> Panel:
    train = Curve(record="step", field="loss", label="batch" if minibatch else "train")
    measured = Curve(record="metrics", field="values.measured_loss", label="measured")
    test = Curve(record="metrics", field="values.test_loss", label="test")
    is_measured = minibatch and (spec.measure.sharpness_every or spec.measure.ntk_every)
    series = ((measured,) if is_measured else ()) + (train,)
    if has_test and spec.measure.evaluate_every:
        series += (test,)
    volterra = (Curve(record="metrics", field="values.expected_loss", label="Volterra"),)
    return Panel(title="loss", scale="log", series=series, references=volterra if is_measured and is_least_squares(spec) else ())


def sharpness(formula: str | None, *, preconditioned: bool = False, in_pairs: bool = False) -> Panel:
    """Sharpness, with a formula against the edge.

    Where pairs of steps stand at the edge, a single one's ratio tells of no limit, and no lr moves the run away from it.
    """
    field = "preconditioned" if preconditioned else "value"
    return Panel(
        title="preconditioned sharpness" if preconditioned else "sharpness",
        series=(Curve(record="sharpness", field=field, label="sharpness"),),
        references=(Curve(record="sharpness", field="threshold", label=formula),) if formula else (),
        error=Curve(record="sharpness", field="preconditioned_error" if preconditioned else "error", label="error"),
        ratio=Curve(record="sharpness", field="ratio", label=f"of {formula}") if formula else None,
        notes=(Curve(record="sharpness", field="value", label="raw"),) if preconditioned else (),
        edge=_edge("deterministic", "sharpness", "ratio", moved_by="lr") if formula and not in_pairs else None,
    )


def _eigenvalues(formula: str | None, *, top_k: int) -> Panel:
    """The Hessian's largest eigenvalues, the sharpness first; no two of the lines cross."""
    labels = ("largest", "2nd", "3rd", *(f"{rank}th" for rank in range(4, top_k + 1)))[:top_k]
    return Panel(
        title=f"top {top_k} eigenvalues",
        series=tuple(Curve(record="sharpness", field=f"values.{index}", label=label) for index, label in enumerate(labels)),
        references=(Curve(record="sharpness", field="threshold", label=formula),) if formula else (),
    )


def ntk(*, has_noise_kernel: bool, preconditioned: bool = False, per_output: bool = False) -> Panel:
    """NTK trace; where there is a K the trace that it is made of, against the stochastic threshold."""
    panel = Panel(
        title="preconditioned NTK trace" if preconditioned else "NTK trace",
        series=(Curve(record="ntk", field="preconditioned_trace" if preconditioned else "trace", label="trace"),),
        error=Curve(record="ntk", field="preconditioned_sem" if preconditioned else "sem", label="standard error"),
    )
    if not has_noise_kernel:
        return panel
    return replace(
        panel,
        references=(Curve(record="ntk", field="threshold", label="stochastic threshold"),),
        ratio=Curve(record="ntk", field="ratio", label="of its threshold, per output" if per_output else "of its threshold"),
        notes=(
            *((Curve(record="ntk", field="trace", label="raw trace"),) if preconditioned else ()),
            Curve(record="ntk", field="noise_kernel", label="K"),
            Curve(record="ntk", field="noise_kernel_bound", label="bound"),
            Curve(record="ntk", field="crossover_batch", label="crossover batch"),
        ),
        edge=_edge("stochastic", "ntk", "noise_kernel", moved_by="lr or batch size"),
    )


def _tail_index() -> Panel:
    """The upper bound first, as the lower one ends where K is 1."""
    lower = Curve(record="ntk", field="tail_index_lower", label="lower")
    return Panel(
        title="tail index bounds if least squares",
        remark="of homogenised SGD",
        scale="log",
        series=(Curve(record="ntk", field="tail_index_upper", label="upper"), lower),
        references=(Curve(record="ntk", field="tail_index_threshold", label="edge of finite variance"),),
        error=Curve(record="ntk", field="tail_index_error", label="error"),
        notes=(lower,),
    )


def _gauss_newton() -> Panel:
    return Panel(
        title="Gauss-Newton",
        series=(Curve(record="gauss_newton", field="value", label="largest eigenvalue"),),
        error=Curve(record="gauss_newton", field="error", label="error"),
        notes=(Curve(record="gauss_newton", field="residual_share", label="residual share"),),
    )


def _first_and_last(names: Sequence[str]) -> Sequence[str]:
    """The first layers and the last, where there are more than a panel can tell apart; the log has all."""
    return names if len(names) <= MOST_LINES else [*names[: MOST_LINES - 1], names[-1]]


def _layers(names: Sequence[str]) -> Panel:
    shown = _first_and_last(names)
    return Panel(
        title="sharpness by layer",
        series=tuple(Curve(record="layers", field=f"values.{name}", label=name) for name in shown),
        error=Curve(record="layers", field=f"errors.{shown[0]}", label="error"),
    )


def _activations(names: Sequence[str]) -> Panel:
    shown = _first_and_last(names)
    return Panel(
        title="change of what layers give out",
        scale="log",
        series=tuple(Curve(record="activations", field=f"changes.{name}", label=name) for name in shown),
        notes=(Curve(record="activations", field=f"sizes.{shown[0]}", label="size"),),
    )


def _gradient() -> Panel:
    return Panel(
        title="sharpness along the gradient",
        series=(
            Curve(record="gradient", field="directional_sharpness", label="directional"),
            Curve(record="gradient", field="critical_sharpness", label="critical"),
        ),
        notes=(Curve(record="gradient", field="alignment", label="share in the top eigenvectors"),),
    )


def _hessian_trace() -> Panel:
    return Panel(
        title="Hessian trace",
        series=(Curve(record="hessian_trace", field="value", label="trace"),),
        error=Curve(record="hessian_trace", field="sem", label="standard error"),
    )


def _density(formula: str | None, *, num_params: int) -> Panel:
    """A single eigenvalue stands as high as the whole spectrum would, over the number of parameters; a tenth of that is still shown."""
    return Panel(
        title="Hessian spectral density",
        scale="log",
        series=(Curve(record="density", field="density", label="density"),),
        x=Curve(record="density", field="at", label="eigenvalue"),
        decades=1 + math.ceil(math.log10(num_params)),
        references=(Curve(record="sharpness", field="threshold", label=formula),) if formula else (),
        error=Curve(record="density", field="sem", label="standard error"),
        notes=(Curve(record="density", field="width", label="smoothing width"),),
    )


def _batch_sharpness(spec: Descent) -> Panel:
    has_edge = isinstance(spec.optimizer, Sgd) and spec.objective.transform == "none"
    notes: tuple[Curve, ...] = (Curve(record="batch_sharpness", field="ratio_of_means", label="ratio of means"),)
    if isinstance(spec.optimizer, HeavyBall | Nesterov | EmaMomentum):
        notes += (Curve(record="batch_sharpness", field="momentum_batch_sharpness", label="with momentum"),)
    if spec.measure.batch_sharpness_full:
        notes += (
            Curve(record="batch_sharpness", field="gradient_noise_interaction", label="GNI"),
            Curve(record="batch_sharpness", field="interaction_aware_sharpness", label="IAS"),
        )
    return Panel(
        title="batch sharpness",
        series=(Curve(record="batch_sharpness", field="value", label="batch sharpness"),),
        references=(Curve(record="batch_sharpness", field="threshold", label="2/lr"),) if has_edge else (),
        error=Curve(record="batch_sharpness", field="sem", label="standard error"),
        ratio=Curve(record="batch_sharpness", field="ratio", label="of 2/lr") if has_edge else None,
        notes=notes,
    )


def _batch_size() -> Panel:
    return Panel(
        title="batch size",
        scale="log",
        series=(Curve(record="step", field="batch_size", label="batch"),),
        references=(Curve(record="ntk", field="crossover_batch", label="crossover batch"),),
    )


def _limiting_flow() -> Panel:
    return Panel(
        title="distance to the limiting flow",
        scale="log",
        series=(Curve(record="limiting_flow", field="distance", label="distance"),),
        error=Curve(record="limiting_flow", field="error", label="error"),
        notes=(
            Curve(record="limiting_flow", field="projected_sharpness", label="sharpness at the projection"),
            Curve(record="limiting_flow", field="flow_sharpness", label="sharpness of the flow"),
        ),
    )


def _mean_square() -> Panel:
    return Panel(
        title="learning rate",
        series=(Curve(record="mean_square", field="lr", label="lr"),),
        references=(Curve(record="mean_square", field="threshold", label="mean-square edge"),),
        ratio=Curve(record="mean_square", field="ratio", label="of the mean-square edge"),
        edge=_edge("mean-square", "mean_square", "ratio", moved_by="lr or batch size"),
    )


def _pairs() -> Panel:
    """The harmonic mean, since that of reciprocals is what two steps in a row keep; the plain mean is above it."""
    return Panel(
        title="pairs, harmonic mean",
        series=(
            Curve(record="stableness", field="harmonic_mean", label="stableness"),
            Curve(record="stableness", field="effective_harmonic_mean", label="effective sharpness"),
        ),
        references=(Curve(record="stableness", field="threshold", label="2"),),
        ratio=Curve(record="stableness", field="ratio", label="of 2"),
        notes=(
            Curve(record="stableness", field="value", label="this step"),
            Curve(record="stableness", field="next_value", label="next"),
            Curve(record="stableness", field="alignment", label="alignment"),
        ),
    )


def _edge(name: str, record: str, field: str, *, moved_by: str) -> Edge:
    return Edge(name=name, ratio=Curve(record=record, field=field, label=name), moved_by=moved_by)
