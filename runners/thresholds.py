"""Where each optimizer's edge lies: the sharpness above which it is unstable on a quadratic, as plain float functions.

On a quadratic every optimizer that has an edge here is linear, and falls apart into one recursion of two terms for each eigenvalue of the
Hessian. The edge is the eigenvalue at which a root of its characteristic polynomial leaves the unit circle; for all of
them that root is z = -1, so each formula is that polynomial solved at -1. Adaptive optimizers are taken with their
preconditioner P held fixed, and their edge is that of the preconditioned sharpness, the largest eigenvalue of
P^-1/2 H P^-1/2. SAM and normalised gradient descent are taken with the norm of the gradient held fixed, gradient descent
on the root of the loss with the loss held fixed, and their edge moves with it. With a schedule the edge follows the
present learning rate. Must not import jax.
"""

import math

from runners.spec import (
    Adam,
    AdamW,
    CustomOptimizer,
    EmaMomentum,
    HeavyBall,
    Muon,
    Nesterov,
    NormalizedGd,
    Optimizer,
    RmsProp,
    Sam,
    Sgd,
    SignDescent,
    Transform,
)


def gradient_descent(lr: float) -> float:
    """Edge of x -= lr g: 2 / lr.

    z = 1 - lr s.

    Args:
        lr: Learning rate, > 0.

    Returns:
        The sharpness s at the edge; exact.

    Source: Cohen et al. (2021), arXiv 2103.00065.
    """
    return 2 / lr


def heavy_ball(lr: float, momentum: float) -> float:
    """Edge of m = b m + g, x -= lr m: (2 + 2b) / lr.

    z^2 - (1 + b - lr s) z + b = 0.

    Args:
        lr: Learning rate, > 0.
        momentum: b, in [0, 1).

    Returns:
        The sharpness s at the edge; exact.

    Source: Cohen et al. (2021), arXiv 2103.00065.
    """
    return (2 + 2 * momentum) / lr


def nesterov(lr: float, momentum: float) -> float:
    """Edge of m = b m + g, x -= lr (g + b m): (2 + 2b) / (lr (1 + 2b)).

    z^2 - (1 + b)(1 - lr s) z + b (1 - lr s) = 0.

    Args:
        lr: Learning rate, > 0.
        momentum: b, in [0, 1).

    Returns:
        The sharpness s at the edge; exact.

    Source: Cohen et al. (2021), arXiv 2103.00065.
    """
    return (2 + 2 * momentum) / (lr * (1 + 2 * momentum))


def ema_momentum(lr: float, momentum: float) -> float:
    """Edge of m = b m + (1 - b) g, x -= lr m: (2 + 2b) / ((1 - b) lr).

    Heavy ball with the learning rate (1 - b) lr.

    Args:
        lr: Learning rate, > 0.
        momentum: b, in [0, 1).

    Returns:
        The sharpness s at the edge; exact.

    Source: Cohen et al. (2022), arXiv 2207.14484, which uses it for Adam.
    """
    return (2 + 2 * momentum) / ((1 - momentum) * lr)


def adam(lr: float, beta1: float) -> float:
    """Edge of Adam's preconditioned sharpness: (2 + 2 b1) / ((1 - b1) lr).

    With P held fixed Adam is gradient descent with EMA momentum on P^-1 H; P carries the bias corrections.

    Args:
        lr: Learning rate, > 0.
        beta1: b1, in [0, 1).

    Returns:
        The preconditioned sharpness at the edge; exact for fixed P.

    Source: Cohen et al. (2022), arXiv 2207.14484.
    """
    return ema_momentum(lr, beta1)


def adamw(lr: float, beta1: float, *, decay: float) -> float:
    """Edge of AdamW's preconditioned sharpness: (2 - lr d)(1 + b1) / ((1 - b1) lr).

    The step x -= lr (m / P + d x) shrinks x by a = 1 - lr d beside Adam's update. With m eliminated,
    z^2 - (a + b1 - (1 - b1) lr s) z + a b1 = 0, whose root reaches -1 at (1 - b1) lr s = (1 + a)(1 + b1). The decay so
    lowers Adam's edge by d (1 + b1) / (1 - b1), whatever the learning rate.

    Args:
        lr: Learning rate, > 0.
        beta1: b1, in [0, 1).
        decay: d >= 0, the decoupled decay.

    Returns:
        The preconditioned sharpness at the edge; exact for fixed P. 0 or less when lr d >= 2: the decay alone diverges.

    Source: derived here.
    """
    return (2 - lr * decay) * (1 + beta1) / ((1 - beta1) * lr)


