"""Keys of a spec that contradict each other, in words: which ones, and the likeliest remedy.

Each is what its type says; together they are nothing that can be run. Called by `spec_file`, once the document has become a spec.
Standard library and msgspec only.
"""

from collections.abc import Iterator, Sequence

from runners import parametrization
from runners.experiments import (
    CentralFlow,
    Descent,
    Flow,
    Function,
    GradientFlow,
    KernelTable,
    LeastSquaresSpec,
    LimitingFlow,
    LinearModel,
    Quadratic,
    QuadraticModel,
    SelfStabilization,
    Spec,
    Valley,
)
from runners.schema import KeyPath
from runners.spec import (
    Adam,
    AttentionTable,
    Chebyshev,
    Cnn,
    Cosine,
    CrossEntropy,
    Csv,
    CustomModel,
    CustomOptimizer,
    Data,
    Digits,
    DigitsFeatures,
    EdgeBatch,
    EdgeRate,
    EmaMomentum,
    FashionMnist,
    Gaussian,
    HeavyBall,
    Mnist,
    Model,
    Muon,
    Nesterov,
    NormalizedGd,
    Optimizer,
    Piecewise,
    ResidualCnn,
    RmsProp,
    Sgd,
    SignDescent,
    SimpleCnn,
    Text,
    Train,
    Transformer,
    Vgg11,
    Vit,
    WarmStarted,
)
from runners.spec_problems import Problem, dotted, shown, wrong_value

NOT_OF_FUNCTIONS = (
    "ntk_every",
    "gauss_newton_every",
    "layers_every",
    "activations_every",
    "batch_sharpness_every",
    "mean_square_every",
    "evaluate_every",
)
"""What of `[measure]` takes more than a loss and its parameters."""
MOST_ENTRIES = 250_000_000
"""Of the second derivatives of all models that are simulated: 1 GB in float32."""
FLOWS = {
    GradientFlow: ("the gradient flow", (Sgd, HeavyBall, Nesterov, EmaMomentum, RmsProp)),
    CentralFlow: ("the central flow", (Sgd, RmsProp)),
    SelfStabilization: ("self-stabilisation", (Sgd,)),
}
"""What they are called in messages, and the optimizers that have them."""
LEAST_DECAY = 0.5
"""Below it RMSProp's second moment follows the gradient within a step, and is not the slow variable that its flows take it for."""


def of_spec(spec: Spec) -> Iterator[Problem]:
    """Keys that contradict each other."""
    if isinstance(spec, Train):
        yield from _sizes(spec)
        yield from _data_and_others(spec)
        yield from _parametrization(spec)
    if isinstance(spec, Function):
        yield from _function(spec)
    if isinstance(spec, Train | Function):
        yield from _schedule(spec)
        yield from _feedback(spec)
        yield from _transform(spec)
        yield from _warm_start(spec)
        yield from _stableness(spec)
        yield from _limiting_flow(spec)
        yield from _tail_gauge(spec)
        if spec.measure.follows and (reason := _why_not_followed(spec)):
            key, message = reason
            yield Problem((("measure", "solve_every"), key), f"measure.solve_every = {spec.measure.solve_every}: {message}. Set it to 1.")
    if isinstance(spec, LinearModel):
        yield from _schedule(spec)
        yield from _linear_model(spec)
    if isinstance(spec, QuadraticModel):
        yield from _quadratic_model(spec)
    if isinstance(spec, LeastSquaresSpec):
        yield from _least_squares(spec)
    if isinstance(spec, Flow):
        yield from _flow(spec)


