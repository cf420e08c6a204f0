"""The configuration: every key with its default, meaning, unit and range, as dataclasses. Steps are environment steps.

Layers, later ones win: this file, the overlays in `configs/` (environment, size, experiment), the command line. Everything
else that tells of keys is made from here: --help, docs/configuration.md, the check of values and its messages.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from dreamerjax.config.keys import key


class Vectorization(Enum):
    """How several environments are stepped: one after the other in this process, or each in a subprocess."""

    sync = "sync"
    subprocess = "subprocess"


class Pixels(Enum):
    """The rendered picture: no observation, one beside the environment's own, or the only one."""

    none = "none"
    add = "add"
    only = "only"


class FreeBits(Enum):
    """What a KL below the free nats gives: no gradient (`clip`, DreamerV3), or the same as above them (`straight_through`)."""

    clip = "clip"
    straight_through = "straight_through"


class BinSpacing(Enum):
    """Exact values at symexp(linspace(low, high)) (`symexp`), or a linear range in symlog space (`symlog`)."""

    symexp = "symexp"
    symlog = "symlog"


class ComputeDtype(Enum):
    """What matrix products and convolutions multiply; the parameters and everything else are float32 in either case."""

    float32 = "float32"
    bfloat16 = "bfloat16"


class Mode(Enum):
    """What is trained: everything, the world model alone, or the actor and critic on another run's world model."""

    full = "full"
    bootstrap = "bootstrap"
    dreamer = "dreamer"


class Schedule(Enum):
    """How a coefficient goes from its start to its end: not at all, in a straight line, or along half a cosine."""

    constant = "constant"
    linear = "linear"
    cosine = "cosine"


class SpikeAction(Enum):
    """What happens when the KL jumps above its running average: nothing, the actor-critic pauses, or the run stops."""

    ignore = "ignore"
    pause = "pause"
    stop = "stop"


@dataclass
class EnvConfig:
    """The environment."""

    id: str = key("CartPole-v1", "Anything that gymnasium.make takes, `module:EnvId` included", common=True)
    kwargs: dict[str, Any] = key({}, "Arguments of its constructor, also one by one: env.kwargs.size=3", common=True)
    num_envs: int = key(4, "Environments stepped side by side", least=1, common=True)
    vectorization: Vectorization = key(Vectorization.sync)
    action_repeat: int = key(1, "How often each action is applied; rewards are summed", least=1)
    time_limit: int = key(0, "When an episode is truncated; 0 keeps the environment's own limit", "steps", least=0, common=True)
    pixels: Pixels = key(Pixels.none, common=True)
    image_size: list[int] = key([64, 64], "Height and width, multiples of 16, that every image is resized to")
    crop: list[float] = key([0.0, 1.0, 0.0, 1.0], "What is kept of an image before that: top, bottom, left, right, as shares")
    grayscale: bool = key(False, "Of images with three channels, keep the brightness alone")
    frame_stack: int = key(1, "Newest frames of every image seen at once; the RSSM needs only the newest", least=1)


@dataclass
class TrainConfig:
    """The loop; its defaults serve every task on two cores, `+experiment=published` has the paper's."""

    seed: int = key(0, "Of everything random", least=0, most=2**31 - 1, common=True)
    steps: int = key(20_000, "Length of the run, all environments together, repeats not counted", "steps", least=1, common=True)
    updates: int = key(0, "End after so many instead of after `steps`; 0: `steps` decides", "updates", least=0)
    # 288 with batches of 8 x 64 makes nine updates every sixteen environment steps: three times the data's worth of 96 at
    # three times its price (docs/one_configuration.md).
    train_ratio: float = key(288.0, "Replayed steps, batch_size * batch_length an update, per step", above=0, common=True)
    batch_size: int = key(8, "Sequences per update", least=1)
    batch_length: int = key(64, "Length of each of them", "steps", least=2)
    updates_per_call: int = key(1, "Updates in one lax.scan on the device between two visits to the environment", least=1)
    random_steps: int = key(500, "What the uniformly random policy does before the first update", "steps", least=0)
    eval_every: int = key(1_000, "Between two evaluations, and one at the end; 0: never", "steps", least=0, common=True)
    eval_episodes: int = key(20, "Episodes per evaluation and policy (greedy, sampled)", least=1)
    eval_length: int = key(0, "Where an evaluation cuts an episode; 0: its time limit, else 1,000 to 10,000", "steps", least=0)
    stop_at_return: float | None = key(None, "Stop when the mean of a greedy evaluation reaches this", common=True)
    checkpoint_every: int = key(2_000, "Between two checkpoints; one is always written at the end", "steps", least=1)
    log_every: int = key(25, "Between two logs of the scalars", "updates", least=1)


