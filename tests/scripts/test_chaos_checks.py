"""Tests of the checks of scripts/chaos: each accepts a run without fault, and sees every doctored one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from runner.simulator import answer_to, prompt_digest
from scripts.lib.chaos.checks import Evidence, ServiceJob, ViolationKind, violations
from scripts.lib.chaos.input_rows import Row

Json = dict[str, object]

ROWS = [Row(f"row-{i}", f"Prompt {i}?") for i in range(3)]
ROWS_WITH_REJECTED = [*ROWS[:2], replace(ROWS[2], is_rejected=True)]


def _lines(*values: Json) -> bytes:
    return b"".join(msgspec.json.encode(value) + b"\n" for value in values)


def _result(i: int, status: str = "completed", **body_changes: object) -> Json:
    """Return the line of row `i`, with changes to its response object."""
    body: Json = {
        "id": f"resp_{i}",
        "status": "completed",
        "output": [{"content": [{"type": "output_text", "text": answer_to(ROWS[i].prompt, 9)}]}],
        "usage": {"output_tokens": 9},
    }
    is_completed = status == "completed"
    response = {"status_code": 200, "body": {**body, **body_changes}} if is_completed else None
    error = None if is_completed else {"type": status}
    return {"custom_id": f"row-{i}", "row": i, "status": status, "response": response, "error": error}


def _rejected(i: int, status_code: int = 400) -> Json:
    response = {"status_code": 400, "body": {"error": {}}}
    return {
        **_result(i, "rejected"),
        "response": response,
        "error": {"type": "t", "status_code": status_code},
    }


def _accepted(i: int, job: str | None = None) -> Json:
    return {
        "event": "accepted",
        "row": i,
        "job": job or f"resp_{i}",
        "kind": "m",
        "attempts": 1,
        "at": 1.0,
    }


def _batch_sent(number: int, key: str = "k", rows: tuple[int, int] = (0, 3)) -> Json:
    entry = {"batch": number, "label": f"l-{number}", "key": key, "rows": list(rows), "size_bytes": 9}
    return {"event": "batch", **entry, "kind": "m", "due": 1.0, "at": 1.0}


def _batch_accepted(number: int, id_: str) -> Json:
    return {"event": "batch_accepted", "batch": number, "id": id_, "attempts": 1, "at": 1.0}


def _job(i: int, id_: str | None = None, executed: int = 1) -> ServiceJob:
    return ServiceJob(id_ or f"resp_{i}", prompt_digest(ROWS[i].prompt), executed, is_finished=True)


def _summary(**counts: int) -> Json:
    requests = {"total": 3, "completed": 0, "uncertain": 0, "expired": 0, "open": 0, "unsent": 0, **counts}
    return {"run": {"status": "complete"}, "requests": requests}


def _evidence(*results: Json, jobs: Sequence[ServiceJob] | None = None, **changes: Any) -> Evidence:
    """Return the evidence of a run without fault, with changes."""
    results = results or (_result(0), _result(1), _result(2))
    completed = sum(line["status"] == "completed" for line in results)
    summary = _summary(completed=completed, uncertain=len(results) - completed)
    jobs = [_job(0), _job(1), _job(2)] if jobs is None else jobs
    faultless = Evidence(
        rows=ROWS,
        may_be_uncertain=False,
        most_in_doubt=1,
        exit_code=0 if completed == 3 else 1,
        results=_lines(*results),
        superseded=b"",
        journal=_lines({"event": "session", "at": 1.0}, *(_accepted(i) for i in range(3))),
        summary=summary,
        report=summary,
        jobs=jobs,
        stats={"accepted": len(jobs), "executed": sum(job.executed for job in jobs)},
    )
    return replace(faultless, **changes)


def _evidence_with_rejection(*results: Json, **changes: Any) -> Evidence:
    """Return the evidence of a run whose last row asks for something that the service rejects."""
    summary = _summary(completed=2, rejected=1)
    jobs = [_job(0), _job(1)]
    defaults = {"jobs": jobs, "rows": ROWS_WITH_REJECTED, "summary": summary, "report": summary}
    return _evidence(*results, **{**defaults, **changes})


def _kinds(evidence: Evidence) -> set[ViolationKind]:
    return {violation.kind for violation in violations(evidence)}


def test_a_run_without_fault_violates_nothing() -> None:
    assert list(violations(_evidence())) == []
    assert list(violations(_evidence(_result(2), _result(0), _result(1), stats=None))) == []


def test_a_row_may_end_uncertain_only_where_the_service_honours_no_keys() -> None:
    doubtful = _evidence(_result(0), _result(1), _result(2, "uncertain"))
    assert list(violations(replace(doubtful, may_be_uncertain=True))) == []
    assert _kinds(doubtful) == {"lost", "otherwise wrong"}
    assert _kinds(replace(doubtful, may_be_uncertain=True, most_in_doubt=0)) == {"otherwise wrong"}


def test_a_row_that_the_service_rejects_must_end_rejected() -> None:
    assert list(violations(_evidence_with_rejection(_result(0), _result(1), _rejected(2)))) == []
    completed = _evidence_with_rejection(_result(0), _result(1), _result(2))
    assert _kinds(completed) == {"otherwise wrong"}
    other_code = _evidence_with_rejection(_result(0), _result(1), _rejected(2, 413))
    assert _kinds(other_code) == {"otherwise wrong"}
    jobs = [_job(0), _job(1), _job(2)]
    ran = _evidence_with_rejection(_result(0), _result(1), _rejected(2), jobs=jobs)
    assert "otherwise wrong" in _kinds(ran)


def test_a_batch_may_be_announced_twice_and_its_rows_may_move_to_another() -> None:
    refused = {"event": "batch_refused", "batch": 0, "cause": "429", "at": 1.0}
    journal = _lines(
        _batch_sent(0),
        refused,
        _batch_sent(0),
        _batch_accepted(0, "b0"),
        _batch_sent(1, "other", (2, 3)),
        _batch_accepted(1, "b1"),
    )
    assert list(violations(_evidence(journal=journal))) == []


RETRIED = _evidence(
    _result(0),
    _result(1),
    {**_result(2, id="resp_9"), "epoch": 1},
    jobs=[_job(0), _job(1), _job(2), _job(2, "resp_9")],
    journal=_lines(
        *(_accepted(i) for i in range(3)),
        {"event": "reopened", "row": 2, "epoch": 1, "status": "failed", "at": 1.0},
        {**_accepted(2, "resp_9"), "epoch": 1},
    ),
    superseded=_lines(_result(2)),
)
"""Evidence of a run whose last row was retried by hand."""


def test_a_retried_row_runs_once_more_and_keeps_its_earlier_result() -> None:
    assert list(violations(RETRIED)) == []


DOCTORED: dict[str, tuple[Evidence, ViolationKind]] = {
    "a superseded result that is gone": (replace(RETRIED, superseded=b""), "lost"),
    "a superseded result kept twice": (replace(RETRIED, superseded=2 * _lines(_result(2))), "doubled"),
    "a row retried without having been reopened": (
        replace(RETRIED, journal=_evidence().journal),
        "run twice",
    ),
    "an old result as the last one": (
        replace(RETRIED, results=_lines(_result(0), _result(1), _result(2))),
        "otherwise wrong",
    ),
    "a line removed": (_evidence(_result(0), _result(2), summary=_summary(completed=3)), "lost"),
    "a line doubled": (_evidence(_result(0), _result(1), _result(2), _result(1)), "doubled"),
    "a job that no line holds": (_evidence(_result(0), _result(1), _result(2, id="resp_1")), "lost"),
    "a row accepted twice": (_evidence(jobs=[_job(0), _job(1), _job(2), _job(2, "resp_9")]), "run twice"),
    "a job executed twice": (_evidence(jobs=[_job(0), _job(1), _job(2, executed=2)]), "run twice"),
    "two acceptances of a row": (
        _evidence(journal=_lines(_accepted(0), _accepted(0, "resp_9"))),
        "run twice",
    ),
    "two acceptances of a batch": (
        _evidence(journal=_lines(_batch_sent(0), _batch_accepted(0, "b0"), _batch_accepted(0, "b1"))),
        "run twice",
    ),
    "the number of a batch given to other rows": (
        _evidence(journal=_lines(_batch_sent(0), _batch_sent(0, "other", (0, 2)))),
        "run twice",
    ),
    "a body that was left behind": (
        _evidence(left_behind=[".batch-3 after process 2"]),
        "otherwise wrong",
    ),
    "a job of no row": (
        _evidence(jobs=[_job(0), _job(1), _job(2), ServiceJob("resp_9", "f" * 12, 1, is_finished=True)]),
        "otherwise wrong",
    ),
    "an id that the service does not know": (_evidence(jobs=[_job(0), _job(1)]), "otherwise wrong"),
    "another answer": (_evidence(_result(0), _result(1), _result(2, output=[])), "otherwise wrong"),
    "another status in the response object": (
        _evidence(_result(0), _result(1), _result(2, status="running")),
        "otherwise wrong",
    ),
    "another custom_id": (
        _evidence(_result(0), _result(1), {**_result(2), "custom_id": "row-7"}),
        "otherwise wrong",
    ),
    "a row that is not in the input": (
        _evidence(_result(0), _result(1), _result(2), {**_result(2), "row": 3}),
        "otherwise wrong",
    ),
    "a row that was given up": (_evidence(_result(0), _result(1), _result(2, "expired")), "otherwise wrong"),
    "a torn last line": (
        _evidence(results=_lines(_result(0), _result(1), _result(2))[:-1]),
        "otherwise wrong",
    ),
    "two lines in one": (
        _evidence(results=_lines(_result(0), _result(1)) + b'{"custom' + _lines(_result(2))),
        "otherwise wrong",
    ),
    "a torn journal": (_evidence(journal=_lines(_accepted(0)) + b"{"), "otherwise wrong"),
    "nonsense in the journal": (_evidence(journal=b"\0\xff\n" + _lines(_accepted(0))), "otherwise wrong"),
    "a summary with a wrong count": (_evidence(summary=_summary(completed=2)), "otherwise wrong"),
    "a summary with an open row": (_evidence(summary=_summary(completed=3, open=1)), "otherwise wrong"),
    "another report": (_evidence(report=_summary(completed=2)), "otherwise wrong"),
    "another exit code": (_evidence(exit_code=1), "otherwise wrong"),
    "other stats": (_evidence(stats={"accepted": 4, "executed": 3}), "otherwise wrong"),
}


@pytest.mark.parametrize("name", DOCTORED)
def test_the_checks_see(name: str) -> None:
    evidence, kind = DOCTORED[name]
    assert kind in _kinds(evidence)
