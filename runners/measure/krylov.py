"""Largest signed eigenvalues of a symmetric operator: warm-started, adaptive, fully reorthogonalised.

Called by the meters inside their jitted measurement. The solver is one `lax.while_loop` over a basis of fixed size: it
compiles once, and no product is dispatched from Python. Knows vectors and products only, nothing of models.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

Product: TypeAlias = Callable[[Float[Array, " dim"]], Float[Array, " dim"]]
"""v -> A v for a symmetric A."""

GUARD_VECTORS = 2
"""Ritz vectors kept from one measurement to the next beyond those asked for. With one, a pair that crosses at the edge
was mistaken by 1.5 % on digits."""
NEAR = 10.0
"""Tolerances below the last asked value within which the next lower one is followed too. At the edge several eigenvalues
lie within 1 % and cross; one that is not followed is missed when it comes out on top, and for many measurements after."""
BASIS_VECTORS = 20
"""Basis vectors beyond three for each eigenvalue asked for; a full basis restarts from its best Ritz vectors."""
BASIS_BYTES = 2**30
"""What basis and images may take together; large models restart more often instead."""
REFRESH = 0.1
"""Norm of the random vector that is mixed into the last of the kept Ritz vectors, which have norm 1."""
ROUNDING = 10.0
"""Errors below so many rounding errors of the operator's norm count as none."""


class EigenResult(NamedTuple):
    """The k largest eigenvalues found, from the largest down, and how good they are."""

    values: Float[Array, " k"]
    vectors: Float[Array, "k dim"]
    """Unit vectors."""
    residuals: Float[Array, " k"]
    """|A v - value v| of each: some eigenvalue lies within it."""
    errors: Float[Array, " k"]
    """min(r, r^2 / gap) of each, with the gap to the largest Ritz value that is not followed."""
    num_products: Int[Array, ""]
    converged: Bool[Array, ""]
    known: Float[Array, ""]
    """Share of the top eigenvector's square that lies along the start's vectors: near 0 when it is one that they did not know.
    1 without a start."""
    start: Float[Array, "kept dim"]
    """What the next measurement starts from."""


class _Search(NamedTuple):
    """State of the loop. Rows of the basis from `size` on are zero."""

    basis: Float[Array, "rows dim"]
    images: Float[Array, "rows dim"]
    """A times the basis."""
    projection: Float[Array, "rows rows"]
    """basis A basis^T."""
    size: Int[Array, ""]
    num_products: Int[Array, ""]
    ritz_values: Float[Array, " rows"]
    """From the largest down; beyond `size` below all others."""
    ritz_vectors: Float[Array, "rows rows"]
    """Coordinates in the basis, one Ritz vector a row."""
    residuals: Float[Array, " k"]
    errors: Float[Array, " k"]
    expansion: Float[Array, " dim"]
    """Residual of the Ritz pair that lacks most, over the operator's norm."""
    lowest: Float[Array, ""]
    """Smallest Ritz value."""
    done: Bool[Array, ""]
    """All k are good enough."""
    finite: Bool[Array, ""]
    """The operator gave finite numbers only."""


def no_start(dim: int, k: int, *, dtype: jnp.dtype) -> Float[Array, "kept dim"]:
    """What the first measurement starts from: zeros, which the solver replaces by random vectors."""
    return jnp.asarray(np.zeros((min(k + GUARD_VECTORS, dim), dim), dtype))  # jnp.zeros would be a program of its own


