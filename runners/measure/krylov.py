"""Largest signed eigenvalues of a symmetric operator: warm-started, adaptive, fully reorthogonalised.

Called by the meters inside their jitted measurement. The solver is one `lax.while_loop` over a basis of fixed size: it
compiles once, and no product is dispatched from Python. Knows vectors and products only, nothing of models.
"""

import functools
import math
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
NEAR_SHARE = 0.01
"""Share of the value that is near enough where `NEAR` tolerances are more; a tolerance above it counts itself."""
BASIS_VECTORS = 12
"""Basis vectors beyond three for each eigenvalue asked for; a full basis restarts from its best Ritz vectors."""
BASIS_BYTES = 2**30
"""What basis and images may take together; large models restart more often instead."""
REFRESH = 0.1
"""Norm of the random vector that is mixed into the last of the kept Ritz vectors, which have norm 1."""
TRUSTED = 4
"""Measurements in a row that may go without a look at all that is kept. With 8 they took as many products."""
DRIFT = 2.0
"""How many times as far as the asked values the next lower one is taken to have moved since it was looked at."""
SHAKEN = 0.2
"""Above this residual of the start's first vector, relative to its value, the start is taken to say nothing."""
ROUNDING = 10.0
"""Errors below so many rounding errors of the operator's norm count as none, and none is claimed below."""


class Start(NamedTuple):
    """What a measurement leaves to the next one."""

    vectors: Float[Array, "kept dim"]
    """Near the eigenvectors of the largest eigenvalues, from the top down; zero where there was no measurement yet."""
    values: Float[Array, " k"]
    """Those asked for, as found when all that is kept was last looked at."""
    next_value: Float[Array, ""]
    """Upper end of the next lower one then: Ritz value and residual. NaN when not known."""
    lowest: Float[Array, ""]
    """Smallest Ritz value then."""
    age: Int[Array, ""]
    """Measurements since then."""


class EigenResult(NamedTuple):
    """The k largest eigenvalues found, from the largest down, and how good they are."""

    values: Float[Array, " k"]
    vectors: Float[Array, "k dim"]
    """Unit vectors."""
    residuals: Float[Array, " k"]
    """|A v - value v| of each: some eigenvalue lies within it."""
    errors: Float[Array, " k"]
    """min(r, r^2 / gap) of each, with the gap to the largest Ritz value that is not followed, `ROUNDING` at least; r where the
    solve gave up, since the gap is then not to be trusted."""
    num_products: Int[Array, ""]
    converged: Bool[Array, ""]
    known: Float[Array, ""]
    """Share of the top eigenvector's square that lies along the start's vectors: near 0 when it is one that they did not know.
    1 without a start."""
    start: Start
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
    next_value: Float[Array, ""]
    """Upper end of the next lower eigenvalue, as far as the basis knows."""
    expansion: Float[Array, " dim"]
    """Residual of the Ritz pair that lacks most, over the operator's norm."""
    lowest: Float[Array, ""]
    """Smallest Ritz value."""
    used: Int[Array, ""]
    """Vectors of the start that the basis was offered."""
    trusting: Bool[Array, ""]
    """The rest of them waits, since the first k may do."""
    shaken: Bool[Array, ""]
    """The start says nothing, or there is none."""
    done: Bool[Array, ""]
    """All k are good enough."""
    finite: Bool[Array, ""]
    """The operator gave finite numbers only."""


def no_start(dim: int, k: int, *, dtype: jnp.dtype) -> Start:
    """What the first measurement starts from: zero vectors, which the solver replaces by random ones."""
    k = min(k, dim)
    vectors = np.zeros((min(k + GUARD_VECTORS, dim), dim), dtype)
    # By NumPy, since jnp.zeros would be a program for each.
    return Start(*map(jnp.asarray, (vectors, np.zeros(k, dtype), np.array(np.nan, dtype), np.zeros((), dtype), np.zeros((), np.int32))))


