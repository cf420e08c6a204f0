"""Flax linen modules: one time step each, no scans. `build` makes them from a configuration.

May import `ops` and what lies below.
"""