def _parametrization(spec: Train) -> Iterator[Problem]:
    """Parametrizations that are not known for the optimizer, or of which the model lacks what they are about."""
    model, optimizer = spec.model, spec.optimizer
    form, path, alpha = model.parametrization, ("model", "parametrization"), model.depth_exponent
    if form == "mup" and not isinstance(optimizer, parametrization.DESCENDING + parametrization.ADAPTIVE):
        known = "sgd, heavy_ball, nesterov, ema_momentum, adam, adamw, rmsprop and sign_descent"
        yield Problem(
            (path, ("optimizer", "name")),
            f'model.parametrization = "mup" with optimizer.name = "{_called(optimizer)}": its learning rates are known for {known}.',
        )
    if isinstance(spec, Flow) and form == "mup" and isinstance(optimizer, parametrization.ADAPTIVE):
        yield Problem((path,), 'model.parametrization = "mup": its learning rates differ by layer here, and a flow has one. Use "sp".')
    if alpha and form != "mup":
        yield Problem((("model", "depth_exponent"), path), f'model.depth_exponent = {alpha:g}: it is a part of parametrization = "mup".')
    if 0 < alpha < 0.5:
        yield Problem((("model", "depth_exponent"),), f"model.depth_exponent = {alpha:g}: expected 0, or 1/2 to 1.")
    if alpha and not model.num_branches:
        own = {CustomModel: "Set model.branches.", ResidualCnn: "Set model.skip = true."}
        remedy = own.get(type(model), 'Use "residual-mlp" or "residual-cnn".')
        yield Problem((("model", "depth_exponent"),), f"model.depth_exponent = {alpha:g}: the model has no residual branches. {remedy}")
    if form == "sp" and model.gamma != 1:
        yield Problem((("model", "gamma"), path), f'model.gamma = {model.gamma:g}: parametrization = "sp" has no such factor.')
    if isinstance(model, CustomModel) and form != "sp" and not isinstance(model.arguments.get(model.width_argument), int):
        yield Problem(
            (("model", "width_argument"), path),
            f'model.parametrization = "{form}": it has to know the width; model.width_argument = "{model.width_argument}" has to name a '
            "whole number in model.arguments.",
        )


def _flow(spec: Flow) -> Iterator[Problem]:
    flow, optimizer, measure = spec.flow, spec.optimizer, spec.measure
    if isinstance(optimizer.batch_size, EdgeBatch):
        yield wrong_value(("optimizer", "batch_size", "kind"), "edge", "a batch size that stays: nothing feeds back on a flow")
    if isinstance(optimizer.lr, EdgeRate):
        yield wrong_value(("optimizer", "lr", "kind"), "edge", "a learning rate or a schedule: nothing feeds back on a flow")
    if measure.stableness_every and not isinstance(flow, SelfStabilization):
        yield wrong_value(("measure", "stableness_every"), measure.stableness_every, "0: a flow does not oscillate in pairs of steps")
    if flow.from_step >= spec.run.steps:
        yield wrong_value(("flow", "from_step"), flow.from_step, f"less than run.steps = {spec.run.steps}")
    yield from _along_minima(spec) if isinstance(flow, LimitingFlow) else _of_loss(spec)


def _along_minima(spec: Flow) -> Iterator[Problem]:
    optimizer, kind = spec.optimizer, ("flow", "kind")
    message = 'flow.kind = "limiting": the limiting flow is known for'
    if not isinstance(optimizer, NormalizedGd) and spec.objective.transform != "sqrt":
        told = f'{message} optimizer.name = "normalized_gd" and objective.transform = "sqrt"'
        yield Problem((kind, ("optimizer", "name")), f"{told}, not {_called(optimizer)} on the loss itself.")
    if optimizer.drawn != "full" or spec.measure.num_examples != "all":
        yield Problem((kind, ("optimizer", "batch_size")), f"{message} all examples in each step and measurement.")
    if not isinstance(optimizer.lr, int | float):
        yield Problem((kind, ("optimizer", "lr")), f"{message} one learning rate, on whose square the flow's time goes.")


