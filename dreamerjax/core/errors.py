"""Exceptions whose message is meant for the user."""


class UserError(Exception):
    """A mistake in configuration, files or environment that its one-line message fully explains.

    Entry points print the message without a traceback and exit with `exit_code`: 2 for bad input, 1 for a fault at run time.
    """

    def __init__(self, message: str, exit_code: int = 2) -> None:
        super().__init__(" ".join(message.split()))
        self.exit_code = exit_code


class EnvironmentFault(UserError):
    """An environment raised in `reset` or `step`, or its process died. Entry points exit with 1."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=1)
