"""Inner products of the gradients of one example, and of many at a time under `vmap`.

`Formed` forms the gradients. `ByLayer` goes through the operations of a model instead and avoids that where it can: the
gradient in a weight W of a layer z = a W is sum_p a_p d_p^T over the P positions at which the layer is applied, with
d = df/dz. A backward pass through the activations gives d, and two such gradients have the inner product
sum_pq (a_p . a_q) (d_p . d'_q), for which nothing of the size of W is formed. Where there are too many positions for that, as
in a convolution, and for biases and scales, the layer's own gradients are formed.

With a diagonal preconditioner P the inner products are those of the gradients times P^-1/2. In a weight of a layer at one position
that is sum_ij a_i^2 d_j d'_j / P_ij, for which a product of a^2 with 1 / P stands in for a . a, and nothing more is formed; at several
positions the gradients are.

Called by `ntk`. Every model is taken one example at a time, so that examples cannot mix.

Source: Goodfellow (2015), arXiv 1510.01799, for one position; Li et al. (2021), arXiv 2110.05679, for several; Bu, Mao and Xu
(2022), arXiv 2205.10683, for the choice by layer.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree, Shaped

from runners.measure.operators import Apply, full_precision

JITTED = ("jit", "pjit")
"""Calls that mean no more than what they call."""
VIEWS = ("reshape", "transpose", "squeeze", "broadcast_in_dim", "copy")
"""What may be done to a weight before its layer takes it: its numbers stay what they are."""
SCALING = "mul"
"""With a constant, what may be done to it as well: a multiplier of a parametrization."""
LAYERS = ("dot_general", "conv_general_dilated", "add", "sub", "mul", "div")
"""What a layer may do with a weight and an activation, its two operands."""

Params: TypeAlias = PyTree[Float[Array, "..."]]
View: TypeAlias = Callable[[Array], Array]
Gram: TypeAlias = Callable[[Float[Array, "rows outputs"]], Float[Array, "rows rows"]]
"""Directions u in the outputs of one example -> (u^T J) (v^T J)^T for each two of them."""


class Gradients(Protocol):
    """The gradients of any one example."""

    def numbers(self, rows: int, *, scaled: bool = False) -> int:
        """How many numbers stand at one time for an example and so many directions."""

    def __call__(self, params: Params, x: Shaped[Array, " *input"], scale: Params | None = None) -> tuple[Float[Array, " outputs"], Gram]:
        """Outputs of the example, and the inner products of their gradients in the parameters, times the scale if there is one."""


@dataclass(frozen=True)
class Formed:
    """Each gradient is formed."""

    apply: Apply
    num_params: int

    def numbers(self, rows: int, *, scaled: bool = False) -> int:  # noqa: ARG002 - scaling takes no more
        """The gradients."""
        return rows * self.num_params

    def __call__(self, params: Params, x: Shaped[Array, " *input"], scale: Params | None = None) -> tuple[Float[Array, " outputs"], Gram]:
        """Outputs of the example, and the inner products of their gradients in the parameters, times the scale if there is one."""
        flat, unravel = ravel_pytree(params)
        outputs, pullback = jax.vjp(lambda w: self.apply(unravel(w), x[None])[0], flat)

        def gram(u: Array) -> Array:
            gradients: Array = jax.vmap(lambda row: pullback(row)[0])(u)
            gradients = gradients if scale is None else gradients * ravel_pytree(scale)[0]
            return gradients @ gradients.T

        return outputs, gram


@full_precision
def by_layer(apply: Apply, params: Params, x: Shaped[Array, "examples *input"]) -> "ByLayer | None":
    """The gradients of a model layer by layer; None if some weight enters in a way that `ByLayer` does not take.

    It takes models in which each weight enters once, as it is, in another shape or times a constant number, into a product, a
    convolution or a sum with something that depends on the input. Not weights that several layers share, that are computed with
    otherwise before, or that stand inside a loop, a checkpointed part or a function with a derivative of its own.

    Args:
        apply: The model.
        params: Parameters; only their shapes count.
        x: Inputs; only their shapes count.

    Cost: One trace of the model.
    """
    example = jax.ShapeDtypeStruct(x.shape[1:], x.dtype)
    program = _Program(jax.make_jaxpr(lambda params, x: apply(params, x[None])[0])(params, example))
    uses = _uses(program)
    return None if uses is None else ByLayer(program, uses)


class _Step(NamedTuple):
    """An operation on numbered values."""

    equation: JaxprEqn
    operands: list[int]
    results: list[int]

    def __call__(self, *operands: Any) -> list[Any]:
        primitive = self.equation.primitive
        found = primitive.bind(*operands, **primitive.get_bind_params(self.equation.params))
        return list(found) if primitive.multiple_results else [found]


class _Program:
    """The operations of a traced function in their order, those of the jitted functions that it calls among them."""

    def __init__(self, closed: ClosedJaxpr) -> None:
        self.steps: list[_Step] = []
        self.constants: dict[int, Any] = {}
        self.avals: dict[int, Any] = {}
        """Shapes and types of inputs and results."""
        self.has_effects = bool(closed.effects)
        self._numbers = itertools.count()
        self.inputs = self._numbered(closed.jaxpr.invars)
        (self.output,) = self._add(closed, self.inputs)

    def _add(self, closed: ClosedJaxpr, inputs: Sequence[int]) -> list[int]:
        constants = self._numbered(closed.jaxpr.constvars)
        self.constants |= dict(zip(constants, closed.consts, strict=True))
        known: dict[Any, int] = dict(zip(closed.jaxpr.constvars, constants, strict=True))
        known |= dict(zip(closed.jaxpr.invars, inputs, strict=True))

        def number(atom: Any) -> int:
            if not isinstance(atom, Literal):
                return known[atom]
            (number,) = self._numbered([atom])
            self.constants[number] = atom.val
            return number

        for equation in closed.jaxpr.eqns:
            operands = [number(atom) for atom in equation.invars]
            if equation.primitive.name in JITTED:
                results = self._add(equation.params["jaxpr"], operands)
            else:
                results = self._numbered(equation.outvars)
                self.steps.append(_Step(equation, operands, results))
            known |= dict(zip(equation.outvars, results, strict=True))
        return [number(atom) for atom in closed.jaxpr.outvars]

    def _numbered(self, atoms: Sequence[Any]) -> list[int]:
        numbers = list(itertools.islice(self._numbers, len(atoms)))
        self.avals |= {number: atom.aval for number, atom in zip(numbers, atoms, strict=True)}
        return numbers


@dataclass(frozen=True)
class _Use:
    """Where a weight enters."""

    leaf: int
    """Which of the parameters."""
    views: tuple[View, ...]
    """From the parameter to the operand."""
    factor: float
    """What the parameter is multiplied by on the way."""
    step: _Step
    position: int
    """Of the weight, among the two operands."""
    weight: jax.ShapeDtypeStruct
    """The parameter."""
    operand: jax.ShapeDtypeStruct
    """What is made of it."""
    other: jax.ShapeDtypeStruct
    """The other operand, an activation."""
    result: jax.ShapeDtypeStruct

    def is_paired(self, rows: int, *, scaled: bool = False) -> bool:
        """Whether pairs of positions cost less than the gradients in the weight; of scaled gradients only a single one does."""
        if not self._is_product:
            return False
        inputs, positions, outputs = self._sizes
        if scaled:
            return positions == 1
        pairs = positions**2 * (inputs + rows * outputs) + rows**2 * positions * outputs
        return pairs < rows * positions * inputs * outputs + rows**2 * inputs * outputs

    def numbers(self, rows: int, *, scaled: bool = False) -> int:
        """What stands for so many directions."""
        if self.is_paired(rows, scaled=scaled):
            return int(self._sizes[1] ** 2 + 2 * rows * self.result.size)
        return int(rows * (self.result.size + self.weight.size))

    def gram(self, weight: Array, other: Array, cotangents: Float[Array, "rows *result"], scale: Array | None) -> Array:
        """This weight's part of the inner products; of gradients times the scale, shaped like it, if there is one."""
        rows = len(cotangents)
        if self.is_paired(rows, scaled=scale is not None):
            return self._paired(other, cotangents, scale)
        _, pullback = jax.vjp(lambda weight: self._result(weight, other), weight)
        gradients: Array = jax.vmap(lambda d: pullback(d)[0])(cotangents)
        gradients = (gradients if scale is None else gradients * scale).reshape(rows, -1)
        return gradients @ gradients.T

    def _paired(self, other: Array, cotangents: Array, scale: Array | None) -> Array:
        rows, (inputs, positions, outputs) = len(cotangents), self._sizes
        activations = _matrix(other, self._contracted).reshape(positions, inputs)
        # A product's result has the free axes of its first operand, then those of its second.
        if self.position == 1:
            d = cotangents.reshape(rows, positions, outputs)
        else:
            d = cotangents.reshape(rows, outputs, positions).transpose(0, 2, 1)
        if scale is None:
            nearby = self.factor**2 * jnp.einsum("pq,uqf->upf", activations @ activations.T, d)
        else:
            # The scale times the factor: the views multiply it as they do the weight.
            scales = _matrix(self._viewed(scale), self._summed[self.position]).reshape(outputs, inputs)
            nearby = activations**2 @ scales.T**2 * d
        return jnp.asarray(nearby.reshape(rows, -1) @ d.reshape(rows, -1).T)

    def _viewed(self, weight: Array) -> Array:
        for view in self.views:
            weight = view(weight)
        return weight

    def _result(self, weight: Array, other: Array) -> Array:
        weight = self._viewed(weight)
        (result,) = self.step(other, weight) if self.position == 1 else self.step(weight, other)
        return jnp.asarray(result)

    @property
    def _is_product(self) -> bool:
        """Whether the result is the sum of activation times weight over some axes, with each number of the weight in it once."""
        equation = self.step.equation
        if equation.primitive.name != "dot_general" or equation.params["dimension_numbers"][1][0]:
            return False
        return bool(self.operand.size == self.weight.size)

    @property
    def _contracted(self) -> tuple[int, ...]:
        """The axes of the activation that are summed over."""
        return self._summed[1 - self.position]

    @property
    def _summed(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The axes of both operands that are summed over."""
        first, second = self.step.equation.params["dimension_numbers"][0]
        return tuple(first), tuple(second)

    @property
    def _sizes(self) -> tuple[int, int, int]:
        """Inputs, positions and outputs of a product."""
        inputs = math.prod(self.other.shape[axis] for axis in self._contracted)
        return inputs, self.other.size // inputs, self.weight.size // inputs


def _matrix(array: Array, columns: Sequence[int]) -> Array:
    """The array with these axes last, in their order."""
    rows = [axis for axis in range(array.ndim) if axis not in columns]
    return array.transpose(*rows, *columns)


def _uses(program: _Program) -> list[_Use] | None:
    """Where each of the parameters enters; None if `by_layer` does not take that."""
    *leaves, x = program.inputs
    views: dict[int, tuple[int, tuple[View, ...], float]] = {leaf: (leaf, (), 1.0) for leaf in leaves}
    varying, uses = {x}, []
    for step in program.steps:
        weights = [number for number in step.operands if number in views]
        name = step.equation.primitive.name
        if not weights:
            varying |= set(step.results) if varying & set(step.operands) else set()
        elif name in VIEWS and len(step.operands) == 1:
            leaf, before, factor = views[weights[0]]
            views[step.results[0]] = (leaf, (*before, _reshaping(step)), factor)
        elif (number := _number(program, step)) is not None:
            leaf, before, factor = views[weights[0]]
            views[step.results[0]] = (leaf, (*before, partial(jnp.multiply, number)), factor * number)
        elif name in LAYERS and varying & set(step.operands):
            uses.append(_use(program, step, weights[0], *views[weights[0]]))
            varying |= set(step.results)
        else:
            return None
    entered = [use.leaf for use in uses]
    types = {program.avals[leaf].dtype for leaf in leaves} | {array.dtype for use in uses for array in (use.other, use.result)}
    is_known = len(set(entered)) == len(entered) and len(types) == 1 and program.output in varying
    return uses if uses and is_known and not program.has_effects else None


def _reshaping(step: _Step) -> View:
    return lambda weight: step(weight)[0]


def _number(program: _Program, step: _Step) -> float | None:
    """What a weight is multiplied by; None where that is not one number, or the step does something else."""
    if step.equation.primitive.name != SCALING:
        return None
    constants = [program.constants[number] for number in step.operands if number in program.constants]
    return float(constants[0]) if len(constants) == 1 and jnp.size(constants[0]) == 1 else None


def _use(program: _Program, step: _Step, weight: int, leaf: int, views: tuple[View, ...], factor: float) -> _Use:
    def shape(number: int) -> jax.ShapeDtypeStruct:
        aval = program.avals[number]
        return jax.ShapeDtypeStruct(aval.shape, aval.dtype)

    position = step.operands.index(weight)
    other = step.operands[1 - position]
    shapes = {"weight": shape(leaf), "operand": shape(weight), "other": shape(other), "result": shape(step.results[0])}
    return _Use(program.inputs.index(leaf), views, factor, step, position, **shapes)


class ByLayer:
    """Gradients layer by layer; see `by_layer`."""

    def __init__(self, program: _Program, uses: Sequence[_Use]) -> None:
        self._program = program
        self._uses = {id(use.step): use for use in uses}

    def numbers(self, rows: int, *, scaled: bool = False) -> int:
        """The derivatives in the layers' results, and the gradients that are formed."""
        return sum(use.numbers(rows, scaled=scaled) for use in self._uses.values())

    def __call__(self, params: Params, x: Shaped[Array, " *input"], scale: Params | None = None) -> tuple[Float[Array, " outputs"], Gram]:
        """Outputs of the example, and the inner products of their gradients in the parameters, times the scale if there is one.

        Cost: A forward pass, a backward pass through the activations for each direction, and as much again for each layer whose
            gradients are formed.
        """
        leaves = jax.tree.leaves(params)
        scales = [None] * len(leaves) if scale is None else jax.tree.leaves(scale)
        zeros = [jnp.zeros(use.result.shape, use.result.dtype) for use in self._uses.values()]
        outputs, pullback, others = jax.vjp(lambda added: self._outputs(leaves, x, added), zeros, has_aux=True)

        def gram(u: Array) -> Array:
            (cotangents,) = jax.vmap(pullback)(u)
            parts = zip(self._uses.values(), others, cotangents, strict=True)
            return jnp.asarray(sum(use.gram(leaves[use.leaf], other, d, scales[use.leaf]) for use, other, d in parts))

        return outputs, gram

    def _outputs(self, leaves: Sequence[Array], x: Array, added: Sequence[Array]) -> tuple[Array, list[Array]]:
        """The model's outputs with something added to the result of each layer, and what the layers' weights meet."""
        values = self._program.constants | dict(zip(self._program.inputs, (*leaves, x), strict=True))
        others: list[Array] = []
        for step in self._program.steps:
            results = step(*(values[number] for number in step.operands))
            if use := self._uses.get(id(step)):
                results = [results[0] + added[len(others)]]
                others.append(values[step.operands[1 - use.position]])
            values |= dict(zip(step.results, results, strict=True))
        return values[self._program.output], others
