"""How near a run of normalised gradient descent, or of gradient descent on sqrt(L), is to the flow that it has in the limit."""

import time

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from runners.errors import SpecError
from runners.gauges.gauge import At, Gauge, Setting, State
from runners.programs import Program
from runners.records import LimitingFlowRecord
from runners.spec import NormalizedGd
from runners.theory import limiting_flow
from runners.theory.limiting_flow import Projection

MOST_PARAMS = 200
"""Dense Hessians of so many parameters are formed at each step of a projection."""
STEPS = 4
"""Of the flow from one measurement to the next; half as many tell its error."""
TOLERANCE = 1e-9
"""Distance from the manifold, relative to 1 + |x|, at which a projection has ended."""


class LimitingFlowGauge(Gauge):
    """Distance of the parameters, projected on the manifold of minima, from the flow that began where their first projection was."""

    name = "limiting_flow"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        if self.dim > MOST_PARAMS:
            raise SpecError(
                f"measure.limiting_flow_every = {self.every}: expected at most {MOST_PARAMS} parameters, not {self.dim}, as it takes dense "
                "Hessians. Set it to 0."
            )
        spec = setting.spec
        self._kind: limiting_flow.Kind = "normalized" if isinstance(spec.optimizer, NormalizedGd) else "sqrt"
        self.first_step = spec.optimizer.warm_steps
        # Where the flow stands, at which step, and by how much its integration may be off; no step below 0 has been.
        self.start = (jnp.zeros(self.dim, self.dtype), jnp.full((), -1), jnp.zeros((), self.dtype))
        duration = jnp.zeros((), self.dtype)
        self._projected = Program(self._project, setting.params, setting.x, setting.y)
        self._moved = Program(self._move, self.start[0], duration, setting.x, setting.y)
        self._top = Program(self._curvature, self.start[0], setting.x, setting.y)
        self.programs = (self._projected, self._moved, self._top)

    def read(self, at: At, start: State) -> tuple[LimitingFlowRecord, State]:
        """The record; the first one says where the flow begins."""
        began = time.perf_counter()
        x, y = self.setting.x, self.setting.y
        projected, own = self._projected(at.params, x, y)
        point, last, error = start
        if int(last) < 0:
            point = projected.point
        else:
            duration = jnp.asarray(at.lr**2 * (at.step - int(last)), self.dtype)
            point, difference = self._moved(point, duration, x, y)
            error = error + difference
        record = LimitingFlowRecord(
            step=at.step,
            time=at.time,
            distance=float(jnp.linalg.norm(projected.point - point)),
            error=float(projected.distance + error),
            offset=float(jnp.linalg.norm(own - projected.point)),
            projected_sharpness=float(self._top(projected.point, x, y)),
            flow_sharpness=float(self._top(point, x, y)),
            converged=bool(projected.distance <= TOLERANCE * (1 + jnp.linalg.norm(projected.point))),
            num_examples=len(x),
            method=f"gradient flow to the manifold; {STEPS} steps of fourth order along it",
            seconds=time.perf_counter() - began,
        )
        return record, (point, jnp.asarray(at.step, last.dtype), error)

    def _loss(self, x: Array, y: Array) -> limiting_flow.Loss:
        problem, unravel = self.setting.problem, ravel_pytree(self.setting.params)[1]
        decay = problem.objective.weight_decay

        def loss(flat: Float[Array, " dim"]) -> Float[Array, ""]:
            losses = problem.objective.example_losses(problem.apply(unravel(flat), x), y)
            return jnp.mean(losses) + decay / 2 * jnp.vdot(flat, flat)

        return loss

    def _project(self, params: PyTree[Array], x: Array, y: Array) -> tuple[Projection, Array]:
        own = ravel_pytree(params)[0]
        return limiting_flow.project(self._loss(x, y), own, tolerance=TOLERANCE**2), own

    def _move(self, point: Array, duration: Array, x: Array, y: Array) -> tuple[Array, Array]:
        """The flow's point after a time, and what half as many steps differ by."""
        fine, coarse = (
            limiting_flow.advance(self._loss(x, y), self._kind, point, duration=duration, steps=steps).point
            for steps in (STEPS, STEPS // 2)
        )
        return fine, jnp.linalg.norm(fine - coarse)

    def _curvature(self, point: Array, x: Array, y: Array) -> Array:
        values: Array = jnp.linalg.eigvalsh(jax.hessian(self._loss(x, y))(point))
        return values[-1]
