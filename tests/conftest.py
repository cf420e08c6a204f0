"""The whole suite runs on two virtual CPU devices with JAX's checks on; pyproject.toml makes warnings errors."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Nearly all the time of the suite is compilation, and what it compiles runs for moments: without the compiler's optimisations
# it takes half as long. Child processes inherit it.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")
os.environ.setdefault("PJRT_NPROC", "4")  # twice the devices, else long unblocked loops of collectives can deadlock

import jax

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dreamerjax" / "test-programs"

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_debug_key_reuse", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", str(_CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
