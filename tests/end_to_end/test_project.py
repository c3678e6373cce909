"""What comes with the project works as it stands: its configs, and the command of the README."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.processes import ROOT, Shell, Simulate, constant

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def test_there_are_configs() -> None:
    """An empty list would make the tests below pass without a look at any config."""
    assert {path.stem for path in CONFIGS} >= {"quickstart", "sail", "openai", "batch", "benchmark"}


@pytest.fixture
def in_project(shell: Shell) -> Shell:
    """Run commands in the root of the project, where the paths in the configs start."""
    return Shell(ROOT, shell.forge)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_config_passes_check(in_project: Shell, path: Path) -> None:
    done = in_project("check", path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^rows +[\d,]+, (synthetic|jsonl)$", done.stdout, re.MULTILINE)
    body = json.loads(done.stdout[done.stdout.index("\n{") :])
    is_batch = yaml.safe_load(path.read_text())["target"].get("mode") == "batch"
    assert body.get("background") is (None if is_batch else True)
    assert body["model"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_config_runs_against_a_simulator(
    simulate: Simulate, in_project: Shell, tmp_path: Path, path: Path
) -> None:
    simulator = simulate(latency=constant(0.01))
    done = in_project(
        "run", path, "--limit", "5", "--quiet",
        "--set", f"target.base_url={simulator.base_url}",
        "--set", "target.api_key_env=SAIL_API_KEY",
        "--set", f"sink.dir={tmp_path}",
        "--set", "poll.interval_s=0.05",
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    results = (tmp_path / path.stem / "results.jsonl").read_text().splitlines()
    assert len(results) == 5


def test_the_schema_accepts_the_configs(shell: Shell) -> None:
    schema = json.loads(shell("schema").stdout)
    for path in CONFIGS:
        jsonschema.validate(yaml.safe_load(path.read_text()), schema)


@pytest.mark.timeout(110)
def test_quickstart_completes_every_row_and_can_be_repeated(tmp_path: Path) -> None:
    for _ in range(2):
        done = subprocess.run(
            [
                ROOT / "scripts/quickstart",
                *("--set", "source.count=50"),
                *("--set", "simulator.latency.mean_s=0.1"),
                *("--set", f"sink.dir={tmp_path}"),
            ],
            capture_output=True,
            text=True,
            timeout=50,
            env={name: value for name, value in os.environ.items() if name != "SAIL_API_KEY"},
        )
        assert done.returncode == 0, done.stderr
        summary = json.loads((tmp_path / "quickstart/summary.json").read_text())
        assert summary["requests"]["completed"] == summary["requests"]["total"] == 50
