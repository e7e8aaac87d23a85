"""`python -m runners.tails REQUEST`: what is known of homogenised SGD's tail index on a data set or a spectrum, as JSON on stdout.

Started by `eos theory tail-index`, which must not load the numerics itself; needs no run folder. What is wrong with the request goes to
stderr as one message, with the exit code of its kind.
"""

import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from jaxtyping import Float

from runners import data, spec_file
from runners.errors import DataError, EosError, SpecError
from runners.formats.files import reading
from runners.overrides import parse_override, with_overrides
from runners.spec import Train
from runners.theory import homogenized, tail_index, volterra
from runners.theory.homogenized import HomogenizedSgd

WANTED = "Expected numbers, one a line or with commas between, a JSON list, or an .npy array"
Asked = TypeVar("Asked")
SMALL_STEP = 0.1
"""lr times the largest eigenvalue up to which SGD's steps are near to their limit in continuous time."""


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked for: of `data` and `spectrum` one."""

    data: str | None = None
    """A data set's name in a spec."""
    overrides: tuple[str, ...] = ()
    """`data.key=value`."""
    spectrum: str | None = None
    """A file with the eigenvalues of the Hessian."""
    singular_values: bool = False
    """The file has the singular values of the matrix of examples instead."""
    num_examples: int | None = None
    """That the file is about."""
    lr: float
    batch_size: int = 1
    ridge: float = 0.0


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where the eigenvalues come from."""

    source: str
    standardization: str | None = None
    num_examples: int | None = None
    num_features: int | None = None
    largest_row: float | None = None
    """max |a_i|^2 over the examples; null where only the spectrum is known."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What is known. Null stands for what is not, or is not finite."""

    source: Source
    rank: int
    """Eigenvalues above rounding."""
    lr: float
    batch_size: int
    ridge: float
    eigenvalue: float
    """The largest of the Hessian, without ridge."""
    singular_value: float | None
    """The largest of the matrix of examples."""
    effective_rank: float
    noise_kernel: float
    """K in continuous time."""
    noise_kernel_in_steps: float | None
    lower: float
    lower_holds: bool
    upper: float
    exact: float | None
    exact_error: float | None
    exact_because: str | None
    known: tuple[float, float] | None
    """The index lies between, by the bounds and by which of its second and fourth moments are finite; null where it has no law."""
    contraction_rate: float | None
    """rho of the Wasserstein distance, in each step."""
    critical: dict[str, float]
    """Learning rates, by the fields of `tail_index.CriticalRates`."""
    critical_in_steps: float
    """The learning rate where K in steps is 1."""
    notes: list[str]


def main(arguments: list[str]) -> int:
    """Answer the request; the process's exit code."""
    return answered(arguments, Request, report)


def answered(arguments: list[str], kind: type[Asked], answer_of: Callable[[Asked], Any]) -> int:
    """Write the answer to a request to stdout, or what is wrong with it to stderr; the process's exit code.

    Args:
        arguments: The command line's, the request as JSON.
        kind: What it is.
        answer_of: Gives the answer.
    """
    try:
        # Not by msgspec: a number that is not finite gets a message of its own.
        answer = answer_of(msgspec.convert(json.loads(arguments[0]), kind))
    except EosError as error:
        sys.stderr.write(f"{error}\n")
        return int(error.exit_code)
    sys.stdout.write(msgspec.json.encode(answer).decode())
    return 0


def report(request: Request) -> Report:
    """What is known of the index.

    Raises:
        SpecError: If the request is not valid, or there is no stationary law to speak of.
        DataError: If the data or the file cannot be read.
    """
    source, values = _of_file(request) if request.spectrum is not None else _of_data(request)
    sgd = HomogenizedSgd(values, request.lr, batch_size=request.batch_size, ridge=request.ridge)
    n = source.num_examples
    if n is not None and len(values) > n:
        raise SpecError(f"There are {len(values):,} eigenvalues above 0 and {n:,} examples: expected no more than there are examples.")
    if n is not None and len(values) == n and request.ridge == 0:
        raise SpecError(
            f"The rank is {len(values):,}, as many as there are examples: they can be fitted exactly, where the noise vanishes; without "
            "ridge there is no stationary law. Expected a ridge > 0, or more examples."
        )
    bounds, exact = tail_index.bounds(sgd), tail_index.exact(sgd)
    has_law = exact is None or exact.value > 0
    in_steps = volterra.noise_kernel(sgd, in_steps=True)
    return Report(
        source=source,
        rank=len(values),
        lr=request.lr,
        batch_size=request.batch_size,
        ridge=request.ridge,
        eigenvalue=float(values[0]),
        singular_value=None if n is None else math.sqrt(n * float(values[0])),
        effective_rank=sgd.effective_rank,
        noise_kernel=sgd.noise_kernel,
        noise_kernel_in_steps=in_steps if math.isfinite(in_steps) else None,
        **bounds._asdict(),
        exact=exact.value if exact and has_law else None,
        exact_error=exact.error if exact and has_law else None,
        exact_because=exact.method if exact and has_law else None,
        known=tail_index.known_range(sgd) if has_law else None,
        contraction_rate=tail_index.contraction_rate(sgd),
        critical=tail_index.critical_rates(sgd)._asdict(),
        critical_in_steps=volterra.critical_rate(sgd, in_steps=True),
        notes=list(_notes(sgd, source, exact)),
    )


