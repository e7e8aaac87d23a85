"""The noise kernel norm K of minibatch training and the NTK trace at which it reaches 1, as plain float functions.

Source of the quantities: Agarwala and Pennington (2024), arXiv 2404.19261, and Mulayoff and Michaeli (2023),
arXiv 2306.07850, for the bound; the closed forms follow from the second moment of linearised training in the eigenbasis
of the Gauss-Newton matrix G, with delocalised eigenvectors: where all their squared entries are 1/n, training of a linear
model with one output is stable in mean square exactly while K < 1. Elsewhere K = 1 is near the edge, not on it.

Adaptive optimizers are taken with their preconditioner P held fixed, as by their edge of the sharpness. In the coordinates P^1/2 x the
update x -= lr P^-1 m divides by nothing, and the Jacobian J becomes J P^-1/2; residuals, and the noise that a batch makes of them,
are what they were. So K is that of P^-1/2 G P^-1/2. Derived; how P itself moves with the batches is not in it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from runners.spec import Adam, AdamW, CustomOptimizer, EmaMomentum, HeavyBall, Nesterov, Optimizer, RmsProp, Sgd

TAIL_EDGE = 2.0
"""The tail index below which the variance is infinite."""
LEAST_RANK = 0.99
"""A trace over the largest eigenvalue that is 1 but for errors."""


@dataclass(frozen=True)
class Noise:
    """How strongly the sampling of batches stirs the parameters, for updates m = b m + g, x = a x - lr m."""

    lr: float
    """Learning rate of the heavy-ball form; that of plain steps when momentum is 0."""
    momentum: float
    p: float
    """Variance factor of the batch mean: 0 with the full batch, 1/B for independent draws."""
    weight_decay: float = 0.0
    """rho of the loss's term (rho/2) |params|^2."""
    shrinkage: float = 0.0
    """1 - a: by what share a step shrinks the parameters beside all that the gradient does."""
    nesterov: bool = False
    """Whether x -= lr (g + b m) instead, as by Nesterov; without shrinkage."""

    @property
    def strength(self) -> float:
        """What p is with momentum: s = p (1 + a b) / (1 - a b)."""
        kept = (1 - self.shrinkage) * self.momentum
        return self.p * (1 + kept) / (1 - kept)

    @property
    def damping(self) -> float:
        """What decay adds to lr l in the damping of a mode: d = (1 - a)(1 - b) + lr rho, 0 without decay."""
        return self.shrinkage * (1 - self.momentum) + self.lr * self.weight_decay

    @property
    def edge(self) -> float:
        """The lr l from which on a mode is unstable by itself: e = (1 + a)(1 + b) - lr rho; Nesterov's 2 (1 + b) / (1 + 2 b) - lr rho."""
        largest = (2 - self.shrinkage) * (1 + self.momentum)
        return (largest / (1 + 2 * self.momentum) if self.nesterov else largest) - self.lr * self.weight_decay


def noise(optimizer: Optimizer, *, lr: float, num_examples: int, weight_decay: float = 0.0) -> Noise | None:
    """The noise of an optimizer's batches; None where no K is known.

    EMA momentum is heavy ball with the learning rate (1 - b) lr. So is Adam on P^-1/2 G P^-1/2, and RMSProp makes plain steps there: lr
    is not part of P, Adam's bias corrections are. AdamW's decoupled decay d is the factor a = 1 - lr d on every parameter, which P
    does not divide, and so on every mode.

    None is for users' chains that do not state their beta1, and for those whose step is not linear in the gradient: SAM, normalised
    and sign descent, Muon. None too for a preconditioner and weight decay of the loss together: the decay becomes rho P^-1, whose
    eigenvectors are not those of P^-1/2 G P^-1/2, so that its modes do not fall apart.

    Args:
        optimizer: Its table in the spec.
        lr: Learning rate at this step.
        num_examples: n, the examples that batches are drawn from.
        weight_decay: rho of the loss's term (rho/2) |params|^2.

    Returns:
        The noise of G, for Adam, AdamW and RMSProp of P^-1/2 G P^-1/2, for users' chains of the latter if they have a P.
    """
    p = variance_factor(optimizer, num_examples)
    if weight_decay and isinstance(optimizer, Adam | RmsProp | CustomOptimizer):
        return None
    match optimizer:
        case Sgd():
            return Noise(lr, 0.0, p, weight_decay)
        case HeavyBall():
            return Noise(lr, optimizer.momentum, p, weight_decay)
        case Nesterov():
            return Noise(lr, optimizer.momentum, p, weight_decay, nesterov=True)
        case EmaMomentum():
            return Noise((1 - optimizer.momentum) * lr, optimizer.momentum, p, weight_decay)
        case AdamW(beta1=b, decoupled_decay=decay):
            return Noise((1 - b) * lr, b, p, shrinkage=lr * decay)
        case Adam(beta1=b) | CustomOptimizer(beta1=float() as b):
            return Noise((1 - b) * lr, b, p)
        case RmsProp():
            return Noise(lr, 0.0, p)
        case _:
            return None


