"""The harness of scripts/chaos: its short form holds, and its checks see what they are there to see."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runner.simulator import answer_to, prompt_digest
from scripts.lib.chaos.checks import Evidence, ServiceJob, violations
from scripts.lib.chaos.damage import tear
from scripts.lib.chaos.input_rows import Row
from scripts.lib.chaos.killable_simulator import remembered
from scripts.lib.chaos.trial_plan import KINDS, Kind, Tear, draw

ROOT = Path(__file__).resolve().parents[2]
SEED = 1
KILLS = 12
BATCH_SEED = 3
BATCH_KILLS = 3


def cells(line):
    return [cell.strip() for cell in line.strip("| ").split("|")]


def short_run(mode, seed, kills):
    """The table of a run in which nothing is violated, by the name of its rows."""
    command = [sys.executable, "-m", "scripts.lib.chaos", "--mode", mode]
    command += ["--seed", str(seed), "--kills", str(kills)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    first, _, head, _, *rows = done.stdout.splitlines()
    assert f"seed {seed}" in first
    table = {cells(row)[0]: dict(zip(cells(head), cells(row), strict=True)) for row in rows}
    assert table.keys() == {*(f"{mode}, {kind}" for kind in KINDS[mode]), "total"}
    assert int(table["total"]["kills"]) >= kills
    for sort in ("lost", "doubled", "run twice", "otherwise wrong"):
        assert table["total"][sort] == "0", done.stderr
    return table


@pytest.mark.timeout(300)
def test_a_dozen_kills_lose_nothing_double_nothing_and_run_nothing_twice() -> None:
    table = short_run("background", SEED, KILLS)
    assert all(int(row["trials"]) for row in table.values())


@pytest.mark.timeout(120)
def test_a_few_kills_lose_nothing_of_batches_either() -> None:
    table = short_run("batch", BATCH_SEED, BATCH_KILLS)
    assert int(table["total"]["files torn"])


def test_a_trial_is_drawn_from_its_seed_and_number_alone() -> None:
    assert draw(1, 5) == draw(1, 5)
    assert len({repr(draw(seed, number)) for seed in (1, 2) for number in (0, 1)}) == 4


def test_without_idempotency_keys_nothing_that_was_written_is_cut_off() -> None:
    plans = [draw(3, number) for number in range(400)]
    cut = {
        (plan.mode, plan.kind) for plan in plans for act in plan.acts for how in act.tears if how.how == "cut"
    }
    assert cut == {
        ("background", Kind.KEYED),
        ("background", Kind.EMBEDDED),
        *(("batch", kind) for kind in KINDS["batch"]),
    }


def test_only_batches_meet_a_service_that_ignores_keys() -> None:
    plans = [draw(4, number) for number in range(200)]
    assert {(plan.mode, plan.kind) for plan in plans} == {
        (mode, kind) for mode in KINDS for kind in KINDS[mode]
    }
    for plan in plans:
        header = plan.config["target"]["idempotency_header"]
        assert (header is None) == (plan.kind is Kind.UNKEYED)
        assert plan.settings["idempotency"] == (plan.kind in (Kind.KEYED, Kind.EMBEDDED))


def test_a_mode_that_is_asked_for_is_that_of_all_trials() -> None:
    assert {draw(5, number, ("batch",)).mode for number in range(50)} == {"batch"}


@pytest.mark.parametrize("event", ["batch", "reopened"])
def test_what_is_synced_before_anything_follows_from_it_is_not_cut(tmp_path: Path, event: str) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"event":"session"}\n{"event":"%b","row":1}\n' % event.encode())
    before = path.read_bytes()
    assert not tear(path, Tear("journal", "cut", 0.5))
    assert path.read_bytes() == before


def test_jobs_of_a_batch_that_was_not_completed_are_none(tmp_path: Path) -> None:
    job = {"event": "accepted", "prompt": "p", "batch": "b1"}
    batch = {"event": "batch", "id": "b1", "count": 1}
    events = [{**job, "id": "r1"}, {**job, "id": "r2"}, batch, {**job, "id": "r3", "batch": "b2"}]
    state = tmp_path / "state.jsonl"
    state.write_bytes(lines({**job, "id": "r0", "batch": None}, *events) + b'{"event":"batch","id":"b2"')
    assert [job.id for job in remembered(state)] == ["r0", "r2"]


@pytest.mark.parametrize("amount", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("how", ["garbage", "half a line", "cut"])
def test_a_tear_leaves_all_lines_but_the_last_as_they_were(tmp_path: Path, how: str, amount: float) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(b'{"row":0}\n{"row":1}\n')
    assert tear(path, Tear("results", how, amount))
    torn = path.read_bytes()
    assert torn.startswith(b'{"row":0}\n')
    assert not torn.endswith(b"\n") or torn == b'{"row":0}\n'
    assert (len(torn) < 20) == (how == "cut")


ROWS = [Row(f"row-{i}", f"Prompt {i}?") for i in range(3)]


def result(i, status="completed", **changes):
    body = {
        "id": f"resp_{i}",
        "status": "completed",
        "output": [{"content": [{"type": "output_text", "text": answer_to(ROWS[i].prompt, 9)}]}],
        "usage": {"output_tokens": 9},
    }
    response = {"status_code": 200, "body": {**body, **changes}} if status == "completed" else None
    error = None if response else {"type": status}
    return {"custom_id": f"row-{i}", "row": i, "status": status, "response": response, "error": error}


def accepted(i, job=None):
    return {
        "event": "accepted",
        "row": i,
        "job": job or f"resp_{i}",
        "kind": "m",
        "attempts": 1,
        "at": 1.0,
    }


def job(i, id_=None, executed=1):
    return ServiceJob(id_ or f"resp_{i}", prompt_digest(ROWS[i].prompt), executed, is_finished=True)


def lines(*values):
    return b"".join(msgspec.json.encode(value) + b"\n" for value in values)


def told(**counts):
    requests = {"total": 3, "completed": 0, "uncertain": 0, "expired": 0, "open": 0, "unsent": 0, **counts}
    return {"run": {"status": "complete"}, "requests": requests}


def evidence(*results, jobs=None, **changes):
    """Of a run without fault, but for what is changed."""
    results = results or (result(0), result(1), result(2))
    completed = sum(line["status"] == "completed" for line in results)
    counts = told(completed=completed, uncertain=len(results) - completed)
    jobs = [job(0), job(1), job(2)] if jobs is None else jobs
    whole = Evidence(
        rows=ROWS,
        may_doubt=False,
        most_in_doubt=1,
        exit_code=0 if completed == 3 else 1,
        results=lines(*results),
        superseded=b"",
        journal=lines({"event": "session", "at": 1.0}, *(accepted(i) for i in range(3))),
        summary=counts,
        report=counts,
        jobs=jobs,
        stats={"accepted": len(jobs), "executed": sum(job.executed for job in jobs)},
    )
    return replace(whole, **changes)


def sorts(of):
    return {violation.sort for violation in violations(of)}


def test_a_run_without_fault_violates_nothing() -> None:
    assert list(violations(evidence())) == []
    assert list(violations(evidence(result(2), result(0), result(1), stats=None))) == []


def test_uncertain_is_an_end_only_where_the_service_takes_no_keys() -> None:
    doubtful = evidence(result(0), result(1), result(2, "uncertain"))
    assert list(violations(replace(doubtful, may_doubt=True))) == []
    assert sorts(doubtful) == {"lost", "otherwise wrong"}
    assert sorts(replace(doubtful, may_doubt=True, most_in_doubt=0)) == {"otherwise wrong"}


REFUSED = [*ROWS[:2], replace(ROWS[2], is_refused=True)]
NO = {"status_code": 400, "body": {"error": {}}}


def refused(i, status_code=400):
    return {**result(i, "rejected"), "response": NO, "error": {"type": "t", "status_code": status_code}}


def refusing(*results, **changes):
    """Of a run whose last row asks for what no service gives."""
    counts = told(completed=2, rejected=1)
    changes = {"jobs": [job(0), job(1)], "rows": REFUSED, "summary": counts, "report": counts, **changes}
    return evidence(*results, **changes)


def test_a_row_that_must_be_refused_is_refused() -> None:
    assert list(violations(refusing(result(0), result(1), refused(2)))) == []
    assert sorts(refusing(result(0), result(1), result(2))) == {"otherwise wrong"}
    assert sorts(refusing(result(0), result(1), refused(2, 413))) == {"otherwise wrong"}
    ran = refusing(result(0), result(1), refused(2), jobs=[job(0), job(1), job(2)])
    assert "otherwise wrong" in sorts(ran)


def sent(number, key="k", rows=(0, 3)):
    entry = {"batch": number, "label": f"l-{number}", "key": key, "rows": list(rows), "size_bytes": 9}
    return {"event": "batch", **entry, "kind": "m", "due": 1.0, "at": 1.0}


def taken(number, id_):
    return {"event": "batch_accepted", "batch": number, "id": id_, "attempts": 1, "at": 1.0}


def test_a_batch_may_be_announced_twice_and_its_rows_be_in_others() -> None:
    journal = lines(sent(0), {"event": "batch_refused", "batch": 0, "cause": "429", "at": 1.0}, sent(0))
    more = lines(taken(0, "b0"), sent(1, "other", (2, 3)), taken(1, "b1"))
    assert list(violations(evidence(journal=journal + more))) == []


REOPENED = lines(
    *(accepted(i) for i in range(3)),
    {"event": "reopened", "row": 2, "epoch": 1, "status": "failed", "at": 1.0},
    {**accepted(2, "resp_9"), "epoch": 1},
)
RETRIED = evidence(
    result(0),
    result(1),
    {**result(2, id="resp_9"), "epoch": 1},
    jobs=[job(0), job(1), job(2), job(2, "resp_9")],
    journal=REOPENED,
    superseded=lines(result(2)),
)


def test_a_row_tried_again_by_hand_runs_once_more_and_keeps_what_it_said_before() -> None:
    assert list(violations(RETRIED)) == []


DOCTORED = {
    "a word that was superseded and not kept": (replace(RETRIED, superseded=b""), "lost"),
    "a superseded word kept twice": (replace(RETRIED, superseded=2 * lines(result(2))), "doubled"),
    "a row tried again without having been reopened": (
        replace(RETRIED, journal=evidence().journal),
        "run twice",
    ),
    "an old word as the last one": (
        replace(RETRIED, results=lines(result(0), result(1), result(2))),
        "otherwise wrong",
    ),
    "a line removed": (evidence(result(0), result(2), summary=told(completed=3)), "lost"),
    "a line doubled": (evidence(result(0), result(1), result(2), result(1)), "doubled"),
    "a job that no line holds": (evidence(result(0), result(1), result(2, id="resp_1")), "lost"),
    "a job accepted twice": (evidence(jobs=[job(0), job(1), job(2), job(2, "resp_9")]), "run twice"),
    "a job executed twice": (evidence(jobs=[job(0), job(1), job(2, executed=2)]), "run twice"),
    "two acceptances of a row": (evidence(journal=lines(accepted(0), accepted(0, "resp_9"))), "run twice"),
    "two acceptances of a batch": (
        evidence(journal=lines(sent(0), taken(0, "b0"), taken(0, "b1"))),
        "run twice",
    ),
    "the number of a batch given to other rows": (
        evidence(journal=lines(sent(0), sent(0, "other", (0, 2)))),
        "run twice",
    ),
    "a body that was left behind": (evidence(left_behind=[".batch-3 after process 2"]), "otherwise wrong"),
    "a job of no row": (
        evidence(jobs=[job(0), job(1), job(2), ServiceJob("resp_9", "f" * 12, 1, True)]),
        "otherwise wrong",
    ),
    "an id that the service does not know": (evidence(jobs=[job(0), job(1)]), "otherwise wrong"),
    "another answer": (evidence(result(0), result(1), result(2, output=[])), "otherwise wrong"),
    "another status in the object": (
        evidence(result(0), result(1), result(2, status="running")),
        "otherwise wrong",
    ),
    "another custom_id": (
        evidence(result(0), result(1), {**result(2), "custom_id": "row-7"}),
        "otherwise wrong",
    ),
    "a row of no input": (
        evidence(result(0), result(1), result(2), {**result(2), "row": 3}),
        "otherwise wrong",
    ),
    "a row that was given up": (evidence(result(0), result(1), result(2, "expired")), "otherwise wrong"),
    "a torn last line": (evidence(results=lines(result(0), result(1), result(2))[:-1]), "otherwise wrong"),
    "two lines in one": (
        evidence(results=lines(result(0), result(1)) + b'{"custom' + lines(result(2))),
        "otherwise wrong",
    ),
    "a torn journal": (evidence(journal=lines(accepted(0)) + b"{"), "otherwise wrong"),
    "nonsense in the journal": (evidence(journal=b"\0\xff\n" + lines(accepted(0))), "otherwise wrong"),
    "a summary that counts wrongly": (evidence(summary=told(completed=2)), "otherwise wrong"),
    "a summary with something open": (evidence(summary=told(completed=3, open=1)), "otherwise wrong"),
    "another report": (evidence(report=told(completed=2)), "otherwise wrong"),
    "another exit code": (evidence(exit_code=1), "otherwise wrong"),
    "other stats": (evidence(stats={"accepted": 4, "executed": 3}), "otherwise wrong"),
}


@pytest.mark.parametrize("name", DOCTORED)
def test_the_checks_see(name: Any) -> None:
    doctored, sort = DOCTORED[name]
    assert sort in sorts(doctored)
