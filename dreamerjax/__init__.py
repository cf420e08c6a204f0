"""dreamerjax: a DreamerV3 world-model agent in JAX and Flax for one small machine.

Train with `python -m dreamerjax.train`, evaluate with `python -m dreamerjax.evaluate`, or do both from Python:

    import dreamerjax

    agent = dreamerjax.learn("CartPole-v1", steps=5000)
    agent = dreamerjax.Agent.load("runs/<id>")
    action, state = agent.act(observation, state)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dreamerjax.core.errors import UserError

if TYPE_CHECKING:
    from dreamerjax.agent.inference import Agent
    from dreamerjax.api import learn

__version__ = "0.1.0"
__all__ = ["Agent", "UserError", "__version__", "learn"]
_PLACES = {"Agent": "dreamerjax.agent.inference", "learn": "dreamerjax.api"}


def __getattr__(name: str) -> Any:
    """Import `Agent` and `learn`, and JAX with them, only when first asked for: the command line starts faster without."""
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
