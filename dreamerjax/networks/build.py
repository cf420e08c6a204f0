"""From configuration to modules: the last place that sees a model config."""

from __future__ import annotations

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp

from dreamerjax.config.schema import BinSpacing, ModelConfig
from dreamerjax.core.types import EnvSpec
from dreamerjax.networks.encoder import Encoder
from dreamerjax.networks.heads import Decoder, Head, actor_head, head_ensemble
from dreamerjax.networks.loops import Loops, loops_for
from dreamerjax.networks.rssm import RSSM
from dreamerjax.ops import scalars


@dataclass(frozen=True)
class Networks:
    """All modules of an agent, stateless, with what they need to know of the environment."""

    spec: EnvSpec
    bins: scalars.Bins
    unimix: float
    std_range: tuple[float, float]
    standardize: bool
    ensemble: (
        int  # reward and continue heads; more than one put an axis before their outputs, see `world_model.ensemble_logits`
    )
    encoder: Encoder
    rssm: RSSM
    decoder: Decoder
    reward: nn.Module
    continue_: nn.Module
    actor: Head
    critic: Head
    loops: Loops


def build_networks(spec: EnvSpec, config: ModelConfig) -> Networks:
    """Modules for an environment's spaces. No parameters yet: see `agent.state.init_train_state`."""
    bin_scheme = scalars.Bins.symexp if config.bins.spacing is BinSpacing.symexp else scalars.Bins.symlog
    bins = bin_scheme(config.bins.count, config.bins.low, config.bins.high)
    units, dtype = config.units, jnp.dtype(config.compute_dtype.value)
    return Networks(
        spec=spec,
        bins=bins,
        unimix=config.unimix,
        std_range=(config.min_std, config.max_std),
        standardize=config.standardize,
        ensemble=config.ensemble,
        encoder=Encoder(spec.observations, units, config.encoder_layers, config.cnn_depth, dtype=dtype),
        rssm=RSSM(
            deter=config.deter,
            hidden=config.hidden,
            groups=config.groups,
            classes=config.classes,
            blocks=config.blocks,
            prior_layers=config.prior_layers,
            posterior_layers=config.posterior_layers,
            unimix=config.unimix,
            dtype=dtype,
        ),
        decoder=Decoder(spec.observations, units, config.decoder_layers, config.cnn_depth, dtype=dtype),
        reward=head_ensemble(config.ensemble, units, config.reward_layers, config.bins.count, scale=0.0, dtype=dtype),
        continue_=head_ensemble(config.ensemble, units, config.continue_layers, 1, dtype=dtype),
        actor=actor_head(spec.action, units, config.actor_layers, dtype),
        critic=Head(units, config.critic_layers, config.bins.count, scale=0.0, dtype=dtype),
        loops=loops_for(jax.default_backend()),
    )