def largest_eigenvalues(
    product: Product,
    start: Start,
    *,
    k: int,
    tolerance: float,
    max_products: int,
    key: Key[Array, ""],
) -> EigenResult:
    """The k largest signed eigenvalues of a symmetric operator, to a relative tolerance.

    Rayleigh-Ritz on a growing orthonormal basis: first the start's vectors, then, one at a time, the residual of the
    Ritz pair that lacks most, made orthogonal to the basis: Davidson's method without a preconditioner, which
    from one vector is Lanczos. A full basis is compressed to its best Ritz vectors. A value is good enough when
    min(r, r^2 / gap) <= tolerance |value|, with a floor of a few rounding errors of the operator's norm. r^2 / gap is Kato
    and Temple's bound, with the gap to the largest Ritz value that is not followed. Followed are the asked values, and the
    next lower one when it is near: it has to be good as well, since it may be the one that comes out on top.

    Where it was not near when it was last looked at, at most `TRUSTED` measurements ago, the asked values are looked for first by
    themselves, by at most as many products as there are vectors in the start, and are good enough with the gap to where the next
    lower one was then, raised by `DRIFT` times the furthest that the asked ones have moved since. Only when that does not do
    come the other vectors of the start. Measured at every step before the edge, digits takes 2.2 products so, and 4.0 without.

    Without a start, or with one whose first vector is far from any eigenvector (`SHAKEN`), all that will be kept have to be found
    as well, to a residual within which an eigenvalue is near: a random vector may have next to nothing of the top eigenvector,
    and the second value then passes for the first. On digits that happened in 8 of 240 solves without a start (errors up to 2 %),
    and in none of 360 with this rule, which takes 20 to 45 products there. Measured at every step from four seeds, updates that
    turned the top eigenvector by a third of its square or more gave errors of 1, 3 and 5 %; with this rule none of 1,760 was
    above 0.31 %.

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
    dim = start.vectors.shape[1]
    solver = _Solver(product, start, k=min(k, dim), tolerance=tolerance, max_products=max_products, key=key)
    with jax.default_matmul_precision("highest"):
        return solver.solve()


class _Solver:
    """What stays the same during one solve."""

    def __init__(self, product: Product, start: Start, *, k: int, tolerance: float, max_products: int, key: Key[Array, ""]) -> None:
        self.product = product
        self.start = start
        self.k = k
        self.tolerance = tolerance
        self.max_products = max_products
        self.key = key
        self.kept, self.dim = start.vectors.shape
        self.dtype = start.vectors.dtype
        self.is_cold = ~jnp.any(start.vectors)
        """There is no start."""
        self.near = max(1.0, min(NEAR, NEAR_SHARE / tolerance))
        """Tolerances within which an eigenvalue is near."""
        self.epsilon = float(jnp.finfo(self.dtype).eps)
        fitting = BASIS_BYTES // (2 * self.dim * self.dtype.itemsize)
        self.rows = min(self.dim, max(self.kept + 2, min(BASIS_VECTORS + 3 * k, fitting)))

    def solve(self) -> EigenResult:
        """Expand until done, compressing the basis whenever it is full."""
        search = jax.lax.while_loop(self.is_on, self.turn, self.initial())
        tops = search.ritz_vectors[: self.kept]
        vectors, images = tops @ search.basis, tops @ search.images
        values = jnp.where(search.finite, search.ritz_values[: self.k], jnp.nan)
        rounding = ROUNDING * self.epsilon * jnp.maximum(jnp.abs(search.ritz_values[0]), jnp.abs(search.lowest))
        return EigenResult(
            values=values,
            vectors=vectors[: self.k],
            residuals=search.residuals,
            errors=jnp.maximum(jnp.where(search.done, search.errors, search.residuals), rounding),
            num_products=search.num_products,
            converged=search.done & search.finite,
            known=jnp.where(self.is_cold, 1, jnp.sum((jax.vmap(_unit)(self.start.vectors) @ vectors[0]) ** 2)),
            start=jax.tree.map(functools.partial(jnp.where, search.finite), self.next_start(search, vectors, images), self.start),
        )

    def initial(self) -> _Search:
        """Nothing known yet."""
        rows = jnp.zeros((self.rows, self.dim), self.dtype)
        square = jnp.zeros((self.rows, self.rows), self.dtype)
        unknown = jnp.full(self.k, jnp.inf, self.dtype)
        no, none = jnp.array(False), jnp.int32(0)
        return _Search(
            basis=rows,
            images=rows,
            projection=square,
            size=none,
            num_products=none,
            ritz_values=square[0],
            ritz_vectors=square,
            residuals=unknown,
            errors=unknown,
            next_value=unknown[0],
            expansion=rows[0],
            lowest=square[0, 0],
            used=none,
            trusting=no,
            shaken=self.is_cold,
            done=no,
            finite=~no,
        )

    def turn(self, search: _Search) -> _Search:
        """Fill the basis, and compress it if that was not enough."""
        filled = jax.lax.while_loop(self.has_room, self.expanded, search)
        result: _Search = jax.lax.cond(self.is_on(filled), self.compressed, lambda search: search, filled)
        return result

    def is_on(self, search: _Search) -> Bool[Array, ""]:
        """Whether to go on expanding."""
        return ~search.done & search.finite & (search.num_products < self.max_products)

    def has_room(self, search: _Search) -> Bool[Array, ""]:
        """Whether to go on expanding without compressing first."""
        return self.is_on(search) & (search.size < self.rows)

    def expanded(self, search: _Search) -> _Search:
        """One vector and one product more, and the Ritz pairs of the larger basis."""
        of_start = (search.used < self.kept) & ~(search.trusting & (search.num_products < self.kept))
        vector = self.direction(search, jnp.where(of_start, self.start.vectors[search.used % self.kept], search.expansion))
        image = self.product(vector)
        overlaps = search.basis.at[search.size].set(vector) @ image
        return self.with_ritz_pairs(
            search._replace(
                basis=search.basis.at[search.size].set(vector),
                images=search.images.at[search.size].set(image),
                projection=search.projection.at[search.size].set(overlaps).at[:, search.size].set(overlaps),
                size=search.size + 1,
                num_products=search.num_products + 1,
                used=search.used + of_start,
            )
        )

    def direction(self, search: _Search, wanted: Float[Array, " dim"]) -> Float[Array, " dim"]:
        """Unit vector along what `wanted` adds to the basis; a random one where that is nothing."""
        vector, fresh = orthogonalized(wanted, search.basis)
        random = jax.random.normal(jax.random.fold_in(self.key, search.num_products), (self.dim,), self.dtype)
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
        shaken = search.shaken | ((search.num_products == 1) & (residuals[0] > SHAKEN * norm))
        known = jnp.append(jnp.where(valid, values, jnp.nan), jnp.full(2, jnp.nan, self.dtype))
        allowed = self.tolerance * jnp.abs(values[: self.k]) + ROUNDING * self.epsilon * norm
        errors, lacking = self.judged(known, residuals, allowed=allowed, shaken=shaken)
        is_good = jnp.all(lacking <= 1)
        wanted = jnp.where(is_good, self.kept - 1, jnp.argmax(lacking))
        is_early = (search.used < self.kept) & (search.num_products <= self.kept)
        gaps = jnp.where(is_early & ~shaken, self.trusted_gaps(known), jnp.nan)
        trusting = gaps[-1] > self.near * allowed[-1]
        errors = jnp.where(trusting, _error(residuals[: self.k], gaps), errors)
        exhausted = search.size == self.dim
        looked = is_good & (search.used == self.kept) & (search.num_products > self.kept)
        return search._replace(
            ritz_values=values,
            ritz_vectors=coordinates,
            residuals=residuals[: self.k],
            errors=errors,
            next_value=known[self.k] + jnp.append(residuals, jnp.nan)[self.k],
            expansion=differences[wanted] / jnp.where(norm > 0, norm, 1),
            lowest=jnp.min(jnp.where(valid, values, jnp.inf)),
            trusting=trusting,
            shaken=shaken,
            done=exhausted | looked | (trusting & jnp.all(errors <= allowed)),
            finite=finite & jnp.all(jnp.isfinite(residuals)),
        )

    def judged(
        self,
        values: Float[Array, " more"],
        residuals: Float[Array, " kept"],
        *,
        allowed: Float[Array, " k"],
        shaken: Bool[Array, ""],
    ) -> tuple[Float[Array, " k"], Float[Array, " judged"]]:
        """Errors of the asked values, and error over the error allowed, of these and of the next lower values.

        Args:
            values: Ritz values, NaN where there is none yet, two more than rows.
            residuals: Of the first.
            allowed: Errors of the asked values.
            shaken: Whether all that will be kept is judged.
        """
        k = self.k
        next_error = _error(jnp.append(residuals, 0)[k], values[k] - values[k + 1])
        is_near = values[k] + next_error >= values[k - 1] - self.near * allowed[k - 1]
        errors = _error(residuals[:k], values[:k] - jnp.where(is_near, values[k + 1], values[k]))
        errors = jnp.where(jnp.isnan(values[:k]), jnp.inf, errors)
        lacking = jnp.append(errors, jnp.where(is_near, next_error, 0)) / jnp.append(allowed, allowed[-1])
        lacking = jnp.append(lacking, jnp.zeros(self.kept - k, values.dtype))
        guards = jnp.append(residuals, 0) / (self.near * allowed[-1])
        lacking = jnp.where(shaken, jnp.maximum(lacking, guards), lacking)
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

    def trusted_gaps(self, values: Float[Array, " more"]) -> Float[Array, " k"]:
        """Gaps to where the next lower value was when it was last looked at, less what it may have moved; NaN when it is too long ago."""
        start, asked, fresh = self.start, values[: self.k], values[self.k]
        drift = jnp.max(jnp.abs(asked - start.values))
        next_value = jnp.where(start.age < TRUSTED, start.next_value, jnp.nan) + DRIFT * drift
        return asked - jnp.maximum(next_value, jnp.where(jnp.isnan(fresh), -jnp.inf, fresh))

    def next_start(self, search: _Search, vectors: Float[Array, "kept dim"], images: Float[Array, "kept dim"]) -> Start:
        """The best Ritz vectors after a power step, the last one mixed with a random vector; what was not looked at, as it was."""
        start = self.start
        looked = search.used == self.kept
        lowest = jnp.where(looked, search.lowest, start.lowest)
        powered = jax.vmap(_unit)(images + jnp.maximum(0, -lowest) * vectors)
        random = jax.random.normal(jax.random.fold_in(self.key, self.max_products), (self.dim,), self.dtype)
        mixed = powered.at[-1].add(REFRESH * _unit(random))
        return Start(
            vectors=jnp.where(looked, mixed, start.vectors.at[: self.k].set(powered[: self.k])),
            values=jnp.where(looked, search.ritz_values[: self.k], start.values),
            next_value=jnp.where(looked, search.next_value, start.next_value),
            lowest=lowest,
            age=jnp.where(looked, 0, start.age + 1),
        )


def orthogonalized(vector: Float[Array, " dim"], basis: Float[Array, "rows dim"]) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
    """Unit vector along the part of `vector` that is orthogonal to the rows of `basis`, and that part's norm.

    Gram-Schmidt, and once more where less than 1/sqrt(2) of the vector was left, so that what comes back is orthogonal to
    rounding (Daniel et al. 1976, Math. Comp. 30, 772). Rows of the basis are orthonormal or zero.
    """
    rest = vector - (basis @ vector) @ basis
    norm = jnp.linalg.norm(rest)
    rest = _unit(rest)
    again = norm < jnp.linalg.norm(vector) / math.sqrt(2)
    orthogonal: Array = jax.lax.cond(again, lambda: _unit(rest - (basis @ rest) @ basis), lambda: rest)
    return orthogonal, norm


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
