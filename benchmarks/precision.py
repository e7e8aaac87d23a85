"""How far float32 can be trusted: each quantity of `[measure]` in float32 and in float64, at the same parameters.

The net of the preset `digits-gd`, at initialisation and at the edge, where its optimizer has brought it; where a quantity is
one of batches, they are of 32, with half the learning rate, as K is infinite at the edge. Random vectors are drawn in float32 and
converted, so both precisions estimate with the same ones and what differs is rounding and the solvers' tolerance. A process each
measures in float32 at the default tolerance, in float32 at 1e-6, and in float64 at 1e-10, which is the reference.

A cell has the relative difference from the reference and, in brackets, the error that the record itself claims, relative
too: a solver's estimate, a bracket, or a standard error (marked ~), which is about the draw and not about precision. The last
column judges the solvers' claims by the worst: `yes`; `rounding` where the difference is beyond the claim by no more than the 10
roundings of |H| that the solver calls none; `NO`; and `flagged` where the record says converged: false.

Run `python benchmarks/precision.py [--edge STEP] [--json]`; three minutes on two cores.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias
from unittest import mock

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Key
from msgspec.structs import replace
from numpy.typing import NDArray
from presets import Preset, Training, spec_of

from runners.curvature import Curvature
from runners.measure import krylov
from runners.spec import Measure, Train

PRESET = "digits-gd"
BATCH_SIZE = 32
LR = 0.15
EDGE_STEP = 600
DEFAULT, TIGHT, REFERENCE = 1e-3, 1e-6, 1e-10

VERDICTS = ("NO", "flagged", "rounding", "yes", "")
"""From the worst."""

Precision: TypeAlias = Literal["float32", "float64"]
Record: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Claim:
    """A number with what its record says of it."""

    value: float
    error: float | None = None
    """Absolute; None where none is claimed."""
    kind: Literal["solver", "sampling"] = "solver"
    converged: bool = True


@dataclass(frozen=True)
class Row:
    """A quantity in one phase."""

    phase: str
    quantity: str
    reference: float
    difference: float
    """Relative, of float32 at the default tolerance."""
    claimed: float | None
    tight_difference: float
    tight_claimed: float | None
    kind: Literal["solver", "sampling"]
    honest: str
    """What the docstring's last column says; empty where nothing is claimed."""

    @property
    def pairs(self) -> tuple[tuple[float, float | None], tuple[float, float | None]]:
        """Difference and claim at the default and at the tight tolerance."""
        return (self.difference, self.claimed), (self.tight_difference, self.tight_claimed)


def measure_spec(precision: Precision, tolerance: float) -> Train:
    """Everything that is measured on all examples, at every step."""
    spec = spec_of(PRESET, precision=precision)
    measure = replace(Measure(), **{name: 1 for name in Measure.__struct_fields__ if name.endswith("_every")})
    measure = replace(measure, verify_every=0, mean_square_every=0, top_k=2, smallest=True, batch_sharpness_full=True)
    measure = replace(measure, tolerance=tolerance, max_hvps=1000)
    return replace(spec, measure=measure, optimizer=replace(spec.optimizer, batch_size=BATCH_SIZE, lr=LR))


def measured(file: Path, precision: Precision, tolerance: float) -> dict[str, list[Record]]:
    """The records at the parameters of each phase; in float64 for a process in x64 mode."""
    spec = measure_spec(precision, tolerance)
    preset = Preset(spec)
    normal = jax.random.normal

    def same_normal(key: Key[Array, ""], shape: tuple[int, ...] = (), dtype: Any = float) -> Array:
        return normal(key, shape, jnp.float32).astype(dtype)

    def same_signs(key: Key[Array, ""], shape: tuple[int, ...] = (), dtype: Any = int) -> Array:
        return (2 * jax.random.bernoulli(key, jnp.float32(0.5), shape) - 1).astype(dtype)

    found: dict[str, list[Record]] = {}
    unravel = ravel_pytree(preset.model.params)[1]
    with mock.patch.object(jax.random, "normal", same_normal), mock.patch.object(jax.random, "rademacher", same_signs):
        curvature = Curvature(spec, preset.model, objective=preset.objective, x=preset.x, y=preset.y, preconditioned=False)
        start = curvature.state
        for phase, flat in np.load(file).items():
            curvature.state = dict(start)
            records = curvature.measure(
                unravel(jnp.asarray(flat, precision)),
                lambda: None,
                lr=LR,
                step=1,
                clock=lambda: 0.0,
                is_due=bool,
            )
            found[phase] = msgspec.to_builtins(list(records))
    return found


def in_process(file: Path, precision: Precision, tolerance: float) -> dict[str, list[Record]]:
    """`measured` in a process of its own, whose jax has the precision."""
    environment = os.environ | {"JAX_ENABLE_X64": str(int(precision == "float64"))}
    command = [sys.executable, __file__, "--child", str(file), precision, str(tolerance)]
    result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    found: dict[str, list[Record]] = json.loads(result.stdout)
    return found


def claims(records: list[Record]) -> dict[str, Claim]:
    """Each quantity of the records with what is claimed of it."""
    return {name: claim for record in records for name, claim in _claims(record)}


