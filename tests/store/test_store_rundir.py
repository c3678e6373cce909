"""The run directory: one process at a time, one identity, and nothing deleted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from runner.config import RunConfig, load
from runner.errors import RunDirError, StorageError
from runner.source import Survey
from runner.store import RunDir, check_unchanged

HOLD = (
    "import sys; from pathlib import Path; from runner.store import RunDir\n"
    "held = RunDir(Path(sys.argv[1])); held.lock(); print('held', flush=True); sys.stdin.read()\n"
)


@pytest.fixture
def holder(run_dir: RunDir) -> Iterator[subprocess.Popen[bytes]]:
    """Provide another process that holds the run directory until it is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, run_dir.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_a_directory_that_another_process_holds_is_refused_with_its_pid(
    run_dir: RunDir, holder: subprocess.Popen[bytes]
) -> None:
    assert run_dir.is_held
    with pytest.raises(RunDirError, match=rf"another process \(pid {holder.pid}\)") as raised:
        run_dir.lock()
    assert raised.value.exit_code == 2


def test_a_killed_process_holds_nothing(run_dir: RunDir, holder: subprocess.Popen[bytes]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()

    assert not run_dir.is_held
    run_dir.lock()
    assert run_dir.is_held
    assert (run_dir.path / ".lock").read_text() == f"{os.getpid()}\n"
    run_dir.unlock()
    assert not run_dir.is_held


def test_two_holders_in_one_process_exclude_each_other_and_unlocking_twice_is_harmless(
    run_dir: RunDir,
) -> None:
    run_dir.lock()
    with pytest.raises(RunDirError, match="another process"):
        RunDir(run_dir.path).lock()
    run_dir.unlock()
    run_dir.unlock()
    RunDir(run_dir.path).lock()


def test_locking_creates_the_directory_unless_a_file_is_in_its_place(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "runs" / "deep" / "test")
    run_dir.lock()
    run_dir.unlock()
    assert run_dir.path.is_dir()
    assert not run_dir.exists

    (tmp_path / "file").touch()
    with pytest.raises(RunDirError, match="cannot be created"):
        RunDir(tmp_path / "file" / "test").lock()


def test_asking_whether_a_directory_is_held_creates_nothing(tmp_path: Path) -> None:
    assert not RunDir(tmp_path / "none").is_held
    assert not (tmp_path / "none").exists()


def test_an_earlier_run_is_renamed_to_the_first_free_number(run_dir: RunDir) -> None:
    run_dir.path.with_name("test.2").mkdir()
    run_dir.lock()
    for expected in ("test.1", "test.3", "test.4"):
        (run_dir.path / "results.jsonl").write_text(expected)
        assert run_dir.set_aside().name == expected
        assert (run_dir.path.with_name(expected) / "results.jsonl").read_text() == expected
        assert run_dir.is_held
        assert not run_dir.results.exists()
    run_dir.unlock()


def test_a_directory_that_cannot_be_renamed_raises_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be renamed"):
        RunDir(tmp_path / "none").set_aside()


def test_a_new_run_has_its_config_and_a_manifest_that_is_read_back(
    run_dir: RunDir, config: RunConfig, survey: Survey
) -> None:
    made = run_dir.create(config, survey, "secret-123456")

    assert run_dir.exists
    assert run_dir.read_manifest() == made
    assert (made.name, made.rows, made.input) == ("test", 20, survey.fingerprint)
    assert load(run_dir.config, environ={}) == config


def test_the_key_is_in_no_file_and_its_fingerprint_differs_between_runs(
    run_dir: RunDir, tmp_path: Path, config: RunConfig, survey: Survey
) -> None:
    other = RunDir(tmp_path / "other")
    other.path.mkdir()
    one, two = (d.create(config, survey, "secret-123456") for d in (run_dir, other))

    assert "secret" not in run_dir.manifest.read_text() + run_dir.config.read_text()
    assert one.key != two.key
    assert one.run_id != two.run_id


def test_dollar_signs_are_kept_in_the_resolved_config(
    run_dir: RunDir, config: RunConfig, survey: Survey
) -> None:
    priced = config.model_copy(update={"request": {"model": "m", "user": "${HOME} $$ $5"}})
    run_dir.create(priced, survey, "key")

    assert yaml.safe_load(run_dir.config.read_text())["request"]["user"] == "${HOME} $$ $5"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"request": {"model": "n"}}, "request"),
        ({"target": {"base_url": "http://localhost:1/v1"}}, "target.base_url"),
        ({"target": {"idempotency_header": None}}, "target.idempotency_header"),
    ],
)
def test_a_changed_setting_is_refused_with_its_name(
    run_dir: RunDir, config: RunConfig, survey: Survey, changes: dict[str, Any], named: str
) -> None:
    manifest = run_dir.create(config, survey, "key")
    changed = type(config).model_validate({**config.model_dump(), **changes})

    with pytest.raises(RunDirError) as raised:
        check_unchanged(manifest, changed, survey.fingerprint, "key", run_dir.path)
    (problem,) = raised.value.problems
    assert problem.what.startswith(f"changed since this run began: {named} [{named}")
    assert "→" in problem.what
    assert "--new" in problem.hint