def _notes(sgd: HomogenizedSgd, source: Source, exact: tail_index.Index | None) -> Iterator[str]:
    """What stands against taking the numbers as they are."""
    step = float(sgd.theta[0])
    if exact is not None and exact.value <= 0:
        yield f"With {exact.method} the index would be {exact.value:.4g}: there is no stationary law, and the iterates go to infinity."
    if sgd.noise_kernel >= 1:
        yield "K is not below 1: there is no stationary second moment, the index is at most 2, and the lower bound is none."
    elif not tail_index.bounds(sgd).lower_holds:
        yield "The learning rate is too large for the lower bound, which with ridge ends before K = 1."
    if step >= 2:
        yield f"lr (eigenvalue + ridge) = {step:.3g} is not below 2: full-batch gradient descent itself is unstable, and SGD with it."
    elif step > SMALL_STEP:
        yield f"lr (eigenvalue + ridge) = {step:.3g} is not small: the index is that of the diffusion, and SGD's is another."
    if source.largest_row is not None and sgd.ridge == 0 and (longest := sgd.lr * source.largest_row) < 2:
        yield f"lr max |a_i|^2 = {longest:.3g} is below 2: no step of SGD stretches any direction, and all of its own moments are finite."


def _of_data(request: Request) -> tuple[Source, Float[np.ndarray, " modes"]]:
    overrides = [parse_override(text, example="data.num_train=500") for text in request.overrides]
    for override in overrides:
        if override.path[0] != "data" and override.path != ("run", "data_seed"):
            raise SpecError(f"--set {override.key}={override.text}: expected a key of [data], or run.data_seed.")
    document = with_overrides({"data": {"name": request.data}}, overrides)
    spec = spec_file.checked(document, label="--data", given=overrides)
    if not isinstance(spec, Train):
        raise SpecError("--data: expected a data set.")
    found = data.load(spec.data, seed=spec.run.data_seed or 0, precision="float64")
    matrix = found.x.reshape(len(found.x), -1)
    source = Source(
        source=f"{found.description.name}: {found.description.source}",
        standardization=found.description.standardization,
        num_examples=len(matrix),
        num_features=matrix.shape[1],
        largest_row=float(np.max(np.sum(matrix**2, axis=1))),
    )
    return source, homogenized.spectrum(matrix)


def _of_file(request: Request) -> tuple[Source, Float[np.ndarray, " modes"]]:
    path, n = Path(request.spectrum or ""), request.num_examples
    values = numbers(path)
    rounding = len(values) * np.finfo(np.float64).eps * float(np.max(np.abs(values)))
    if np.min(values) < -rounding:
        what = "singular value" if request.singular_values else "eigenvalue of A^T A / n"
        raise DataError(f"{path}: {np.min(values):g} is below 0, which no {what} is.")
    values = np.sort(values[values > rounding])[::-1]
    if request.singular_values:
        if n is None:
            raise SpecError("Singular values take the number of examples n, as the Hessian's eigenvalues are their squares over n.")
        values = values**2 / n
    return Source(source=str(path), num_examples=n), values


def numbers(path: Path) -> Float[np.ndarray, " all"]:
    """All numbers in a file of text, JSON or NumPy.

    Raises:
        DataError: If it cannot be read, has none, or has anything but finite ones.
    """
    try:
        with reading(path):
            if path.suffix == ".npy":
                found = np.load(path, allow_pickle=False)
            elif path.suffix == ".json":
                found = np.array(msgspec.json.decode(path.read_bytes(), type=list[float]))
            else:
                found = np.array([float(word) for word in path.read_text(encoding="utf-8-sig").replace(",", " ").split()])
    except ValueError as error:
        raise DataError(f"{path}: {error}. {WANTED}.") from error
    if not found.size or found.dtype.kind not in "fiu" or not np.isfinite(found).all():
        raise DataError(f"{path}: {WANTED[0].lower()}{WANTED[1:]}, at least one and all of them finite.")
    return np.asarray(found, dtype=np.float64).ravel()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
