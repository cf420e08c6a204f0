"""What other implementations, and people, call our keys: names in small letters, dotted or not, and the keys they mean."""

from __future__ import annotations

import re

_SIZE = ("size",)
_RATES = ("optim.model_lr", "optim.actor_lr", "optim.critic_lr")
_SAID: dict[tuple[str, ...], tuple[str, ...]] = {  # groups: env, size and experiment are groups, the rest are keys
    # names, places and the machine
    ("logdir", "log_dir", "outdir", "output_dir", "save_dir", "run_dir", "workdir", "log_root"): ("run.root",),
    ("exp_name", "run_name", "experiment_name", "tag", "exp"): ("run.name",),
    ("use_wandb", "track"): ("run.wandb",),
    ("use_mlflow",): ("run.mlflow",),
    ("device", "platform", "jax.platform", "num_devices", "n_devices", "gpus", "num_gpus"): ("parallel.devices",),
    ("checkpoint", "load", "restore", "from_checkpoint", "resume_from", "load_path"): ("resume", "from_"),
    ("debug", "jax.jit", "jit_compile"): ("jit",),
    ("random_seed", "rng_seed", "rng"): ("train.seed",),
    ("configs", "preset", "overlay"): ("size", "experiment"),
    ("model_size", "model.size", "network_size"): _SIZE,
    # the environment
    ("task", "task_id", "env_id", "env_name", "environment", "env.name", "env.task", "gym_id"): ("env.id",),
    ("envs", "n_envs", "nenvs", "env.amount", "run.envs", "num_environments", "env.num", "num_workers"): ("env.num_envs",),
    ("env_kwargs", "env_args", "env.args"): ("env.kwargs",),
    ("repeat", "frame_skip", "frameskip", "env.repeat"): ("env.action_repeat",),
    ("max_episode_steps", "episode_length", "env.length", "max_episode_length"): ("env.time_limit",),
    ("resolution", "img_size", "env.size", "image_shape"): ("env.image_size",),
    ("from_pixels", "pixel_obs", "image_obs", "render"): ("env.pixels",),
    ("gray", "grey", "greyscale"): ("env.grayscale",),
    ("framestack", "stack", "num_stack"): ("env.frame_stack",),
    # the loop
    ("total_timesteps", "total_steps", "num_steps", "n_steps", "timesteps", "max_steps", "num_timesteps"): ("train.steps",),
    ("num_updates", "n_updates", "gradient_steps", "train_steps", "total_updates"): ("train.updates",),
    ("replay_ratio", "utd", "update_ratio", "train_every"): ("train.train_ratio",),
    ("batch", "minibatch_size", "bs"): ("train.batch_size",),
    ("seq_len", "sequence_length", "seq_length", "chunk_length", "batch_len", "report_length"): ("train.batch_length",),
    ("prefill", "learning_starts", "warmup_steps", "random_prefill", "start_steps", "train_fill"): ("train.random_steps",),
    ("eval_freq", "eval_interval", "evaluate_every"): ("train.eval_every",),
    ("eval_eps", "n_eval_episodes", "num_eval_episodes"): ("train.eval_episodes",),
    ("target_return", "solved_at", "reward_threshold", "stop_at"): ("train.stop_at_return",),
    ("save_every", "save_freq", "checkpoint_interval", "save_interval"): ("train.checkpoint_every",),
    ("log_freq", "log_interval", "logging_every"): ("train.log_every",),
    # the replay
    ("buffer_size", "replay_size", "replay.size", "replay_capacity", "buffer_capacity", "dataset_size"): ("replay.capacity",),
    ("replay_context",): ("replay.context",),
    # the model
    ("dyn_deter", "recurrent_size", "gru_size", "deter_size", "h_dim"): ("model.deter",),
    ("stoch", "dyn_stoch", "stoch_size", "z_dim"): ("model.groups", "model.classes"),
    ("discrete", "dyn_discrete", "num_classes"): ("model.classes",),
    ("hidden_size", "dyn_hidden", "hidden_dim"): ("model.hidden",),
    ("mlp_units", "dense_units", "width"): ("model.units",),
    ("depth", "cnn_channels", "channels"): ("model.cnn_depth",),
    ("unimix_ratio", "uniform_mix"): ("model.unimix",),
    ("num_bins", "nbins", "bins"): ("model.bins.count",),
    ("normalize_obs", "obs_norm", "norm_obs"): ("model.standardize",),
    # the world model's loss
    ("kl_free", "free", "freenats"): ("loss.free_nats",),
    ("kl_scale", "beta", "kl_beta"): ("loss.scales.dynamics", "loss.scales.representation"),
    ("dyn", "dyn_scale", "beta_dyn", "loss_scales.dyn"): ("loss.scales.dynamics",),
    ("rep", "rep_scale", "beta_rep", "loss_scales.rep"): ("loss.scales.representation",),
    ("rec", "recon_scale", "beta_pred", "loss_scales.rec"): ("loss.scales.decoder",),
    ("rew", "loss_scales.rew", "reward_scale"): ("loss.scales.reward",),
    ("con", "cont", "loss_scales.con", "cont_scale"): ("loss.scales.continue_",),
    ("repval", "loss_scales.repval", "repval_scale"): ("loss.scales.replay_critic",),
    ("policy_scale", "loss_scales.policy"): ("loss.scales.actor",),
    ("value_scale", "loss_scales.value", "vf_coef"): ("loss.scales.critic",),
    # actor and critic
    ("imag_horizon", "imag_length", "imagination_horizon", "rollout_length", "dream_length"): ("behavior.horizon",),
    ("imag_last", "imag_starts"): ("behavior.starts",),
    ("discount", "discount_factor"): ("behavior.gamma",),
    ("lambda", "lam", "gae_lambda", "discount_lambda", "return_lambda"): ("behavior.lambda_",),
    ("actent", "ent_coef", "entropy_coef", "entropy_coeff", "actor_entropy", "entropy_scale", "eta"): ("behavior.entropy",),
    ("tau", "slow_critic_rate", "slow_target_fraction", "target_update_rate", "slowvalue.rate"): ("behavior.slow_rate",),
    ("slowreg", "slow_reg"): ("behavior.slow_regularizer",),
    ("retnorm", "return_normalization"): ("behavior.return_norm",),
    ("advnorm", "normalize_advantage", "norm_adv"): ("behavior.center_advantages",),
    ("repval_grad", "reploss"): ("behavior.replay_critic_gradient",),
    # the optimiser
    ("lr", "learning_rate", "opt.lr", "optim.lr"): _RATES,
    ("model_learning_rate", "world_model_lr", "wm_lr", "lr_model"): ("optim.model_lr",),
    ("actor_learning_rate", "policy_lr", "lr_actor", "pi_lr"): ("optim.actor_lr",),
    ("critic_learning_rate", "value_lr", "lr_critic", "vf_lr"): ("optim.critic_lr",),
    ("grad_clip", "max_grad_norm", "clip_grad", "clip"): ("optim.agc",),
    ("lr_warmup", "warmup_updates"): ("optim.warmup",),
    ("epsilon", "adam_eps", "opt_eps"): ("optim.eps",),
    ("ema", "ema_decay", "polyak"): ("optim.average_updates",),
}
SYNONYMS = {name: keys for names, keys in _SAID.items() for name in names}
_GYMNASIUM = re.compile(r"([\w.]+:)?[\w.-]+(/[\w.-]+)+|([\w.]+:)?[\w.-]+-v\d+|[\w.]+:[\w./-]+")


def is_environment_id(text: str) -> bool:
    """Whether gymnasium.make might take it: `Name-v0`, `namespace/Name` or `module:Name`."""
    return _GYMNASIUM.fullmatch(text) is not None
