"""Pure functions on arrays: plain arrays and numbers in, arrays out. Each formula of the paper stands here, once.

Arrays whose shapes do not fit together are refused by chex with an AssertionError, while tracing: a compiled program has no
trace of it.

`scalars`, `distributions`, `returns`, `normalization`, `optimizer`, `convolutions`. May import JAX, NumPy, optax and chex
alone: knows nothing of networks or configuration.
"""