def _of_loss(spec: Flow) -> Iterator[Problem]:
    flow, optimizer, measure = spec.flow, spec.optimizer, spec.measure
    named, kinds = FLOWS[type(flow)]
    is_of_whole, is_predicted = not isinstance(flow, GradientFlow), isinstance(flow, SelfStabilization)
    if not isinstance(optimizer, kinds):
        known = ", ".join(str(kind.__struct_config__.tag) for kind in kinds)
        message = f'optimizer.name = "{optimizer.__struct_config__.tag}": {named} is known for {known}.'
        yield Problem((("optimizer", "name"), ("flow", "kind")), message)
    if isinstance(optimizer, RmsProp) and optimizer.decay < LEAST_DECAY:
        yield wrong_value(("optimizer", "decay"), optimizer.decay, f"at least {LEAST_DECAY}, for a flow of the second moment")
    if is_of_whole and optimizer.batch_size != "full":
        yield wrong_value(("optimizer", "batch_size"), optimizer.batch_size, f'"full": {named} is that of the whole loss')
    if is_predicted and not isinstance(optimizer.lr, int | float | EdgeRate):
        yield wrong_value(("optimizer", "lr"), optimizer.lr.__struct_config__.tag, f"a number: {named} is known at a constant edge")
    if spec.objective.transform != "none":
        yield wrong_value(("objective", "transform"), spec.objective.transform, '"none": the flows known are those of the loss itself')
    if is_of_whole and measure.num_examples != "all":
        yield wrong_value(("measure", "num_examples"), measure.num_examples, f'"all": {named} is that of the whole loss')
    if not measure.sharpness_every:
        use = "where the prediction begins" if is_predicted else "how long a flow's steps may be"
        yield wrong_value(("measure", "sharpness_every"), 0, f"at least 1: the sharpness says {use}")


def _sizes(spec: Train) -> Iterator[Problem]:
    size = ("data", "num_train")
    num_train = spec.data.num_train
    if num_train is None and isinstance(spec.data, Chebyshev):
        size, num_train = ("data", "num_points"), spec.data.num_points
    asked = {("optimizer", "batch_size"): spec.optimizer.drawn, ("measure", "num_examples"): spec.measure.num_examples}
    for path, value in asked.items():
        if isinstance(value, int) and num_train is not None and value > num_train:
            problem = wrong_value(path, value, f"at most {dotted(size)} = {num_train}")
            yield Problem((path, size), problem.message)


def _schedule(spec: Descent | LinearModel) -> Iterator[Problem]:
    lr, table = spec.optimizer.lr, ("optimizer", "lr")
    if isinstance(lr, Cosine) and lr.warmup_steps >= lr.steps:
        yield wrong_value((*table, "warmup_steps"), lr.warmup_steps, f"less than optimizer.lr.steps = {lr.steps}")
    if isinstance(lr, Piecewise):
        if any(later <= earlier for earlier, later in zip(lr.boundaries, lr.boundaries[1:], strict=False)):
            yield wrong_value((*table, "boundaries"), lr.boundaries, "increasing steps")
        if len(lr.values) != len(lr.boundaries) + 1:
            expected = f"one value more than there are boundaries ({len(lr.boundaries)})"
            yield wrong_value((*table, "values"), lr.values, expected)


def _feedback(spec: Descent) -> Iterator[Problem]:
    """What feedback on the learning rate or the batch size takes, and with what it does not go together."""
    lr, batch = spec.optimizer.lr, spec.optimizer.batch_size
    if isinstance(lr, EdgeRate):
        yield from _followed(spec, ("optimizer", "lr", "of"), lr.of)
        yield from _controlled_rate(spec, lr)
    if isinstance(batch, EdgeBatch):
        yield from _followed(spec, ("optimizer", "batch_size", "kind"), "noise_kernel")
        yield from _controlled_batch(spec, batch)


def _followed(spec: Descent, path: KeyPath, of: str) -> Iterator[Problem]:
    """That what is followed is measured, and has an edge."""
    follows, name = dotted(path[:2]), ("optimizer", "name")
    if of != "noise_kernel":
        if not spec.measure.sharpness_every:
            key = ("measure", "sharpness_every")
            yield Problem((key, path), f"{dotted(key)} = 0: {follows} follows the sharpness, which has to be measured. Set it to 10.")
        if isinstance(spec.optimizer, SignDescent | Muon):
            yield Problem((path, name), f"{follows} follows the sharpness: no edge of it is known for this optimizer. Use a schedule.")
    if of != "sharpness":
        if not spec.measure.ntk_every:
            key = ("measure", "ntk_every")
            yield Problem((key, path), f"{dotted(key)} = 0: {follows} follows K, which has to be measured. Set it to 50.")
        if isinstance(spec.optimizer, Adam | RmsProp) and spec.objective.weight_decay:
            decay = ("objective", "weight_decay")
            message = f"{follows} follows K, which is not known for {_called(spec.optimizer)} with {dotted(decay)}. Set that to 0."
            yield Problem((path, decay), message)
        elif not isinstance(spec.optimizer, Sgd | HeavyBall | Nesterov | EmaMomentum | Adam | RmsProp):
            known = "sgd, heavy_ball, nesterov, ema_momentum, adam, adamw and rmsprop"
            yield Problem((path, name), f"{follows} follows K, which is known for {known} only.")
        if spec.optimizer.drawn == "full":
            yield Problem((path, ("optimizer", "batch_size")), f"{follows} follows K: expected batches, as the full batch has no noise.")