def largest_eigenvalues(
    product: Product,
    start: Float[Array, "kept dim"],
    *,
    k: int,
    tolerance: float,
    max_products: int,
    key: Key[Array, ""],
) -> EigenResult:
    """The k largest signed eigenvalues of a symmetric operator, to a relative tolerance.

    Rayleigh-Ritz on a growing orthonormal basis: first the start's vectors, then, one at a time, the residual of the
    Ritz pair that lacks most, orthogonalised twice against the basis: Davidson's method without a preconditioner, which
    from one vector is Lanczos. A full basis is compressed to its best Ritz vectors. A value is good enough when
    min(r, r^2 / gap) <= tolerance |value|, with a floor of a few rounding errors of the operator's norm. r^2 / gap is Kato
    and Temple's bound, with the gap to the largest Ritz value that is not followed. Followed are the asked values, and the
    next lower one when it is near: it has to be good as well, since it may be the one that comes out on top. Without a start
    all that will be kept have to be found as well, to a residual of `NEAR` tolerances: a random vector may have next to nothing
    of the top eigenvector, and the second value then passes for the first. On digits that happened in 8 of 240 solves (errors up
    to 2 %), and in none of 360 with this rule, which takes 20 to 45 products there.

    A start that is orthogonal to an eigenvector that has meanwhile become the largest cannot see it, whatever is added
    from its own residuals. So a random vector of norm `REFRESH` is added to the last vector that is kept; what is kept are
    not the Ritz vectors v but (A + shift) v, a power step at no product more; and when all else is good, the residual of
    the last Ritz vector kept is added before the solve ends. The overtaking eigenvector grows in that vector from one
    measurement to the next until Rayleigh-Ritz picks it.

    An eigenvalue that crosses unseen is still possible, and no residual can tell: `benchmarks/sharpness_products.py` says how
    often on digits.

    Args:
        product: v -> A v on vectors of length dim.
        start: What the previous measurement left, or `no_start`.
        k: Eigenvalues asked for, from the largest down; min(k, dim) come back.
        tolerance: Relative error asked of each.
        max_products: Products after which to give up.
        key: For the random vectors.

    Returns:
        Values with residuals, which come from the stored images of the basis (true products, to rounding), and
        `converged`. A value is NaN and `converged` false when the operator gives a number that is not finite.

    Cost: `num_products` products, and about 8 passes over the basis for each.
    """
    dim = start.shape[1]
    solver = _Solver(product, start, k=min(k, dim), tolerance=tolerance, max_products=max_products, key=key)
    with jax.default_matmul_precision("highest"):
        return solver.solve()


