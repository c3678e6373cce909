"""The commands beside `run`, the configs that come with the project, and the two commands of the README."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.processes import Shell, Simulator

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def in_project(shell, *arguments, **environ):
    """Run a command from the project's root, where the configs' paths start."""
    return subprocess.run(
        shell.command(*arguments),
        cwd=ROOT,
        env={**shell.env, **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_config_that_comes_with_the_project_passes_check_as_it_stands(shell: Shell, path: Any) -> None:
    done = in_project(shell, "check", path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^rows +[\d,]+, (synthetic|jsonl)$", done.stdout, re.MULTILINE)
    body = json.loads(done.stdout[done.stdout.index("\n{") :])
    is_batch = yaml.safe_load(path.read_text())["target"].get("mode") == "batch"
    assert body.get("background") is (None if is_batch else True)
    assert body["model"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_config_runs_against_a_simulator(
    simulate: Callable[..., Simulator], shell: Shell, path: Any
) -> None:
    simulator = simulate(latency={"type": "constant", "mean_s": 0.01})
    done = in_project(
        shell, "run", path, "--limit", "5", "--quiet",
        "--set", f"target.base_url={simulator.base_url}",
        "--set", "target.api_key_env=SAIL_API_KEY",
        "--set", f"sink.dir={shell.cwd}",
        "--set", "poll.interval_s=0.05",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = (shell.cwd / path.stem / "results.jsonl").read_text().splitlines()
    assert len(results) == 5


def test_the_schema_accepts_the_configs_and_names_a_wrong_key(shell: Shell) -> None:
    schema = json.loads(shell("schema").stdout)
    for path in CONFIGS:
        config = yaml.safe_load(path.read_text())
        jsonschema.validate(config, schema)
    with pytest.raises(jsonschema.ValidationError, match="concurency"):
        jsonschema.validate({"name": "x", "submit": {"concurency": 1}}, schema)


def test_check_prints_the_plan_and_the_first_body_and_sends_nothing(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate()
    config = shell.config(
        target={"base_url": simulator.base_url},
        request={"model": "m", "max_output_tokens": 1000},
        source={"count": 30, "prompt": "Say {{ i }}"},
        prices={"input": 1, "output": 10},
    )
    done = shell("check", config, "--limit", "20")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^rows +20 of 30, synthetic$", done.stdout, re.MULTILINE)
    assert re.search(r"^run +runs/t \(new\)$", done.stdout, re.MULTILINE)
    assert "at most $0.20 for output" in done.stdout
    body = json.loads(done.stdout[done.stdout.index("\n{") :])
    assert body == {"model": "m", "max_output_tokens": 1000, "input": "Say 0", "background": True}
    stats = simulator.stats()
    assert stats["posts"] == stats["gets"] == 0
    assert not (shell.cwd / "runs").exists()
    assert shell("run", config).returncode == 0
    assert "(complete: nothing would be sent)" in shell("check", config).stdout
    changed = shell("check", config, "--set", "request.model=other").stdout
    assert "exists, and would be refused: changed since this run began: request" in changed
    shell("run", config, "--limit", "3", "--new")
    assert "(would be continued: 3 done, 0 open, 27 left)" in shell("check", config).stdout


def test_report_compares_runs_side_by_side(simulate: Callable[..., Simulator], shell: Shell) -> None:
    simulator = simulate()
    for name, count in (("first", 10), ("second", 20)):
        config = shell.config(name=name, target={"base_url": simulator.base_url}, source={"count": count})
        assert shell("run", config).returncode == 0
    text = shell("report", "runs/first", "runs/second").stdout
    assert re.search(r"^\| +\| +first \| +second \|$", text, re.MULTILINE)
    assert re.search(r"^\| completed +\| +10 \| +20 \|$", text, re.MULTILINE)
    both = json.loads(shell("report", "--json", "runs/first", "runs/second").stdout)
    assert [summary["requests"]["total"] for summary in both] == [10, 20]


def test_report_on_something_else_says_what_a_run_directory_is(shell: Shell) -> None:
    done = shell("report", ".")
    assert done.returncode == 2
    assert "is not a run directory" in done.stderr


def test_the_cost_of_a_run_is_in_its_summary(simulate: Callable[..., Simulator], shell: Shell) -> None:
    simulator = simulate()
    config = shell.config(
        target={"base_url": simulator.base_url}, source={"count": 10}, prices={"input": 2.0, "output": 8.0}
    )
    done = shell("run", config)
    summary = shell.summary()
    tokens = summary["tokens"]
    assert summary["cost_usd"] == pytest.approx((2 * tokens["input"] + 8 * tokens["output"]) / 1e6)
    assert f"${summary['cost_usd']:,.4f}" in done.stdout


@pytest.mark.parametrize("arguments", [[], ["--help"], ["run", "--help"], ["--version"], ["nonsense"]])
def test_help_and_misuse_never_show_a_traceback(shell: Shell, arguments: Any) -> None:
    done = shell(*arguments)
    assert done.returncode == (0 if arguments and arguments[-1].startswith("--") else 2)
    assert done.stdout or done.stderr


@pytest.mark.timeout(110)
def test_quickstart_ends_with_every_row_completed_and_can_be_repeated(tmp_path: Path) -> None:
    for _ in range(2):
        done = subprocess.run(
            [ROOT / "scripts/quickstart", "--set", "source.count=50", "--set", f"sink.dir={tmp_path}"],
            capture_output=True,
            text=True,
            timeout=50,
            env={name: value for name, value in os.environ.items() if name != "SAIL_API_KEY"},
        )
        assert done.returncode == 0, done.stderr
        summary = json.loads((tmp_path / "quickstart/summary.json").read_text())
        assert summary["requests"]["completed"] == summary["requests"]["total"] == 50
