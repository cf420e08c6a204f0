"""Instruments that watch a run and change nothing about it: collapse monitor, surprise, calibration, open loops, model bias.

May import `agent` and what lies below.
"""
