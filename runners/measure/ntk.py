"""Trace, top eigenvalues and norms of the empirical NTK: of the Gauss-Newton matrix G = J^T S S^T J / n of the loss.

J is the Jacobian of all outputs in the parameters, S S^T the Hessian of an example's loss in its outputs. For `mse` S is
the identity and tr G = mean_i sum_c |grad f_c(x_i)|^2; for `cross_entropy` tr G = mean_i sum_c p_c |grad log p_c(x_i)|^2.
Called by `curvature`.
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
from runners.measure import krylov, operators
from runners.measure.eigenvalues import Accuracy
from runners.measure.krylov import EigenResult
from runners.measure.operators import Problem, full_precision
from runners.programs import Program

EXACT_ENTRIES = 10**8
"""`auto` computes the trace exactly while the Jacobian of all examples and outputs has at most so many entries: about a
quarter of a second on two cores."""
PROBED_ENTRIES = 2 * 10**9
"""Up to so many entries, examples have probes of their own, whose noise averages out over the examples; beyond, all share
each probe, which then costs one gradient. On digits with ten outputs a probe of the first kind took 0.1 s and left 1 %,
16 of the second took 0.09 s and left 2.5 %."""
JACOBIAN_BYTES = 2**20
"""Memory for the Jacobians that stand at one time. What fits the cache is fastest: on digits (1 MB an example) one at a
time took 0.95 s where 64 at a time took 3.2 s."""
NORM_PROBES = 16
"""Random probes for |G|_F^2."""

Params: TypeAlias = PyTree[Float[Array, "..."]]


Method: TypeAlias = Literal["exact", "hutchinson per example", "hutchinson"]


@dataclass(frozen=True)
class Ntk:
    """What is known of G, and how well."""

    trace: float
    sem: float | None
    """Standard error of the trace; None when it is exact."""
    eigenvalues: tuple[float, ...]
    """The largest, from the top down; those that were asked for."""
    norms: "Norms | None"
    """None unless asked for, and where all examples share their probes."""
    method: Method
    num_probes: int
    """Random probes that the trace is estimated from."""
    seconds: float


@dataclass(frozen=True)
class Norms:
    """What the necessary bound of mean-square stability takes beside the trace."""

    frobenius: float
    """|G|_F^2, estimated from `NORM_PROBES` random probes."""
    examples: float
    """mean_i |G_i|_F^2 over the examples' own matrices G_i = J_i^T S_i S_i^T J_i; exact where the trace is."""


def choose_method(method: Literal["auto", "exact", "hutchinson"], *, entries: int, outputs: int, num_probes: int) -> Method:
    """How the trace is computed, by what it costs.

    Args:
        method: What is asked for; auto is exact where that costs little, or no more than probes of each example would.
        entries: Parameters times examples: those of one gradient an example.
        outputs: C, the gradients an example that the exact trace takes.
        num_probes: The gradients an example that probes of its own take.
    """
    affordable = PROBED_ENTRIES if outputs <= num_probes else EXACT_ENTRIES
    if method == "exact" or (method == "auto" and entries * outputs <= affordable):
        return "exact"
    return "hutchinson per example" if entries * num_probes <= PROBED_ENTRIES else "hutchinson"


class _Found(NamedTuple):
    eigen: EigenResult | None
    trace: Float[Array, ""]
    sem: Float[Array, ""]
    norms: tuple[Float[Array, ""], Float[Array, ""]] | None


