"""Instruments that watch a run: metrics in, metrics and findings out. They change nothing about it."""
