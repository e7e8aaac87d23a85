"""The semidefinite complementarity problem of a central flow: small dense matrices, solved on the host in float64.

Called by the flow runner, a few times a step. Knows nothing of losses or parameters.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

TOLERANCE = 1e-11
"""Of the complementarity gap and of the error in Z, in a problem scaled to numbers of order one."""
MAX_TURNS = 100
"""20 to 30 do."""
START = 10.0
"""X and Z begin at so many times the identity, in a problem scaled to numbers of order one: a path that begins too low stalls."""
CENTRING = 0.1
"""Share of the complementarity gap that a turn aims at; more after a turn that was cut short."""
TO_BOUNDARY = 0.95
"""Share of the way to the boundary of the cone that a turn goes at most."""


class Solution(NamedTuple):
    """A positive semidefinite X, and how far it is from complementary."""

    x: Float[np.ndarray, "k k"]
    residual: float
    """The larger of |<X, Z>| / tr X and minus the smallest eigenvalue of Z = A + B[X], in the units of A; 0 at the solution. The
    first is the slack that is left, on average, where X is."""


def pairs(k: int) -> list[tuple[int, int]]:
    """Places (i, j), i <= j, of a symmetric matrix; those of a leading block of any size come first."""
    return [(i, j) for j in range(k) for i in range(j + 1)]


def solve(constant: Float[np.ndarray, "k k"], quadratic: Float[np.ndarray, "pairs pairs"]) -> Solution:
    """X with X >= 0, Z = A + B[X] >= 0 and <X, Z> = 0; all are symmetric, and >= 0 speaks of eigenvalues.

    B is linear, symmetric and positive semidefinite, so that X minimises <X, B[X]> / 2 + <A, X> over X >= 0, which is convex.
    Solved by a primal-dual interior-point method, whose path is X Z = mu I. A turn takes Newton's step in the form
    (I + K B) dX = mu Z^-1 - X - K r with K[M] = (X M Z^-1 + Z^-1 M X) / 2, r = A + B[X] - Z and dZ = B[dX] + r; K and B are
    positive semidefinite, so that the system is never singular. Where A >= 0, X = 0.

    Args:
        constant: A.
        quadratic: Q with B[X]_ij = sum over all k, l of Q_(ij)(kl) X_kl, by the `pairs` of (i, j) and (k, l).

    Returns:
        X and its residual, some 1e-10 of A; of the order of A where no X makes Z positive semidefinite.

    Cost: 20 to 30 systems of as many linear equations as there are pairs.

    Source: Helmberg, Rendl, Vanderbei and Wolkowicz (1996), SIAM J. Optim. 6, 342, for this form of the step, there with B = 0.
    """
    k = len(constant)
    if float(np.linalg.eigvalsh(constant)[0]) >= 0:
        return Solution(np.zeros((k, k)), 0.0)
    basis = _basis(k)
    weights = np.array([1.0 if i == j else math.sqrt(2) for i, j in pairs(k)])
    form = quadratic * np.outer(weights, weights)
    # With X = D X' D, Z' = D Z D each diagonal pair takes of itself alike, however unlike the pairs are.
    own = np.array([quadratic[place, place] for place, (i, j) in enumerate(pairs(k)) if i == j])
    d = np.where(own > 0, own, 1.0) ** -0.25
    scaled = constant * np.outer(d, d)
    size, factors = float(np.linalg.norm(scaled)), np.array([d[i] * d[j] for i, j in pairs(k)])
    found = _followed(_coordinates(basis, scaled / size), form * np.outer(factors, factors), basis) * size * np.outer(d, d)
    slack = constant + _matrix(basis, form @ _coordinates(basis, found))
    trace = float(np.trace(found))
    gap = abs(float(np.sum(found * slack))) / trace if trace > 0 else 0.0
    return Solution(found, max(gap, -float(np.linalg.eigvalsh(slack)[0])))


def _followed(a: Float[np.ndarray, " pairs"], b: Float[np.ndarray, "pairs pairs"], basis: Float[np.ndarray, "pairs k k"]) -> np.ndarray:
    """The X at the end of the central path, of the problem in coordinates."""
    k = basis.shape[1]
    x, z = START * np.eye(k), START * np.eye(k)
    share = 1.0
    for _ in range(MAX_TURNS):
        residual = _matrix(basis, a + b @ _coordinates(basis, x)) - z
        gap = float(np.sum(x * z)) / k
        if gap <= TOLERANCE * max(1.0, float(np.trace(x))) and np.linalg.norm(residual) <= TOLERANCE:
            break
        inverse = np.linalg.inv(z)
        products = np.einsum("ij,pjl,lm->pim", x, basis, inverse)
        kernel = np.einsum("qij,pij->pq", products + products.transpose(0, 2, 1), basis) / 2
        r = _coordinates(basis, residual)
        right = _coordinates(basis, max(CENTRING, 1 - share) * gap * inverse - x) - kernel @ r
        change = np.linalg.solve(np.eye(len(a)) + kernel @ b, right)
        dx, dz = _matrix(basis, change), _matrix(basis, b @ change + r)
        share = min(_share(x, dx), _share(z, dz))
        x, z = x + share * dx, z + share * dz
    return x


def _share(matrix: Float[np.ndarray, "k k"], change: Float[np.ndarray, "k k"]) -> float:
    """How much of a change keeps a positive matrix positive, with a margin; at most 1."""
    root = np.linalg.inv(np.linalg.cholesky(matrix))
    lowest = float(np.linalg.eigvalsh(root @ change @ root.T)[0])
    return min(1.0, TO_BOUNDARY / -lowest) if lowest < 0 else 1.0


def _basis(k: int) -> Float[np.ndarray, "pairs k k"]:
    """An orthonormal basis of the symmetric matrices, in the order of `pairs`."""
    basis = np.zeros((k * (k + 1) // 2, k, k))
    for place, (i, j) in enumerate(pairs(k)):
        basis[place, i, j] = basis[place, j, i] = 1.0 if i == j else math.sqrt(0.5)
    return basis


def _coordinates(basis: Float[np.ndarray, "pairs k k"], matrix: Float[np.ndarray, "k k"]) -> Float[np.ndarray, " pairs"]:
    found: np.ndarray = np.einsum("pij,ij->p", basis, matrix)
    return found


def _matrix(basis: Float[np.ndarray, "pairs k k"], coordinates: Float[np.ndarray, " pairs"]) -> Float[np.ndarray, "k k"]:
    found: np.ndarray = np.einsum("pij,p->ij", basis, coordinates)
    return found