def is_known(optimizer: Optimizer, *, weight_decay: float = 0.0) -> bool:
    """Whether there is a K of an optimizer's batches; see `noise`."""
    return noise(optimizer, lr=1.0, num_examples=1, weight_decay=weight_decay) is not None


def variance_factor(optimizer: Optimizer, num_examples: int) -> float:
    """p: the variance of a batch mean over that of one example drawn at random.

    (n - B) / (B (n - 1)) for B distinct examples, which is 0 at B = n; 1/B for independent draws. Epochs count as distinct
    examples: within an epoch batches are also dependent on each other, which no formula here knows.

    Source: Mulayoff and Michaeli (2023), arXiv 2306.07850, Theorem 3.
    """
    n, size = num_examples, optimizer.drawn
    if size == "full" or n == 1:
        return 0.0
    return 1 / size if optimizer.sampling == "with_replacement" else (n - size) / (size * (n - 1))


def crossover_batch(
    optimizer: Optimizer, *, lr: float, trace: float, largest: float, num_examples: int, num_outputs: int = 1
) -> float | None:
    """B_c: the batch size at which `trace_part` is as far from 1 as the largest eigenvalue from the optimizer's edge of it.

    With smaller batches the noise is nearer to its edge and lr / B counts, with larger ones the curvature and lr alone. The two are
    p lr tr(G) / (2 (1 - b) C) and lr l_1 / e, equal at p = x = 2 (1 - b) C l_1 / (e tr(G)), so that B_c is 1 / x for independent
    draws and n / (1 + x (n - 1)) for distinct examples; without momentum, where e = 2, and for many examples tr(G) / (C l_1).

    Args:
        optimizer: Its table in the spec.
        lr: Learning rate at this step; counts with decoupled decay alone.
        trace: tr G > 0, for an adaptive optimizer of its preconditioned G, as all here.
        largest: l_1 > 0, the largest eigenvalue of G.
        num_examples: n, the examples that batches are drawn from.
        num_outputs: C, in the per-output convention; 1 in that of the sum.

    Returns:
        Examples, below 1 where not even single ones make noise enough; None where no K is known.
    """
    noise_of = noise(optimizer, lr=lr, num_examples=num_examples)
    if noise_of is None or not trace > 0 or not largest > 0 or not noise_of.edge > 0:
        return None
    share = 2 * (1 - noise_of.momentum) * num_outputs * largest / (noise_of.edge * trace)
    return 1 / share if optimizer.sampling == "with_replacement" else num_examples / (1 + share * (num_examples - 1))


def trace_part(noise: Noise, trace: float) -> float:
    """K for small lr: p lr tr(G) / (2 (1 - b)). At most K without decay and for p <= (1 - b) / (1 + b), Nesterov aside.

    Args:
        noise: The batches' noise.
        trace: tr G.
    """
    return noise.p * noise.lr * trace / (2 * (1 - noise.momentum))


