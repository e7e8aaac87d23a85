"""Specs from TOML files, presets and `--set` overrides, checked whole; and to and from the JSON of a run folder.

Command line over file over default. Relative `data.path` and `data.dir` are taken from the folder that the command is
given in, not the file's; a leading `~` is the home folder, and nothing else is expanded. In `[data]`, `[model]` and
`[optimizer]`, `name = "package.module:attribute"` is short for `name = "custom"` with that `target`. Standard library and msgspec only.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec.structs import replace

from runners import schema, spec_conflicts, spec_problems
from runners.errors import SpecError
from runners.experiments import Spec, WithData
from runners.overrides import Override, is_about, parse_override, with_overrides
from runners.schema import Document
from runners.spec import Csv, Data, ImageTable, Npz, Train
from runners.spec_problems import Problem

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
"""Beside this package, in the repository as in an installation. Not imported: a user's own folder `configs` would hide it."""


@dataclass(frozen=True)
class Preset:
    """A spec that comes with the package, and what its opening comment says."""

    name: str
    path: Path
    claim: str
    """What the run shows."""
    command: str
    """How to run it."""
    expect: str
    """What to see, and how long it takes."""


def presets() -> list[Preset]:
    """The specs in `configs/`, by name."""
    return [_preset(path) for path in sorted(CONFIGS.glob("*.toml"))]


def read(path: Path | str) -> Spec:
    """The spec in a file, or, given a bare name, the preset of that name.

    Raises:
        SpecError: If there is no such file, or it is not a valid spec.
    """
    return load(path, [])


def load(name_or_path: Path | str, overrides: Sequence[str]) -> Spec:
    """The spec in a file or preset, with keys overridden.

    Args:
        name_or_path: A TOML file, a run folder's `spec.json`, or the name of a preset.
        overrides: `key.path=value`, as the module `overrides` reads them.

    Raises:
        SpecError: If there is no such file, or an override or the whole is not valid; says which key of which.
    """
    document, label = read_document(name_or_path)
    if "sweep" in document:
        raise SpecError(f"{label}: [sweep] asks for many runs. `eos sweep {name_or_path}` makes them.")
    given = [parse_override(argument) for argument in overrides]
    return checked(with_overrides(document, given), label=label, given=given)


def read_document(name_or_path: Path | str) -> tuple[Document, str]:
    """What stands in a spec file, not checked, and how messages call it.

    Args:
        name_or_path: As for `load`.

    Raises:
        SpecError: If there is no such file, or it is neither TOML nor JSON.
    """
    path = _found(name_or_path)
    parsed = _parsed_json if path.suffix == ".json" else _parsed
    return parsed(_text(path, asked=str(name_or_path)), label=str(path)), str(path)


def checked(document: Document, *, label: str, given: Sequence[Override]) -> Spec:
    """The spec that a document describes.

    Args:
        document: With the overrides put in.
        label: Where it comes from, for messages.
        given: The overrides, for messages.

    Raises:
        SpecError: With the first thing that is wrong, and the file or the override that it comes from.
    """

    def error_of(problem: Problem) -> SpecError:
        about = next((override for override in given for key in problem.keys if is_about(override, key)), None)
        origin = f"{about.option} " if about else f"{label}: "
        return SpecError(origin + problem.message, reason=problem.message, keys=problem.keys)

    complete = schema.with_kinds(document)
    for problem in spec_problems.of_document(complete):
        raise error_of(problem)
    try:
        spec = msgspec.convert(complete, Spec)
    except msgspec.ValidationError as error:
        raise error_of(spec_problems.of_error(error, complete)) from error
    for problem in spec_conflicts.of_spec(spec):
        raise error_of(problem)
    return _with_paths(spec, os.path.expanduser)


def from_toml(text: str) -> Spec:
    """The spec in a text.

    Raises:
        SpecError: If it is not a valid spec; with the keys that the problem hangs on, or the line from which on it is not TOML.
    """
    return checked(_parsed(text, label="spec"), label="spec", given=[])


