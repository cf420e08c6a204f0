"""The laboratory: experiments as files, their runs over seeds, statistics and reports. It starts runs; they never import it."""