def rmsprop(lr: float) -> float:
    """Edge of RMSProp's preconditioned sharpness: 2 / lr.

    With P = sqrt(nu) + eps held fixed RMSProp is gradient descent on P^-1 H.

    Args:
        lr: Learning rate, > 0.

    Returns:
        The preconditioned sharpness at the edge; exact for fixed P.

    Source: Cohen et al. (2022), arXiv 2207.14484.
    """
    return gradient_descent(lr)


def normalized_gd(lr: float, grad_norm: float) -> float:
    """Edge of x -= lr g / |g|: 2 |g| / lr.

    Gradient descent with the learning rate lr / |g|. It moves with |g| from step to step: along the top eigenvector of a
    quadratic |g| + |g'| = lr s in consecutive steps, so that edge / s + edge' / s = 2. What stands at 1 is therefore the
    harmonic mean of the ratios s / edge of two consecutive steps, not each ratio, nor their arithmetic mean, which is
    above 1 unless both are 1.

    Args:
        lr: Learning rate, > 0, the length of a step.
        grad_norm: |g| at the same parameters as the sharpness, >= 0.

    Returns:
        The sharpness s at the edge; exact for fixed |g|.

    Source: Arora, Li and Panigrahi (2022), arXiv 2205.09745, for the pair of steps.
    """
    return gradient_descent(lr) * grad_norm


def sqrt_descent(lr: float, excess: float) -> float:
    """Edge of x -= lr grad sqrt(L - L_min), as one of the sharpness of L: 4 sqrt(L - L_min) / lr.

    Gradient descent on L with the learning rate lr / (2 sqrt(L - L_min)). It moves with L from step to step: along the top
    eigenvector of a quadratic sqrt(L - L_min) + sqrt(L' - L_min) = lr s / 2 in consecutive steps, so that, as for
    `normalized_gd`, the ratios s / edge of two consecutive steps have the harmonic mean 1.

    Args:
        lr: Learning rate, > 0.
        excess: L - L_min at the same parameters as the sharpness, >= 0.

    Returns:
        The sharpness s at the edge; exact for fixed L.

    Source: Arora, Li and Panigrahi (2022), arXiv 2205.09745, for gradient descent on sqrt(L); the pair of steps is derived here.
    """
    return 2 * gradient_descent(lr) * math.sqrt(excess)


def sam(lr: float, rho: float, *, grad_norm: float) -> float:
    """Edge of x -= lr g(x + rho g / |g|): (|g| / (2 rho)) (sqrt(1 + 8 rho / (lr |g|)) - 1).

    With |g| held fixed z = 1 - lr s (1 + rho s / |g|). It is evaluated as 4 / (lr (1 + sqrt(1 + 8 rho / (lr |g|)))), the
    same number without the difference of two that are nearly equal; at rho = 0 it is 2 / lr.

    Args:
        lr: Learning rate, > 0.
        rho: Length of the ascent, >= 0.
        grad_norm: |g| at the unperturbed parameters, > 0.

    Returns:
        The sharpness s at the edge, at most 2 / lr; exact for fixed |g|.

    Source: Long and Bartlett (2023), arXiv 2309.12488.
    """
    return 4 / (lr * (1 + math.sqrt(1 + 8 * rho / (lr * grad_norm))))


