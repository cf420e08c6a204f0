"""What an environment did wrong while it was running."""

from __future__ import annotations

from dreamerjax.core.errors import UserError


class EnvironmentFault(UserError):
    """An environment raised in `reset` or `step`, or its process died. Entry points exit with 1."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message, exit_code)
