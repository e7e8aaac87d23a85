"""The noise kernel norm K of minibatch training and the NTK trace at which it reaches 1, as plain float functions.

Source of the quantities: Agarwala and Pennington (2024), arXiv 2404.19261, and Mulayoff and Michaeli (2023),
arXiv 2306.07850, for the bound; the closed forms follow from the second moment of linearised training in the eigenbasis
of the Gauss-Newton matrix G, with delocalised eigenvectors: where all their squared entries are 1/n, training of a linear
model with one output is stable in mean square exactly while K < 1. Elsewhere K = 1 is near the edge, not on it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from runners.spec import EmaMomentum, HeavyBall, Optimizer, Sgd


@dataclass(frozen=True)
class Noise:
    """How strongly the sampling of batches stirs the parameters."""

    lr: float
    """Learning rate of the heavy-ball form; that of plain steps when momentum is 0."""
    momentum: float
    p: float
    """Variance factor of the batch mean: 0 with the full batch, 1/B for independent draws."""
    weight_decay: float = 0.0


def noise(optimizer: Optimizer, *, lr: float, num_examples: int, weight_decay: float = 0.0) -> Noise | None:
    """The noise of an optimizer's batches; None where no K is known.

    None is for Nesterov, the adaptive optimizers, users' own, and those whose step is not linear in the gradient: SAM, normalised
    and sign descent, Muon. EMA momentum is heavy ball with the learning rate (1 - b) lr.

    Args:
        optimizer: Its table in the spec.
        lr: Learning rate at this step.
        num_examples: n, the examples that batches are drawn from.
        weight_decay: rho of the loss's term (rho/2) |params|^2.
    """
    p = variance_factor(optimizer, num_examples)
    match optimizer:
        case Sgd():
            return Noise(lr, 0.0, p, weight_decay)
        case HeavyBall():
            return Noise(lr, optimizer.momentum, p, weight_decay)
        case EmaMomentum():
            return Noise((1 - optimizer.momentum) * lr, optimizer.momentum, p, weight_decay)
        case _:
            return None


def variance_factor(optimizer: Optimizer, num_examples: int) -> float:
    """p: the variance of a batch mean over that of one example drawn at random.

    (n - B) / (B (n - 1)) for B distinct examples, which is 0 at B = n; 1/B for independent draws. Epochs count as distinct
    examples: within an epoch batches are also dependent on each other, which no formula here knows.

    Source: Mulayoff and Michaeli (2023), arXiv 2306.07850, Theorem 3.
    """
    n, size = num_examples, optimizer.batch_size
    if size == "full" or n == 1:
        return 0.0
    return 1 / size if optimizer.sampling == "with_replacement" else (n - size) / (size * (n - 1))


def trace_part(noise: Noise, trace: float) -> float:
    """K for small lr: p lr tr(G) / (2 (1 - b)). At most K without weight decay and for p <= (1 - b) / (1 + b).

    Args:
        noise: The batches' noise.
        trace: tr G.
    """
    return noise.p * noise.lr * trace / (2 * (1 - noise.momentum))


def threshold(noise: Noise, *, num_outputs: int = 1) -> float | None:
    """The trace at which `trace_part`, per output, is 1: 2 C (1 - b) / (p lr); None without noise.

    Args:
        noise: The batches' noise.
        num_outputs: C, in the per-output convention; 1 in that of the sum.
    """
    if noise.p == 0 or noise.lr == 0:
        return None
    return num_outputs * 2 * (1 - noise.momentum) / (noise.p * noise.lr)


def kernel_norm(noise: Noise, eigenvalues: Sequence[float], *, trace: float) -> float:
    """K: each known eigenvalue of G exactly, the rest of the trace as small ones.

    K = sum_a w_a / (1 + w_a) with w_a = p (lr l_a)^2 (1 + b) / ((1 - b) h_a (2 (1 + b) - h_a)), h_a = lr (l_a + rho): the
    variance that mode a settles at under noise of p (lr l_a)^2 times the whole residual, less its own share, which with
    delocalised eigenvectors does not act on it. Plain steps without weight decay: K = p lr sum_a l_a / (2 - (1 - p) lr l_a).
    The rest of the trace enters by `trace_part`, its value for small lr (with weight decay an upper bound of it).

    Args:
        noise: The batches' noise.
        eigenvalues: l_a >= 0, the largest of G; negative ones, which are rounding errors, count as zero.
        trace: tr G, at least their sum.

    Returns:
        K, to be divided by the number of outputs in the per-output convention; infinite once a mode is unstable by itself,
        NaN where a measured number is.
    """
    if noise.p == 0:
        return 0.0
    known = [max(value, 0.0) for value in eigenvalues]  # max returns its first argument when that is NaN
    rest = max(trace - sum(known), 0.0)
    return sum(_mode(noise, value) for value in known) + trace_part(noise, rest)


def _mode(noise: Noise, value: float) -> float:
    b = noise.momentum
    h = noise.lr * (value + noise.weight_decay)
    strength = noise.p * (1 + b) * (noise.lr * value) * (noise.lr * value)
    damping = (1 - b) * h * (2 * (1 + b) - h)
    if strength == 0:
        return 0.0
    return math.inf if damping <= 0 else strength / (damping + strength)


def necessary_bound(noise: Noise, *, trace: float, frobenius: float, example_frobenius: float) -> float | None:
    """K_MM = lr / (2 tr G) ((1 - p) |G|_F^2 + p mean_i |G_i|_F^2): above 1 plain steps are unstable in mean square.

    Holds for any loss and number of outputs. None with momentum or weight decay, for which it is not derived.

    Args:
        noise: The batches' noise.
        trace: tr G.
        frobenius: |G|_F^2.
        example_frobenius: mean_i |G_i|_F^2.

    Source: Mulayoff and Michaeli (2023), arXiv 2306.07850, equation 16.
    """
    if noise.momentum or noise.weight_decay or trace == 0:
        return None
    return noise.lr / (2 * trace) * ((1 - noise.p) * frobenius + noise.p * example_frobenius)
