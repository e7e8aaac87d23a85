"""What the other kinds of experiment are asked to do, and the spec as one type.

Every kind is a table told apart by the key `runner`, and has a table `run`. `kinds` knows which runner carries it out.
Must not import jax or anything that draws.
"""

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, field

from runners.spec import (
    CountOrNever,
    Data,
    Gaussian,
    HeavyBall,
    ImportPath,
    Measure,
    Named,
    NonNegativeFloat,
    ObjectiveTable,
    Optimizer,
    PositiveFloat,
    PositiveInt,
    Run,
    Sgd,
    Table,
    Train,
)


class Simulation(Table, frozen=True):
    """How many simulated runs there are beside each other, and how often what they do is recorded."""

    num_paths: Annotated[int, Meta(ge=2)] = 256
    """Simulated runs, each with its own random draws; they share what the spec fixes."""
    record_every: PositiveInt = 10
    """Steps between records."""


class KernelTable(Table, frozen=True):
    """The NTK T = J J^T / D of the D examples at the start, of prescribed eigenvalues."""

    num_examples: Annotated[int, Meta(ge=2, le=2000)] = 200
    """D; a step of a prediction takes 4 D^3 operations."""
    spectrum: tuple[NonNegativeFloat, ...] | None = None
    """Eigenvalues, `num_examples` of them, from the largest down; j^-exponent, j = 1, 2, ..., when absent."""
    exponent: NonNegativeFloat = 1.0


class LinearTable(KernelTable, frozen=True):
    """A linear model of D examples with one output, known by its kernel and its first residuals."""

    basis: Literal["random", "examples", "flat"] = "random"
    """Eigenvectors of the kernel: a random orthogonal matrix; single examples; or entries +-D^-1/2 (Hadamard's, D a power of 2)."""
    residual: Literal["random", "fixed"] = "random"
    """First residuals, entries ~ N(0, 1): drawn for each path, or once for all."""


class LinearModel(Table, tag_field="runner", tag="linear-model", frozen=True):
    """Minibatch training of a linear model, many times over, beside the recursion of its second moment.

    Source: Agarwala and Pennington (2024), arXiv 2404.19261.
    """

    linear_model: LinearTable = field(default_factory=LinearTable)
    optimizer: Sgd | HeavyBall = field(default_factory=Sgd)
    simulation: Simulation = field(default_factory=Simulation)
    run: Run = field(default_factory=Run)


class QuadraticTable(KernelTable, frozen=True):
    """A quadratic model of D examples with one output, of which only the kernel at the start is prescribed."""

    num_examples: Annotated[int, Meta(ge=2, le=2000)] = 24
    num_params: PositiveInt = 100
    """P, at least `num_examples`."""
    curvature: NonNegativeFloat = 1.0
    """Variance of the outputs' second derivatives, random symmetric matrices; first residuals have variance 1."""


class BatchSizes(Table, frozen=True):
    """Plain SGD with several batch sizes beside each other, on the same models, by distinct examples drawn anew at each step."""

    lr: PositiveFloat = 0.1
    batch_sizes: Annotated[tuple[PositiveInt, ...], Meta(min_length=1, max_length=4)] = (24, 12, 6, 4)


class QuadraticModel(Table, tag_field="runner", tag="quadratic-model", frozen=True):
    """Minibatch training of quadratic models, many draws of them, beside the prediction of how their NTK's eigenvalues grow.

    Each draw of the model is trained with its second derivatives as they are and negated, whose odd orders cancel in the mean.
    Source: Agarwala and Pennington (2024), arXiv 2404.19261.
    """

    quadratic_model: QuadraticTable = field(default_factory=QuadraticTable)
    optimizer: BatchSizes = field(default_factory=BatchSizes)
    simulation: Simulation = field(default_factory=Simulation)
    run: Run = field(default_factory=Run)


class LeastSquaresTable(Table, frozen=True):
    """The problem L(x) = |A x - b|^2 / (2 n) of the training examples, with A's rows and b one number each."""

    ridge: NonNegativeFloat = 0.0
    """(ridge / 2) |x|^2 is added to what is descended; the source's delta is n times it."""
    start: NonNegativeFloat = 0.5
    """Standard deviation of the first iterate's entries, drawn for each path."""
    target_scale: PositiveFloat = 1.0
    """What the targets are multiplied by. Labels of classes count as the numbers 0, 1, ..."""


class Paths(Simulation, frozen=True):
    """How many iterates go beside each other, each with its own start and its own draws."""

    num_paths: Annotated[int, Meta(ge=1000)] = 10_000
    record_every: PositiveInt = 50
    chunk: PositiveInt = 4096
    """Paths that are computed at one time; at most as many as take 64 MiB."""


class DiffusionPaths(Paths, frozen=True):
    """And how finely time is cut."""

    substeps: PositiveInt | None = None
    """Of Euler and Maruyama's method in the time of one step of SGD; when absent as many as make the largest rate 1/50."""


class Sde(Table, tag_field="runner", tag="sde", frozen=True):
    """Paths of homogenised SGD, the diffusion that stands for SGD on least squares; a step is the time of one of SGD's.

    Source: Jiao and Keller-Ressel (2024), arXiv 2402.01382.
    """

    data: Data = field(default_factory=Gaussian)
    least_squares: LeastSquaresTable = field(default_factory=LeastSquaresTable)
    optimizer: Sgd = field(default_factory=lambda: Sgd(batch_size=1, sampling="with_replacement"))
    simulation: DiffusionPaths = field(default_factory=DiffusionPaths)
    run: Run = field(default_factory=Run)


class SgdPaths(Paths, frozen=True):
    """And where their examples come from."""

    streaming: bool = False
    """Each step draws new examples, Gaussian with the second moments of the training examples and of what their fit leaves over."""