def test_a_changed_input_and_another_key_are_named_without_showing_the_key(
    run_dir: RunDir, config: RunConfig, survey: Survey
) -> None:
    manifest = run_dir.create(config, survey, "secret-123456")

    with pytest.raises(RunDirError) as raised:
        check_unchanged(manifest, config, "0" * 64, "secret-654321", run_dir.path)
    message = str(raised.value)
    assert "the input (source)" in message
    assert "SAIL_API_KEY" in message
    assert "secret" not in message


def test_settings_that_do_not_change_requests_may_change(
    run_dir: RunDir, config: RunConfig, survey: Survey
) -> None:
    manifest = run_dir.create(config, survey, "key")
    changed = config.model_dump()
    changed["request"] = {"metadata": {"a": 2, "b": 1}, "model": "m"}
    changed["submit"]["concurrency"] = 3
    changed["poll"]["strategy"] = "fixed"
    changed["target"]["transport"] = "openai"
    changed["limits"]["drain_s"] = 1

    check_unchanged(manifest, type(config).model_validate(changed), survey.fingerprint, "key", run_dir.path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\xfe"])
def test_a_damaged_manifest_is_refused_with_its_path(run_dir: RunDir, content: bytes) -> None:
    run_dir.manifest.write_bytes(content)

    with pytest.raises(RunDirError, match=r"manifest\.json: is not the manifest of a run"):
        run_dir.read_manifest()


def test_a_manifest_of_another_format_is_refused(run_dir: RunDir, config: RunConfig, survey: Survey) -> None:
    made = run_dir.create(config, survey, "key")
    run_dir.manifest.write_bytes(msgspec.json.encode(msgspec.structs.replace(made, format=99)))

    with pytest.raises(RunDirError, match="has format 99; this version reads format 1"):
        run_dir.read_manifest()


def test_a_manifest_may_have_fields_of_a_later_version(
    run_dir: RunDir, config: RunConfig, survey: Survey
) -> None:
    made = run_dir.create(config, survey, "key")
    run_dir.manifest.write_bytes(msgspec.json.encode({**msgspec.to_builtins(made), "later": 1}))

    assert run_dir.read_manifest() == made


def test_a_run_exists_only_once_its_manifest_is_written(run_dir: RunDir, config: RunConfig) -> None:
    run_dir.manifest.with_name(".manifest.json.tmp").mkdir()  # so that the manifest cannot be written

    with pytest.raises(StorageError):
        run_dir.create(config, Survey(rows=1, fingerprint="f"), "key")
    assert not run_dir.exists
    assert Path(run_dir.config).exists()
