"""Rate of Hessian-vector products, as a share of the machine's rate of float32 matrix products.

The budget is 70 %. The net is fully connected, 3072-200-200-10 with tanh, on 5000 random examples; the gradient is linearised
once and the products follow one another in one program, as in a measurement. Operations are counted on paper: the tangents
of the forward and of the backward pass, two matrix products each for every one in the pass, less those with the inputs,
which have no tangent. The matrix rate is that of square products, taken right after each chain.
Run `python benchmarks/hessian_products.py [--repeat N] [--json]`.
"""

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from runners import models, spec
from runners.measure import operators
from runners.measure.operators import Problem
from runners.objectives import Objective

WIDTHS = (3072, 200, 200, 10)
EXAMPLES = 5000
PRODUCTS = 10
"""Products in one timed chain."""
SQUARE = 2048
"""Side of the matrices that the machine's rate is measured with."""
BUDGET = 0.7


def product_operations(layers: Sequence[tuple[int, int, int]]) -> int:
    """Floating-point operations of one Hessian-vector product, biases and activations left out.

    Args:
        layers: The forward pass as matrix products: rows, inputs, outputs of each.
    """
    first, *others = (2 * rows * inputs * outputs for rows, inputs, outputs in layers)
    return 2 * first + 6 * sum(others)


def hessian_products(problem: Problem, params: PyTree[Array], *, x: Array, y: Array) -> Callable[[int], Array]:
    """A compiled program: linearise the gradient, then so many products, one after the other."""
    v = jnp.asarray(np.random.default_rng(0).standard_normal(ravel_pytree(params)[0].size, dtype=np.float32))

    @jax.jit
    def chain(params: PyTree[Array], x: Array, y: Array, v: Array, count: Array) -> Array:
        _, product = operators.hessian(problem, params, x=x, y=y)

        def turn(_: Array, v: Array) -> Array:
            image = product(v)
            return jnp.divide(image, jnp.linalg.norm(image))

        return jnp.asarray(jax.lax.fori_loop(0, count, turn, v))

    return lambda count: jnp.asarray(chain(params, x, y, v, jnp.int32(count)))


def random_net() -> Callable[[int], Array]:
    """Products with the Hessian of the net that the docstring describes."""
    model = models.build(spec.Mlp(width=200), input_shape=(3072,), num_outputs=10, seed=0, dtype="float32")
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((EXAMPLES, 3072), dtype=np.float32))
    y = jnp.asarray(rng.standard_normal((EXAMPLES, 10), dtype=np.float32))
    return hessian_products(Problem(model.apply, Objective("mse"), EXAMPLES), model.params, x=x, y=y)


def matrix_products() -> Callable[[int], Array]:
    """A compiled program: so many products of two square float32 matrices, one after the other."""
    orthogonal = np.linalg.qr(np.random.default_rng(0).standard_normal((SQUARE, SQUARE)))[0]
    matrix = jnp.asarray(orthogonal, jnp.float32)

    @jax.jit
    def chain(matrix: Array, count: Array) -> Array:
        return jnp.asarray(jax.lax.fori_loop(0, count, lambda _, power: jnp.matmul(matrix, power, precision="highest"), matrix))

    return lambda count: jnp.asarray(chain(matrix, jnp.int32(count)))


def rate(program: Callable[[int], Array], operations: float) -> float:
    """Operations a second, in 10^9, of `PRODUCTS` turns, what the program does before them left out."""
    return PRODUCTS * operations / (_seconds(program, PRODUCTS + 1) - _seconds(program, 1)) / 1e9


def _seconds(program: Callable[[int], Array], count: int) -> float:
    began = time.perf_counter()
    program(count).block_until_ready()
    return time.perf_counter() - began


def rates(hessian: Callable[[int], Array], operations: int, *, repeat: int) -> dict[str, float]:
    """Medians of the rates of Hessian-vector and matrix products, taken in turn, in 10^9 operations a second; and of their ratio."""
    matrix = matrix_products()
    hessian(1).block_until_ready(), matrix(1).block_until_ready()
    pairs = [(rate(hessian, operations), rate(matrix, 2 * SQUARE**3)) for _ in range(repeat)]
    return {
        "hessian_gflops": statistics.median(ours for ours, _ in pairs),
        "matrix_gflops": statistics.median(machine for _, machine in pairs),
        "ratio": statistics.median(ours / machine for ours, machine in pairs),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    operations = product_operations([(EXAMPLES, *pair) for pair in itertools.pairwise(WIDTHS)])
    result = rates(random_net(), operations, repeat=arguments.repeat) | {"budget": BUDGET}
    result["products_per_second"] = 1e9 * result["hessian_gflops"] / operations
    if arguments.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:24}{value:>10.3g}")


if __name__ == "__main__":
    main()