class SgdEnsemble(Table, tag_field="runner", tag="sgd-ensemble", frozen=True):
    """SGD itself on the same problem, many times over, so that what the diffusion leaves out is seen.

    Source: Jiao and Keller-Ressel (2024), arXiv 2402.01382; with fresh data Gurbuzbalaban, Simsekli and Zhu (2021), arXiv 2006.04740.
    """

    data: Data = field(default_factory=Gaussian)
    least_squares: LeastSquaresTable = field(default_factory=LeastSquaresTable)
    optimizer: Sgd = field(default_factory=lambda: Sgd(batch_size=1, sampling="with_replacement"))
    simulation: SgdPaths = field(default_factory=SgdPaths)
    run: Run = field(default_factory=Run)


LeastSquaresSpec: TypeAlias = Sde | SgdEnsemble


class FlowTable(Table, tag_field="kind", frozen=True):
    """Keys that every flow has."""

    from_step: CountOrNever = 0
    """Until this step the optimizer's own updates are made, and the flow begins where they lead."""


class GradientFlow(FlowTable, tag="gradient", frozen=True):
    """The optimizer's update as a derivative, without its oscillations: for gradient descent, gradient flow."""


class CentralFlow(FlowTable, tag="central", frozen=True):
    """The optimizer's time average, oscillations included. Source: Cohen et al. (2024), arXiv 2410.24206."""

    substeps: PositiveInt = 4
    """Steps of Euler's for each step of the optimizer, while curvatures stand at the edge."""
    max_critical: PositiveInt = 6
    """The most curvatures that may stand at the edge together."""


class SelfStabilization(FlowTable, tag="self_stabilization", frozen=True):
    """Gradient descent itself, beside what is predicted of its oscillation at the edge. Source: Damian et al. (2022), arXiv 2209.15594.

    The prediction begins at the first step, from `from_step` on, whose sharpness is found at 2/lr or above.
    """


class LimitingFlow(FlowTable, tag="limiting", frozen=True):
    """What normalised gradient descent, or gradient descent on the root of the loss, does as lr goes to 0: a flow along the minima.

    It begins where the parameters are projected on the manifold of minima, not before the end of a warm start.
    Source: Arora, Li and Panigrahi (2022), arXiv 2205.09745.
    """

    stride: PositiveInt = 100
    """Steps of the optimizer that one of the flow's covers; fewer up to a measurement."""
    tolerance: Annotated[float, Meta(gt=0, lt=1)] = 0.01
    """Loss at which the projection on the manifold ends, over the loss that the optimizer hovers at."""


class Flow(Train, tag="flow", frozen=True):
    """A flow beside a training run: its tables are the run's, and its step is as long as one of the run's optimizer."""

    flow: GradientFlow | CentralFlow | LimitingFlow | SelfStabilization = field(default_factory=GradientFlow)


Start: TypeAlias = Annotated[tuple[float, ...], Meta(min_length=1)]
"""The parameters that a run begins with."""


class FunctionTable(Named, kw_only=True, frozen=True):
    """Keys that every function has."""

    start: Start


class Quadratic(FunctionTable, tag="quadratic", kw_only=True, frozen=True):
    """L(x) = 1/2 sum_i spectrum_i x_i^2."""

    spectrum: Annotated[tuple[float, ...], Meta(min_length=1)]
    """The Hessian's eigenvalues, one for each parameter."""


class Valley(FunctionTable, tag="valley", kw_only=True, frozen=True):
    """L(x, y) = (1 + x^2) y^2: a valley with the floor y = 0, less steep towards x = 0.

    Source: Arora, Li and Panigrahi (2022), arXiv 2205.09745.
    """

    start: Start = (14.7, 3.0)


class CustomFunction(FunctionTable, tag="custom", kw_only=True, frozen=True):
    """A user's function; written `name = "package.module:function"`."""

    target: ImportPath
    """Called as function(x, **arguments) with x [parameters]; returns the loss, a single number, by jax."""
    arguments: dict[str, Any] = field(default_factory=dict)


AnyFunction: TypeAlias = Quadratic | Valley | CustomFunction


class Value(ObjectiveTable, tag="value", frozen=True):
    """The function's value, plus the weight decay when it is asked for."""


class FunctionMeasure(Measure, frozen=True):
    """What is measured of a function, how often and how well: all that needs no examples and no outputs."""

    sharpness_every: CountOrNever = 1
    ntk_every: CountOrNever = 0
    evaluate_every: CountOrNever = 0
    parameters_every: CountOrNever = 1
    """The parameters themselves, of which there are to be few."""


class FunctionRun(Run, frozen=True):
    """How long, from which seeds, in which precision; near a minimum normalised steps need float64."""

    steps: PositiveInt = 100
    precision: Literal["float32", "float64"] = "float64"


class Function(Table, tag_field="runner", tag="function", kw_only=True, frozen=True):
    """Descent of a function of a few parameters, under measurement."""

    function: AnyFunction
    objective: Value = field(default_factory=Value)
    optimizer: Optimizer = field(default_factory=Sgd)
    measure: FunctionMeasure = field(default_factory=FunctionMeasure)
    run: FunctionRun = field(default_factory=FunctionRun)


WithData: TypeAlias = Train | LeastSquaresSpec
"""Kinds that read a data set."""
Descent: TypeAlias = Train | Function
"""Kinds that update parameters step by step, down a loss that is measured as they go."""
Spec: TypeAlias = Train | LinearModel | QuadraticModel | Flow | Function | Sde | SgdEnsemble
"""Every kind of experiment; the first is what a spec without `runner` is."""
