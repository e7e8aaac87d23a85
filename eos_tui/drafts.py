"""A spec while it is typed: what is wrong with it, or what follows from it. Used by the screen of a new run, from a thread of its own.

Looks for the data and the user's modules as `eos run` does, and runs none of the user's code.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from eos_tui import launch
from eos_tui.numerals import format_number
from runners import run_folder, spec_file, thresholds
from runners.errors import EosError, SpecError
from runners.experiments import Function, LeastSquaresSpec, LinearModel, QuadraticModel, Spec
from runners.measure import noise_kernel
from runners.spec import Adam, Cosine, CustomOptimizer, EdgeRate, LearningRate, Optimizer, Piecewise, RmsProp, Train, Transform, Warmup
from runners.spec_text import line_of

HOW = frozenset({"solve", "verify"})
"""Intervals that say how the sharpness is measured, not how often."""


@dataclass(frozen=True)
class Verdict:
    """What is to be said of a draft."""

    spec: Spec | None = None
    """What would run; None while something is wrong."""
    problem: str = ""
    line: int | None = None
    """Where the problem is, counted from 1."""
    facts: tuple[tuple[str, str], ...] = ()
    """Titles, and what follows from the spec."""


def judge(text: str, *, name: str, runs: Path) -> Verdict:
    """What is wrong with a draft, or what follows from it.

    Args:
        text: The spec in TOML.
        name: How the run's name is to begin.
        runs: The folder that the run would go to.

    Cost: some ms; as long as it takes to read a CSV file where the data is one.
    """
    try:
        spec = spec_file.from_toml(text)
    except SpecError as error:
        return Verdict(problem=error.reason, line=_line(text, error))
    try:
        num_train = launch.check(spec)
        run_folder.check_name(name)
    except EosError as error:
        return Verdict(problem=str(error), line=_line(text, error), facts=tuple(_facts(spec, None)))
    facts = (*_facts(spec, num_train), ("stored in", str(runs / f"{name}-...")))
    return Verdict(spec=spec_file.with_absolute_paths(spec), facts=facts)


def _line(text: str, error: EosError) -> int | None:
    """Where an error's place in the text is: the one that it states, the last of its keys, or the key that its message begins with."""
    if isinstance(error, SpecError) and error.line is not None:
        return error.line
    keys = error.keys if isinstance(error, SpecError) else ()
    begins = re.match(r"[a-z_]+(\.[a-z0-9_]+)+", str(error))
    lines = [line_of(text, key) for key in keys or ([tuple(begins[0].split("."))] if begins else [])]
    return next((line for line in lines if line is not None), None)


def _facts(spec: Spec, num_train: int | None) -> Iterator[tuple[str, str]]:
    if isinstance(spec, QuadraticModel):
        yield "edge", _at("sharpness 2/lr", ((spec.optimizer.lr, thresholds.gradient_descent(spec.optimizer.lr)),))
    else:
        transform: Transform = "none" if isinstance(spec, LinearModel | LeastSquaresSpec) else spec.objective.transform
        yield "edge", _edge(spec.optimizer, transform)
    if isinstance(spec, Train) and num_train is not None and (noise := _noise(spec, num_train)):
        yield "stochastic", noise
    yield "length", _length(spec, num_train)
    if isinstance(spec, Train | Function):
        yield "measured", _measured(spec)


def _edge(optimizer: Optimizer, transform: Transform) -> str:
    formula = thresholds.formula(optimizer, transform)
    if formula is None:
        return "none is known for this optimizer"
    adaptive = isinstance(optimizer, Adam | RmsProp)
    quantity = "preconditioned sharpness" if adaptive else "sharpness"
    if isinstance(optimizer, CustomOptimizer):
        quantity += ", preconditioned if its state has a second moment,"
    if thresholds.moves(optimizer, transform):
        return f"{quantity} {formula}, which moves from step to step"
    edges = ((lr, thresholds.threshold(optimizer, lr, transform=transform)) for lr in _rates(optimizer.lr))
    return _at(f"{quantity} {formula}", tuple((lr, edge) for lr, edge in edges if edge is not None)) + _changing(optimizer.lr)


def _at(what: str, edges: tuple[tuple[float, float], ...]) -> str:
    if not edges:
        return f"{what}: no step size is stable"
    return f"{what} = " + ", then ".join(f"{format_number(edge)} at lr {lr:g}" for lr, edge in edges)


def _rates(lr: LearningRate) -> tuple[float, ...]:
    """The learning rates that tell most of a schedule."""
    match lr:
        case Warmup() | Cosine():
            return (lr.peak,)
        case Piecewise():
            return lr.values
        case EdgeRate():
            return (lr.initial,)
        case _:
            return (lr,)


def _changing(lr: LearningRate) -> str:
    match lr:
        case Warmup() | Cosine():
            return ", its peak"
        case EdgeRate():
            return ", at first; then lr follows what is measured"
        case _:
            return ""


def _noise(spec: Train, num_train: int) -> str:
    """Where the noise of the batches is at its edge, for the first or the largest learning rate."""
    optimizer = spec.optimizer
    if optimizer.drawn == "full":
        return "none: all examples in each step"
    lr = max(_rates(optimizer.lr))
    noise = noise_kernel.noise(optimizer, lr=lr, num_examples=num_train, weight_decay=spec.objective.weight_decay)
    if noise is None:
        return "no K is known for this optimizer"
    trace = noise_kernel.threshold(noise)
    if trace is None:
        return "none: all examples in each step"
    of = "preconditioned NTK" if isinstance(optimizer, Adam | RmsProp) else "NTK"
    each = ", for each output" if spec.objective.__struct_config__.tag == "mse" else ""
    return f"K is 1 near a trace of the {of} of {format_number(trace)}{each} (lr {lr:g}, batches of {optimizer.drawn})"


def _length(spec: Spec, num_train: int | None) -> str:
    steps = f"{spec.run.steps:,} steps"
    if isinstance(spec, LinearModel | QuadraticModel | LeastSquaresSpec):
        return f"{steps} of {spec.simulation.num_paths:,} simulated runs"
    if not isinstance(spec, Train) or num_train is None:
        return steps
    drawn = spec.optimizer.drawn
    if drawn == "full":
        return f"{steps}, each of all {num_train:,} examples"
    return f"{steps} of {drawn:,} examples: {format_number(spec.run.steps * drawn / num_train)} passes over {num_train:,}"


def _measured(spec: Train | Function) -> str:
    """How often each quantity is measured."""
    every = {name.removesuffix("_every"): getattr(spec.measure, name) for name in spec.measure.__struct_fields__ if name.endswith("_every")}
    times = {name: spec.run.steps // steps + 1 for name, steps in every.items() if steps and name not in HOW}
    return ", ".join(f"{name.replace('_', ' ')} {count:,} times" for name, count in times.items()) or "nothing"