class _Solver:
    """What stays the same during one solve."""

    def __init__(
        self, product: Product, start: Float[Array, "kept dim"], *, k: int, tolerance: float, max_products: int, key: Key[Array, ""]
    ) -> None:
        self.product = product
        self.start = start
        self.k = k
        self.tolerance = tolerance
        self.max_products = max_products
        self.key = key
        self.kept, self.dim = start.shape
        self.is_cold = ~jnp.any(start)
        """There is no start."""
        self.epsilon = float(jnp.finfo(start.dtype).eps)
        fitting = BASIS_BYTES // (2 * self.dim * start.dtype.itemsize)
        self.rows = min(self.dim, max(self.kept + 2, min(BASIS_VECTORS + 3 * k, fitting)))

    def solve(self) -> EigenResult:
        """Expand until done, compressing the basis whenever it is full, and at the end."""
        search = jax.lax.while_loop(
            self.is_on, lambda s: self.compressed(jax.lax.while_loop(self.has_room, self.expanded, s)), self.initial()
        )
        values = jnp.where(search.finite, search.ritz_values[: self.k], jnp.nan)
        return EigenResult(
            values=values,
            vectors=search.basis[: self.k],
            residuals=search.residuals,
            errors=search.errors,
            num_products=search.num_products,
            converged=search.done & search.finite,
            known=jnp.where(self.is_cold, 1, jnp.sum((jax.vmap(_unit)(self.start) @ search.basis[0]) ** 2)),
            start=jnp.where(search.finite, self.next_start(search), self.start),
        )

    def initial(self) -> _Search:
        """Nothing known yet."""
        dtype = self.start.dtype
        rows = jnp.zeros((self.rows, self.dim), dtype)
        square = jnp.zeros((self.rows, self.rows), dtype)
        unknown = jnp.full(self.k, jnp.inf, dtype)
        return _Search(
            basis=rows,
            images=rows,
            projection=square,
            size=jnp.int32(0),
            num_products=jnp.int32(0),
            ritz_values=jnp.zeros(self.rows, dtype),
            ritz_vectors=square,
            residuals=unknown,
            errors=unknown,
            expansion=jnp.zeros(self.dim, dtype),
            lowest=jnp.zeros((), dtype),
            done=jnp.array(False),
            finite=jnp.array(True),
        )

    def is_on(self, search: _Search) -> Bool[Array, ""]:
        """Whether to go on expanding."""
        return ~search.done & search.finite & (search.num_products < self.max_products)

    def has_room(self, search: _Search) -> Bool[Array, ""]:
        """Whether to go on expanding without compressing first."""
        return self.is_on(search) & (search.size < self.rows)

    def expanded(self, search: _Search) -> _Search:
        """One vector and one product more, and the Ritz pairs of the larger basis."""
        vector = self.direction(search)
        image = self.product(vector)
        basis = search.basis.at[search.size].set(vector)
        images = search.images.at[search.size].set(image)
        overlaps = basis @ image
        projection = search.projection.at[search.size].set(overlaps).at[:, search.size].set(overlaps)
        return self.with_ritz_pairs(
            search._replace(basis=basis, images=images, projection=projection, size=search.size + 1, num_products=search.num_products + 1)
        )

    def direction(self, search: _Search) -> Float[Array, " dim"]:
        """Next basis vector: of the start, then residuals; a random one where these add nothing."""
        wanted = jnp.where(search.num_products < self.kept, self.start[search.num_products % self.kept], search.expansion)
        vector, fresh = orthogonalized(wanted, search.basis)
        random = jax.random.normal(jax.random.fold_in(self.key, search.num_products), (self.dim,), self.start.dtype)
        adds_nothing = fresh <= jnp.maximum(ROUNDING * self.epsilon, 1e-3 * jnp.linalg.norm(wanted))
        chosen: Array = jax.lax.cond(adds_nothing, lambda: orthogonalized(random, search.basis)[0], lambda: vector)
        return chosen

    def with_ritz_pairs(self, search: _Search) -> _Search:
        """Ritz pairs of the basis, their residuals and errors, and where to go next."""
        finite = jnp.all(jnp.isfinite(search.projection))
        values, coordinates = _ritz_pairs(jnp.where(finite, search.projection, 0), search.size)
        valid = jnp.arange(self.rows) < search.size
        norm = jnp.max(jnp.where(valid, jnp.abs(values), 0))
        tops = slice(0, self.kept)
        differences = coordinates[tops] @ search.images - values[tops, None] * (coordinates[tops] @ search.basis)
        residuals = jnp.linalg.norm(differences, axis=1)
        errors, lacking = self.judged(values, residuals, valid=valid, norm=norm)
        is_good = jnp.all(lacking <= 1)
        wanted = jnp.where(is_good, self.kept - 1, jnp.argmax(lacking))
        exhausted = search.size == self.dim
        return search._replace(
            ritz_values=values,
            ritz_vectors=coordinates,
            residuals=residuals[: self.k],
            errors=errors,
            expansion=differences[wanted] / jnp.where(norm > 0, norm, 1),
            lowest=jnp.min(jnp.where(valid, values, jnp.inf)),
            done=exhausted | (is_good & (search.num_products > self.kept)),
            finite=finite & jnp.all(jnp.isfinite(residuals)),
        )

    def judged(
        self, values: Float[Array, " rows"], residuals: Float[Array, " kept"], *, valid: Bool[Array, " rows"], norm: Float[Array, ""]
    ) -> tuple[Float[Array, " k"], Float[Array, " judged"]]:
        """Errors of the asked values, and error over the error allowed, of these and of the next lower values."""
        k = self.k
        lower = jnp.append(jnp.where(valid, values, jnp.nan), jnp.full(2, jnp.nan, values.dtype))
        allowed = self.tolerance * jnp.abs(values[:k]) + ROUNDING * self.epsilon * norm
        next_error = _error(jnp.append(residuals, 0)[k], lower[k] - lower[k + 1])
        is_near = lower[k] + next_error >= values[k - 1] - NEAR * allowed[k - 1]
        errors = _error(residuals[:k], values[:k] - jnp.where(is_near, lower[k + 1], lower[k]))
        errors = jnp.where(valid[:k], errors, jnp.inf)
        lacking = jnp.append(errors, jnp.where(is_near, next_error, 0)) / jnp.append(allowed, allowed[-1])
        lacking = jnp.append(lacking, jnp.zeros(self.kept - k, values.dtype))
        guards = jnp.append(residuals, 0) / (NEAR * allowed[-1])
        lacking = jnp.where(self.is_cold, jnp.maximum(lacking, guards), lacking)
        return errors, jnp.where(jnp.isnan(lacking), 0, lacking)

    def compressed(self, search: _Search) -> _Search:
        """The basis rotated to Ritz vectors, of which only the best stay."""
        size = jnp.minimum(search.size, max(self.kept, self.rows // 2))
        stays = jnp.arange(self.rows) < size
        rotation = jnp.where(stays[:, None], search.ritz_vectors, 0)
        return search._replace(
            basis=rotation @ search.basis,
            images=rotation @ search.images,
            projection=jnp.diag(jnp.where(stays, search.ritz_values, 0)),
            size=size,
        )

    def next_start(self, search: _Search) -> Float[Array, "kept dim"]:
        """The best Ritz vectors after a power step, the last one mixed with a random vector."""
        shift = jnp.maximum(0, -search.lowest)
        powered = jax.vmap(_unit)(search.images[: self.kept] + shift * search.basis[: self.kept])
        random = jax.random.normal(jax.random.fold_in(self.key, self.max_products), (self.dim,), self.start.dtype)
        return powered.at[-1].add(REFRESH * _unit(random))


def orthogonalized(vector: Float[Array, " dim"], basis: Float[Array, "rows dim"]) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
    """Unit vector along the part of `vector` that is orthogonal to the rows of `basis`, and that part's norm.

    Gram-Schmidt twice, the second time after scaling to 1, so that what is left is orthogonal to rounding. Rows of the
    basis are orthonormal or zero.
    """
    rest = vector - (basis @ vector) @ basis
    norm = jnp.linalg.norm(rest)
    rest = _unit(rest)
    return _unit(rest - (basis @ rest) @ basis), norm


def _unit(vector: Float[Array, " dim"]) -> Float[Array, " dim"]:
    """The vector scaled to norm 1; zero stays zero."""
    norm = jnp.linalg.norm(vector)
    return vector / jnp.where(norm > 0, norm, 1)


def _ritz_pairs(projection: Float[Array, "rows rows"], size: Int[Array, ""]) -> tuple[Float[Array, " rows"], Float[Array, "rows rows"]]:
    """Eigenpairs of the leading block, from the largest down, vectors as rows; the rest of the matrix must be zero.

    The unused rows get an eigenvalue below all others, so that they come last.
    """
    norm = jnp.linalg.norm(projection)
    below = -2 * norm - (norm == 0)
    unused = jnp.where(jnp.arange(len(projection)) < size, 0, below)
    values, vectors = jnp.linalg.eigh(projection + jnp.diag(unused))
    return values[::-1], vectors.T[::-1]


def _error(residual: Float[Array, "..."], gap: Float[Array, "..."]) -> Float[Array, "..."]:
    """min(r, r^2 / gap); r where there is no gap (NaN)."""
    return jnp.where(gap > residual, residual**2 / jnp.where(gap > 0, gap, 1), residual)