def tail_bounds(kernel: float, effective_rank: float) -> tuple[float | None, float] | None:
    """What the tail index of homogenised SGD on least squares lies between: 2 + r (1 / K - 1) and 1 + r / K.

    The index is the supremum of the p for which the parameters' p-th moment stays finite, of the diffusion that stands for SGD and not
    of SGD itself. It is 2 at K = 1 (derived): from there on the lower bound is none, and the upper one 2 at most.

    Args:
        kernel: K by `trace_part`, per output: with several outputs of one kernel each is a problem of its own with the same batches.
        effective_rank: r >= 1, the trace of G, per output as K, over its largest eigenvalue.

    Returns:
        Lower, None where it is no bound, and upper; None without noise, where a number is not one, or where r is below 1, as it may be with
        several outputs that share no kernel.

    Source: Jiao and Keller-Ressel (2024), arXiv 2402.01382, in these terms here, without ridge; see `theory/tail_index.py`.
    """
    if not (kernel > 0 and effective_rank > LEAST_RANK):
        return None
    upper = 1 + effective_rank / kernel
    return (upper - max(effective_rank - 1, 0.0), upper) if kernel < 1 else (None, min(upper, TAIL_EDGE))


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

    K = sum_a w_a / (1 + w_a) with w_a = s h_a^2 / ((d + h_a)(e - h_a)), h_a = lr l_a, and s, d, e as `Noise` has them: the
    variance that mode a settles at under noise of p h_a^2 times the whole residual, less its own share, which with
    delocalised eigenvectors does not act on it. Derived: with m eliminated the mode follows

        z'' = phi z' - a b z + noise,    phi = a + b - lr (l + rho),

    whose variance is that of the noise times (1 + a b) / ((1 - a b)(1 + a b - phi)(1 + a b + phi)), and 1 + a b - phi = d + h,
    1 + a b + phi = e - h. Plain steps without decay: K = p lr sum_a l_a / (2 - (1 - p) lr l_a). The rest of the trace enters
    by `trace_part`, its value for small lr (with decay an upper bound of it).

    Nesterov takes the gradient's noise twice, by 1 + b in its own step and by -b in the next, as with y = x - lr g(x) it is
    x' = y' + b (y' - y). With q = 1 - lr (l + rho) and noise e' of the step itself and e of the one before

        z'' = (1 + b) q z' - b q z + (1 + b) e' - b e,

    whose variance is that of the noise times ((1 + b q)((1 + b)^2 + b^2) - 2 b (1 + b)^2 q) / ((1 - b q)(1 - q)(1 + (1 + 2 b) q)):

        w_a = p h_a^2 (1 + 2 b + 2 b^2 - b (1 + 2 b) q_a) / ((1 - b q_a)(d + h_a)(1 + 2 b)(e - h_a)),

    since (1 + b q)(1 + 2 b + 2 b^2) - 2 b (1 + b)^2 q = 1 + 2 b + 2 b^2 - b (1 + 2 b) q.

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


def kernel_norm_error(
    noise: Noise,
    eigenvalues: Sequence[float],
    *,
    trace: float,
    errors: Sequence[float],
    sem: float,
    rank: int,
    frobenius: float | None = None,
) -> float | None:
    """How far K of the whole spectrum may be from `kernel_norm`, where the trace is off by its standard error.

    The sum of three parts. With f(l) = w / (1 + w) the part of K that an eigenvalue has, c = p lr / (2 (1 - b)) the slope of
    `trace_part`, and R the trace less the known eigenvalues:

    - the trace: c times its standard error, and times what it lacks to the sum of the known eigenvalues;
    - the known eigenvalues, which move from the rest to their own terms: the larger |f(l +- e) - f(l) -+ c e| of each;
    - the rest, r - k eigenvalues between 0 and t, the smallest known one plus its error, whose sum is R: `kernel_norm` takes c R
      for the sum of their f. With h = lr l,

          f(l) = s h^2 / (d e + (e - d) h - (1 - s) h^2).

      For s <= 1 the denominator is concave and positive, so that f is convex, with f(0) = 0: the sum is at most R f(t) / t, when
      all that are not 0 equal t, and at least (r - k) f(R / (r - k)), when all are equal. For s > 1 without decay f is concave
      and the two change places; with it, 0 <= f(l) <= s h / e. The further end counts, at the largest R that the errors allow.
      Without decay f(l) - c l = c (1 - s) l h / (e - (1 - s) h), so that where |G|_F^2 is known the squares of the rest
      bound the sum as well: it is off by at most c |1 - s| lr / (e - max(1 - s, 0) lr t) times |G|_F^2 less the known squares.

    An eigenvalue above t that the solver has missed, and measured examples that differ from the training examples, show in none.

    Args:
        noise: The batches' noise.
        eigenvalues: l_a, as `kernel_norm` has them.
        trace: tr G.
        errors: e_a, of each of them.
        sem: Standard error of the trace; 0 when it is exact.
        rank: r, the most eigenvalues of G that are not 0: the smaller of parameters and examples times outputs.
        frobenius: |G|_F^2, with its standard error added; None where it is not known.

    Nesterov's f is neither. Without decay f(l) / l = p lr N(h) / D(h) with N = n + m h, n = 1 + b, m = b (1 + 2 b), and
    D = (1 - b + b h)(2 (1 + b) - (1 + 2 b) h) + p h N. Its derivative has the sign of an increasing function of h >= 0,

        m D(0) - n D'(0) + (1 - p) m (2 n h + m h^2),

    so that it is largest at one end of [0, t] and least where that vanishes or at the other: the rest is off by R times the
    larger distance from c. With decay no bound is known.

    Returns:
        In the unit of `kernel_norm`; None where it has no bound, as where K is infinite, an eigenvalue may be past its edge, or a
        number is not one.
    """
    if noise.p == 0 or noise.lr == 0:
        return 0.0
    slope = trace_part(noise, 1.0)
    known = [(max(value, 0.0), error) for value, error in zip(eigenvalues, errors, strict=True)]
    excess = sum(value for value, _ in known) - trace
    rest = max(-excess, 0.0) + sem + sum(errors)
    limit = min((value + error for value, error in known), default=rest)
    squares = None if frobenius is None else max(frobenius - sum(value**2 for value, _ in known), 0.0)
    moved = sum(_moved(noise, value, error, slope=slope) for value, error in known)
    unknown = _rest_error(noise, rest, limit=limit, count=max(rank - len(known), 1))
    if squares is not None and noise.damping == 0 and not noise.nesterov:
        unknown = min(unknown, slope * squares * _curving(noise, limit))
    total = slope * (sem + max(excess, 0.0)) + moved + unknown
    return total if math.isfinite(total) else None


def _moved(noise: Noise, value: float, error: float, *, slope: float) -> float:
    changes = (error, -min(error, value))
    return max(abs(_mode(noise, value + change) - _mode(noise, value) - slope * change) for change in changes)


def _rest_error(noise: Noise, rest: float, *, limit: float, count: int) -> float:
    """The furthest that `trace_part` of the rest can be from its eigenvalues' part of K."""
    if rest == 0:
        return 0.0
    if noise.nesterov:
        return _rest_error_of_nesterov(noise, rest, limit=limit)
    if noise.strength > 1 and noise.damping:
        ends = [0.0, rest * noise.strength * noise.lr / noise.edge if noise.edge > 0 else math.inf]
    else:
        limit = max(limit, rest / count)
        ends = [rest * _mode(noise, limit) / limit, count * _mode(noise, rest / count)]
    return max(abs(end - trace_part(noise, rest)) for end in ends)


def _rest_error_of_nesterov(noise: Noise, rest: float, *, limit: float) -> float:
    b, slope = noise.momentum, trace_part(noise, 1.0)
    if noise.damping or limit == 0:
        return math.inf
    places = [limit]
    if b > 0 and noise.p < 1:
        n, m = 1 + b, b * (1 + 2 * b)
        falling = n * (2 * b * (1 + b) - (1 - b) * (1 + 2 * b) + noise.p * n) - m * 2 * (1 - b) * (1 + b)
        if falling > 0:
            lowest = (math.sqrt(n * n + falling / (1 - noise.p)) - n) / m
            places.append(min(lowest / noise.lr, limit))
    return rest * max(abs(_mode(noise, place) / place - slope) for place in places)


def _curving(noise: Noise, limit: float) -> float:
    """The most that |f(l) - c l| is of c l^2 for l up to the limit."""
    bend = 1 - noise.strength
    room = noise.edge - max(bend, 0.0) * noise.lr * limit
    return abs(bend) * noise.lr / room if room > 0 else math.inf


def _mode(noise: Noise, value: float) -> float:
    h = noise.lr * value
    strength = noise.strength * h * h
    if noise.nesterov:
        b, q = noise.momentum, 1 - h - noise.damping
        strength = noise.p * h * h * (1 + 2 * b + 2 * b * b - b * (1 + 2 * b) * q) / ((1 - b * q) * (1 + 2 * b))
    damping = (noise.damping + h) * (noise.edge - h)
    if strength == 0:
        return 0.0
    return math.inf if damping <= 0 else strength / (damping + strength)


def necessary_bound(noise: Noise, *, trace: float, frobenius: float, example_frobenius: float) -> float | None:
    """K_MM = lr / (2 tr G) ((1 - p) |G|_F^2 + p mean_i |G_i|_F^2): above 1 plain steps are unstable in mean square.

    Holds for any loss and number of outputs. None with momentum or decay, for which it is not derived.

    Args:
        noise: The batches' noise.
        trace: tr G.
        frobenius: |G|_F^2.
        example_frobenius: mean_i |G_i|_F^2.

    Source: Mulayoff and Michaeli (2023), arXiv 2306.07850, equation 16.
    """
    if noise.momentum or noise.damping or trace == 0:
        return None
    return noise.lr / (2 * trace) * ((1 - noise.p) * frobenius + noise.p * example_frobenius)
