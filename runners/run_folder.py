"""The run folder: the names in it, how it is made, found and locked. The only interface between runner and viewer.

Called by the runner process, which holds the lock while it lives, and by everything that looks at runs. Must not
import jax or anything that draws.
"""

import difflib
import fcntl
import os
import re
import secrets
import shlex
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from runners.errors import RunFolderError
from runners.records import Request

DEFAULT_RUNS = Path("runs")
MOST_NAMED = 3
"""Runs that a message names where a word may mean several."""
LOCK_SECONDS = 2.0
"""How long a starting runner waits for the lock: a viewer holds it for microseconds while it tests it."""


class LockHolder(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds, or last held, a run or a sweep: the content of `lock`."""

    pid: int
    host: str
    started: str
    """UTC, ISO 8601."""


class Lock:
    """A file that one process holds while it lives, with its name inside."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def holder(self) -> LockHolder | None:
        """Who holds or last held it; None before the first."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=LockHolder)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def is_held(self) -> bool | None:
        """Whether its holder lives; None when it is on another host, which a lock cannot tell from here."""
        holder = self.holder()
        if holder is not None and holder.host != socket.gethostname():
            return None
        try:
            descriptor = os.open(self._path, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    @contextmanager
    def held(self, refusal: Callable[[str], str]) -> Iterator[None]:
        """Hold the lock for the body; the system frees it when the process dies, however it dies.

        Args:
            refusal: What to say when another process holds it, given that process in words.

        Raises:
            RunFolderError: If another process holds it.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._acquire(descriptor, refusal)
            me = LockHolder(pid=os.getpid(), host=socket.gethostname(), started=utc_now())
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, msgspec.json.encode(me) + b"\n", 0)
            yield
        finally:
            os.close(descriptor)

    def _acquire(self, descriptor: int, refusal: Callable[[str], str]) -> None:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    holder = self.holder()
                    raise RunFolderError(refusal(f"process {holder.pid} on {holder.host}" if holder else "another process")) from None
                time.sleep(0.02)


class RunFolder:
    """The paths of one run. The only place that knows the files' names."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    @property
    def name(self) -> str:
        """The folder's name, which is the run's."""
        return self.path.name

    @property
    def spec(self) -> Path:
        """The resolved spec."""
        return self.path / "spec.json"

    @property
    def log(self) -> Path:
        """The records, one a line."""
        return self.path / "log.jsonl"

    @property
    def control(self) -> Path:
        """Requests to the runner, one a line."""
        return self.path / "control.jsonl"

    @property
    def output(self) -> Path:
        """The runner process's stdout and stderr."""
        return self.path / "output.txt"

    @property
    def checkpoints(self) -> Path:
        """One folder a checkpoint."""
        return self.path / "checkpoints"

    @property
    def lock(self) -> Path:
        """Held by the runner while it lives."""
        return self.path / "lock"

    def was_started(self) -> bool:
        """Whether there ever was a runner: a sweep's runs wait for theirs."""
        return self.log.exists() or self.output.exists() or self.lock.exists()

    def holder(self) -> LockHolder | None:
        """Who holds or last held the run; None before the first runner."""
        return Lock(self.lock).holder()

    def is_held(self) -> bool | None:
        """Whether a runner lives; None when another host's runner holds it, which a lock cannot tell from here."""
        return Lock(self.lock).is_held()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the run's lock for the body; the system frees it when the process dies, however it dies.

        Raises:
            RunFolderError: If another runner lives in the folder.
        """
        with Lock(self.lock).held(lambda who: f"{self.path}: the run is held by {who}. Watch it with `eos watch {self.name}`."):
            yield

    def request(self, request: str) -> None:
        """Append a request for the runner: stop, pause or unpause.

        The file is opened append-only and the line written at once, so that viewers do not cut each other's lines.

        Raises:
            RunFolderError: If the folder cannot be written to, as that of somebody else's run.
        """
        try:
            append(self.control, msgspec.convert({"request": request, "created": utc_now()}, Request))
        except OSError as error:
            raise RunFolderError(f"{self.control}: the request cannot be written ({error.strerror}).") from error


def append(path: Path, line: msgspec.Struct) -> None:
    """Add a line of JSON to a file by one write, whoever else adds to it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.write(descriptor, msgspec.json.encode(line) + b"\n")
    finally:
        os.close(descriptor)


def utc_now() -> str:
    """Now as `2026-01-31T12:00:00Z`."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def runs_dir(given: Path | None = None) -> Path:
    """The folder that holds the runs: the one given, else `$EOS_RUNS`, else `./runs`."""
    if given is not None:
        return given
    return Path(os.environ.get("EOS_RUNS") or DEFAULT_RUNS)


def create(runs: Path, name: str, spec_json: bytes) -> RunFolder:
    """A new run folder `NAME-YYYYMMDDTHHMMSSZ-xxxx` with its `spec.json`; never an existing one.

    Args:
        runs: The folder that holds the runs; made when absent.
        name: Letters, digits, `.`, `_` and `-`.
        spec_json: The resolved spec.

    Raises:
        RunFolderError: If the name has other characters, or the folder cannot be made.
    """
    folder = RunFolder(new_folder(runs, name))
    with _writing(runs):
        folder.spec.write_bytes(spec_json)
    return folder


def new_folder(runs: Path, name: str) -> Path:
    """A new, empty folder `NAME-YYYYMMDDTHHMMSSZ-xxxx`; never an existing one.

    Args:
        runs: The folder that holds the runs; made when absent.
        name: Letters, digits, `.`, `_` and `-`.

    Raises:
        RunFolderError: If the name has other characters, or the folder cannot be made.
    """
    check_name(name)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    with _writing(runs):
        runs.mkdir(parents=True, exist_ok=True)
        while True:
            path = runs / f"{name}-{stamp}-{secrets.token_hex(2)}"
            try:
                path.mkdir()
                return path
            except FileExistsError:
                continue


@contextmanager
def _writing(runs: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunFolderError(
            f"{runs}: a run folder cannot be made here ({error.strerror}). Choose another place with --runs-dir."
        ) from error


def check_name(name: str) -> None:
    """Find out whether runs may be called so.

    Raises:
        RunFolderError: If not.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise RunFolderError(f"{name!r} is not a name for a run: use letters, digits, '.', '_' and '-', and start with a letter or digit.")


