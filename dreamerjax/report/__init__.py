"""One run as one HTML page, `python -m dreamerjax.report run=runs/<id>`. Reads run directories and imports no JAX."""
