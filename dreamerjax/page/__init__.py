"""The report of one run as a page: what the run left is read, drawn and written as HTML. Nothing here imports JAX."""
