"""Trace, top eigenvalues and norms of the empirical NTK: of the Gauss-Newton matrix G = J^T S S^T J / n of the loss.

J is the Jacobian of all outputs in the parameters, S S^T the Hessian of an example's loss in its outputs. For `mse` S is
the identity and tr G = mean_i sum_c |grad f_c(x_i)|^2; for `cross_entropy` tr G = mean_i sum_c p_c |grad log p_c(x_i)|^2. With a diagonal
preconditioner P all of it is that of P^-1/2 G P^-1/2, for which J P^-1/2 stands in for J. Called by `curvature`.
"""

import functools
import time
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key, PyTree, Shaped

from runners import devices
from runners.measure import example_gradients, krylov, operators
from runners.measure.eigenvalues import Accuracy
from runners.measure.example_gradients import Formed
from runners.measure.krylov import EigenResult, Start
from runners.measure.operators import Problem, full_precision
from runners.programs import Program

EXACT_OUTPUTS = 32
"""`auto` computes the trace exactly, by layer, up to so many outputs: with 32 it took 2.7 gradients on cifar10-fc-tanh and 7 on
cifar10-cnn, with 100 it took 9.5 and 25, where four probes take 0.8 and 1.4."""
EXACT_ENTRIES = 10**8
"""`auto` forms the Jacobian of all examples and outputs while it has at most so many entries: about a quarter of a second on two
cores."""
GROUP = 32
"""Examples that share a probe, at most, where gradients have to be formed. The standard error grows with the root of their number;
fewer cost more, since each group writes and reads a parameter gradient for each probe."""
GROUPED_OUTPUTS = 512
"""Outputs, of all examples, that there are at least for each example in a group: few examples form smaller groups."""
PROBED_ENTRIES = 2 * 10**9
"""Where the norms are wanted and the gradients of single examples' probes have no more entries, no examples share a probe."""
GRADIENT_BYTES = 2**20
"""Memory for the gradients that stand at one time. What fits the cache is fastest: on digits (1 MB an example) one at a time
took 0.95 s where 64 at a time took 3.2 s."""
LAYER_BYTES = 2**24
"""Memory for what stands of the examples that are taken layer by layer at one time. On two cores 1 to 30 MB took the same time, to a
fifth; more examples make larger products."""
NORM_PROBES = 16
"""Random probes for |G|_F^2."""

Params: TypeAlias = PyTree[Float[Array, "..."]]
Scale: TypeAlias = Params | None
"""P^-1/2, shaped like the parameters; None for P = 1."""
Asked: TypeAlias = Literal["auto", "exact", "hutchinson"]


@dataclass(frozen=True)
class Ntk:
    """What is known of G, and how well."""

    trace: float
    sem: float | None
    """Standard error of the trace; None when it is exact."""
    eigenvalues: tuple[float, ...]
    """The largest, from the top down; those that were asked for."""
    errors: tuple[float, ...]
    """Estimated error of each of them."""
    norms: "Norms | None"
    """None unless asked for, and where examples share their probes."""
    method: str
    num_probes: int
    """Random probes of each group that the trace is estimated from."""
    seconds: float


@dataclass(frozen=True)
class Norms:
    """What the necessary bound of mean-square stability takes beside the trace."""

    frobenius: float
    """|G|_F^2, estimated from `NORM_PROBES` random probes."""
    frobenius_sem: float
    examples: float
    """mean_i |G_i|_F^2 over the examples' own matrices G_i = J_i^T S_i S_i^T J_i; exact where the trace is."""


@dataclass(frozen=True)
class Method:
    """How the trace is computed."""

    group: int | None
    """Examples that share a probe; None when no probe is drawn."""
    by_layer: bool = False
    """Whether it takes no gradients of the size of the parameters."""

    def __str__(self) -> str:
        """As the log has it."""
        name = "exact" if self.group is None else "hutchinson per example"
        if self.by_layer:
            return f"{name}, by layer"
        return name if self.group in (None, 1) else f"hutchinson in groups of {self.group}"


