"""The laboratory: experiments as files, their runs over seeds, statistics and reports: `python -m dreamerjax.experiment`.

It starts runs and reads their directories; training never imports it.
"""