class NtkMeter:
    """Measures G of one problem on fixed examples."""

    def __init__(
        self,
        problem: Problem,
        params: Params,
        *,
        x: Shaped[Array, "examples *input"],
        method: Literal["auto", "exact", "hutchinson"],
        num_probes: int,
        num_eigenvalues: int,
        accuracy: Accuracy,
        with_norms: bool,
    ) -> None:
        """Compile for parameters and examples of these shapes.

        Args:
            problem: Model, objective and chunk size.
            params: Any parameters; only their shapes count.
            x: Inputs of the measured examples.
            method: Of the trace; auto takes the exact one where it costs no more than probes or little.
            num_probes: Random probes of an estimate, at least 2.
            num_eigenvalues: Top eigenvalues to compute.
            accuracy: Of the eigenvalues.
            with_norms: Whether the norms are wanted as well.
        """
        flat = jax.eval_shape(lambda params: ravel_pytree(params)[0], params)
        outputs = jax.eval_shape(problem.apply, params, x).shape[1]
        self.method = choose_method(method, entries=len(x) * flat.size, outputs=outputs, num_probes=num_probes)
        self._x = x
        self._problem = problem
        self._num_probes = num_probes
        self._num_eigenvalues = min(num_eigenvalues, flat.size)
        self._accuracy = accuracy
        self._has_norms = with_norms and self.method != "hutchinson"
        rows = outputs if self.method == "exact" else num_probes
        self._batch = max(1, min(len(x), JACOBIAN_BYTES // (rows * flat.size * flat.dtype.itemsize)))
        self.start = krylov.no_start(flat.size, max(self._num_eigenvalues, 1), dtype=flat.dtype)
        self.program = Program(self._measure, params, x, self.start, jax.eval_shape(jax.random.key, 0))

    def measure(self, params: Params, start: Float[Array, "kept dim"], key: Key[Array, ""]) -> tuple[Ntk, Float[Array, "kept dim"]]:
        """Trace, eigenvalues and norms of G.

        With M_i = S_i^T J_i J_i^T S_i, the C x C matrix of one example, tr G = mean_i tr M_i. exact: all rows of S_i^T J_i.
        hutchinson per example: m probes v in {-1, 1}^C for each example, tr M_i = E v^T M_i v, and for two independent ones
        |M_i|_F^2 = E (v^T M_i w)^2; examples are independent, so the standard error is that of their mean. hutchinson: probes
        v in {-1, 1}^(n C) that all examples share, with the top eigenvectors q_a taken out: tr G = sum_a q_a^T G q_a +
        E |(I - Q) J^T S v|^2 / n, Q the projector on them; the standard error is that of the probes' mean.

        Args:
            params: Where to measure.
            start: What the previous measurement left; the meter's `start` at first.
            key: For the probes and the solver.

        Returns:
            The measurement, and what the next one starts from.

        Cost: The products of the eigenvalues; a backward pass for each example and output (exact) or each example and probe
            (per example), of which the parameter gradients are formed; or a gradient for each probe.
        """
        began = time.perf_counter()
        found = self.program(params, self._x, start, key)
        is_exact = self.method == "exact"
        result = Ntk(
            trace=float(found.trace),
            sem=None if is_exact else float(found.sem),
            eigenvalues=tuple(found.eigen.values.tolist()) if found.eigen else (),
            norms=Norms(*map(float, found.norms)) if found.norms else None,
            method=self.method,
            num_probes=0 if is_exact else self._num_probes,
            seconds=time.perf_counter() - began,
        )
        return result, found.eigen.start if found.eigen else start

    @full_precision
    def _measure(self, params: Params, x: Array, start: Array, key: Key[Array, ""]) -> _Found:
        key_eigen, key_trace, key_norm = jax.random.split(key, 3)
        eigen = self._eigen(params, x, start, key_eigen) if self._num_eigenvalues else None
        if self.method == "hutchinson":
            probes = self._shared_probes(params, x, eigen=eigen, keys=jax.random.split(key_trace, self._num_probes))[0]
            return _Found(eigen, *_mean(probes), norms=None)
        trace, sem, examples = self._examples(params, x, key_trace)
        if not self._has_norms:
            return _Found(eigen, trace, sem, norms=None)
        norms = self._shared_probes(params, x, eigen=eigen, keys=jax.random.split(key_norm, NORM_PROBES))[1]
        return _Found(eigen, trace, sem, norms=(jnp.mean(norms), examples))

    def _eigen(self, params: Params, x: Array, start: Array, key: Key[Array, ""]) -> EigenResult:
        return krylov.largest_eigenvalues(
            operators.gauss_newton(self._problem, params, x=x),
            start,
            k=self._num_eigenvalues,
            tolerance=self._accuracy.tolerance,
            max_products=self._accuracy.max_products,
            key=key,
        )

    def _examples(self, params: Params, x: Array, key: Key[Array, ""]) -> tuple[Array, Array, Array]:
        """Trace, its standard error, and mean_i |G_i|_F^2, from each example's Jacobian or probes of it."""
        flat, unravel = ravel_pytree(params)

        def gram(x: Array, key: Key[Array, ""] | None = None) -> Array:
            outputs, pullback = jax.vjp(lambda w: self._problem.apply(unravel(w), x[None])[0], flat)
            root = self._problem.objective.output_hessian_root(outputs[None])[0]
            if key is not None:
                root = root @ jax.random.rademacher(key, (len(outputs), self._num_probes), flat.dtype)
            rows: Array = jax.vmap(lambda u: pullback(u)[0])(root.T)
            return rows @ rows.T

        examples = (x,) if self.method == "exact" else (x, jax.random.split(key, len(x)))
        grams = devices.mapped(lambda example: gram(*example), examples, batch_size=self._batch)
        squares = jnp.diagonal(grams, axis1=1, axis2=2)
        if self.method == "exact":
            return jnp.mean(jnp.sum(squares, axis=1)), jnp.zeros(()), jnp.mean(jnp.sum(grams**2, axis=(1, 2)))
        variances = jnp.var(squares, axis=1, ddof=1) / self._num_probes
        pairs = jnp.sum(grams**2, axis=(1, 2)) - jnp.sum(squares**2, axis=1)
        norms = pairs / (self._num_probes * (self._num_probes - 1))
        return jnp.mean(squares), jnp.sqrt(jnp.sum(variances)) / len(x), jnp.mean(norms)

    def _shared_probes(self, params: Params, x: Array, *, eigen: EigenResult | None, keys: Key[Array, " probes"]) -> tuple[Array, Array]:
        """Independent estimates of tr G and of |G|_F^2.

        |G|_F^2 = sum_a (q_a^T G q_a)^2 + 2 sum_a residual_a^2 + E |S^T J (I - Q) J^T S v|^2 / n^2.
        """
        flat, unravel = ravel_pytree(params)
        chunks = operators.split(x, size=self._problem.chunk_size)
        shape = jax.eval_shape(self._problem.apply, params, x).shape
        basis = eigen.vectors if eigen else jnp.zeros((0, flat.size), flat.dtype)

        def backward(x: Array, weights: Array, signs: Array) -> Array:
            outputs, pullback = jax.vjp(lambda w: self._problem.apply(unravel(w), x), flat)
            roots = self._problem.objective.output_hessian_root(outputs)
            return jnp.asarray(pullback(jnp.einsum("ncd,nd,n->nc", roots, signs, weights))[0])

        def forward(u: Array, x: Array, weights: Array) -> Array:
            outputs, tangent = jax.jvp(lambda w: self._problem.apply(unravel(w), x), (flat,), (u,))
            roots = self._problem.objective.output_hessian_root(outputs)
            return jnp.sum(weights[:, None] * jnp.einsum("ncd,nc->nd", roots, tangent) ** 2)

        def probe(key: Key[Array, ""]) -> tuple[Array, Array]:
            signs = operators.split(jax.random.rademacher(key, shape, flat.dtype), size=self._problem.chunk_size)[0]
            u = operators.sum_over(backward, (*chunks, signs), jnp.zeros_like(flat)) / jnp.sqrt(len(x))
            u -= (basis @ u) @ basis
            image = operators.sum_over(functools.partial(forward, u), chunks, jnp.zeros((), flat.dtype)) / len(x)
            return jnp.vdot(u, u), image

        traces, norms = jax.lax.map(probe, keys)
        if eigen is None:
            return traces, norms
        known = jnp.sum(eigen.values**2) + 2 * jnp.sum(eigen.residuals**2)
        return traces + jnp.sum(eigen.values), norms + known


def _mean(estimates: Float[Array, " probes"]) -> tuple[Array, Array]:
    """Mean of independent estimates and its standard error."""
    return jnp.mean(estimates), jnp.std(estimates, ddof=1) / len(estimates) ** 0.5
