"""What the other kinds of experiment are asked to do, and the spec as one type.

Every kind is a table told apart by the key `runner`, and has a table `run`. `kinds` knows which runner carries it out.
Must not import jax or anything that draws.
"""

from typing import TypeAlias

from runners.spec import Train

Spec: TypeAlias = Train
"""Every kind of experiment; the first is what a spec without `runner` is."""
