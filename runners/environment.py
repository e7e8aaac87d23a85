"""The process a run lives in: settings that must stand before jax starts, and what the log's header says of the machine."""

import gc
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from runners.records import Git

PACKAGES = ("eos-tui", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
"""Whose versions stand in the header."""
GIT_SECONDS = 2.0
"""A repository that answers slower than this is left out of the header."""


def compilation_cache() -> Path:
    """The folder of compiled programs: `$JAX_COMPILATION_CACHE_DIR`, else one in the user's cache folder.

    Machines that share a home folder get one each by kind of processor: a program compiled for one may not run on another.
    """
    given = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if given:
        return Path(given)
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "eos" / f"xla-{platform.machine()}-{_processor()}"


def prepare(precision: Literal["float32", "float64"]) -> None:
    """Set jax up for runs; to be called before anything computes.

    Full precision in every product (no TF32), results that repeat bit for bit on GPUs, no GPU memory taken ahead, and
    compiled programs kept from one start to the next.

    Args:
        precision: That of parameters, data and measurements.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_gpu_deterministic_ops" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true".strip()
    import jax

    jax.config.update("jax_enable_x64", precision == "float64")
    jax.config.update("jax_default_matmul_precision", "highest")
    jax.config.update("jax_compilation_cache_dir", str(compilation_cache()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """For the start: what is imported and traced stays, and looking through it for garbage takes a tenth of the time.

    What is there at the end is not looked through later either.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def device() -> str:
    """The device that computes, such as `cpu` or `gpu NVIDIA H100`, with its number where there are several."""
    import jax

    devices = jax.devices()
    first = devices[0]
    kind = first.platform if first.device_kind == first.platform else f"{first.platform} {first.device_kind}"
    return kind if len(devices) == 1 else f"{len(devices)} x {kind}"


def versions() -> dict[str, str]:
    """Version by package, Python's included."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git() -> Git | None:
    """Commit and cleanliness of the repository in the present folder; None where there is none."""
    try:
        commit = _git("rev-parse", "HEAD")
        return Git(commit=commit, dirty=bool(_git("status", "--porcelain", "--untracked-files=no")))
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=GIT_SECONDS)
    return done.stdout.strip()


def _processor() -> str:
    """A short digest of what the processor can do."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        features = platform.processor()
    return hashlib.sha256(features.encode()).hexdigest()[:8]