@dataclass
class BinsConfig:
    """Bins of the two-hot reward and critic heads; symexp of more than 80 overflows float32."""

    count: int = key(63, "How many", least=3, most=10_001)
    low: float = key(-20.0, "The lowest", "symlog units", least=-80, most=80)
    high: float = key(20.0, "The highest", "symlog units", least=-80, most=80)
    spacing: BinSpacing = key(BinSpacing.symexp)


@dataclass
class ModelConfig:
    """Architecture: what a checkpoint's family is made of."""

    deter: int = key(128, "Width D of the deterministic state", least=1)
    hidden: int = key(64, "Width inside the RSSM", least=1)
    groups: int = key(32, "Stochastic groups S", least=1)
    classes: int = key(4, "Classes K of each group", least=2)
    units: int = key(64, "Width of encoder, decoder and heads", least=1)
    cnn_depth: int = key(8, "The convolutions for images have 2, 3, 4 and 4 times so many channels", least=1)
    blocks: int = key(8, "Diagonal blocks of the recurrent weights; must divide deter", least=1)
    unimix: float = key(0.01, "Share of the uniform distribution in every categorical one", least=0, below=1)
    standardize: bool = key(True, "Vector observations by their running mean and deviation, so that small ones count too")
    encoder_layers: int = key(1, "Hidden layers of the encoder of vectors", least=1)
    decoder_layers: int = key(1, "Hidden layers of the decoder of vectors", least=1)
    prior_layers: int = key(1, "Hidden layers of the prior", least=1)
    posterior_layers: int = key(1, "Hidden layers of the posterior", least=1)
    reward_layers: int = key(1, "Hidden layers of the reward head", least=1)
    continue_layers: int = key(1, "Hidden layers of the continue head", least=1)
    ensemble: int = key(1, "Reward and continue heads; where several disagree, dreams can be told to be pessimistic", least=1)
    actor_layers: int = key(1, "Hidden layers of the actor", least=1)
    critic_layers: int = key(1, "Hidden layers of the critic", least=1)
    min_std: float = key(0.1, "Smallest standard deviation of a continuous action", above=0)
    max_std: float = key(1.0, "Largest standard deviation of a continuous action", above=0)
    bins: BinsConfig = field(default_factory=BinsConfig)
    compute_dtype: ComputeDtype = key(ComputeDtype.float32)


@dataclass
class LossScales:
    """Weight of each loss; the keys are the losses."""

    decoder: float = key(1.0, "Reconstruction of the observations", least=0)
    reward: float = key(1.0, "Prediction of the reward", least=0)
    continue_: float = key(1.0, "Prediction of the episode's going on", least=0)
    dynamics: float = key(1.0, "KL that trains the prior towards the posterior", least=0)
    representation: float = key(0.1, "KL that trains the posterior towards the prior", least=0)
    actor: float = key(1.0, "Policy gradient in imagination", least=0)
    critic: float = key(1.0, "Returns in imagination", least=0)
    replay_critic: float = key(1.0, "Returns in the replay; keeps in the world model what they depend on", least=0)


@dataclass
class LossConfig:
    """World-model loss."""

    free_nats: float = key(1.0, "KL that is free", "nats", least=0)
    free_bits: FreeBits = key(FreeBits.clip)
    scales: LossScales = field(default_factory=LossScales)


