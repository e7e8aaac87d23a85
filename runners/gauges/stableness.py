"""How stable two updates in a row are: at the edge of stability the harmonic mean of the two stands at 2."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from msgspec import UNSET

from runners import objectives, optimizers
from runners.gauges.gauge import At, Gauge, Setting, State
from runners.measure.eigenvalues import METHOD
from runners.measure.stableness import Pair, Rule, StablenessMeter, harmonic_mean, reciprocal_sum
from runners.records import StablenessRecord
from runners.spec import EdgeRate, NormalizedGd, ObjectiveTable, Optimizer

EDGE = 2.0
"""Learning rate times sharpness at which gradient descent stops being stable."""


class StablenessGauge(Gauge):
    """Stableness and effective sharpness of the update at these parameters and of the next one."""

    name = "stableness"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._lr = optimizers.learning_rate(setting.spec.optimizer)
        self._meter = StablenessMeter(
            setting.problem,
            setting.params,
            rule=rule(setting.spec.optimizer, setting.spec.objective),
            x=setting.x,
            y=setting.y,
            accuracy=setting.accuracy,
        )
        self.start = self._meter.start
        self.programs = self._meter.programs

    def read(self, at: At, start: State) -> tuple[StablenessRecord, State]:
        """The record."""
        # Where feedback sets the rate, a measurement may change it: that of the next update is not known yet.
        lrs = (at.lr, at.lr if isinstance(self.setting.spec.optimizer.lr, EdgeRate) else float(self._lr(at.step + 1)))
        num_points = self.setting.spec.measure.stableness_points
        pair, start = self._meter.measure(at.params, start, at.key, lrs=lrs, num_points=num_points, step=at.step)
        first, second = pair.first, pair.second
        mean = harmonic_mean(first.stableness, second.stableness)
        is_own = at.step >= self.setting.spec.optimizer.warm_steps
        predicted = self._predicted(at.lr, first.sharpness) if is_own else None
        record = StablenessRecord(
            step=at.step,
            time=at.time,
            value=first.stableness,
            next_value=second.stableness,
            reciprocal_sum=reciprocal_sum(first.stableness, second.stableness),
            harmonic_mean=mean,
            threshold=EDGE,
            ratio=mean / EDGE,
            error=first.effective_lr * first.error,
            next_error=second.effective_lr * second.error,
            effective_sharpness=first.effective_sharpness,
            next_effective_sharpness=second.effective_sharpness,
            effective_reciprocal_sum=reciprocal_sum(first.effective_sharpness, second.effective_sharpness),
            effective_harmonic_mean=harmonic_mean(first.effective_sharpness, second.effective_sharpness),
            effective_lr=first.effective_lr,
            next_effective_lr=second.effective_lr,
            loss=first.loss,
            next_loss=second.loss,
            loss_ratio=UNSET if predicted is None else self._roots(pair) / predicted,
            alignment=first.alignment,
            next_alignment=second.alignment,
            num_points=num_points,
            num_hvps=pair.num_products,
            converged=pair.converged,
            num_examples=len(self.setting.x),
            method=METHOD,
            seconds=pair.seconds,
        )
        return record, start

    def _roots(self, pair: Pair) -> float:
        return sum(math.sqrt(max(step.loss - self.setting.spec.objective.minimum, 0)) for step in (pair.first, pair.second))

    def _predicted(self, lr: float, sharpness: float) -> float | None:
        """What the roots of two losses in a row, L - L_min, add up to once the steps lie along the top eigenvector.

        Normalised gradient descent: lr sqrt(lambda_1 / 2). On the root of the loss: lr lambda_1 / 2.

        Source: Arora, Li and Panigrahi (2022), arXiv 2205.09745, for the first. The second is derived: with y the distance from the
        minimum along the eigenvector L - L_min = lambda_1 y^2 / 2, and a step has the length lr sqrt(lambda_1 / 2) and crosses
        the minimum, so that |y| + |y'| is that.
        """
        spec = self.setting.spec
        if isinstance(spec.optimizer, NormalizedGd):
            return lr * math.sqrt(max(sharpness, 0) / 2)
        return lr * sharpness / 2 if spec.objective.transform == "sqrt" else None


def rule(optimizer: Optimizer, objective: ObjectiveTable) -> Rule:
    """What an update multiplies the gradient of the loss with: (lr, loss, norm of the gradient, step) -> effective learning rate.

    During a warm start: lr. Normalised gradient descent: lr / |g|. Gradient descent, and all others for want of a step along the gradient:
    lr f'(L), with f what is descended of the loss. 0 where nothing moves.
    """

    def effective_lr(lr: Float[Array, ""], loss: Float[Array, ""], norm: Float[Array, ""], step: Int[Array, ""]) -> Float[Array, ""]:
        if isinstance(optimizer, NormalizedGd):
            own = jnp.where(norm == 0, 0, lr / jnp.where(norm == 0, 1, norm))
        else:
            own = lr * objectives.slope(loss, transform=objective.transform, minimum=objective.minimum)
        return jnp.where(step < optimizer.warm_steps, lr, own)

    return effective_lr
