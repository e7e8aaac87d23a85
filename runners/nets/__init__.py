"""The built-in models as flax nnx modules, a file for each family."""