def _controlled_rate(spec: Descent, lr: EdgeRate) -> Iterator[Problem]:
    table, measure = ("optimizer", "lr"), spec.measure
    if not lr.min <= lr.initial <= lr.max:
        yield wrong_value((*table, "initial"), lr.initial, f"a number from min = {lr.min} to max = {lr.max}")
    if isinstance(spec.optimizer, CustomOptimizer):
        yield Problem((table, ("optimizer", "name")), "optimizer.lr follows a measurement: expected a built-in optimizer. Use a schedule.")
    if lr.of == "nearest" and measure.sharpness_every and measure.ntk_every % measure.sharpness_every:
        expected = f"a multiple of measure.sharpness_every = {measure.sharpness_every}, as optimizer.lr takes both at the same step"
        yield wrong_value(("measure", "ntk_every"), measure.ntk_every, expected)
    if lr.of != "sharpness" and isinstance(spec.optimizer.batch_size, EdgeBatch):
        message = f'optimizer.lr.of = "{lr.of}": the batch size follows K already. Let lr follow the sharpness.'
        yield Problem(((*table, "of"), ("optimizer", "batch_size")), message)


def _controlled_batch(spec: Descent, batch: EdgeBatch) -> Iterator[Problem]:
    table = ("optimizer", "batch_size")
    if batch.max is not None and batch.max < batch.initial:
        yield wrong_value((*table, "max"), batch.max, f"at least initial = {batch.initial}")
    if spec.optimizer.sampling == "epochs":
        yield wrong_value(("optimizer", "sampling"), "epochs", "another way to draw, as an epoch's batches are of one size")
    for key in ("batch_sharpness_every", "mean_square_every"):
        if getattr(spec.measure, key):
            yield wrong_value(("measure", key), getattr(spec.measure, key), "0, as it is measured for batches of one size")


def _data_and_others(spec: Train) -> Iterator[Problem]:
    data, name = spec.data, ("data", "name")
    if isinstance(data, Gaussian) and data.spectrum is not None and len(data.spectrum) != data.num_features:
        expected = f"data.num_features = {data.num_features} eigenvalues, not {len(data.spectrum)}"
        yield Problem((("data", "spectrum"), ("data", "num_features")), f"data.spectrum = {shown(data.spectrum)}: expected {expected}.")
    if isinstance(spec.objective, CrossEntropy) and _has_real_targets(data):
        message = f'objective.name = "cross_entropy": needs class labels, and {_described(data)} has real targets. Use "mse".'
        yield Problem((("objective", "name"), name), message)
    is_plain = isinstance(spec.optimizer, Sgd) and spec.objective.weight_decay == 0 and spec.objective.transform == "none"
    if spec.measure.mean_square_every and not is_plain:
        message = f"measure.mean_square_every = {spec.measure.mean_square_every}: the edge is known for plain SGD without weight decay only"
        yield Problem((("measure", "mean_square_every"), ("optimizer", "name")), f"{message}. Set it to 0.")
    if isinstance(data, Text) and data.standardize is not False:
        yield wrong_value(("data", "standardize"), data.standardize, "false: characters are no quantities")
    if isinstance(spec.model, AttentionTable) and spec.model.width % spec.model.heads:
        heads, width = ("model", "heads"), ("model", "width")
        expected = f"a number that divides {dotted(width)} = {spec.model.width}"
        yield Problem((heads, width), wrong_value(heads, spec.model.heads, expected).message)
    if reason := _why_not_taken(spec.model, data):
        yield Problem((("model", "name"), name), f'model.name = "{spec.model.__struct_config__.tag}": {reason}.')


