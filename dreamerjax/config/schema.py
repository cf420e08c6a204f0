"""The base layer of configuration: every key, its default and its unit, as dataclasses.

Layers, later ones win: this file, the overlays in `configs/` (environment, size, experiment), the command line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Vectorization(Enum):
    """How several environments are stepped: one after the other in this process, or each in a subprocess."""

    sync = "sync"
    subprocess = "subprocess"


class Pixels(Enum):
    """The rendered picture as an observation: not, beside the environment's own observations, or instead of them."""

    none = "none"
    add = "add"
    only = "only"


class FreeBits(Enum):
    """`clip`: no gradient below the threshold. `straight_through`: gradient everywhere (findings_of_the_log.md#01-15a)."""

    clip = "clip"
    straight_through = "straight_through"


class BinSpacing(Enum):
    """`symexp`: exact values at symexp(linspace(low, high)). `symlog`: linear in symlog (findings_of_the_log.md#01-09)."""

    symexp = "symexp"
    symlog = "symlog"


class Mode(Enum):
    """What is trained: everything; the world model alone; or the actor and critic on the world model of another run."""

    full = "full"
    bootstrap = "bootstrap"
    dreamer = "dreamer"


class Schedule(Enum):
    """How a coefficient goes from its start to its end: not at all, in a straight line, or along half a cosine."""

    constant = "constant"
    linear = "linear"
    cosine = "cosine"


class SpikeAction(Enum):
    """What a KL spike does to training (findings_of_the_log.md#queue-3)."""

    ignore = "ignore"
    pause = "pause"
    stop = "stop"


@dataclass
class EnvConfig:
    """The environment. `id` is anything gymnasium.make takes, `module:EnvId` included."""

    id: str = "CartPole-v1"
    kwargs: dict[str, Any] = field(default_factory=dict)
    num_envs: int = 4  # environments stepped side by side
    vectorization: Vectorization = Vectorization.sync
    action_repeat: int = 1  # each action is applied this many times, rewards summed
    time_limit: int = 0  # steps after which an episode is truncated; 0 keeps the environment's own limit
    pixels: Pixels = Pixels.none
    image_size: list[int] = field(default_factory=lambda: [64, 64])  # height, width that every image is resized to
    # The part of every image that is kept before that: top, bottom, left, right, as shares of its height and width.
    crop: list[float] = field(default_factory=lambda: [0.0, 1.0, 0.0, 1.0])
    grayscale: bool = False  # of images with three channels
    frame_stack: int = 1  # newest frames of every image that the agent sees at once; the RSSM needs only the newest


@dataclass
class TrainConfig:
    """The loop. The defaults here and below suit small tasks on two cores; `+experiment=published` has the paper's."""

    seed: int = 0
    steps: int = 20_000  # environment steps (action repeat not multiplied in), over all environments together
    updates: int = 0  # end after so many updates instead of after `steps`; 0: `steps` decides
    # Replayed steps per environment step: updates per environment step = train_ratio / (batch_size * batch_length).
    # 96 with batches of 8 x 64 makes three updates every sixteen environment steps. Higher learns from less data, but an agent
    # that is good before it has seen its failures loses what it learned (docs/staying_solved.md).
    train_ratio: float = 96.0
    batch_size: int = 8  # sequences per update
    batch_length: int = 64  # steps per sequence
    updates_per_call: int = 1  # updates that run on the device in one lax.scan between two visits to the environment
    random_steps: int = 500  # environment steps of the uniformly random policy before the first update
    eval_every: int = 1_000  # environment steps between evaluations; 0: never
    eval_episodes: int = 20  # episodes per evaluation and policy (greedy, sampled)
    stop_at_return: float | None = None  # stop when the greedy evaluation mean reaches this
    checkpoint_every: int = 2_000  # environment steps between checkpoints; one is always written at the end
    log_every: int = 25  # updates between scalar logs


@dataclass
class BinsConfig:
    """Bins of the two-hot reward and critic heads, in symlog units."""

    count: int = 63
    low: float = -20.0
    high: float = 20.0
    spacing: BinSpacing = BinSpacing.symexp


@dataclass
class ModelConfig:
    """Architecture: what a checkpoint's family is made of."""

    deter: int = 128  # deterministic state D
    hidden: int = 64  # width inside the RSSM
    groups: int = 8  # stochastic groups S
    classes: int = 8  # classes per group K
    units: int = 64  # width of encoder, decoder and heads
    cnn_depth: int = 8  # channels of the convolutions that see and draw images: 2, 3, 4 and 4 times this
    blocks: int = 8  # diagonal blocks of the recurrent weights; must divide deter
    unimix: float = 0.01
    standardize: bool = False  # vector observations by their running mean and deviation, so that small ones count too
    encoder_layers: int = 1
    decoder_layers: int = 1
    prior_layers: int = 1
    posterior_layers: int = 1
    reward_layers: int = 1
    continue_layers: int = 1
    actor_layers: int = 1
    critic_layers: int = 1
    min_std: float = 0.1  # continuous actions
    max_std: float = 1.0
    bins: BinsConfig = field(default_factory=BinsConfig)


@dataclass
class LossScales:
    """Weight of each loss; the keys are the losses."""

    decoder: float = 1.0
    reward: float = 1.0
    continue_: float = 1.0
    dynamics: float = 1.0
    representation: float = 0.1
    actor: float = 1.0
    critic: float = 1.0
    replay_critic: float = 1.0  # also trains the world model, so that it keeps what returns depend on (docs/staying_solved.md)


