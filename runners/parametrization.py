"""How a net's first values, its forward pass and its learning rates depend on width and depth: SP, NTP, muP and Depth-muP.

Each parameter gets a role from how its shape grows with the width, and with it four factors (`Leaf`), so that the forms hold for any flax
module. Called by `models`, which multiplies, and by `optimizers`, which gives the learning rates. Pure: knows shapes and no values.

For gradient descent, with momentum or not, muP and NTP are written so that all parameters have one learning rate, lr: the width enters
by multipliers alone. So the sharpness of these parameters is held against 2/lr at every width, and is gamma^2 times that of the raw
parameters of Noci et al. For Adam and its kin the parameters are ordinary ones, each role with a learning rate of its own.

Sources: Noci, Meterez, Hofmann and Orvieto (2024), arXiv 2402.17457: the model with raw N(0, 1) parameters, multipliers and
gamma = gamma_0 sqrt(width). Yang et al. (2022), arXiv 2203.03466: muP as abc-parametrization, and what biases do. Dey et al. (2025),
arXiv 2505.01618: Adam's epsilon, and depth exponents from 1/2 to 1. Derived: multiplying a parameter's forward multiplier by m and
dividing its value by m is the same function, and the same training when the learning rate of gradient descent is divided by m^2,
Adam's by m and Adam's epsilon multiplied by m.
"""

import fnmatch
import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from runners.errors import SpecError
from runners.spec import Adam, EmaMomentum, HeavyBall, Nesterov, Optimizer, Parametrized, RmsProp, Role, Sgd, SignDescent

Path = tuple[str, ...]
"""Names from the outermost module to the parameter."""
DESCENDING = (Sgd, HeavyBall, Nesterov, EmaMomentum)
"""Optimizers whose update is linear in the gradient."""
ADAPTIVE = (Adam, RmsProp, SignDescent)
"""Those whose update does not grow with the gradient."""
BRANCH = "branch"
"""Begins the name of a module that is a residual branch; its last layer ends the branch."""


class Leaf(NamedTuple):
    """What a parametrization makes of one parameter."""

    role: Role
    fan_in: int | None
    """Inputs that a unit adds up, as `fan_in` counts them; None for what is no matrix."""
    init: float
    """What the first value is of that which standard parametrization draws."""
    multiplier: float
    """What the forward pass multiplies the parameter by."""
    lr: float
    """Its learning rate over `optimizer.lr`."""
    eps: float
    """Its epsilon over `optimizer.eps`: of the size of its gradient."""


class Scale(NamedTuple):
    """How large the net is."""

    width: float
    """Over the base width."""
    branches: int
    """Residual branches from the input to the output; 0 without any."""


def leaves(
    table: Parametrized,
    optimizer: Optimizer,
    scale: Scale,
    *,
    shapes: Mapping[Path, Sequence[int]],
    wider: Mapping[Path, Sequence[int]],
    gains: Mapping[Path, float],
) -> dict[Path, Leaf]:
    """What the parametrization makes of each parameter.

    Args:
        table: The model's table of the spec.
        optimizer: What trains it.
        scale: How large the net is.
        shapes: Of the parameters.
        wider: Of those of the same net with twice the width.
        gains: Of matrices: first values are drawn with the standard deviation gain / sqrt(fan_in).

    Raises:
        SpecError: If a role is asked for that no parameter has, or that one cannot have.
    """
    roles = _roles(table, shapes, wider)
    if table.parametrization == "sp":
        return {path: Leaf(role, fan_in(path, shapes[path]), 1.0, 1.0, 1.0, 1.0) for path, role in roles.items()}
    is_adaptive = isinstance(optimizer, ADAPTIVE)
    factors = _adaptive if is_adaptive and table.parametrization == "mup" else _raw
    found = {}
    for path, role in roles.items():
        inputs = fan_in(path, shapes[path])
        deviation = 1.0 if inputs is None else gains.get(path, 1.0) / math.sqrt(inputs)
        found[path] = factors(table, scale, role=role, fan_in=inputs, deviation=deviation, is_adaptive=is_adaptive)
    return found


def gamma(table: Parametrized, scale: Scale) -> float:
    """What the output is divided by: gamma_0 sqrt(width / base width) under muP, gamma_0 under NTP, 1 under SP.

    Source: Noci et al. (2024), arXiv 2402.17457.
    """
    return {"sp": 1.0, "ntp": table.gamma, "mup": table.gamma * math.sqrt(scale.width)}[table.parametrization]


def is_raw_over_gamma(table: Parametrized, optimizer: Optimizer) -> bool:
    """Whether the parameters are the raw ones of Noci et al. over gamma, so that their Hessian is gamma^2 times that of the raw ones.

    Not under Adam and its kin, whose parameters are ordinary ones, or raw ones themselves; and not with an alpha that gives raw values in
    branches a learning rate of their own.
    """
    return table.parametrization != "sp" and isinstance(optimizer, DESCENDING) and table.depth_exponent in (0.0, 0.5)


def attention_scale(table: Parametrized, *, width: int, heads: int) -> float:
    """What products of queries and keys are multiplied by: 1 / sqrt(d) with d = width / heads, the length of both; under muP sqrt(d_0) / d.

    In training queries come to point along keys, so that their products grow like d and not like its root. d_0 is d at the base width,
    where muP is as before, and 1 where a base width is smaller than the number of heads.

    Source: Yang et al. (2022), arXiv 2203.03466.
    """
    size = width / heads
    return math.sqrt(max(table.base_width / heads, 1.0)) / size if table.parametrization == "mup" else 1.0 / math.sqrt(size)


