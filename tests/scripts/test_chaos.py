"""Tests of scripts/chaos: a short run of it finds nothing, and its plans and damage are as described."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import astuple
from pathlib import Path

import msgspec
import pytest

from scripts.lib.chaos.damage import tear
from scripts.lib.chaos.drawing import SERVICES, draw_plan
from scripts.lib.chaos.killable_simulator import jobs_in_state
from scripts.lib.chaos.trial_plan import Mode, ServiceKind, Tear, TearKind

ROOT = Path(__file__).resolve().parents[2]
SEED, KILLS = 1, 12
BATCH_SEED, BATCH_KILLS = 3, 3


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("| ").split("|")]


def _short_run(mode: Mode, seed: int, kills: int) -> dict[str, dict[str, str]]:
    """Run trials in which nothing may be violated, and return the printed table by the names of its rows."""
    command = [sys.executable, "-m", "scripts.lib.chaos", "--mode", mode]
    command += ["--seed", str(seed), "--kills", str(kills)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    first, _, head, _, *rows = done.stdout.splitlines()
    assert f"seed {seed}" in first
    table = {_cells(row)[0]: dict(zip(_cells(head), _cells(row), strict=True)) for row in rows}
    assert table.keys() == {*(f"{mode}, {service}" for service in SERVICES[mode]), "total"}
    assert int(table["total"]["kills"]) >= kills
    for kind in ("lost", "doubled", "run twice", "otherwise wrong"):
        assert table["total"][kind] == "0", done.stderr
    return table


@pytest.mark.timeout(300)
def test_a_dozen_kills_lose_nothing_double_nothing_and_run_nothing_twice() -> None:
    table = _short_run("background", SEED, KILLS)
    assert all(int(row["trials"]) for row in table.values())


@pytest.mark.timeout(120)
def test_a_few_kills_lose_nothing_of_batches() -> None:
    table = _short_run("batch", BATCH_SEED, BATCH_KILLS)
    assert int(table["total"]["files torn"])


def test_a_plan_depends_on_its_seed_and_number_alone() -> None:
    assert draw_plan(1, 5) == draw_plan(1, 5)
    assert len({repr(draw_plan(seed, number)) for seed in (1, 2) for number in (0, 1)}) == 4


def test_the_plans_of_a_seed_never_change() -> None:
    """A seed in a report or in the docs must repeat the same trials in later versions."""
    plans = msgspec.json.encode([astuple(draw_plan(9, number)) for number in range(40)])
    assert hashlib.sha256(plans).hexdigest()[:16] == "db08c604491c206a"


def test_without_idempotency_keys_nothing_that_was_written_is_cut_off() -> None:
    plans = [draw_plan(3, number) for number in range(400)]
    cut = {
        (plan.mode, plan.service)
        for plan in plans
        for act in plan.acts
        for how in act.tears
        if how.kind == "cut"
    }
    assert cut == {
        ("background", ServiceKind.KEYED),
        ("background", ServiceKind.EMBEDDED),
        *(("batch", service) for service in SERVICES["batch"]),
    }


def test_only_batches_meet_a_service_that_ignores_keys() -> None:
    plans = [draw_plan(4, number) for number in range(200)]
    assert {(plan.mode, plan.service) for plan in plans} == {
        (mode, service) for mode in SERVICES for service in SERVICES[mode]
    }
    for plan in plans:
        header = plan.config["target"]["idempotency_header"]
        assert (header is None) == (plan.service is ServiceKind.UNKEYED)
        has_keys = plan.service in (ServiceKind.KEYED, ServiceKind.EMBEDDED)
        assert plan.simulator["idempotency"] == has_keys


def test_all_trials_have_the_requested_mode() -> None:
    assert {draw_plan(5, number, ("batch",)).mode for number in range(50)} == {"batch"}


@pytest.mark.parametrize("event", ["batch", "reopened"])
def test_a_synced_journal_line_is_not_cut(tmp_path: Path, event: str) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"event":"session"}\n{"event":"%b","row":1}\n' % event.encode())
    before = path.read_bytes()
    assert not tear(path, Tear("journal", "cut", 0.5))
    assert path.read_bytes() == before


def test_jobs_of_an_unfinished_batch_do_not_count(tmp_path: Path) -> None:
    job = {"event": "accepted", "prompt": "p", "batch": "b1"}
    batch = {"event": "batch", "id": "b1", "count": 1}
    events = [
        {**job, "id": "r0", "batch": None},
        {**job, "id": "r1"},
        {**job, "id": "r2"},
        batch,
        {**job, "id": "r3", "batch": "b2"},
    ]
    state = tmp_path / "state.jsonl"
    lines = b"".join(msgspec.json.encode(event) + b"\n" for event in events)
    state.write_bytes(lines + b'{"event":"batch","id":"b2"')
    assert [job.id for job in jobs_in_state(state)] == ["r0", "r2"]


@pytest.mark.parametrize("amount", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("kind", ["garbage", "half a line", "cut"])
def test_a_tear_leaves_all_lines_but_the_last_unchanged(
    tmp_path: Path, kind: TearKind, amount: float
) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(b'{"row":0}\n{"row":1}\n')
    assert tear(path, Tear("results", kind, amount))
    torn = path.read_bytes()
    assert torn.startswith(b'{"row":0}\n')
    assert not torn.endswith(b"\n") or torn == b'{"row":0}\n'
    assert (len(torn) < 20) == (kind == "cut")