def rename(folder: RunFolder, name: str) -> RunFolder:
    """Call a run otherwise; the time stamp and the random letters that make its name unique stay. Its log keeps the old name.

    Args:
        folder: A run that has ended: a runner that goes on, here or on another host, would write to where it no longer is.
        name: As for `create`.

    Raises:
        RunFolderError: If the name has other characters, a runner of this host holds the folder, there is such a folder already, or
            this one cannot be moved.
    """
    check_name(name)
    if folder.is_held():
        raise RunFolderError(f"{folder.name} is still running. Stop it first, or wait for its end.")
    target = folder.path.with_name(name + folder.name[len(stem(folder.name)) :])
    if target.exists():
        raise RunFolderError(f"{target.name}: there is a run of this name already.")
    try:
        folder.path.rename(target)
    except OSError as error:
        raise RunFolderError(f"{folder.path}: the folder cannot be renamed ({error.strerror}).") from error
    return RunFolder(target)


def stem(name: str) -> str:
    """A run's name without the time stamp and the random letters that make it unique."""
    return re.sub(r"-\d{8}T\d{6}Z-[0-9a-f]+$", "", name)


def all_runs(runs: Path) -> list[RunFolder]:
    """The run folders in `runs`, oldest first by the time stamp in their name, then by when they were made."""
    if not runs.is_dir():
        return []
    folders = [RunFolder(Path(entry.path)) for entry in os.scandir(runs) if entry.is_dir() and _is_run(Path(entry.path))]
    return sorted(folders, key=lambda folder: (_stamp(folder.name), _made(folder), folder.name))


def find(runs: Path, text: str | None = None) -> RunFolder:
    """The run that `text` names: a folder, a run's name, or a prefix of one name only; the newest when absent.

    `SWEEP/RUN` is a run of a sweep, each part a name or the prefix of one only.

    Raises:
        RunFolderError: If there is none, or more than one.
    """
    if text is not None and _is_run(Path(text)):
        return RunFolder(Path(os.path.abspath(text)))
    if text is not None and (place := _place(runs, text)):
        return find(place, text.rpartition("/")[2] or None)
    folders = all_runs(runs)
    if not folders:
        raise RunFolderError(f"{runs}: no runs here. Start one with `eos run`, or name another place with --runs-dir.")
    if text is None:
        return folders[-1]
    exact = [folder for folder in folders if folder.name == text]
    matches = exact or [folder for folder in folders if folder.name.startswith(text)]
    if not matches:
        raise RunFolderError(f"{text!r}: no such run in {runs}.{_nearest(text, folders)} `eos list` shows what is there.")
    if len(matches) > 1:
        names = some([folder.name for folder in matches])
        raise RunFolderError(f"{text!r} is the beginning of {len(matches)} runs ({names}). Write more of the name.")
    return matches[0]


def some(names: Sequence[str]) -> str:
    """The last names of several, from the newest on, for a message."""
    return ", ".join([*reversed(names[-MOST_NAMED:]), *(["..."] if len(names) > MOST_NAMED else [])])


def reference(folder: RunFolder) -> str:
    """What names the run on a command line typed here: its name when it lies where runs are looked for, else its path."""
    is_here = folder.path.absolute().parent == runs_dir().absolute()
    return folder.name if is_here else shlex.quote(str(folder.path))


def _is_run(path: Path) -> bool:
    return (path / "spec.json").is_file() or (path / "log.jsonl").is_file()


def _place(runs: Path, text: str) -> Path | None:
    """The one folder, not itself a run, that the part of `text` before its last `/` names; None where there is none."""
    head = text.rpartition("/")[0]
    if not head or not runs.is_dir():
        return None
    if (runs / head).is_dir():
        return runs / head
    places = [Path(entry.path) for entry in os.scandir(runs) if entry.name.startswith(head) and entry.is_dir()]
    return places[0] if len(places) == 1 and not _is_run(places[0]) else None


def _nearest(text: str, folders: list[RunFolder]) -> str:
    """A question that names the run with the nearest name, or the nearest beginning of names."""
    names = {name for folder in folders for name in (folder.name, stem(folder.name))}
    near = difflib.get_close_matches(text, sorted(names), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def _stamp(name: str) -> str:
    match = re.search(r"-(\d{8}T\d{6}Z)-[0-9a-f]+$", name)
    return match.group(1) if match else ""


def _made(folder: RunFolder) -> int:
    try:
        return folder.spec.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
