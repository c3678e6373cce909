"""`runner check` says what a run would do, in a user's words, and neither sends nor writes anything."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runner.commands.check import check
from runner.errors import ConfigError, InputError
from tests.commands.here import Here


def plan(here: Here, limit: int | None = None, **sections: Any) -> dict[str, str]:
    """Return the lines of the plan by their names, and the heading and the body of the first request."""
    result = check(here.config(**sections), limit)
    assert (result.exit_code, result.messages) == (0, ())
    lines, _, first = result.output.partition("\n\n")
    found = {line[:9].strip(): line[9:] for line in lines.splitlines()}
    heading, _, body = first.partition("\n")
    return {**found, "heading": heading, "body": body}


def test_the_plan_of_a_new_run(here: Here) -> None:
    found = plan(here, limit=4, source={"count": 5000, "prompt": "Say {{ i }}"})
    assert found.pop("body").replace("\n", "").replace(" ", "") == (
        '{"model":"m","input":"Say0","background":true}'
    )
    assert found == {
        "run": "runs/t (new)",
        "rows": "4 of 5,000, synthetic",
        "target": "http://service/v1 (background, aiohttp, Idempotency-Key)",
        "key": "in SAIL_API_KEY",
        "limits": "200 POSTs and 200 GETs at once, 20,000 jobs in flight",
        "stops": "if nothing succeeds for 60 s",
        "polling": "adaptive",
        "heading": "first request, row-0, POST http://service/v1/responses",
    }
    assert list(here.path.iterdir()) == []
    assert here.fake.exchanges == []


def test_everything_that_may_stop_the_run_is_named(here: Here) -> None:
    limits = {"max_s": 90, "max_failures": 1500, "max_cost_usd": 5, "max_outage_s": 30}
    found = plan(here, limits=limits, prices={"input": 1}, poll={"max_rate": 12.5}, engine={"workers": 4})
    assert found["stops"] == (
        "if nothing succeeds for 30 s, or after 90 s, or at 1,500 failures, or at about $5.00"
    )
    assert found["polling"] == "adaptive, at most 12.5 GETs/s"
    assert found["workers"] == "4 processes share these limits"


@pytest.mark.parametrize(
    ("request_fields", "said"),
    [
        ({"max_output_tokens": 1000}, ", at most $80.00 for output"),
        ({}, "; output has no limit: set request.max_output_tokens"),
    ],
)
def test_the_cost_is_an_estimate_and_says_so(here: Here, request_fields: dict[str, Any], said: str) -> None:
    found = plan(
        here,
        source={"count": 10_000, "prompt": "Say {{ i }}"},
        request={"model": "m", **request_fields},
        prices={"input": 1, "output": 8},
    )
    assert found["cost"] == f"about $0.02 for input (4 characters a token){said}"


def test_a_run_that_exists_would_be_continued(here: Here) -> None:
    here.run(limit=3)
    assert plan(here)["run"] == "runs/t (would be continued: 3 done, 0 open, 7 left)"
    here.run()
    assert plan(here)["run"] == "runs/t (complete: nothing would be sent)"


def test_open_jobs_of_a_run_are_counted(here: Here) -> None:
    here.leave_open(10)
    assert plan(here)["run"] == "runs/t (would be continued: 0 done, 10 open, 0 left)"


@pytest.mark.parametrize(
    ("on_existing", "said"),
    [("new", "exists: would be renamed"), ("fail", "exists: would be refused")],
)
def test_another_choice_for_a_run_that_exists_is_shown(here: Here, on_existing: str, said: str) -> None:
    here.run()
    assert plan(here, sink={"on_existing": on_existing})["run"] == f"runs/t ({said})"


def test_what_changed_since_the_run_began_would_be_refused(here: Here) -> None:
    here.run()
    found = plan(here, request={"model": "other"})
    assert found["run"].startswith("runs/t (exists, and would be refused: changed since this run began: requ")


def test_a_key_that_is_not_set_and_one_that_is_not_needed(here: Here) -> None:
    here.monkeypatch.delenv("SAIL_API_KEY")
    assert plan(here)["key"] == "SAIL_API_KEY is not set: `runner run` would fail"
    found = plan(here, target={"base_url": "simulator"})
    assert found["key"] == "none needed"
    assert found["target"].startswith("the simulator (")
    checked = plan(here, target={"base_url": "simulator"}, simulator={"api_key_env": "SIM_KEY"})
    assert checked["key"] == "SAIL_API_KEY is not set: `runner run` would fail"


def test_without_a_key_header_the_consequence_is_shown(here: Here) -> None:
    found = plan(here, target={"idempotency_header": None})
    assert "(background, aiohttp, no idempotency header: a row whose" in found["target"]
    assert "becomes uncertain)" in found["target"]
    found = plan(here, target={"idempotency_header": None, "mode": "batch"})
    assert "a batch is found by its label)" in found["target"]


def test_the_batches_of_a_run_are_counted_and_measured(here: Here) -> None:
    here.serve()
    found = plan(
        here,
        source={"count": 2500},
        target={"mode": "batch"},
        batch={"max_requests": 1000},
        prices={"input": 1},
        limits={"max_cost_usd": 5},
    )
    assert found["batches"].startswith("3, of 500 to 1,000 requests and ")
    assert found["batches"].endswith(" MB; smaller ones first, because of limits.max_cost_usd")
    assert found["limits"] == "2 uploads and 200 GETs at once, 8 batches open"
    assert found["heading"] == "first request, row-0, in a batch: POST http://service/v1/batches"
    assert "background" not in json.loads(found["body"])


def test_rows_that_fit_into_no_batch_and_ids_that_are_renamed_are_counted(here: Here) -> None:
    rows = [{"custom_id": f"an id {i}", "input": "x" * (5000 if i == 2 else 10)} for i in range(4)]
    (here.path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = plan(
        here,
        target={"mode": "batch"},
        source={"type": "jsonl", "path": "rows.jsonl", "count": None},
        batch={"max_bytes": 1000},
    )
    assert "1 rows are larger than batch.max_bytes and would be rejected" in found["batches"]
    assert "3 ids are renamed for the service, and kept in the results" in found["batches"]


def test_errors_of_the_input_are_raised(here: Here) -> None:
    (here.path / "rows.jsonl").write_text('{"input": "a"}\n{"input": \n')
    source = {"type": "jsonl", "path": "rows.jsonl", "count": None}
    with pytest.raises((InputError, ConfigError), match=r"rows\.jsonl:2"):
        plan(here, source=source)