def _why_not_taken(model: Model, data: Data) -> str | None:
    """What stands against these inputs for the model, and which fits."""
    match model, data:
        case (CustomModel(), _) | (Transformer(), Text()):
            return None
        case _, Text():
            return f'takes numbers, and {_described(data)} has characters. Use "transformer"'
        case Transformer(), _:
            return f'takes characters, and {_described(data)} has none. Set data.name = "text"'
        case Cnn() | SimpleCnn() | ResidualCnn() | Vgg11() | Vit(), Chebyshev() | Gaussian() | Csv() | DigitsFeatures():
            return f'needs images, and {_described(data)} has none. Use "mlp" or "linear"'
        case Vgg11(), Digits() | Mnist() | FashionMnist():
            return f'needs images with sides in multiples of 32, and those of {_described(data)} are smaller. Use "cnn"'
        case SimpleCnn() | ResidualCnn(), Digits():
            return f'needs larger images than the 8x8 of {_described(data)}. Use "cnn"'
        case _:
            return None


def _why_not_followed(spec: Descent) -> tuple[KeyPath, str] | None:
    """The key that stands against following the sharpness in the updates, and why."""
    if spec.optimizer.drawn != "full":
        return ("optimizer", "batch_size"), "the sharpness is followed in the update, whose gradient has to be that of all examples"
    if spec.measure.num_examples != "all":
        return ("measure", "num_examples"), "the sharpness is followed in the update, whose gradient is that of all examples"
    if isinstance(spec.optimizer, Adam | RmsProp | CustomOptimizer):
        return ("optimizer", "name"), "the preconditioned sharpness is not followed"
    return None


def _function(spec: Function) -> Iterator[Problem]:
    function, start = spec.function, ("function", "start")
    length = len(function.spectrum) if isinstance(function, Quadratic) else 2 if isinstance(function, Valley) else len(function.start)
    if len(function.start) != length:
        expected = f"{length} parameters, as many as function.spectrum has" if isinstance(function, Quadratic) else "2 parameters, x and y"
        yield Problem((start,), f"{dotted(start)} = {shown(function.start)}: expected {expected}, not {len(function.start)}.")
    for key in NOT_OF_FUNCTIONS:
        if value := getattr(spec.measure, key):
            yield Problem((("measure", key),), f"measure.{key} = {value}: a function has no examples, outputs or layers. Set it to 0.")
    for path, value in {("optimizer", "batch_size"): spec.optimizer.drawn, ("measure", "num_examples"): spec.measure.num_examples}.items():
        if isinstance(value, int):
            yield Problem((path,), f"{dotted(path)} = {value}: a function has no examples. Remove it.")


def _transform(spec: Descent) -> Iterator[Problem]:
    objective, optimizer = ("objective", "transform"), spec.optimizer
    if spec.objective.transform == "sqrt":
        message = 'objective.transform = "sqrt": it is for plain gradient descent with the full batch'
        if not isinstance(optimizer, Sgd):
            yield Problem((objective, ("optimizer", "name")), f'{message}, not {_called(optimizer)}. Set optimizer.name = "sgd".')
        elif optimizer.drawn != "full":
            size = ("optimizer", "batch_size")
            yield Problem((objective, size), f'{message}, not {optimizer.drawn} examples. Set optimizer.batch_size = "full".')
    elif spec.objective.minimum and not isinstance(optimizer, NormalizedGd):
        minimum = ("objective", "minimum")
        yield Problem(
            (minimum,), f'{dotted(minimum)} = {spec.objective.minimum}: it counts with objective.transform = "sqrt" only. Remove it.'
        )


