"""Instruments that change nothing about a run: collapse watch, surprise, calibration, open loops, model bias."""