def choose_method(
    asked: Asked,
    *,
    num_examples: int,
    outputs: int,
    num_params: int,
    num_probes: int,
    chunk_size: int,
    with_norms: bool,
    by_layer: bool,
) -> Method:
    """How the trace is computed, by what it costs.

    Args:
        asked: auto is exact where that costs little, or no more gradients than the probes.
        num_examples: n.
        outputs: C, the gradients an example that the exact trace takes.
        num_params: Numbers in a gradient.
        num_probes: The gradients a group that its probes take.
        chunk_size: The most examples in one pass, and so in a group.
        with_norms: Whether the examples' own norms are wanted, for which probes have to be their own.
        by_layer: Whether the model can be taken layer by layer, so that examples cost no more each than in groups.
    """
    entries = num_examples * num_params
    size = max(1, min(GROUP, chunk_size, num_examples * outputs // GROUPED_OUTPUTS))
    group = 1 if by_layer or (with_norms and entries * num_probes <= PROBED_ENTRIES) else size
    is_cheap = entries * outputs <= EXACT_ENTRIES or outputs * group <= num_probes or (by_layer and outputs <= EXACT_OUTPUTS)
    return Method(None if asked == "exact" or (asked == "auto" and is_cheap) else group, by_layer)


class _Found(NamedTuple):
    eigen: EigenResult | None
    trace: Float[Array, ""]
    sem: Float[Array, ""]
    norms: tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]] | None