def fan_in(path: Path, shape: Sequence[int]) -> int | None:
    """Inputs of size 1 that a unit adds up: of a kernel [..., inputs, outputs] all, of an embedding [entries, outputs] the one looked up.

    None for what is no matrix: biases, the parameters of norms.
    """
    if len(shape) < 2:
        return None
    return {"kernel": math.prod(shape[:-1]), "embedding": 1}.get(path[-1])


def _raw(table: Parametrized, scale: Scale, *, role: Role, fan_in: int | None, deviation: float, is_adaptive: bool) -> Leaf:
    """The paper's form: raw values ~ N(0, 1) times gain / sqrt(fan_in), the output over gamma, lr gamma^2 for the raw values.

    Here the values are the raw ones over gamma, and the multipliers gamma times theirs, so that gradient descent has lr for all. A branch
    of L is multiplied by L^-alpha, and its raw values have L^(2 alpha - 1) times the learning rate: none for alpha = 1/2, L for 1.
    A bias of hidden units is a raw value with multiplier 1; that of the outputs, which do not grow in number, has lr.
    NTP under Adam and its kin: raw values themselves, with lr for all.
    """
    over = gamma(table, scale)
    gauge = 1.0 if is_adaptive else over
    multiplier = deviation * gauge
    init = 1.0 / multiplier
    if role == "output":
        multiplier, init = (multiplier / over, init) if fan_in is not None else (1.0, 1.0)
    elif role == "constant":
        multiplier, init = deviation, 1.0 / deviation
    if role in ("branch", "inner") and table.depth_exponent:
        speed = scale.branches ** (table.depth_exponent - 0.5)
        end = scale.branches**-table.depth_exponent if role == "branch" else 1.0
        multiplier, init = multiplier * end * speed, init / speed
    return Leaf(role, fan_in, init, multiplier, 1.0, 1.0)


def _adaptive(table: Parametrized, scale: Scale, *, role: Role, fan_in: int | None, deviation: float, is_adaptive: bool) -> Leaf:  # noqa: ARG001
    """Ordinary parameters under Adam, with n = width / base width and L branches.

    Matrices from hidden units: lr / n, those to the output with first values over gamma as well; all else lr. In branches L^(alpha - 1)
    times that, and their end multiplied by L^-alpha. Epsilon as the gradient, in n and L: derived, the gradient of what lies before
    the outputs is 1/n, in branches L^-alpha / n, and that of the output's own parameters 1.
    """
    n, alpha = scale.width, table.depth_exponent
    is_matrix = fan_in is not None
    lr = 1.0 / n if is_matrix and role in ("hidden", "branch", "inner", "output") else 1.0
    eps = 1.0 if role in ("output", "constant") else 1.0 / n
    init = 1.0 / gamma(table, scale) if role == "output" and is_matrix else 1.0
    multiplier = 1.0
    if role in ("branch", "inner") and alpha:
        lr *= scale.branches ** (alpha - 1.0)
        eps *= scale.branches**-alpha
        multiplier = scale.branches**-alpha if role == "branch" else 1.0
    return Leaf(role, fan_in, init, multiplier, lr, eps)


def _roles(table: Parametrized, shapes: Mapping[Path, Sequence[int]], wider: Mapping[Path, Sequence[int]]) -> dict[Path, Role]:
    """By parameter; what the table says goes before what the shapes say."""
    outputs = _output_layers(shapes, wider)
    ends = _branch_ends(shapes)
    found = {path: _role(path, shapes[path], wider[path], outputs=outputs, ends=ends) for path in shapes}
    for pattern, role in table.roles.items():
        matching = [path for path in shapes if fnmatch.fnmatchcase(".".join(path), pattern)]
        if not matching:
            names = ", ".join(".".join(path) for path in shapes)
            raise SpecError(f'model.roles."{pattern}": no parameter is called so. The model has {names}.')
        found |= dict.fromkeys(matching, role)
    return found


def _role(path: Path, shape: Sequence[int], wider: Sequence[int], *, outputs: set[Path], ends: set[Path]) -> Role:
    grows = [before != after for before, after in zip(shape, wider, strict=True)]
    if any(name.startswith(BRANCH) for name in path) and any(grows):
        return "branch" if path[:-1] in ends else "inner"
    if path[:-1] in outputs and not (grows and grows[-1]):
        return "output"
    if not any(grows):
        return "constant"
    if fan_in(path, shape) is None:
        return "vector"
    return "hidden" if any(grows[:-1]) and grows[-1] else "output" if any(grows[:-1]) else "input"


def _output_layers(shapes: Mapping[Path, Sequence[int]], wider: Mapping[Path, Sequence[int]]) -> set[Path]:
    """Modules with a matrix from hidden units to a number of units that does not grow, outside of branches."""
    return {
        path[:-1]
        for path, shape in shapes.items()
        if fan_in(path, shape) is not None
        and shape[-1] == wider[path][-1]
        and tuple(shape) != tuple(wider[path])
        and not any(name.startswith(BRANCH) for name in path)
    }


def _branch_ends(shapes: Mapping[Path, Sequence[int]]) -> set[Path]:
    """The last module with a matrix in each branch, by the order of the names."""
    ends: dict[Path, Path] = {}
    for path, shape in shapes.items():
        place = next((index for index, name in enumerate(path) if name.startswith(BRANCH)), None)
        if place is not None and fan_in(path, shape) is not None:
            ends[path[: place + 1]] = max(ends.get(path[: place + 1], path[:-1]), path[:-1], key=_in_order)
    return set(ends.values())


def _in_order(path: Path) -> list[list[str | int]]:
    """To be sorted by: numbers in names count as numbers, so that layer 10 comes behind layer 2."""
    return [[int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)] for name in path]
