"""Experiments as files, their runs over seeds, statistics and reports: `python -m dreamerjax.experiment`."""
