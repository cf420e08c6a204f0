"""Pure functions on arrays: plain arrays and numbers in, arrays out. Each formula of the paper stands here, once.

`scalars`, `distributions`, `returns`, `normalization`, `optimizer`, `convolutions`. May import JAX, NumPy, optax and chex
alone: knows nothing of networks or configuration.
"""
