"""The errors that a user can cause, as one hierarchy. Raised anywhere; turned into text and an exit code only by the command line."""

import enum


class ExitCode(enum.IntEnum):
    """What the process's exit status says."""

    DONE = 0
    """The command did what it was asked."""
    FAILED = 1
    """The run failed or diverged."""
    USAGE = 2
    """The command line, the spec or the data that it names is wrong; nothing was started."""
    UNREADABLE = 3
    """A log could not be read."""
    INTERRUPTED = 130
    """A signal ended it."""


class EosError(Exception):
    """A problem that the user can act on: the message says what is wrong, what was expected and what to do."""

    exit_code = ExitCode.FAILED


class SpecError(EosError):
    """The spec, or an override of it, is not valid."""

    exit_code = ExitCode.USAGE

    def __init__(
        self, message: str, *, reason: str | None = None, keys: tuple[tuple[str | int, ...], ...] = (), line: int | None = None
    ) -> None:
        """Say what is wrong.

        Args:
            message: With the file, or what else it is in.
            reason: Without; the message where None.
            keys: The keys that it hangs on, where it is about keys.
            line: Where the text is not TOML.
        """
        super().__init__(message)
        self.reason = message if reason is None else reason
        self.keys = keys
        self.line = line


class DataError(EosError):
    """The data set's files are missing, truncated, corrupt or of another format."""

    exit_code = ExitCode.USAGE


class RunFolderError(EosError):
    """No such run, an ambiguous name, or a folder that another process holds."""

    exit_code = ExitCode.USAGE


class LogError(EosError):
    """A log that does not follow the schema."""

    exit_code = ExitCode.UNREADABLE


class OutputError(EosError):
    """A file that cannot be written, or that a package is missing for."""

    exit_code = ExitCode.USAGE


class SettingsError(EosError):
    """The user's settings are not valid, or cannot be written."""

    exit_code = ExitCode.USAGE


class CheckpointError(EosError):
    """A checkpoint that cannot be read, or that does not belong to the run."""