@dataclass
class BehaviorConfig:
    """Actor-critic learning in imagination."""

    horizon: int = key(15, "Length of a dream", "steps", least=1)
    starts: int = key(256, "Dreams per update, begun in states drawn from the batch's posterior; 0: in all of them", least=0)
    gamma: float = key(0.997, "Discount per step", above=0, most=1)
    lambda_: float = key(0.95, "Of the lambda-returns; it carries news back by 1 / (1 - gamma lambda) steps", least=0, most=1)
    entropy: float = key(3e-4, "Weight of the policy's entropy", least=0)
    continuous_entropy: float = key(10.0, "That weight is so many times as large for continuous actions; published: 1", least=0)
    entropy_schedule: Schedule = key(Schedule.constant)
    entropy_end: float = key(3e-4, "Where a linear or cosine schedule takes the weight of the entropy", least=0)
    entropy_updates: int = key(10_000, "How long it takes it there", "updates of the actor", least=1)
    pessimism: float = key(0.0, "Deviations of an ensemble's heads that dreamed rewards are lowered by; published: 0", least=0)
    anchor: float = key(0.0, "Weight of the KL, in dreams, from the policy to the averaged one; published: 0", least=0)
    slow_rate: float = key(0.02, "Of the slow critic towards the critic, per update", above=0, most=1)
    slow_regularizer: float = key(0.1, "Weight of the critic's loss towards the slow critic; published: 1", least=0)
    return_norm: bool = key(True, "Divide advantages by the running range of returns where it is above 1")
    return_norm_rate: float = key(0.01, "Of that running range, per update", above=0, most=1)
    center_advantages: bool = key(True, "At each imagined step the mean advantage over the dreams is 0; published: false")
    explore: bool = key(
        True, "Hold random actions while returns do not differ and the policy prefers nothing; published: false"
    )
    replay_critic_gradient: bool = key(True, "The replay critic's loss also trains the world model")


@dataclass
class OptimConfig:
    """One LaProp optimiser; each part has its own learning rate."""

    model_lr: float = key(1e-3, "Learning rate of the world model", least=0)
    actor_lr: float = key(4e-4, "Learning rate of the actor", least=0, common=True)
    critic_lr: float = key(4e-4, "Learning rate of the critic", least=0)
    warmup: int = key(100, "How long the learning rates rise in a straight line", "updates", least=0)
    agc: float = key(0.3, "Adaptive gradient clipping: norm of an update over that of the parameter, per tensor", above=0)
    beta1: float = key(0.9, "Momentum", least=0, below=1)
    beta2: float = key(0.999, "Decay of the mean of squared gradients", least=0, below=1)
    eps: float = key(1e-20, "Added to the root of that mean", above=0)
    # Update t moves that mean towards the parameters by 1 / (1 + min(t / 4, average_updates)).
    average_updates: int = key(1_000, "Evaluate the mean of the newest quarter, at most so many; 0: none", "updates", least=0)


@dataclass
class PacingConfig:
    """What the next update trains. Surprise is the mean of the last updates' `wm/surprise/total_log_ratio`."""

    model_warmup: int = key(0, "What the world model is trained for alone at first", "updates", least=0)
    wm_ac_ratio: int = key(1, "Actor and critic are trained on every n-th update of the world model", least=1)
    adaptive_ratio: bool = key(False, "That n starts at its maximum, falls as the model settles, rises while it is surprised")
    wm_ac_ratio_max: int = key(8, "Maximum of the adaptive ratio; wm_ac_ratio is its minimum", least=1)
    adaptive_threshold: float = key(0.05, "Surprise above which the ratio rises by one at a log; below 0 it falls", least=0)
    ac_throttle: int = key(0, "At least so many between two updates of the actor-critic", "steps", least=0)
    surprise_window: int = key(10, "What the surprise is averaged over", "updates", least=1)
    surprise_scale_ac_lr: bool = key(False, "Multiply rates of actor and critic by exp(-sharpness * surprise), surprise >= 0")
    surprise_sharpness: float = key(5.0, "The sharpness in that", least=0)
    focus_threshold: float = key(0.0, "Surprise that pauses the actor-critic (world-model focus mode); 0: never", least=0)
    focus_release: float = key(0.5, "Share of the threshold at which it goes on", least=0, most=1)
    focus_max: int = key(200, "Longest focus; the next waits until the surprise was below the release", "updates", least=1)
    camp_ratio: float = key(0.0, "Loss over its average, such as 1.2, that begins a training camp; 0: never", least=0)
    camp_logs: int = key(3, "So many logs in a row must be above it", "logs", least=1)
    camp_updates: int = key(100, "Length of a camp; the actor-critic is paused", "updates", least=1)
    camp_extra: int = key(1, "World-model updates in a camp on top of each one that the train ratio owes", least=0)
    kl_spike: SpikeAction = key(SpikeAction.ignore)
    kl_spike_factor: float = key(3.0, "KL over its running average that is a spike", above=1)
    kl_pause: int = key(100, "Length of the pause after one", "updates", least=1)
    freeze_at_return: float | None = key(None, "Freeze the world model once the mean of a greedy evaluation reaches this")


