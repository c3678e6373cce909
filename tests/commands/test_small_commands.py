"""The commands that only call another part: their modules, and what each passes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from runner.commands import simulate as simulate_module
from runner.commands.report import report_end, report_runs
from runner.commands.retry import statuses_of
from runner.commands.schema import schema
from runner.commands.simulate import SimulateOptions, simulate
from runner.config import Simulator
from runner.errors import ConfigError, RunDirError
from runner.records import RESULT_STATUSES
from tests.commands.here import Here


def test_runs_are_reported_as_text_or_json(here: Here) -> None:
    here.run()
    text = report_runs(["runs/t"], as_json=False)
    assert (text.exit_code, text.messages) == (0, ())
    assert "| completed" in text.output
    summaries = json.loads(report_runs(["runs/t", "runs/t"], as_json=True).output)
    assert [summary["requests"]["completed"] for summary in summaries] == [10, 10]


def test_what_is_no_run_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunDirError, match="is not a run directory"):
        report_runs([str(tmp_path)], as_json=False)


def test_a_report_that_cannot_be_made_at_the_end_of_a_run_is_only_a_message(here: Here) -> None:
    here.run()
    assert report_end(here.run_dir.path)[1] == ()
    here.run_dir.summary.write_text("{}")
    text, messages = report_end(here.run_dir.path)
    assert text == ""
    assert len(messages) == 1
    assert messages[0].startswith("no report: ")


def test_the_schema_accepts_a_config_and_names_a_wrong_key() -> None:
    document = json.loads(schema().output)
    assert document["$schema"].endswith("2020-12/schema")
    jsonschema.validate({"name": "x", "submit": {"concurrency": 1}}, document)
    with pytest.raises(jsonschema.ValidationError, match="concurency"):
        jsonschema.validate({"name": "x", "submit": {"concurency": 1}}, document)


@pytest.mark.parametrize(
    ("text", "statuses"),
    [("failed", ("failed",)), ("expired, failed,expired", ("expired", "failed"))],
)
def test_statuses_to_retry_are_read_from_a_list(text: str, statuses: tuple[str, ...]) -> None:
    assert statuses_of(text) == statuses


def test_every_status_but_completed_can_be_retried() -> None:
    assert statuses_of(",".join(RESULT_STATUSES[1:])) == RESULT_STATUSES[1:]


@pytest.mark.parametrize("text", ["completed", "failed,wrong", "", "Failed"])
def test_other_words_are_refused_with_those_that_there_are(text: str) -> None:
    with pytest.raises(ValueError, match="is none of incomplete, failed, cancelled, expired, rejected, unc"):
        statuses_of(text)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Return what the simulator is called with, instead of serving."""
    calls: list[tuple[Any, ...]] = []

    def serve_forever(*arguments: object) -> int:
        calls.append(arguments)
        return 0

    monkeypatch.setattr(simulate_module, "serve_forever", serve_forever)
    return calls


def test_the_simulator_has_its_settings_from_the_command_line_or_a_config(
    served: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("name: t\nrequest: {model: m}\nsimulator: {seed: 5}\n")
    given = Simulator(seed=7).model_dump_json()
    for options in (
        SimulateOptions(host="127.0.0.1", port=8000),
        SimulateOptions(host="127.0.0.1", port=8000, config=str(config), state="jobs.jsonl"),
        SimulateOptions(host="127.0.0.1", port=8000, settings_json=given, parent_pipe=True),
    ):
        assert simulate(options) == 0

    assert served == [
        (Simulator(), "127.0.0.1", 8000, None, False),
        (Simulator(seed=5), "127.0.0.1", 8000, Path("jobs.jsonl"), False),
        (Simulator(seed=7), "127.0.0.1", 8000, None, True),
    ]


def test_a_config_that_is_wrong_starts_no_simulator(served: list[tuple[Any, ...]], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such config file"):
        simulate(SimulateOptions(host="127.0.0.1", port=0, config=str(tmp_path / "nowhere.yaml")))
    assert served == []
