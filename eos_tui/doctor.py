"""What stands between this machine and a run: versions, devices, terminal, folders, data. Called by `eos doctor`.

jax is asked in a process of its own, under a time limit: a driver that hangs must not take the command with it.
"""

import importlib.metadata
import locale
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from eos_tui.output import is_utf8, printable
from runners import data_files
from runners.errors import EosError
from runners.spec import Cifar10, Data, FashionMnist, Mnist

PACKAGES = ("eos-tui", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scikit-learn", "msgspec", "textual", "typer", "rich")
EXTRAS = {
    "matplotlib": ("plot", "`eos plot` needs it"),
    "pyarrow": ("parquet", "`eos export --format parquet` needs it"),
    "textual-serve": ("serve", "`eos serve` needs it"),
    "powerlaw": ("tails", "one estimator of `eos theory tail-fit` needs it"),
    "tailestim": ("tails", "one estimator of `eos theory tail-fit` needs it"),
}
"""Optional packages: the extra that brings one, and what needs it, as a sentence."""
BAD_JAX = "0.10.2"
"""Compiles wrong programs for CPUs (jax issue 39103)."""
REINSTALL = "pip install --force-reinstall jax jaxlib"
PROBE_SECONDS = 60.0
"""How long jax may take to find its devices."""
PROBE = """
import json
from runners import environment
environment.prepare("float32")
import jax
devices = [f"{device.platform} {device.device_kind}" for device in jax.devices()]
print(json.dumps({"devices": devices, "cache": str(environment.compilation_cache())}))
"""
SMALL_TERMINAL = (80, 24)
"""Columns and rows below which the live view leaves things out."""
DATA: dict[str, Data] = {"cifar10": Cifar10(), "mnist": Mnist(), "fashion-mnist": FashionMnist()}


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at."""

    name: str
    status: Literal["ok", "note", "problem"]
    """note: something does without it; problem: runs fail or are wrong."""
    found: str
    advice: str | None = None
    """What to do."""


class Probe(msgspec.Struct, frozen=True):
    """What jax says of itself."""

    devices: list[str]
    cache: str


def checks(*, runs: Path, environ: Mapping[str, str]) -> list[Check]:
    """All checks, in the order of reading.

    Args:
        runs: The folder that holds the runs.
        environ: The environment variables.
    """
    return [python(), *packages(installed()), *computing(), terminal(environ), encoding(), writable("runs folder", runs), *data(environ)]


def installed() -> dict[str, str]:
    """Version by package, of those that are there."""
    found = {}
    for name in (*PACKAGES, *EXTRAS):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def python() -> Check:
    """The interpreter."""
    return Check(name="python", status="ok", found=f"{platform.python_version()} ({sys.executable}) on {platform.platform(terse=True)}")


def packages(versions: Mapping[str, str]) -> list[Check]:
    """The packages, and the jax that must not be.

    Args:
        versions: Version by package, of those that are installed.
    """
    missing = [name for name in PACKAGES if name not in versions]
    found = [
        Check(
            name="packages",
            status="problem" if missing else "ok",
            found=", ".join(f"{name} {versions[name]}" for name in PACKAGES if name in versions),
            advice=f"Missing: {', '.join(missing)}. pip install eos-tui" if missing else None,
        )
    ]
    bad = [name for name in ("jax", "jaxlib") if versions.get(name) == BAD_JAX]
    if bad:
        advice = f"pip install 'jax!={BAD_JAX}' 'jaxlib!={BAD_JAX}'"
        found.append(Check(name="jax", status="problem", found=f"{' and '.join(bad)} {BAD_JAX} gives wrong results on CPUs", advice=advice))
    for name, (extra, use) in EXTRAS.items():
        if name not in versions:
            found.append(Check(name=name, status="note", found="not installed", advice=f"{use}: pip install 'eos-tui[{extra}]'"))
    return found


def computing(*, code: str | None = None, seconds: float = PROBE_SECONDS) -> list[Check]:
    """The devices of jax and the folder of compiled programs.

    Args:
        code: What is run in another process to find out; `PROBE` when absent.
        seconds: How long that may take.
    """
    try:
        done = subprocess.run([sys.executable, "-P", "-c", code or PROBE], capture_output=True, text=True, timeout=seconds, check=True)
        probe = msgspec.json.decode(done.stdout.strip().rpartition("\n")[2], type=Probe)
    except subprocess.TimeoutExpired:
        advice = "A driver may hang. JAX_PLATFORMS=cpu eos doctor leaves accelerators aside."
        return [Check(name="devices", status="problem", found=f"jax did not answer within {seconds:g} s", advice=advice)]
    except subprocess.CalledProcessError as error:
        last = printable(error.stderr).strip().rpartition("\n")[2]
        return [Check(name="devices", status="problem", found=f"jax does not start: {last}", advice=REINSTALL)]
    except msgspec.DecodeError:
        return [Check(name="devices", status="problem", found="jax did not say which it has", advice=REINSTALL)]
    return [
        Check(name="devices", status="ok", found=", ".join(probe.devices)),
        writable("compilation cache", Path(probe.cache), advice="Without it every start compiles anew. Set JAX_COMPILATION_CACHE_DIR."),
    ]


def terminal(environ: Mapping[str, str]) -> Check:
    """What the live view will find to draw on."""
    term = environ.get("TERM", "")
    if not sys.stdout.isatty():
        return Check(name="terminal", status="note", found="the output is not a terminal", advice="Runs print plain lines here.")
    columns, rows = shutil.get_terminal_size()
    colour = "no colours (NO_COLOR)" if environ.get("NO_COLOR") else f"COLORTERM {environ.get('COLORTERM') or 'not set'}"
    found = f"TERM {term or 'not set'}, {colour}, {columns}x{rows}"
    if term in ("", "dumb"):
        return Check(
            name="terminal", status="note", found=found, advice="This terminal cannot be drawn on; runs print plain lines here. Set TERM."
        )
    if columns < SMALL_TERMINAL[0] or rows < SMALL_TERMINAL[1]:
        return Check(name="terminal", status="note", found=found, advice="The live view is best from 80x24 on.")
    return Check(name="terminal", status="ok", found=found)


def encoding() -> Check:
    """Whether the terminal is sent UTF-8; else charts are drawn in ASCII, at a quarter of the resolution."""
    name = sys.stdout.encoding or locale.getpreferredencoding()
    if is_utf8(name):
        return Check(name="encoding", status="ok", found=name)
    return Check(
        name="encoding", status="note", found=name, advice="The live view is drawn in ASCII. For finer charts: export LC_ALL=C.UTF-8"
    )


def writable(name: str, folder: Path, *, advice: str = "Choose another place with --runs-dir or EOS_RUNS.") -> Check:
    """Whether files can be made in a folder, or the folder itself can be made.

    Args:
        name: Of the check.
        folder: Need not exist.
        advice: What to do if not.
    """
    existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return Check(name=name, status="problem", found=f"{folder}: cannot be written to", advice=advice)
    free = shutil.disk_usage(existing).free / 2**30
    return Check(name=name, status="ok", found=f"{folder}{'' if folder.exists() else ' (not made yet)'}, {free:,.0f} GiB free")


def data(environ: Mapping[str, str]) -> list[Check]:
    """Which of the data sets that are read from files are in $EOS_DATA."""
    folder = environ.get("EOS_DATA")
    if not folder:
        found = "EOS_DATA is not set"
        return [Check(name="data", status="note", found=found, advice=f"{', '.join(DATA)} are read from $EOS_DATA, or from data.dir.")]
    return [_data_set(name, table, folder) for name, table in DATA.items()]


def _data_set(name: str, table: Data, folder: str) -> Check:
    try:
        return Check(name=name, status="ok", found=f"{data_files.check(table):,} training examples in {folder}")
    except EosError as error:
        return Check(name=name, status="note", found=f"not in {folder}", advice=str(error))