def _claims(record: Record) -> Iterator[tuple[str, Claim]]:
    match record["kind"]:
        case "sharpness":
            yield from _eigenvalues("sharpness", record)
            smallest = record["smallest"], record["smallest_error"]
            yield "sharpness: smallest", Claim(*smallest, converged=record["smallest_converged"])
        case "gauss_newton":
            yield from _eigenvalues("gauss_newton", record)
            yield "gauss_newton: residual_share", Claim(record["residual_share"])
        case "layers":
            for name, value in record["values"].items():
                yield f"layers: {name}", Claim(value, record["errors"][name], converged=record["converged"])
        case "gradient":
            for name in ("norm", "directional_sharpness", "alignment"):
                yield f"gradient: {name}", Claim(record[name])
            critical = record["critical_sharpness"], record["critical_error"]
            yield "gradient: critical_sharpness", Claim(*critical, converged=record["critical_converged"])
        case "hessian_trace":
            yield "hessian_trace", Claim(record["value"], record["sem"], "sampling")
        case "ntk":
            yield "ntk: trace", Claim(record["trace"], record["sem"], "sampling")
            yield "ntk: noise_kernel", Claim(record["noise_kernel"])
            yield "ntk: noise_kernel_bound", Claim(record["noise_kernel_bound"])
        case "batch_sharpness":
            yield "batch_sharpness", Claim(record["value"], record["sem"], "sampling")
            for name in ("ratio_of_means", "gradient_noise_interaction", "interaction_aware_sharpness"):
                yield f"batch_sharpness: {name}", Claim(record[name], record[f"{name}_sem"], "sampling")


def _eigenvalues(name: str, record: Record) -> Iterator[tuple[str, Claim]]:
    for place, (value, error) in enumerate(zip(record["values"], record["errors"], strict=True), start=1):
        yield f"{name}: {place}", Claim(value, error, converged=record["converged"])


def rows(phase: str, default: list[Record], tight: list[Record], exact: list[Record]) -> list[Row]:
    """Each quantity of a phase, the density as a whole at the end."""
    loose, close, reference = claims(default), claims(tight), claims(exact)
    rounding = krylov.ROUNDING * float(np.finfo(np.float32).eps) * reference["sharpness: 1"].value
    found = [
        Row(
            phase=phase,
            quantity=name,
            reference=true.value,
            difference=abs(loose[name].value / true.value - 1),
            claimed=_relative(loose[name], true),
            tight_difference=abs(close[name].value / true.value - 1),
            tight_claimed=_relative(close[name], true),
            kind=true.kind,
            honest=min((_judged(one[name], true, rounding=rounding) for one in (loose, close)), key=VERDICTS.index),
        )
        for name, true in reference.items()
    ]
    density = [_density(records) for records in (default, tight, exact)]
    distances = [_distance(density[index], density[2]) for index in (0, 1)]
    sem = float(np.trapezoid(density[2][2], density[2][0]))
    return [*found, Row(phase, "density (integral of the difference)", 1.0, distances[0], sem, distances[1], sem, "sampling", "")]


def _relative(claim: Claim, true: Claim) -> float | None:
    return None if claim.error is None else claim.error / abs(true.value)


def _judged(claim: Claim, true: Claim, *, rounding: float) -> str:
    if claim.error is None or claim.kind == "sampling":
        return ""
    if not claim.converged:
        return "flagged"
    beyond = abs(claim.value - true.value) - claim.error - (true.error or 0)
    return "yes" if beyond <= 0 else "rounding" if beyond <= rounding else "NO"


def _density(records: list[Record]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    record = next(record for record in records if record["kind"] == "density")
    return np.array(record["at"]), np.array(record["density"]), np.array(record["sem"])


def _distance(one: tuple[NDArray[np.float64], ...], other: tuple[NDArray[np.float64], ...]) -> float:
    return float(np.trapezoid(np.abs(np.interp(other[0], one[0], one[1]) - other[1]), other[0]))


def table(found: list[Row]) -> str:
    """The rows as Markdown, the phases of a quantity side by side."""
    phases = list(dict.fromkeys(row.phase for row in found))
    columns = [f"{phase}, {tolerance:g}" for phase in phases for tolerance in (DEFAULT, TIGHT)]
    lines = [f"| quantity | {' | '.join(columns)} | honest |", "|---" * (len(columns) + 2) + "|"]
    for name in dict.fromkeys(row.quantity for row in found):
        own = [row for row in found if row.quantity == name]
        cells = [_cell(*pair, kind=row.kind) for row in own for pair in row.pairs]
        lines.append(f"| {name} | {' | '.join(cells)} | {', '.join(dict.fromkeys(row.honest for row in own))} |")
    return "\n".join(lines)


def _cell(difference: float, claimed: float | None, *, kind: str) -> str:
    return f"{difference:.0e}" + ("" if claimed is None else f" ({'~' if kind == 'sampling' else ''}{claimed:.0e})")


def main() -> None:
    """Train, measure three times, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edge", type=int, default=EDGE_STEP, metavar="STEP", help="step at which the edge is measured")
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        file, precision, tolerance = arguments.child
        print(json.dumps(measured(Path(file), precision, float(tolerance))))
        return
    training = Training(Preset(spec_of(PRESET)))
    flats = {phase: np.asarray(ravel_pytree(training.advance_to(step))[0]) for phase, step in (("start", 0), ("edge", arguments.edge))}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "params.npz"
        np.savez(file, allow_pickle=False, **flats)
        default, tight, exact = (
            in_process(file, "float32", DEFAULT),
            in_process(file, "float32", TIGHT),
            in_process(file, "float64", REFERENCE),
        )
    found = [row for phase in flats for row in rows(phase, default[phase], tight[phase], exact[phase])]
    print(json.dumps([asdict(row) for row in found]) if arguments.json else table(found))


if __name__ == "__main__":
    main()
