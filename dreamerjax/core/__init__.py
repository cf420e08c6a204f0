"""The ground floor: types that every room shares, errors for the user, files, the run directory, child processes."""