class NtkMeter:
    """Measures G of one problem on fixed examples."""

    def __init__(
        self,
        problem: Problem,
        params: Params,
        *,
        x: Shaped[Array, "examples *input"],
        method: Asked,
        num_probes: int,
        num_eigenvalues: int,
        accuracy: Accuracy,
        with_norms: bool,
        preconditioned: bool = False,
    ) -> None:
        """Compile for parameters and examples of these shapes.

        Args:
            problem: Model, objective and chunk size.
            params: Any parameters; only their shapes count.
            x: Inputs of the measured examples.
            method: Of the trace; see `choose_method`.
            num_probes: Random probes of each group, at least 2.
            num_eigenvalues: Top eigenvalues to compute.
            accuracy: Of the eigenvalues.
            with_norms: Whether the norms are wanted as well.
            preconditioned: Whether `measure` is given a preconditioner.
        """
        flat = jax.eval_shape(lambda params: ravel_pytree(params)[0], params)
        by_layer = example_gradients.by_layer(problem.apply, params, x)
        self._outputs = jax.eval_shape(problem.apply, params, x).shape[1]
        self.method = choose_method(
            method,
            num_examples=len(x),
            outputs=self._outputs,
            num_params=flat.size,
            num_probes=num_probes,
            chunk_size=problem.chunk_size,
            with_norms=with_norms,
            by_layer=by_layer is not None,
        )
        self._gradients = by_layer or Formed(problem.apply, flat.size)
        self._x = x
        self._problem = problem
        self._num_probes = num_probes
        self._num_eigenvalues = min(num_eigenvalues, flat.size)
        self._accuracy = accuracy
        self._has_norms = with_norms and self.method.group in (None, 1)
        self._preconditioned = preconditioned
        self.start = krylov.no_start(flat.size, max(self._num_eigenvalues, 1), dtype=flat.dtype)
        further = (params,) if preconditioned else ()
        self.program = Program(self._measure, params, x, self.start, jax.eval_shape(jax.random.key, 0), *further)

    def begin(self, params: Params, start: Start, key: Key[Array, ""]) -> None:
        """Compute what `measure` will be asked for with these very arguments, while the caller goes on."""
        self.program.begin(params, self._x, start, key)

    def measure(self, params: Params, start: Start, key: Key[Array, ""], preconditioner: Params | None = None) -> tuple[Ntk, Start]:
        """Trace, eigenvalues and norms of G, or of P^-1/2 G P^-1/2.

        exact: tr G = mean_i tr M_i from all rows of S_i^T J_i, with M_i = S_i^T J_i J_i^T S_i the C x C matrix of one example.

        hutchinson: the examples are split into groups g of at most m, and M_g = S_g^T J_g J_g^T S_g is the matrix of a group's
        outputs, at most m C squared. For each of k random signs v in {-1, 1}^(m C), independent over groups,
        E |J_g^T S_g v|^2 = E v^T M_g v = tr M_g: one backward pass of the group, and tr G = sum_g tr M_g / n. The variance is

            sum_g 2 (|M_g|_F^2 - |diag M_g|^2) / (k n^2),

        and the standard error its root, each group's term taken from the spread of its own k squares. What M_g has outside
        the blocks of single examples is what m adds: where the kernel of two examples is r tr(M_i) / C times the identity, about
        (m - 1) r^2 (tr M_i)^2 / C an example, so that the standard error is r sqrt(2 (m - 1) / (n C k)) of the trace, and that of
        probes that all examples share (m = n) does not fall with n at all. For m = 1 two independent v and w also give
        |M_i|_F^2 = E (v^T M_i w)^2.

        By layer the gradients of single examples are never formed whole, so that groups are for models alone that `by_layer` declines.

        Top eigenvectors are taken out for |G|_F^2 alone: for the trace each would cost a tangent pass, and small groups leave
        little to take (docs/benchmarks.md has the numbers).

        Args:
            params: Where to measure.
            start: What the previous measurement left; the meter's `start` at first.
            key: For the probes and the solver.
            preconditioner: The diagonal P > 0, shaped like the parameters, if the meter was made for one.

        Returns:
            The measurement, and what the next one starts from.

        Cost: The products of the eigenvalues; a forward pass, and a backward pass for each output (exact) or each probe, by layer
            through the activations, else with parameter gradients, one an example or one a group; for |G|_F^2 two gradients for
            each of `NORM_PROBES` probes.
        """
        began = time.perf_counter()
        assert (preconditioner is not None) == self._preconditioned
        further = () if preconditioner is None else (preconditioner,)
        found = self.program(params, self._x, start, key, *further)
        is_exact = self.method.group is None
        result = Ntk(
            trace=float(found.trace),
            sem=None if is_exact else float(found.sem),
            eigenvalues=tuple(found.eigen.values.tolist()) if found.eigen else (),
            errors=tuple(found.eigen.errors.tolist()) if found.eigen else (),
            norms=Norms(*map(float, found.norms)) if found.norms else None,
            method=str(self.method),
            num_probes=0 if is_exact else self._num_probes,
            seconds=time.perf_counter() - began,
        )
        return result, found.eigen.start if found.eigen else start

    @full_precision
    def _measure(self, params: Params, x: Array, start: Start, key: Key[Array, ""], preconditioner: Params | None = None) -> _Found:
        key_eigen, key_trace, key_norm = jax.random.split(key, 3)
        scale = None if preconditioner is None else jax.tree.map(lambda leaf: 1 / jnp.sqrt(leaf), preconditioner)
        eigen = self._eigen(params, x, start, key_eigen, scale) if self._num_eigenvalues else None
        if self.method.group not in (None, 1):
            return _Found(eigen, *self._groups(params, x, key_trace, scale), norms=None)
        trace, sem, examples = self._examples(params, x, key_trace, scale)
        if not self._has_norms:
            return _Found(eigen, trace, sem, norms=None)
        return _Found(eigen, trace, sem, norms=(*self._frobenius(params, x, key_norm, scale, eigen=eigen), examples))

    def _eigen(self, params: Params, x: Array, start: Start, key: Key[Array, ""], scale: Scale) -> EigenResult:
        product = operators.gauss_newton(self._problem, params, x=x)
        return krylov.largest_eigenvalues(
            product if scale is None else operators.preconditioned(product, ravel_pytree(scale)[0]),
            start,
            k=self._num_eigenvalues,
            tolerance=self._accuracy.tolerance,
            max_products=self._accuracy.max_products,
            key=key,
        )

    def _examples(self, params: Params, x: Array, key: Key[Array, ""], scale: Scale) -> tuple[Array, Array, Array]:
        """Trace, its standard error, and mean_i |G_i|_F^2, from each example's Jacobian or probes of it."""

        def gram(x: Array, key: Key[Array, ""] | None = None) -> Array:
            outputs, gram_of = self._gradients(params, x, scale)
            root = self._problem.objective.output_hessian_root(outputs[None])[0]
            if key is not None:
                root = root @ jax.random.rademacher(key, (len(outputs), self._num_probes), root.dtype)
            return gram_of(root.T)

        is_exact = self.method.group is None
        examples = (x,) if is_exact else (x, jax.random.split(key, len(x)))
        numbers = self._gradients.numbers(self._outputs if is_exact else self._num_probes, scaled=self._preconditioned)
        memory = LAYER_BYTES if self.method.by_layer else GRADIENT_BYTES
        most = devices.rounded(self._problem.chunk_size) // devices.count()
        size = max(1, min(most, memory // (numbers * jax.tree.leaves(params)[0].dtype.itemsize)))
        grams = devices.mapped(lambda example: gram(*example), examples, batch_size=size)
        squares = jnp.diagonal(grams, axis1=1, axis2=2)
        if is_exact:
            return jnp.mean(jnp.sum(squares, axis=1)), jnp.zeros(()), jnp.mean(jnp.sum(grams**2, axis=(1, 2)))
        variances = jnp.var(squares, axis=1, ddof=1) / self._num_probes
        pairs = jnp.sum(grams**2, axis=(1, 2)) - jnp.sum(squares**2, axis=1)
        norms = pairs / (self._num_probes * (self._num_probes - 1))
        return jnp.mean(squares), jnp.sqrt(jnp.sum(variances)) / len(x), jnp.mean(norms)

    def _groups(self, params: Params, x: Array, key: Key[Array, ""], scale: Scale) -> tuple[Array, Array]:
        """Trace and its standard error, from the probes that the examples of a group share."""
        assert self.method.group is not None
        groups = operators.split(x, size=self.method.group, shared=False)

        def squares(x: Array, weights: Array, key: Key[Array, ""]) -> Array:
            outputs, pullback = jax.vjp(lambda params: self._problem.apply(params, x), params)
            roots = self._problem.objective.output_hessian_root(outputs)
            signs = jax.random.rademacher(key, (self._num_probes, *outputs.shape), outputs.dtype)

            def square(u: Array) -> Array:
                (gradient,) = pullback(u)
                gradient = gradient if scale is None else jax.tree.map(jnp.multiply, scale, gradient)
                return jnp.asarray(sum(jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(gradient)))

            weighted = jnp.einsum("ncd,knd,n->knc", roots, signs, weights)
            size = GRADIENT_BYTES // sum(leaf.nbytes for leaf in jax.tree.leaves(params))
            # None and not 1, which maps a batched function: that took 2.9 times as long on cifar10-fc-tanh.
            found: Array = jax.lax.map(square, weighted, batch_size=size if size > 1 else None)
            return found

        keys = jax.random.split(key, len(groups[0]))
        found = devices.mapped(lambda group: squares(*group), (*groups, keys), batch_size=None)
        variances = jnp.var(found, axis=1, ddof=1) / self._num_probes
        return jnp.sum(jnp.mean(found, axis=1)) / len(x), jnp.sqrt(jnp.sum(variances)) / len(x)

    def _frobenius(self, params: Params, x: Array, key: Key[Array, ""], scale: Scale, *, eigen: EigenResult | None) -> tuple[Array, Array]:
        """|G|_F^2 and its standard error, from probes v that all examples share, with the top eigenvectors q_a taken out by I - Q.

        |G|_F^2 = sum_a (q_a^T G q_a)^2 + 2 sum_a residual_a^2 + E |S^T J (I - Q) J^T S v|^2 / n^2.
        """
        flat, unravel = ravel_pytree(params)
        chunks = operators.split(x, size=self._problem.chunk_size)
        shape = jax.eval_shape(self._problem.apply, params, x).shape
        basis = eigen.vectors if eigen else jnp.zeros((0, flat.size), flat.dtype)
        scales = jnp.ones((), flat.dtype) if scale is None else ravel_pytree(scale)[0]

        def backward(x: Array, weights: Array, signs: Array) -> Array:
            outputs, pullback = jax.vjp(lambda w: self._problem.apply(unravel(w), x), flat)
            roots = self._problem.objective.output_hessian_root(outputs)
            return jnp.asarray(pullback(jnp.einsum("ncd,nd,n->nc", roots, signs, weights))[0])

        def forward(u: Array, x: Array, weights: Array) -> Array:
            outputs, tangent = jax.jvp(lambda w: self._problem.apply(unravel(w), x), (flat,), (u,))
            roots = self._problem.objective.output_hessian_root(outputs)
            return jnp.sum(weights[:, None] * jnp.einsum("ncd,nc->nd", roots, tangent) ** 2)

        def probe(key: Key[Array, ""]) -> Array:
            signs = operators.split(jax.random.rademacher(key, shape, flat.dtype), size=self._problem.chunk_size)[0]
            u = scales * operators.sum_over(backward, (*chunks, signs), jnp.zeros_like(flat)) / jnp.sqrt(len(x))
            u -= (basis @ u) @ basis
            return operators.sum_over(functools.partial(forward, scales * u), chunks, jnp.zeros((), flat.dtype)) / len(x)

        found = jax.lax.map(probe, jax.random.split(key, NORM_PROBES))
        known = jnp.sum(eigen.values**2) + 2 * jnp.sum(eigen.residuals**2) if eigen else jnp.zeros((), flat.dtype)
        return known + jnp.mean(found), jnp.std(found, ddof=1) / NORM_PROBES**0.5
