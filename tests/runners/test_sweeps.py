"""The sweep folder: how it is made and found, its lock and its log."""

import json
from pathlib import Path

import msgspec
import pytest
from jsonschema import Draft202012Validator

from runners import expansion, grid, run_folder, spec_file, sweeps
from runners.errors import LogError, RunFolderError
from runners.run_folder import RunFolder
from runners.sweeps import SCHEMA, AnySweepRecord, BegunRecord, EndedRecord, SittingRecord, SweepEndRecord, SweepFolder, SweepTable

ROOT = Path(__file__).parents[2]
NOW = "2026-01-31T12:00:00Z"
RECORDS = (
    SittingRecord(time=NOW, schema=SCHEMA, host="here", pid=1, jobs=2, num_runs=2, num_done=0),
    BegunRecord(time=NOW, run="lr0.1", how="started", job="17"),
    EndedRecord(time=NOW, run="lr0.1", status="failed", step=3, reason="The runner died."),
    SweepEndRecord(time=NOW, status="incomplete", counts={"failed": 1, "finished": 1}),
)


@pytest.fixture
def folder(tmp_path):
    axis = grid.parse_axis("optimizer.lr=0.1,0.2")
    runs = expansion.expand({"run": {"steps": 10}}, [axis], label="base.toml")
    return sweeps.create(
        tmp_path, "base", runs, source="base.toml", document={"run": {"steps": 10}}, grid={"optimizer.lr": ["0.1", "0.2"]}, jobs=2
    )


def validate(name, value):
    Draft202012Validator(json.loads((ROOT / "docs" / "schemas" / name).read_text())).validate(value)


def test_each_run_has_a_folder_with_its_whole_spec(folder):
    assert [run.name for run in folder.runs()] == ["lr0.1", "lr0.2"]
    assert [spec_file.from_json(run.spec.read_bytes()).optimizer.lr for run in folder.runs()] == [0.1, 0.2]
    assert not any(run.was_started() for run in folder.runs())


def test_what_was_asked_is_kept(folder):
    sweep = folder.read()

    assert (sweep.name, sweep.source, sweep.jobs) == (folder.name, "base.toml", 2)
    assert sweep.grid == {"optimizer.lr": ("0.1", "0.2")}
    assert sweep.runs[1].values == {"optimizer.lr": 0.2}
    validate("sweep.schema.json", json.loads(folder.sweep.read_text()))


def test_a_sweep_is_no_run_but_its_runs_are(folder, tmp_path):
    assert run_folder.all_runs(tmp_path) == []
    assert [run.name for run in run_folder.all_runs(folder.path)] == ["lr0.1", "lr0.2"]
    assert [found.name for found in sweeps.all_sweeps(tmp_path)] == [folder.name]


def test_a_run_is_found_by_the_names_of_sweep_and_run(folder, tmp_path):
    assert run_folder.find(tmp_path, f"{folder.name}/lr0.2").path == folder.path / "lr0.2"
    assert run_folder.find(tmp_path, "base/lr0.2").path == folder.path / "lr0.2"


def test_a_run_that_a_sweep_does_not_have_is_not_found(folder, tmp_path):
    with pytest.raises(RunFolderError, match=r"'lr0\.3': no such run in .*Did you mean"):
        run_folder.find(tmp_path, "base/lr0.3")


def test_a_sweep_is_found_by_name_beginning_and_folder(folder, tmp_path):
    assert {sweeps.find(tmp_path, text).path for text in (folder.name, "base", str(folder.path))} == {folder.path}
    with pytest.raises(RunFolderError, match="no such sweep"):
        sweeps.find(tmp_path, "other")


def test_an_ambiguous_beginning_is_refused(folder, tmp_path):
    sweeps.create(tmp_path, "base", [], source="", document={}, grid={}, jobs=1)

    with pytest.raises(RunFolderError, match="the beginning of 2 sweeps"):
        sweeps.find(tmp_path, "base")


def test_the_beginning_of_a_sweeps_name_means_it_where_no_run_begins_so(folder, tmp_path):
    assert sweeps.meant(tmp_path, "base").path == folder.path
    assert sweeps.meant(tmp_path, "base/lr0.1") is sweeps.meant(tmp_path, "other") is sweeps.meant(tmp_path, None) is None

    run_folder.create(tmp_path, "base", b"{}")
    assert sweeps.meant(tmp_path, "base") is None
    assert sweeps.meant(tmp_path, folder.name).path == folder.path


def test_a_later_schema_is_refused(folder):
    folder.sweep.write_text(folder.sweep.read_text().replace('"schema": 1', '"schema": 99'))

    with pytest.raises(LogError, match="Install a newer eos-tui"):
        folder.read()


def test_the_log_is_read_from_where_it_was_left(folder):
    for record in RECORDS[:2]:
        folder.write(record)
    first, place = folder.records()
    for record in RECORDS[2:]:
        folder.write(record)

    assert (*first, *folder.records(place)[0]) == RECORDS


def test_every_line_of_the_log_is_valid():
    for record in RECORDS:
        validate("sweep-log.schema.json", msgspec.to_builtins(record))


def test_a_torn_line_waits_and_the_next_scheduler_cuts_it(folder):
    folder.write(RECORDS[0])
    with folder.log.open("ab") as log:
        log.write(b'{"kind":"beg')

    assert folder.records()[0] == [RECORDS[0]]
    with folder.held():
        folder.write(RECORDS[1])
    assert folder.records()[0] == list(RECORDS[:2])


def test_two_schedulers_never_share_a_sweep(folder, monkeypatch):
    monkeypatch.setattr(run_folder, "LOCK_SECONDS", 0.0)

    with folder.held():
        assert folder.is_held()
        with pytest.raises(RunFolderError, match="works at this sweep already"), SweepFolder(folder.path).held():
            pass
    assert folder.is_held() is False


def test_the_page_on_the_log_describes_every_field_of_a_sweep():
    text = (ROOT / "docs" / "log.md").read_text().partition("## The sweep folder")[2]

    structs = [sweeps.Sweep, sweeps.SweepRun, *(kind for kind in AnySweepRecord.__args__)]

    assert [name for struct in structs for name in struct.__struct_fields__ if f"`{name}`" not in text] == []
    assert all(f"`{path.name}`" in text for path in (SweepFolder(Path()).sweep, SweepFolder(Path()).log))


def test_the_table_of_a_spec_file_is_described():
    text = (ROOT / "docs" / "sweeps.md").read_text()

    assert all(f"`{name}`" in text for name in SweepTable.__struct_fields__)


def test_a_folder_that_cannot_be_made_is_an_error_to_act_on(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(RunFolderError, match="Choose another place with --runs-dir"):
        sweeps.create(tmp_path / "file", "base", [], source="", document={}, grid={}, jobs=1)


def test_a_run_reference_names_the_run_in_its_sweep(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("EOS_RUNS", str(tmp_path))

    assert sweeps.reference(folder) == folder.name
    assert run_folder.reference(RunFolder(folder.path / "lr0.1")) == str(folder.path / "lr0.1")
