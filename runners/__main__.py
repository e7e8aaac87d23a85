"""`python -m runners RUN_FOLDER`: the runner process. Runs what the folder's spec asks for, or goes on where it stopped.

With several folders, whose runs differ in learning rate and seeds alone, all of them train as one vectorised program. Started by the
viewer, a job script or a scheduler; needs nothing but the folders. Writes to them alone: records to the logs, everything else (prints,
warnings, tracebacks) to stdout and stderr, which whoever starts it sends to an `output.txt`.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from runners import spec_file
from runners.control import Signals
from runners.errors import EosError, ExitCode, RunFolderError
from runners.experiments import Spec
from runners.run_folder import RunFolder
from runners.sitting import Sitting

EXIT_CODES = {"finished": ExitCode.DONE, "stopped": ExitCode.DONE, "diverged": ExitCode.FAILED, "failed": ExitCode.FAILED}


def main(arguments: list[str]) -> ExitCode:
    """Run the folders named on the command line to their ends; the process's exit code."""
    if not arguments:
        return _complain("usage: python -m runners RUN_FOLDER [RUN_FOLDER ...]", ExitCode.USAGE)
    # XLA prints two long lines for each program from its cache, of "machine features" that are its own options. What fails raises.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    folders = [RunFolder(Path(argument)) for argument in arguments]
    signals = Signals()
    signals.install()
    sys.path.append(os.getcwd())
    try:
        specs = [_read_spec(folder) for folder in folders]
        if len(folders) > 1:
            _check_together(specs)
        sittings = [Sitting(folder, spec, signals) for folder, spec in zip(folders, specs, strict=True)]
    except EosError as error:
        return _complain(str(error), error.exit_code)
    _carry_out(sittings)
    statuses = [sitting.status or "failed" for sitting in sittings]
    if "stopped" in statuses and signals.received is not None:
        return ExitCode.INTERRUPTED
    return max(EXIT_CODES[status] for status in statuses)


def _read_spec(folder: RunFolder) -> Spec:
    try:
        return spec_file.from_json(folder.spec.read_bytes())
    except FileNotFoundError as error:
        raise RunFolderError(f"{folder.path}: no run folder, for it has no spec.json. `eos run` makes one.") from error


def _check_together(specs: Sequence[Spec]) -> None:
    from runners import grouping

    grouping.check(specs)


def _carry_out(sittings: Sequence[Sitting]) -> None:
    """See the runs to their ends."""
    if len(sittings) > 1:
        from runners import together

        together.carry_out(sittings)
        return
    from runners.session import Session

    sittings[0].open()
    if sittings[0].status is None:
        sittings[0].go_on(Session.run)


def _complain(message: str, code: ExitCode) -> ExitCode:
    sys.stderr.write(f"runners: {message}\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
