"""What is measured: every job, in the order of importance, and the reduced list that tries the script itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from dreamerjax.benchmark import WORK

QUICK = "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false --xla_gpu_experimental_enable_fusion_autotuner=false"
CUDA_GRAPHS = "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,DYNAMIC_SLICE_FUSION,WHILE,CONDITIONAL"
WAVE = 10  # jobs that compile side by side on 16 cores
TINY_WORK = ("train.batch_size=4", "train.batch_length=8", "behavior.horizon=3", "behavior.starts=0", "model.bins.count=21")
TINY_RUN = (
    "size=tiny",
    *TINY_WORK,
    "train.steps=400",
    "train.random_steps=100",
    "train.train_ratio=8",
    "train.eval_episodes=2",
)


@dataclass(frozen=True)
class Case:
    """One update program that is timed."""

    size: str
    images: bool = False  # 64 x 64 x 3 instead of four numbers
    precision: str = "bf16"  # of products: float32, tf32, bf16
    members: int = 1  # seeds in one vmapped update
    unroll: int | None = None  # other loops than the backend's: see `networks.loops`
    heads_step_by_step: bool | None = None
    cuda_graphs: bool = False  # of loops too
    autotuned: bool = False  # XLA tries every product in several ways while it compiles, as it does by itself
    trace: bool = False  # also count kernels, and the share of the time in which one runs

    @property
    def name(self) -> str:
        """For people and for the JSON's keys."""
        parts = [self.size, "images" if self.images else "vector", self.precision]
        parts += [f"x{self.members}"] if self.members > 1 else []
        parts += [f"unroll {self.unroll or 'all'}"] if self.unroll is not None else []
        parts += ["heads step by step"] if self.heads_step_by_step else []
        parts += ["CUDA graphs of loops"] if self.cuda_graphs else []
        parts += ["autotuned"] if self.autotuned else []
        return ", ".join(parts)


@dataclass(frozen=True)
class Job:
    """A process of its own: a function of `worker`, its arguments, and how long it may take until it is ready to be timed."""

    name: str
    function: str
    arguments: dict[str, Any]
    budget: float = 200.0  # seconds
    environment: dict[str, str] = field(default_factory=lambda: {"XLA_FLAGS": QUICK})


def update_job(case: Case, work: tuple[str, ...]) -> Job:
    """The timing of one update."""
    flags = [] if case.autotuned else [QUICK]
    flags += [f"--xla_gpu_enable_command_buffer={CUDA_GRAPHS}"] if case.cuda_graphs else []
    return Job(case.name, "update", {"case": asdict(case), "work": work}, environment={"XLA_FLAGS": " ".join(flags)})


def checks(work: tuple[str, ...], *, size: str, updates: int, matmul: int, solve: tuple[str, ...]) -> list[Job]:
    """What comes first: the machine, whether the numbers are right, and whether the task is solved."""
    return [
        Job("device", "device", {"size": matmul}),
        Job("solve", "solve", {"overrides": solve}),
        Job("equality", "equality", {"size": size, "work": work}),
        Job("curve", "curve", {"size": size, "work": work, "updates": updates}),
    ]


def flops_job(cases: list[Case], work: tuple[str, ...]) -> Job:
    """Operations of an update of each kind, counted on the CPU."""
    kinds = sorted({(case.size, case.images) for case in cases})
    return Job("flops", "flops", {"kinds": kinds, "work": work}, environment={"JAX_PLATFORMS": "cpu"})


def all_cases() -> list[Case]:
    """Sizes, precisions, loops and populations, the most wanted first."""
    vectors, images = ("size1m", "small", "size200m", "size12m", "size100m"), ("size1m", "size12m")
    first = [
        Case("size1m", trace=True),
        Case("small", precision="tf32"),
        Case("size200m", trace=True),
        Case("small", precision="tf32", members=16),
        Case("size1m", cuda_graphs=True),
        Case("size1m", unroll=16),
        Case("size1m", unroll=1),
        Case("size12m"),
        Case("size1m", precision="tf32"),
        Case("size1m", images=True),
    ]
    second = [
        Case("small", precision="tf32", members=64),
        Case("small", precision="tf32", autotuned=True),
        Case("size100m"),
        Case("size12m", images=True),
        Case("size1m", heads_step_by_step=True),
        Case("small"),
        Case("size200m", precision="tf32"),
        Case("size1m", precision="float32"),
        Case("small", precision="tf32", members=4),
        Case("size200m", images=True),
        Case("size1m", unroll=0),
    ]
    rest = [Case(size, precision=precision) for precision in ("tf32", "float32") for size in vectors]
    rest += [Case(size, images=True, precision=precision) for precision in ("tf32", "float32") for size in images]
    rest += [Case("size100m", images=True)]
    return list(dict.fromkeys(first + second + rest))


def all_jobs() -> list[Job]:
    """For a machine with an accelerator."""
    work, cases = tuple(WORK), all_cases()
    device, *others = checks(work, size="small", updates=200, matmul=8192, solve=())
    timed = [update_job(case, work) for case in cases]
    return [device, *timed[: WAVE - 1], flops_job(cases, work), *others, *timed[WAVE - 1 :]]


def fast_jobs() -> list[Job]:
    """Each kind of job once, as small as it gets, with time for a busy machine."""
    cases = [
        Case("tiny", precision="tf32", unroll=2, trace=True),
        Case("tiny", precision="float32", members=2, heads_step_by_step=False),
    ]
    first = checks(TINY_WORK, size="tiny", updates=10, matmul=256, solve=TINY_RUN)
    jobs = [*first, flops_job(cases, TINY_WORK), *(update_job(case, TINY_WORK) for case in cases)]
    quick = {"XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"}
    return [replace(job, budget=600.0, environment={**job.environment, **quick}) for job in jobs]