def _warm_start(spec: Descent) -> Iterator[Problem]:
    optimizer, table = spec.optimizer, ("optimizer", "warm_start")
    if not isinstance(optimizer, WarmStarted) or optimizer.warm_start is None:
        return
    if isinstance(optimizer, Sgd) and spec.objective.transform == "none":
        message = "optimizer.warm_start: it goes before other updates than those of gradient descent on the loss, which these are"
        yield Problem((table, ("objective", "transform")), f'{message}. Set optimizer.lr by a schedule, or objective.transform = "sqrt".')
    if optimizer.drawn != "full":
        size = ("optimizer", "batch_size")
        message = f"optimizer.warm_start: it is gradient descent with the full batch, not {optimizer.drawn} examples"
        yield Problem((table, size), f'{message}. Set optimizer.batch_size = "full".')
    if isinstance(optimizer.lr, EdgeRate):
        message = "optimizer.warm_start: its learning rate is its own, and does not go together with one that follows a measurement"
        yield Problem((table, ("optimizer", "lr")), f"{message}. Set optimizer.lr to a number or a schedule.")
    if optimizer.warm_steps >= spec.run.steps:
        yield wrong_value((*table, "steps"), optimizer.warm_steps, f"less than run.steps = {spec.run.steps}")


def _stableness(spec: Descent) -> Iterator[Problem]:
    measure, every = spec.measure, ("measure", "stableness_every")
    if not measure.stableness_every:
        return
    message = f"measure.stableness_every = {measure.stableness_every}: it is for gradient descent and normalized_gd with the full batch"
    if not isinstance(spec.optimizer, Sgd | NormalizedGd):
        yield Problem((every, ("optimizer", "name")), f"{message}, not {_called(spec.optimizer)}. Set it to 0.")
    elif spec.optimizer.drawn != "full":
        yield Problem((every, ("optimizer", "batch_size")), f"{message}, not {spec.optimizer.drawn} examples. Set it to 0.")
    if measure.num_examples != "all":
        told = f'{message}, of which measure.num_examples = {measure.num_examples} are not all. Set measure.num_examples = "all".'
        yield Problem((every, ("measure", "num_examples")), told)


def _limiting_flow(spec: Descent) -> Iterator[Problem]:
    measure, every = spec.measure, ("measure", "limiting_flow_every")
    if not measure.limiting_flow_every:
        return
    asked = f"measure.limiting_flow_every = {measure.limiting_flow_every}"
    if not isinstance(spec.optimizer, NormalizedGd) and spec.objective.transform != "sqrt":
        message = f'{asked}: it is for optimizer.name = "normalized_gd" and objective.transform = "sqrt". Set it to 0.'
        yield Problem((every, ("optimizer", "name")), message)
    if spec.optimizer.drawn != "full" or measure.num_examples != "all":
        yield Problem((every, ("optimizer", "batch_size")), f"{asked}: expected all examples in each step and measurement. Set it to 0.")
    if not isinstance(spec.optimizer.lr, int | float):
        yield Problem(
            (every, ("optimizer", "lr")), f"{asked}: expected one learning rate, on whose square the flow's time goes. Set it to 0."
        )
    if spec.run.precision != "float64":
        yield Problem((every, ("run", "precision")), f'{asked}: expected run.precision = "float64", as distances are small. Set it to 0.')


def _tail_gauge(spec: Descent) -> Iterator[Problem]:
    measure, optimizer, gauge = spec.measure, spec.optimizer, ("measure", "tail_gauge")
    if not measure.tail_gauge:
        return
    message = "measure.tail_gauge = true: it is for plain SGD in batches on least squares"
    if not isinstance(optimizer, Sgd):
        yield Problem((gauge, ("optimizer", "name")), f"{message}, not {_called(optimizer)}. Set it to false.")
    elif optimizer.drawn == "full":
        yield Problem((gauge, ("optimizer", "batch_size")), f"{message}, and the full batch has no noise. Set it to false.")
    if isinstance(spec.objective, CrossEntropy):
        yield Problem((gauge, ("objective", "name")), f"{message}, not cross_entropy. Set it to false.")
    if spec.objective.weight_decay:
        yield Problem((gauge, ("objective", "weight_decay")), f"{message}, without weight decay. Set it to false.")
    for key, remedy in (("ntk_every", "50"), ("ntk_eigenvalues", '"auto"')):
        if getattr(measure, key) == 0:
            told = f"measure.{key} = 0: measure.tail_gauge takes K and the largest eigenvalue that it comes with. Set it to {remedy}."
            yield Problem((("measure", key), gauge), told)


def _called(optimizer: Optimizer) -> str:
    return optimizer.target if isinstance(optimizer, CustomOptimizer) else str(optimizer.__struct_config__.tag)