@dataclass
class MonitorConfig:
    """Instruments that watch a run; they change nothing about it."""

    surprise_beta: float = key(0.99, "Of the running average of each world-model loss", least=0, below=1)
    dreams_every: int = key(5_000, "Between comparisons of dreams with held-out episodes; 0: never", "steps", least=0)
    dream_videos: bool = key(False, "With each of these comparisons, also a video of one dream")


@dataclass
class ReplayConfig:
    """The ring buffer."""

    capacity: int = key(1_000_000, "Over all environments", "steps", least=1)
    context: bool = key(True, "Sampled sequences start from the stored latent of the step before")
    online: bool = key(True, "Every fresh sequence is sampled once first")


@dataclass
class ParallelConfig:
    """Devices, and processes that train together (docs/scaling.md)."""

    devices: int = key(0, "Devices to use in each process; 0: all accelerators, or on CPU a virtual one per core", least=0)
    processes: int = key(0, "Processes of this training; 0: as many as Slurm has started, else 1", least=0)
    process: int | None = key(None, "The number of this one, from 0; null: as Slurm says", least=0)
    coordinator: str | None = key(None, "HOST:PORT where the others reach process 0; null: as Slurm says")


@dataclass
class RunConfig:
    """The run's directory and the one hypothesis it states."""

    root: str = key("runs", "Where run directories are made", common=True)
    name: str = key("", "Of the directory, behind the date; empty: by env.id", common=True)
    hypothesis: str = key("", "The one thing that the run is to show")
    primary_metric: str = key("eval/greedy/return_mean", "The metric that decides it")
    checkpoints_to_keep: int = key(2, "How many of the newest checkpoints are kept", least=1)
    mlflow: bool = key(False, "Also log to MLflow's file store in <root>/mlruns (extra: mlflow)")
    wandb: bool = key(False, "Also log to Weights & Biases, offline, inside the run directory (extra: wandb)")


@dataclass
class PopulationConfig:
    """Several runs, its members, in one process by one update (docs/populations.md)."""

    seeds: list[int] = key([], "A member with each `train.seed`: 0,1,2")
    vary: dict[str, Any] = key(
        {}, "Numbers in which members differ, each with a list: population.vary.optim.actor_lr=[1e-4,3e-4]"
    )


@dataclass
class Config:
    """All of it."""

    env: EnvConfig = field(default_factory=EnvConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    behavior: BehaviorConfig = field(default_factory=BehaviorConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    run: RunConfig = field(default_factory=RunConfig)
    pacing: PacingConfig = field(default_factory=PacingConfig)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
    population: PopulationConfig = field(default_factory=PopulationConfig)
    mode: Mode = key(Mode.full, common=True)
    from_: str | None = key(None, "The run whose world model is used (mode dreamer) or whose policy collects (bootstrap)")
    freeze_world_model: bool = key(False, "Leave the world model as it is (mode dreamer)")
    reset_actor_critic: bool = key(False, "A fresh actor and critic instead of those of the other run (mode dreamer)")
    resume: str | None = key(
        None, "The run to go on with: a directory, its name under run.root, or latest; several: RUN,RUN", common=True
    )
    profile: bool = key(False, "Write a jax.profiler trace of a range of updates")
    profile_start: int = key(20, "First profiled one", "updates", least=0)
    profile_updates: int = key(5, "How many", "updates", least=1)
    jit: bool = key(True, "false: run everything eagerly, for debugging")
    compilation_cache: bool = key(True, "Keep compiled programs between processes")
