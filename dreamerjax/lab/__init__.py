"""The laboratory: experiments as files, their runs over seeds, statistics and reports. It starts trainings; they never import it."""