def _linear_model(spec: LinearModel) -> Iterator[Problem]:
    table, optimizer, size = spec.linear_model, spec.optimizer, ("linear_model", "num_examples")
    if isinstance(optimizer.batch_size, EdgeBatch):
        yield wrong_value(("optimizer", "batch_size"), "edge", 'a number or "full": nothing is measured that it could follow')
    else:
        yield from _kernel("linear_model", table, ("optimizer", "batch_size"), [optimizer.batch_size])
    if optimizer.warm_steps:
        message = "optimizer.warm_start: nothing but gradient descent is simulated, which it is itself. Remove it."
        yield Problem((("optimizer", "warm_start"),), message)
    if isinstance(optimizer.lr, EdgeRate):
        yield wrong_value(("optimizer", "lr"), "edge", "a number or a schedule of the step: nothing is measured that it could follow")
    if table.basis == "flat" and table.num_examples & (table.num_examples - 1):
        expected = 'a power of 2 with linear_model.basis = "flat"'
        yield Problem((size, ("linear_model", "basis")), wrong_value(size, table.num_examples, expected).message)
    if optimizer.sampling == "epochs":
        expected = '"without_replacement" or "with_replacement": the recursions take batches to be independent'
        yield wrong_value(("optimizer", "sampling"), optimizer.sampling, expected)


def _quadratic_model(spec: QuadraticModel) -> Iterator[Problem]:
    table, size = spec.quadratic_model, ("quadratic_model", "num_params")
    yield from _kernel("quadratic_model", table, ("optimizer", "batch_sizes"), spec.optimizer.batch_sizes)
    if table.num_params < table.num_examples:
        yield wrong_value(size, table.num_params, f"at least quadratic_model.num_examples = {table.num_examples}")
    entries = spec.simulation.num_paths * table.num_examples * table.num_params**2
    if entries > MOST_ENTRIES:
        path = ("simulation", "num_paths")
        expected = f"fewer, as they have {entries:.2g} second derivatives, and there is room for {MOST_ENTRIES:.2g}"
        yield Problem((path, size), wrong_value(path, spec.simulation.num_paths, expected).message)


def _least_squares(spec: LeastSquaresSpec) -> Iterator[Problem]:
    optimizer = spec.optimizer
    if not isinstance(optimizer.lr, int | float):
        yield wrong_value(("optimizer", "lr"), "a schedule", "one number: the stationary law is that of one learning rate")
    if not isinstance(optimizer.batch_size, int):
        what = optimizer.batch_size if isinstance(optimizer.batch_size, str) else "a table"
        yield wrong_value(("optimizer", "batch_size"), what, "a number of examples: without noise there is no law of the iterates")
    if optimizer.warm_start is not None:
        yield Problem((("optimizer", "warm_start"),), "optimizer.warm_start: the iterates begin where least_squares.start draws them.")
    if isinstance(spec.data, Text):
        yield wrong_value(("data", "name"), "text", "data of numbers, with one number or class as the target")


def _kernel(name: str, table: KernelTable, path: KeyPath, batch_sizes: Sequence[int | str]) -> Iterator[Problem]:
    size, spectrum = (name, "num_examples"), (name, "spectrum")
    if table.spectrum is not None and len(table.spectrum) != table.num_examples:
        expected = f"{dotted(size)} = {table.num_examples} eigenvalues, not {len(table.spectrum)}"
        yield Problem((spectrum, size), wrong_value(spectrum, table.spectrum, expected).message)
    if table.spectrum is not None and list(table.spectrum) != sorted(table.spectrum, reverse=True):
        yield wrong_value(spectrum, table.spectrum, "eigenvalues from the largest down")
    for batch_size in batch_sizes:
        if isinstance(batch_size, int) and batch_size > table.num_examples:
            yield Problem((path, size), wrong_value(path, batch_size, f"at most {dotted(size)} = {table.num_examples}").message)


def _has_real_targets(data: Data) -> bool:
    return isinstance(data, Chebyshev | Gaussian) or (isinstance(data, Csv) and data.task == "regression")


def _described(data: Data) -> str:
    return f'data.name = "{data.__struct_config__.tag}"'