@dataclass
class LossConfig:
    """World-model loss."""

    free_nats: float = 0.1  # published: 1, on which the KL of a four-number world comes to rest
    free_bits: FreeBits = FreeBits.clip
    scales: LossScales = field(default_factory=LossScales)


@dataclass
class BehaviorConfig:
    """Actor-critic learning in imagination."""

    # Few long dreams rather than many short ones; what that does, and does not: docs/staying_solved.md.
    horizon: int = 60
    starts: int = 64  # imagination starts per update, drawn from the batch's posterior states; 0: all of them
    gamma: float = 0.997
    lambda_: float = 0.99  # published: 0.95, with which news of a failure travels back by ten steps at a time
    entropy: float = 3e-4
    entropy_schedule: Schedule = Schedule.constant
    entropy_end: float = 3e-4  # linear and cosine: where the coefficient goes ...
    entropy_updates: int = 10_000  # ... over so many updates of the actor
    slow_rate: float = 0.02  # of the slow critic towards the critic, per update
    slow_regularizer: float = 0.1  # weight of the critic's loss towards the slow critic's prediction; published: 1
    return_norm: bool = True
    return_norm_rate: float = 0.01
    center_advantages: bool = True  # at each imagined step the mean advantage over the dreams is 0; published: not
    replay_critic_gradient: bool = True  # the replay critic loss also trains the world model


@dataclass
class OptimConfig:
    """One LaProp optimiser; each part has its own learning rate."""

    model_lr: float = 4e-4
    actor_lr: float = 4e-4
    critic_lr: float = 4e-4
    warmup: int = 100  # updates of linear learning-rate warm-up
    agc: float = 0.3  # adaptive gradient clipping: update norm over parameter norm, per tensor
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-20
    # What is evaluated is an average of the parameters over about the newest quarter of all updates, and so many at most:
    # update t moves it towards them by 1 / (1 + min(t / 4, average_updates)). 0: the parameters themselves.
    average_updates: int = 1_000


@dataclass
class PacingConfig:
    """What the next update trains. Surprise is the mean of the last updates' `wm/surprise/total_log_ratio`."""

    model_warmup: int = 0  # updates of the world model alone before the actor-critic is trained
    wm_ac_ratio: int = 1  # actor and critic are trained on every n-th update of the world model
    adaptive_ratio: bool = False  # the ratio starts at its maximum, falls as the model settles, rises while it is surprised
    wm_ac_ratio_max: int = 8  # of the adaptive ratio; wm_ac_ratio is its minimum
    adaptive_threshold: float = 0.05  # surprise above which the adaptive ratio rises by one at the next log; below 0 it falls
    ac_throttle: int = 0  # at least so many environment steps between two updates of the actor-critic
    surprise_window: int = 10  # updates that the surprise is averaged over
    surprise_scale_ac_lr: bool = False  # actor and critic rates are multiplied by exp(-sharpness * surprise), surprise >= 0
    surprise_sharpness: float = 5.0
    focus_threshold: float = 0.0  # surprise at which the actor-critic is paused (world-model focus mode); 0: never
    focus_release: float = 0.5  # share of the threshold at which it goes on
    focus_max: int = 200  # longest focus, in updates; the next one waits until the surprise has been below the release
    camp_ratio: float = 0.0  # loss over its average, such as 1.2, that sends the world model to a training camp; 0: never
    camp_logs: int = 3  # so many logs in a row
    camp_updates: int = 100  # length of a camp; the actor-critic is paused
    camp_extra: int = 1  # world-model updates in a camp on top of each one that the train ratio owes
    kl_spike: SpikeAction = SpikeAction.ignore  # what happens when the KL jumps above its running average
    kl_spike_factor: float = 3.0  # by so much
    kl_pause: int = 100  # updates that the actor-critic is paused for
    freeze_at_return: float | None = None  # freeze the world model once a greedy evaluation reaches this


@dataclass
class MonitorConfig:
    """Instruments that watch a run; they change nothing about it."""

    surprise_beta: float = 0.99  # of the running average of each world-model loss
    dreams_every: int = 5_000  # environment steps between comparisons of dreams with held-out episodes; 0: never
    dream_videos: bool = False  # with each of these comparisons, also a video of one dream


@dataclass
class ReplayConfig:
    """The ring buffer."""

    capacity: int = 1_000_000  # environment steps, over all streams
    context: bool = True  # sampled sequences start from the stored latent of the preceding step
    online: bool = True  # every fresh sequence is sampled once first


@dataclass
class ParallelConfig:
    """Devices."""

    devices: int = 0  # local devices to use; 0: all accelerators, or on CPU one virtual device per core


@dataclass
class RunConfig:
    """The run's directory and the one hypothesis it states."""

    root: str = "runs"
    name: str = "dreamer"
    hypothesis: str = ""
    primary_metric: str = "eval/greedy/return_mean"
    checkpoints_to_keep: int = 2
    mlflow: bool = False  # also log to MLflow's file store in <root>/mlruns (extra: mlflow)
    wandb: bool = False  # also log to Weights & Biases, offline, inside the run directory (extra: wandb)


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
    mode: Mode = Mode.full
    from_: str | None = None  # dreamer: the run whose world model is used; bootstrap: the run whose policy collects
    freeze_world_model: bool = False  # dreamer: leave the world model as it is
    reset_actor_critic: bool = False  # dreamer: a fresh actor and critic instead of those of the other run
    resume: str | None = None  # a run directory to continue
    profile: bool = False  # write a jax.profiler trace of a range of updates
    profile_start: int = 20  # first profiled update
    profile_updates: int = 5  # how many
    jit: bool = True  # false: run everything eagerly, for debugging
    compilation_cache: bool = True  # keep compiled programs between processes
