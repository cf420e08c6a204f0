"""dreamerjax: a DreamerV3 world-model agent in JAX and Flax for one small machine.

Train with `python -m dreamerjax.train`, evaluate with `python -m dreamerjax.evaluate`, or act from Python:

    from dreamerjax import Agent

    agent = Agent.load("runs/<id>")
    action, state = agent.act(observation, state)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dreamerjax.agent.inference import Agent

__version__ = "0.1.0"
__all__ = ["Agent", "__version__"]


def __getattr__(name: str) -> Any:
    """Import `Agent`, and JAX with it, only when it is first asked for: the command line starts faster without."""
    if name == "Agent":
        from dreamerjax.agent.inference import Agent

        return Agent
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
