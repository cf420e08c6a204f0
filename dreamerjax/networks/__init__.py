"""Flax linen modules: one time step each, no scans."""