def to_json(spec: Spec) -> bytes:
    """The resolved spec: every key with its value; `from_json` gives the same spec back."""
    return msgspec.json.format(msgspec.json.encode(spec), indent=2) + b"\n"


def from_json(text: bytes) -> Spec:
    """The spec that `to_json` wrote.

    Raises:
        SpecError: If it is not JSON, or not a valid spec.
    """
    return checked(_parsed_json(text, label="spec.json"), label="spec.json", given=[])


def check_sizes(spec: Train, num_train: int) -> None:
    """Compare what the spec asks for with the training examples that the data set has.

    Raises:
        SpecError: If a batch, or the measured examples, are more than there are.
    """
    for key, size in (("optimizer.batch_size", spec.optimizer.drawn), ("measure.num_examples", spec.measure.num_examples)):
        if isinstance(size, int) and size > num_train:
            raise SpecError(f"{key} = {size}: expected at most {num_train}, the number of training examples.")


def _preset(path: Path) -> Preset:
    parts = {"Claim": "", "Run": "", "Expect": ""}
    part = None
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        opening = re.match(r"# (Claim|Run|Expect):(.*)", line)
        part, text = (opening[1], opening[2]) if opening else (part, line[1:])
        if part is not None:
            parts[part] = f"{parts[part]} {text.strip()}".strip()
    return Preset(name=path.stem, path=path, claim=parts["Claim"], command=parts["Run"], expect=parts["Expect"])


def _found(name_or_path: Path | str) -> Path:
    """The preset of that name, or else the path; a path is what a `/` or the ending `.toml` shows to be one."""
    if isinstance(name_or_path, str) and re.fullmatch(r"[\w-]+", name_or_path):
        preset = CONFIGS / f"{name_or_path}.toml"
        if preset.is_file():
            return preset
    return Path(name_or_path)


def _text(path: Path, *, asked: str) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise SpecError(f"{asked}: no such spec file or preset.{_presets_like(path.stem)}") from error
    except IsADirectoryError as error:
        raise SpecError(f"{asked}: this is a folder, expected a spec file (TOML) or a preset.{_presets_like(path.stem)}") from error
    except OSError as error:
        raise SpecError(f"{asked}: the file cannot be read ({error.strerror}).") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SpecError(f"{asked}:{line}: not UTF-8 (byte {error.start}), expected a spec in TOML.") from error


def _presets_like(name: str) -> str:
    names = [preset.name for preset in presets()]
    near = difflib.get_close_matches(name, names, n=1)
    return (f" Did you mean '{near[0]}'?" if near else "") + f" Presets: {', '.join(names)}."


def _parsed(text: str, *, label: str) -> Document:
    try:
        return tomllib.loads(text)
    except ValueError as error:
        reason, _, place = str(error).partition(" (at ")
        lines = text.splitlines() or [""]
        found = re.match(r"line (\d+), column (\d+)", place)
        line, column = (int(found[1]), int(found[2])) if found else (len(lines), len(lines[-1]) + 1)
        shown = lines[line - 1] if line <= len(lines) else ""
        message = f"not TOML: {reason}."
        raise SpecError(f"{label}:{line}:{column}: {message}\n    {shown}", reason=message, line=line) from error


def _parsed_json(text: str | bytes, *, label: str) -> Document:
    try:
        return msgspec.json.decode(text, type=dict)
    except msgspec.DecodeError as error:
        raise SpecError(f"{label}: expected a spec in JSON ({error}).") from error


def with_absolute_paths(spec: Spec) -> Spec:
    """The spec with its data's path absolute, so that a run can be resumed from any folder."""
    return _with_paths(spec, os.path.abspath)


def _with_paths(spec: Spec, change: Callable[[str], str]) -> Spec:
    return replace(spec, data=_data_with_paths(spec.data, change)) if isinstance(spec, WithData) else spec


def _data_with_paths(data: Data, change: Callable[[str], str]) -> Data:
    if isinstance(data, Npz | Csv):
        return replace(data, path=change(data.path))
    if isinstance(data, ImageTable) and data.dir is not None:
        return replace(data, dir=change(data.dir))
    return data
