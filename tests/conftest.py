"""The whole suite runs on two virtual CPU devices with JAX's checks on; pyproject.toml makes warnings errors."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Nearly all the time of the suite is compilation, and what it compiles runs for moments: without the compiler's optimisations
# it takes half as long, with its older emitters and in one piece a quarter of that. Child processes inherit it.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1")
os.environ.setdefault("PJRT_NPROC", "4")  # twice the devices, else long unblocked loops of collectives can deadlock

# Of this process, of the other cores' and of all children.
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dreamerjax" / "test-programs"
)

import jax

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_debug_key_reuse", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
