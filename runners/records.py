"""The lines of a run's log, `log.jsonl`, and of `control.jsonl`: one struct a kind, told apart by the key `kind`.

The runner writes them, the viewer reads them, and nothing else passes between the two. An absent field was not
measured; `null` stands for a number that is not finite (an event then says which and what). Must not import jax or
anything that draws.
"""

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType, field

SCHEMA = 1
"""Goes up when a field changes its meaning or a reader needs a new one."""

Number: TypeAlias = float | None
"""A measured number; null in the log when it is not finite."""


class Record(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    """What every line has. A reader ignores fields that it does not know."""

    step: int
    """Parameter updates already applied."""
    time: float
    """Seconds since the run began, compiled and ready, with pauses left out."""


class Curve(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A field of a record kind, to be drawn or read out. `field` may be a path: `values.test_loss`, `values.0` into a list."""

    record: str
    field: str
    label: str


class Edge(Struct, frozen=True, kw_only=True):
    """A limit of stability that a run may stand at."""

    name: str
    """deterministic, stochastic, ..."""
    ratio: Curve
    """How far it is: 1 at the edge."""
    moved_by: str
    """What takes the run away from it, in words."""


class Panel(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A chart of the run's screen, described by the runner so that the viewer need not know the science."""

    title: str
    remark: str = ""
    """What its numbers are, in a few words, where the title alone could be taken for something else."""
    unit: str = ""
    scale: Literal["linear", "log"] = "linear"
    series: Annotated[tuple[Curve, ...], Meta(min_length=1)]
    """Drawn as lines; the first is the panel's headline number."""
    x: Curve | None = None
    """The x axis where it is not the step: a list in one record with the series, which are lists as long. The last is drawn, the
    first behind it."""
    decades: Annotated[int, Meta(ge=0)] = 0
    """How many powers of ten below that of its largest value a log axis reaches with x, at most; 0 for no limit."""
    references: tuple[Curve, ...] = ()
    """What the series are held against: drawn as dashed lines that follow the record; with x, upright at the last value."""
    error: Curve | None = None
    """Half-width of the headline number's error, in its unit."""
    ratio: Curve | None = None
    """Headline over its threshold, 1 at the edge; drawn as a sparkline, the label says of what."""
    notes: tuple[Curve, ...] = ()
    """Further numbers for the title: label and last value."""
    edge: Edge | None = None
    """The limit of stability that the panel tells of."""

    @property
    def headline(self) -> str:
        """What the headline number is called where no frame has the title: of several series it says which."""
        return self.title if len(self.series) == 1 else f"{self.series[0].label} {self.title}"


class DataDescription(Struct, frozen=True, kw_only=True):
    """The data as the run used it."""

    name: str
    source: str
    """The file, folder, package or formula that it came from."""
    task: Literal["classification", "regression"]
    num_train: int
    num_test: int
    input_shape: tuple[int, ...]
    num_outputs: int
    standardization: str
    """How, in words; `none` when the numbers are as in the source."""


class Git(Struct, frozen=True, kw_only=True):
    """The repository that the run was started in."""

    commit: str
    dirty: bool


class ParameterDescription(Struct, frozen=True, kw_only=True):
    """One array of a net's parameters."""

    name: str
    """Of the modules that it lies in and its own, with dots between."""
    shape: tuple[int, ...]
    role: str
    fan_in: int | None
    """Inputs that a unit adds up; null for what is no matrix."""
    init_std: float
    """Root mean square of its first values."""
    multiplier: float
    """What the forward pass multiplies it by."""
    lr: float
    """Its learning rate over that of the step."""
    eps: float
    """Its epsilon over `optimizer.eps`."""


class Header(Record, frozen=True, kw_only=True, tag="header"):
    """First line: what runs, where, with what."""

    schema: int
    run: str
    """The run folder's name."""
    runner: str
    created: str
    """UTC, ISO 8601."""
    steps: int
    """Updates that the run is asked for."""
    spec: dict[str, Any]
    """Resolved: every key with its value."""
    panels: tuple[Panel, ...]
    versions: dict[str, str]
    git: Git | None = None
    device: str
    host: str
    pid: int
    precision: str
    num_params: int
    num_examples: int | UnsetType = UNSET
    """Training examples; absent, as all that follows from them, where there are none."""
    num_measured: int | UnsetType = UNSET
    """Training examples that the curvature is measured on."""
    chunk_size: int | UnsetType = UNSET
    """Of these, examples in one pass."""
    measure_bytes: int | UnsetType = UNSET
    """Memory that the hungriest measurement takes beside parameters and data, as the compiler says."""
    batch_size: int | UnsetType = UNSET
    data: DataDescription | UnsetType = UNSET
    loss_convention: str | UnsetType = UNSET
    threshold_formula: str | None = None
    """The edge that the sharpness is held against, as a formula; null when none is known for the optimizer."""
    parameters: tuple[ParameterDescription, ...] | UnsetType = UNSET
    """What is trained, and what the parametrization makes of it."""


class StepRecord(Record, frozen=True, kw_only=True, tag="step"):
    """Loss and rate of one update, at the parameters before it."""

    loss: Number
    """Loss of the step's batch, weight decay included."""
    lr: Number
    grad_norm: Number | UnsetType = UNSET
    """Euclidean norm of the batch gradient."""
    accuracy: Number | UnsetType = UNSET
    """Share of the step's batch that is classified correctly."""
    batch_size: int | UnsetType = UNSET
    """Examples in the step's batch, where feedback sets it."""


class Eigenvalue(Record, frozen=True, kw_only=True):
    """The largest signed eigenvalue of an operator, and how good it is."""

    value: Number
    values: tuple[Number, ...] | UnsetType = UNSET
    """The top k from the largest down, when more than one was asked for."""
    errors: tuple[Number, ...] | UnsetType = UNSET
    """The estimated error of each of them."""
    residual: Number
    """|A v - value v| for the unit vector v found: some eigenvalue lies within it."""
    error: Number
    """Estimated error of value: the smaller of residual and residual^2 / gap to the largest Ritz value not followed;
    the residual where it did not converge."""
    num_hvps: int
    """Products with the operator."""
    converged: bool
    num_examples: int
    method: str
    seconds: float


class SharpnessRecord(Eigenvalue, frozen=True, kw_only=True, tag="sharpness"):
    """The largest signed eigenvalue of the training-loss Hessian on the measured examples."""

    threshold: Number | UnsetType = UNSET
    """The optimizer's edge at this step's learning rate; absent when none is known."""
    ratio: Number | UnsetType = UNSET
    """Sharpness (for an adaptive optimizer the preconditioned one) over threshold."""
    preconditioned: Number | UnsetType = UNSET
    """Largest eigenvalue of P^-1/2 H P^-1/2 with the optimizer's present preconditioner P."""
    preconditioned_residual: Number | UnsetType = UNSET
    preconditioned_error: Number | UnsetType = UNSET
    preconditioned_num_hvps: int | UnsetType = UNSET
    preconditioned_converged: bool | UnsetType = UNSET
    smallest: Number | UnsetType = UNSET
    """The smallest signed eigenvalue, when it was asked for."""
    smallest_residual: Number | UnsetType = UNSET
    smallest_error: Number | UnsetType = UNSET
    smallest_num_hvps: int | UnsetType = UNSET
    smallest_converged: bool | UnsetType = UNSET


class GaussNewtonRecord(Eigenvalue, frozen=True, kw_only=True, tag="gauss_newton"):
    """The largest eigenvalue of the Gauss-Newton matrix of the loss, which is that of the NTK."""

    residual_share: Number | UnsetType = UNSET
    """Of the sharpness, what the Gauss-Newton matrix and the weight decay do not carry along its eigenvector."""


class LayersRecord(Record, frozen=True, kw_only=True, tag="layers"):
    """Sharpness of each parameter group alone: the largest eigenvalue of its block on the Hessian's diagonal."""

    values: dict[str, Number]
    errors: dict[str, Number]
    num_hvps: int
    """Hessian-vector products, of all groups."""
    converged: bool
    """Of all groups."""
    num_examples: int
    method: str
    seconds: float


class ActivationsRecord(Record, frozen=True, kw_only=True, tag="activations"):
    """What each layer gives out, on the first measured examples."""

    sizes: dict[str, Number]
    """Root mean square over examples and units."""
    changes: dict[str, Number]
    """Root mean square of the difference to what it gave out at the first parameters."""
    num_examples: int
    seconds: float


class GradientRecord(Record, frozen=True, kw_only=True, tag="gradient"):
    """What the gradient g of the training loss says of curvature, on the measured examples."""

    norm: Number
    directional_sharpness: Number
    """g^T H g / |g|^2."""
    alignment: Number
    """Share of |g|^2 in the span of the top eigenvectors."""
    alignments: tuple[Number, ...] | UnsetType = UNSET
    """Share along each, when more than one was asked for."""
    critical_sharpness: Number
    """2 / critical_lr: a proxy of the sharpness along the gradient, from forward passes alone."""
    critical_error: Number
    """It is within critical_sharpness +- this; a bound where the loss is quadratic."""
    critical_lr: Number
    """The shortest step along -g at which the loss no longer falls."""
    critical_num_passes: int
    critical_converged: bool
    num_examples: int
    method: str
    seconds: float


class HessianTraceRecord(Record, frozen=True, kw_only=True, tag="hessian_trace"):
    """Trace of the training-loss Hessian on the measured examples."""

    value: Number
    sem: Number
    """Standard error; 0 when it is exact."""
    num_hvps: int
    num_examples: int
    method: str
    seconds: float


class DensityRecord(Record, frozen=True, kw_only=True, tag="density"):
    """Density of the training-loss Hessian's eigenvalues on the measured examples, smoothed."""

    at: tuple[Number, ...]
    """Eigenvalues, equally spaced, from the smallest up."""
    density: tuple[Number, ...]
    """At each of them, per unit of curvature; its integral is 1."""
    sem: tuple[Number, ...]
    """Standard error of each."""
    width: Number
    """Standard deviation of the Gaussian that it is smoothed with."""
    num_probes: int
    order: int
    """Nodes of each probe's quadrature."""
    num_hvps: int
    num_examples: int
    method: str
    seconds: float


class BatchSharpnessRecord(Record, frozen=True, kw_only=True, tag="batch_sharpness"):
    """Sharpness as batches see it, along their own gradients g_B; each with its standard error."""

    value: Number
    """E_B[ g_B^T H_B g_B / |g_B|^2 ]."""
    sem: Number
    threshold: Number | UnsetType = UNSET
    """2/lr, for plain SGD."""
    ratio: Number | UnsetType = UNSET
    ratio_of_means: Number
    """E_B[ g_B^T H_B g_B ] / E_B |g_B|^2."""
    ratio_of_means_sem: Number
    gradient_noise_interaction: Number | UnsetType = UNSET
    """E_B[ g_B^T H g_B ] / |g|^2 with the Hessian and the gradient of all measured examples, when it was asked for."""
    gradient_noise_interaction_sem: Number | UnsetType = UNSET
    interaction_aware_sharpness: Number | UnsetType = UNSET
    """E_B[ g_B^T H g_B ] / E_B |g_B|^2, when it was asked for."""
    interaction_aware_sharpness_sem: Number | UnsetType = UNSET
    momentum_batch_sharpness: Number | UnsetType = UNSET
    """E_B[ s_B^T H_B s_B ] / E_B[ s_B^T g_B ] with s_B the update that the batch would bring about, over lr; with momentum alone."""
    momentum_batch_sharpness_sem: Number | UnsetType = UNSET
    batch_size: int
    num_batches: int
    num_undefined: int
    """Batches with zero gradient, which are left out."""
    num_examples: int
    method: str
    seconds: float


class MeanSquareRecord(Record, frozen=True, kw_only=True, tag="mean_square"):
    """Where plain SGD on the linearised model stops being stable in mean square, on the measured examples."""

    lr: Number
    """Learning rate at this step."""
    threshold: Number
    """Learning rate below which the second moment of the residuals decays."""
    error: Number
    """Estimated error of threshold."""
    ratio: Number
    """lr over threshold: 1 at the edge."""
    num_products: int
    """Products with the second-moment operator."""
    converged: bool
    num_examples: int
    method: str
    seconds: float


class StablenessRecord(Record, frozen=True, kw_only=True, tag="stableness"):
    """How stable the update x -> x - eta g at these parameters and the one after it are, with g the gradient of the loss L."""

    value: Number
    """S = eta sup of the sharpness on the way from x to x - eta g, over a grid of points."""
    next_value: Number
    """S of the update after that."""
    reciprocal_sum: Number
    """1 / value + 1 / next_value."""
    harmonic_mean: Number
    """2 / reciprocal_sum."""
    threshold: Number
    """2: above it a step is unstable."""
    ratio: Number
    """harmonic_mean over threshold."""
    error: Number
    """Estimated error of value, from its eigenvalue; what lies between the points of the grid is not in it."""
    next_error: Number
    effective_sharpness: Number
    """eta times the sharpness at x."""
    next_effective_sharpness: Number
    effective_reciprocal_sum: Number
    """1 / effective_sharpness + 1 / next_effective_sharpness."""
    effective_harmonic_mean: Number
    """2 / effective_reciprocal_sum."""
    effective_lr: Number
    """eta: lr, lr / |g| for normalised gradient descent, lr / (2 sqrt(L - L_min)) on the root of the loss; 0 where nothing moves."""
    next_effective_lr: Number
    loss: Number
    """L at x, on the measured examples."""
    next_loss: Number
    loss_ratio: Number | UnsetType = UNSET
    """sqrt(L - L_min) + sqrt(next L - L_min) over what it is along the top eigenvector."""
    alignment: Number
    """Share of the square of g along the top eigenvector at x."""
    next_alignment: Number
    num_points: int
    """Of the grid, the ends of the segment included."""
    num_hvps: int
    """Hessian-vector products, of all points."""
    converged: bool
    """At all points."""
    num_examples: int
    method: str
    seconds: float


class LimitingFlowRecord(Record, frozen=True, kw_only=True, tag="limiting_flow"):
    """How far the parameters' projection on the manifold of minima is from the limiting flow that began at their first projection."""

    distance: Number
    """|Phi(x) - X|: Phi(x) is where gradient flow from the parameters x ends, X the limiting flow after the time lr^2 x steps."""
    error: Number
    """Estimated error of distance: what is left to the manifold, and what the flow takes in half as many steps differs by, added up."""
    offset: Number
    """|x - Phi(x)|."""
    projected_sharpness: Number
    """Largest eigenvalue of the Hessian at Phi(x)."""
    flow_sharpness: Number
    """And at X."""
    converged: bool
    """Whether the projection came to the manifold."""
    num_examples: int
    method: str
    seconds: float


class NtkRecord(Record, frozen=True, kw_only=True, tag="ntk"):
    """Trace of the empirical NTK (of the Gauss-Newton matrix of the loss) and the noise kernel norm K."""

    trace: Number
    sem: float | None
    """Standard error of the trace; null when it is exact."""
    threshold: Number | UnsetType = UNSET
    """Trace, for an adaptive optimizer preconditioned_trace, at which noise_kernel_trace = 1; absent with the full batch, or where no K
    is known for the optimizer."""
    ratio: Number | UnsetType = UNSET
    """Trace (for an adaptive optimizer the preconditioned one) over threshold = noise_kernel_trace."""
    noise_kernel: Number | UnsetType = UNSET
    """K from the top eigenvalues and the trace, for an adaptive optimizer the preconditioned ones."""
    noise_kernel_trace: Number | UnsetType = UNSET
    """The trace part of K: what K is for a small learning rate."""
    noise_kernel_bound: Number | UnsetType = UNSET
    """K_MM <= 1 is necessary for mean-square stability."""
    noise_kernel_error: Number | UnsetType = UNSET
    """K of the whole spectrum lies within noise_kernel +- this, where the trace is off by its standard error; absent where
    nothing bounds it."""
    crossover_batch: Number | UnsetType = UNSET
    """Batch size at which the trace part of K and the largest eigenvalue are equally far from their edges; absent where no K or no
    eigenvalue is known."""
    crossover_batch_error: Number | UnsetType = UNSET
    """Estimated error of crossover_batch."""
    tail_index_upper: Number | UnsetType = UNSET
    """What the tail index of homogenised SGD is at most, on least squares with this G, learning rate and batch size, when it was asked
    for: 1 + r / K with noise_kernel_trace for K and r the trace (as K, per output or not) over the largest eigenvalue; 2 from K = 1
    on; absent where r < 1."""
    tail_index_lower: Number | UnsetType = UNSET
    """And at least: 2 + r (1 / K - 1); absent from K = 1 on, where it is no bound."""
    tail_index_error: Number | UnsetType = UNSET
    """Estimated error of either bound, the larger one; absent from K = 1 on."""
    tail_index_threshold: Number | UnsetType = UNSET
    """2: the index below which the variance is infinite."""
    eigenvalues: tuple[Number, ...] | UnsetType = UNSET
    """Top Gauss-Newton eigenvalues; they enter K, but for adaptive optimizers."""
    eigenvalue_errors: tuple[Number, ...] | UnsetType = UNSET
    """Estimated error of each of them."""
    preconditioned_trace: Number | UnsetType = UNSET
    """Trace of P^-1/2 G P^-1/2 with the Gauss-Newton matrix G and the adaptive optimizer's present preconditioner P; absent where K is."""
    preconditioned_sem: float | UnsetType | None = UNSET
    """Its standard error; null when it is exact."""
    preconditioned_eigenvalues: tuple[Number, ...] | UnsetType = UNSET
    """Top eigenvalues of P^-1/2 G P^-1/2; they enter K."""
    preconditioned_eigenvalue_errors: tuple[Number, ...] | UnsetType = UNSET
    """Estimated error of each of them."""
    preconditioned_method: str | UnsetType = UNSET
    convention: Literal["per_output", "sum"]
    """per_output: K and its threshold are divided and multiplied by the number of outputs."""
    method: str
    num_probes: int
    num_examples: int
    seconds: float


class TailsRecord(Record, frozen=True, kw_only=True, tag="tails"):
    """How heavy the tails of the iterates of many paths are, along the first right singular vector, centred by their median."""

    index: Number
    """Of Student's t, fitted by maximum likelihood; null when the fit is nearest to a Gaussian."""
    error: float | None
    """Its standard error."""
    scale: Number
    """Of the fitted t."""
    distance: Number
    """Kolmogorov and Smirnov's: the largest difference of the distribution functions, of the sample and fitted."""
    stable: Number | UnsetType = UNSET
    """Index of the symmetric stable law with the same quantiles of |x| at 50 and 90 %, at most 2; absent, as its distance, below 0.5."""
    stable_distance: Number | UnsetType = UNSET
    """Kolmogorov and Smirnov's, of that law."""
    hill: Number
    """Hill's estimate, from the largest hundredth."""
    hill_error: Number
    """Its standard error."""
    lower: Number | UnsetType = UNSET
    """The lower bound of the diffusion's index; absent where K or the learning rate is too large for it."""
    upper: Number | UnsetType = UNSET
    """The upper bound."""
    exact: Number | UnsetType = UNSET
    """The index itself, where it is known."""
    noise_kernel: Number
    """K, the mass of the diffusion's Volterra kernel: its second moment is finite while it is below 1."""
    levels: tuple[Number, ...]
    """log10 of |x| over the scale."""
    survival: tuple[Number, ...]
    """log10 of the share of paths beyond each level."""
    survival_fit: tuple[Number, ...]
    """The same of the fitted t."""
    quantiles_fit: tuple[Number, ...]
    """Of the fitted t, over its scale."""
    quantiles: tuple[Number, ...]
    """Of the paths at the same probabilities, over the same scale."""
    num_paths: int
    seconds: float


class FlowRecord(Record, frozen=True, kw_only=True, tag="flow"):
    """A step of a flow: how well it was taken and, at the edge, what it predicts of the optimizer that it stands beside."""

    num_substeps: int
    """Steps of the integration."""
    error: Number | UnsetType = UNSET
    """Of the parameters, Euclidean, estimated and summed over all steps before this one; absent at the edge of a central flow."""
    num_critical: int | UnsetType = UNSET
    """Curvatures at the edge; absent, as all below, in a gradient flow."""
    variance: Number | UnsetType = UNSET
    """Tr Sigma: predicted squared distance, on average, of the optimizer's parameters from the flow."""
    averaged_loss: Number | UnsetType = UNSET
    """Predicted time average of the optimizer's loss: loss + tr Sigma / lr for gradient descent."""
    complementarity: Number | UnsetType = UNSET
    """How far Sigma is from complementary, in effective curvature, whose edge is 2; the most of the step's substeps."""
    tau: Number | UnsetType = UNSET
    """Time of a limiting flow, lr^2 x steps since it began; absent, as all below, in all others."""
    projection_steps: int | UnsetType = UNSET
    """Of gradient descent that brought this step back to the manifold of minima, all projections together."""
    converged: bool | UnsetType = UNSET
    """Whether all of them came as near as asked."""


class PredictionRecord(Record, frozen=True, kw_only=True, tag="prediction"):
    """What self-stabilisation predicts of gradient descent at a step, and the constrained trajectory that it rests on."""

    loss: Number
    """Predicted loss of the step's parameters."""
    sharpness: Number
    """And their sharpness."""
    oscillation: Number
    """|x|: predicted displacement from the constrained trajectory along the top eigenvector there."""
    actual_oscillation: Number
    """The same, of the parameters as they are."""
    distance: Number
    """Predicted distance from the constrained trajectory."""
    actual_distance: Number
    error: Number
    """From where the parameters are predicted to be to where they are."""
    constrained_loss: Number
    """Loss on the constrained trajectory."""
    constrained_sharpness: Number
    alpha: Number
    """By which the sharpness rises in a step over lr, while nothing oscillates."""
    beta: Number
    """Square of the norm of the sharpness's gradient, across the top eigenvector."""
    equilibrium: Number | UnsetType = UNSET
    """|x| at which the sharpness stands still; absent where alpha <= 0."""
    period: Number | UnsetType = UNSET
    """Steps of a small cycle about it; absent likewise."""


class MetricsRecord(Record, frozen=True, kw_only=True, tag="metrics"):
    """Named numbers that a runner or a user adds."""

    values: dict[str, Number]


class EventRecord(Record, frozen=True, kw_only=True, tag="event"):
    """Something that happened, in words."""

    event: str
    """paused, unpaused, resumed, checkpoint, stopping, diverged, warning, ..."""
    message: str
    data: dict[str, Any] = field(default_factory=dict)


class EndRecord(Record, frozen=True, kw_only=True, tag="end"):
    """Last line of a run that ended by itself or was told to."""

    status: Literal["finished", "stopped", "diverged", "failed"]
    reason: str
    steps: int
    """Updates applied in all."""
    wall_seconds: float
    """Pauses left out."""
    measure_seconds: float


AnyMeasurement: TypeAlias = (
    SharpnessRecord
    | GaussNewtonRecord
    | LayersRecord
    | ActivationsRecord
    | GradientRecord
    | HessianTraceRecord
    | DensityRecord
    | BatchSharpnessRecord
    | MeanSquareRecord
    | StablenessRecord
    | LimitingFlowRecord
    | NtkRecord
    | TailsRecord
)
AnyRecord: TypeAlias = Header | StepRecord | FlowRecord | PredictionRecord | AnyMeasurement | MetricsRecord | EventRecord | EndRecord
SERIES_KINDS = (
    "step",
    "flow",
    "prediction",
    "sharpness",
    "gauss_newton",
    "layers",
    "activations",
    "gradient",
    "hessian_trace",
    "density",
    "batch_sharpness",
    "mean_square",
    "stableness",
    "limiting_flow",
    "ntk",
    "tails",
    "metrics",
)
"""The record kinds that come many times, one row each in an export."""


class Request(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line of `control.jsonl`: what a viewer asks of the runner."""

    request: Literal["stop", "pause", "unpause"]
    created: str
    """UTC, ISO 8601."""