def threshold(
    optimizer: Optimizer,
    lr: float,
    *,
    transform: Transform = "none",
    grad_norm: float | None = None,
    excess: float | None = None,
    step: int | None = None,
) -> float | None:
    """The edge of an optimizer at a learning rate; of gradient descent while that is its warm start.

    Sign descent and Muon have none: what stands at their edge is the largest curvature in another norm (that of the largest
    entry, the spectral one), which no eigenvalue is. A user's chain has Adam's once its beta1 is stated: that of the
    preconditioned sharpness where it has a preconditioner, else, with P = 1, of the sharpness.

    Args:
        optimizer: The spec's table; of its learning rate only `lr` counts.
        lr: The present learning rate, >= 0.
        transform: Of the loss, before it is descended; only plain gradient descent has an edge with one.
        grad_norm: Norm of the gradient where the sharpness is measured, >= 0; None when unknown. Only SAM and normalised
            gradient descent need it.
        excess: L - L_min there; None when unknown. Only the root of the loss needs it.
        step: At which; None for after a warm start.

    Returns:
        The edge of the sharpness, of the preconditioned one for Adam, AdamW and RMSProp. None when there is none above
        zero: while lr is 0 every sharpness is stable, and from lr decoupled_decay = 2 on none is. None too where none is
        known: for sign descent and Muon, for a user's chain that states no beta1, and for those that need a gradient or an
        excess when it is unknown or 0.
    """
    if lr == 0:
        return None
    if step is not None and step < optimizer.warm_steps:
        return gradient_descent(lr)
    if transform == "sqrt":
        return sqrt_descent(lr, excess) if isinstance(optimizer, Sgd) and excess is not None and excess > 0 else None
    match optimizer:
        case Sgd():
            return gradient_descent(lr)
        case HeavyBall(momentum=b):
            return heavy_ball(lr, b)
        case Nesterov(momentum=b):
            return nesterov(lr, b)
        case EmaMomentum(momentum=b):
            return ema_momentum(lr, b)
        case AdamW(beta1=b, decoupled_decay=d):
            return adamw(lr, b, decay=d) if lr * d < 2 else None
        case Adam(beta1=b):
            return adam(lr, b)
        case RmsProp():
            return rmsprop(lr)
        case NormalizedGd():
            return normalized_gd(lr, grad_norm) if grad_norm else None
        case Sam(rho=rho):
            return sam(lr, rho, grad_norm=grad_norm) if grad_norm else None
        case CustomOptimizer(beta1=b):
            return None if b is None else adam(lr, b)
        case SignDescent() | Muon():
            return None


def moves(optimizer: Optimizer, transform: Transform = "none") -> bool:
    """Whether the edge depends on where the parameters are: on the loss or the norm of its gradient."""
    return transform == "sqrt" or isinstance(optimizer, NormalizedGd | Sam)


def formula(optimizer: Optimizer, transform: Transform = "none", *, step: int | None = None) -> str | None:
    """The edge of an optimizer as a formula; None when none is known.

    Its symbols are lr, b (momentum), b1 (beta1), d (decoupled_decay), rho, |g|, the norm of the gradient, and L and L_min, the loss and
    the least that it can be.

    Args:
        optimizer: The spec's table.
        transform: Of the loss, before it is descended.
        step: At which; when absent, with a warm start, the edge of that and then the optimizer's own.
    """
    if step is None and optimizer.warm_steps:
        return f"2/lr, then {formula(optimizer, transform, step=optimizer.warm_steps)}"
    if step is not None and step < optimizer.warm_steps:
        return "2/lr"
    if transform == "sqrt":
        return "4sqrt(L-L_min)/lr" if isinstance(optimizer, Sgd) else None
    match optimizer:
        case Sgd() | RmsProp():
            return "2/lr"
        case HeavyBall():
            return "(2+2b)/lr"
        case Nesterov():
            return "(2+2b)/(lr(1+2b))"
        case EmaMomentum():
            return "(2+2b)/((1-b)lr)"
        case AdamW():
            return "(2-lr d)(1+b1)/((1-b1)lr)"
        case Adam():
            return "(2+2b1)/((1-b1)lr)"
        case CustomOptimizer(beta1=b):
            return None if b is None else "(2+2b1)/((1-b1)lr)"
        case NormalizedGd():
            return "2|g|/lr"
        case Sam():
            return "4/(lr(1+sqrt(1+8rho/(lr|g|))))"
        case SignDescent() | Muon():
            return None
