"""That the README, the other pages and the presets keep what they say, and that the package is what pyproject.toml calls it."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import typer
from packaging.requirements import Requirement
from typer.core import TyperGroup

from eos_tui.cli import app
from runners import spec_file, thresholds
from runners.errors import ExitCode
from runners.spec import BuiltInOptimizer, Data, Measure, Model, Objective, Optimizer, Train
from runners.spec_file import Preset

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PRESETS = spec_file.presets()
COMMANDS = typer.main.get_command(app).commands
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def in_code(text: str) -> Iterator[str]:
    """Lines of code and code between back-ticks."""
    yield from (line.strip() for line in re.findall(r"^ {4,}.*$", text, flags=re.MULTILINE))
    yield from (line for block in re.findall(r"^```\w*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL) for line in block.splitlines())
    yield from re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)


def eos_lines(text: str) -> list[list[str]]:
    """The arguments of every `eos ...` in code that has some, without redirections and brackets, with the first of alternatives."""
    parts = [re.sub(r"(?<=\w)\|\S+|[][]", "", part.partition(">")[0]).strip() for line in in_code(text) for part in line.split(";")]
    return [line[1:] for part in parts if part.startswith("eos ") and len(line := shlex.split(part, comments=True)) > 1]


def parsed(arguments: list[str]) -> typer.Context:
    """What the command line makes of them, without doing it."""
    [name, *rest] = arguments
    command = COMMANDS[name]
    if isinstance(command, TyperGroup):
        [name, *rest] = rest
        command = command.commands[name]
    return command.make_context(name, rest)


def is_a_name_alone(arguments: list[str]) -> bool:
    """Whether they name a command, of a group or not, and no more."""
    return len(arguments) <= 1 + isinstance(COMMANDS.get(arguments[0]), TyperGroup)


def tag(kind: type) -> str:
    """The name of a kind of table in a spec."""
    return str(kind.__struct_config__.tag)


# The commands


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_stands_in_the_readme_and_has_help(name: str) -> None:
    command = COMMANDS[name]

    used = {arguments[0] for arguments in eos_lines(README)}

    assert name in used
    assert all(each.help for each in (command, *getattr(command, "commands", {}).values()))
    assert all(parameter.help for each in (command, *getattr(command, "commands", {}).values()) for parameter in each.params)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_command_lines_of_the_pages_parse(page: Path) -> None:
    lines = eos_lines(page.read_text())

    assert {arguments[0] for arguments in lines} <= {*COMMANDS, "--help"}
    for arguments in lines:
        if not is_a_name_alone(arguments):
            parsed(arguments)


def test_the_specs_of_the_readmes_commands_are_valid() -> None:
    runs = [parsed(arguments).params for arguments in eos_lines(README) if arguments[0] == "run"]

    presets = [run for run in runs if not run["spec"].endswith(".toml")]

    assert presets
    assert all(isinstance(spec_file.load(run["spec"], run["overrides"] or []), Train) for run in presets)


def test_the_exit_codes_of_the_readme_are_those_of_the_code() -> None:
    said = re.search(r"exit code: (.*?)\. SIGTERM", README, flags=re.DOTALL)

    assert said
    assert {int(code) for code in re.findall(r"\b(\d+)\s[a-z]", said[1])} == set(map(int, ExitCode))


# The presets


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_a_preset_opens_with_what_it_claims_how_to_run_it_and_what_to_expect(preset: Preset) -> None:
    text = preset.path.read_text()

    opening = re.findall(r"^# (\w+): +\S", text.partition("\n\n")[0], flags=re.MULTILINE)

    assert opening == ["Claim", "Run", "Expect"]
    assert "TODO" not in text
    assert all(said.endswith(".") for said in (preset.claim, preset.expect))


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_the_command_of_a_preset_runs_that_preset(preset: Preset) -> None:
    [program, command, *arguments] = shlex.split(preset.command)

    given = parsed([command, *arguments]).params

    assert [program, command, given["spec"]] == ["eos", "run", preset.name]
    spec_file.load(preset.name, given["overrides"] or [])


def test_every_spec_in_configs_is_a_preset_and_none_is_missing_from_the_list() -> None:
    listed = subprocess.run([sys.executable, "-m", "eos_tui", "presets", "--json"], capture_output=True, check=True).stdout

    assert [row["name"] for row in json.loads(listed)] == sorted(path.stem for path in (ROOT / "configs").glob("*.toml"))


def test_a_run_without_a_name_is_one_of_a_preset() -> None:
    assert parsed(["run"]).params["spec"] in [preset.name for preset in PRESETS]


# The README's spec and tables


def test_the_spec_of_the_readme_is_valid(tmp_path: Path) -> None:
    [text] = re.findall(r"^```toml\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    path = tmp_path / "readme.toml"
    path.write_text(text)

    spec = spec_file.read(path)

    assert isinstance(spec, Train)


@pytest.mark.parametrize("kind", [kind for table in (Data, Model, Objective, Optimizer) for kind in get_args(table)], ids=tag)
def test_the_readme_offers_every_kind_of_data_model_objective_and_optimizer(kind: type) -> None:
    offers = " ".join(re.findall(r'^name = "\w+" +# (.*)$', README, flags=re.MULTILINE))

    words = {"custom": "package.module:"}.get(tag(kind), tag(kind))

    assert re.search(rf"(?<![\w-]){words}", offers)


def test_the_thresholds_of_the_readme_are_those_of_the_code() -> None:
    said = dict(re.findall(r"^\| `(\w+)` \| .*sharpness, (.+) \|$", README, flags=re.MULTILINE))

    formulas = {tag(kind): thresholds.formula(kind()) for kind in get_args(BuiltInOptimizer)}
    assert {name: text.replace("\\|", "|") for name, text in said.items()} == {name: text for name, text in formulas.items() if text}


# Files, modules and links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())

    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("package", ["runners", "eos_tui"])
def test_the_architecture_names_every_module_that_stands_at_the_top(package: str) -> None:
    top = [path for path in (ROOT / package).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]

    names = [f"{path.name}/" if path.is_dir() else path.name for path in top if path.name != "__init__.py"]

    assert [name for name in names if not re.search(rf"[`/]{name}", ARCHITECTURE)] == []


def test_the_architecture_names_no_module_that_is_not_there() -> None:
    present = {path.name for package in ("runners", "eos_tui") for path in (ROOT / package).rglob("*")}

    named = set(re.findall(r"\w+\.py\b", ARCHITECTURE))

    assert named - present == set()


def test_every_benchmark_is_described() -> None:
    described = (ROOT / "docs" / "benchmarks.md").read_text()

    assert [path.name for path in (ROOT / "benchmarks").glob("*.py") if f"benchmarks/{path.name}" not in described] == []


# What is installed


def test_the_wheel_takes_the_packages_the_presets_and_the_style_sheet() -> None:
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    ignored = (ROOT / ".gitignore").read_text().splitlines()

    assert set(packages) == {"eos_tui", "runners", "configs"}
    assert not {f"{package}/" for package in packages} & set(ignored)
    assert not [pattern for pattern in ignored if pattern.endswith((".toml", ".tcss", ".typed"))]
    assert spec_file.CONFIGS == ROOT / "configs"
    assert (ROOT / "eos_tui" / "app.tcss").is_file()


def test_the_packages_are_typed_as_the_classifiers_say() -> None:
    assert "Typing :: Typed" in PROJECT["project"]["classifiers"]
    assert all((ROOT / package / "py.typed").is_file() for package in ("eos_tui", "runners"))


def test_the_extras_of_the_readme_exist() -> None:
    extras = {extra for group in re.findall(r"pip install '\.\[([\w,]+)\]'", README) for extra in group.split(",")}

    assert extras
    assert extras <= PROJECT["project"]["optional-dependencies"].keys()


def test_the_pinned_versions_lie_in_the_ranges_of_the_package() -> None:
    asked = [Requirement(line) for line in (*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["dev"])]
    pins = [Requirement(line.partition("#")[0]) for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    versions = [(pin.name, specifier.version) for pin in pins for specifier in pin.specifier]

    outside = [(name, version) for range_ in asked for name, version in versions if name == range_.name and version not in range_.specifier]

    assert outside == []


def test_the_make_targets_of_the_pages_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))

    asked = {line.split()[1] for page in PAGES for line in in_code(page.read_text()) if line.startswith("make ")}

    assert asked
    assert asked <= targets


def test_the_trainer_loads_nothing_of_the_viewer() -> None:
    code = "import sys, runners.train, runners.session, runners.__main__; print(*sys.modules)"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert not {"textual", "typer", "eos_tui"} & set(loaded)


def test_the_page_on_measuring_has_every_quantity_that_can_be_asked_for() -> None:
    page = (ROOT / "docs" / "measuring.md").read_text()

    keys = [name for name in Measure.__struct_fields__ if name not in ("evaluate_every",)]

    assert [key for key in keys if f"measure.{key}" not in page] == []
