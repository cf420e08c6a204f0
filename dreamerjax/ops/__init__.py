"""Pure functions on arrays: plain arrays and numbers in, arrays out. Knows nothing of networks or configuration."""
