"""The three steps of the vendor's guide, against a service that offers only these."""

from __future__ import annotations

import pytest

from tests.batch.in_process import Runs
from tests.batch.stub import Answer, serving


def text(words: str) -> list[dict[str, object]]:
    return [{"type": "message", "content": [{"type": "output_text", "text": words}]}]


LINES = [
    {
        "custom_id": f"request-{i}",
        "params": {
            "model": "zai-org/GLM-5",
            "max_output_tokens": 2048,
            "input": [{"role": "user", "content": f"What is a fun fact about the number {i}?"}],
        },
    }
    for i in range(100)
]
OBJECTS: dict[str, dict[str, object]] = {
    "with a status": {"status": "completed"},
    "without a status": {},
    "with a status of null": {"status": None},
    "without an id": {"id": None},
    "with a usage": {"usage": {"input_tokens": 3, "output_tokens": 4}},
}
BOTH = [*((more, "aiohttp") for more in OBJECTS), ("without a status", "openai")]


@pytest.mark.parametrize(("more", "transport"), BOTH)
def test_the_three_steps_of_the_guide_complete_a_hundred_rows(go: Runs, more: str, transport: str) -> None:
    with serving() as stub:
        stub.result = lambda _, name: (
            200, {"id": f"resp_{name}", "output": text(f"fact {name}")} | OBJECTS[more],
        )  # fmt: skip
        config = go.config(
            stub.base_url,
            source=go.lines(LINES),
            target={"transport": transport},
            batch={"label": "my-batch-job", "max_requests": 100},
        )
        run = go(config)
    assert (run.exit_code, run.statuses) == (0, {"completed": 100}), run.errors
    (body,) = stub.posts
    assert body["endpoint"] == "/v1/responses"
    assert body["label"].startswith("my-batch-job-")
    assert [it["custom_id"] for it in body["requests"]] == [line["custom_id"] for line in LINES]
    params = [{key: it["params"][key] for key in LINES[0]["params"]} for it in body["requests"]]
    assert params == [line["params"] for line in LINES]
    for line in run.results:
        assert line["custom_id"] == f"request-{line['row']}"
        assert line["response"]["body"]["output"] == text(f"fact {line['custom_id']}")
    assert run.summary["tokens"]["output"] == (400 if more == "with a usage" else 0)


def test_results_of_the_guide_are_reduced_to_their_text_like_all_others(go: Runs) -> None:
    with serving() as stub:
        stub.result = lambda _, name: (200, {"id": name, "output": text(name)})
        run = go(go.config(stub.base_url, rows=10, sink={"store": "text"}))
    assert (run.exit_code, run.statuses) == (0, {"completed": 10}), run.errors
    for line in run.results:
        assert line["response"]["body"]["output"] == text(line["custom_id"])


def test_an_output_that_is_not_there_yet_is_waited_for(go: Runs) -> None:
    asked: list[str] = []

    def result(_: str, name: str) -> Answer:
        asked.append(name)
        return 200, {"id": name, "output": text(name) if asked.count(name) == 3 else None}

    with serving() as stub:
        stub.result = result
        run = go(go.config(stub.base_url, rows=10))
    assert (run.exit_code, run.statuses) == (0, {"completed": 10}), run.errors
    assert len(asked) == 30


@pytest.mark.parametrize("word", ["COMPLETED", "FAILED"])
def test_an_error_without_a_status_is_a_failure(go: Runs, word: str) -> None:
    with serving() as stub:
        stub.poll = lambda batch_id: stub.all_done(batch_id, word)
        stub.result = lambda _, name: (200, {"id": name, "output": [], "error": {"message": "boom"}})
        run = go(go.config(stub.base_url, rows=10))
    assert (run.exit_code, run.statuses) == (1, {"failed": 10}), run.errors
    assert {line["error"]["message"] for line in run.results} == {"boom"}


@pytest.mark.parametrize("more", [{}, {"status": "in_progress"}])
def test_a_request_that_failed_is_not_fetched_until_its_deadline(go: Runs, more: dict[str, str]) -> None:
    with serving() as stub:
        stub.poll = lambda batch_id: stub.all_done(batch_id, "FAILED")
        stub.result = lambda _, name: (200, {"id": name, "output": None, **more})
        limits, poll = {"max_outage_s": 0.6}, {"deadline_s": 3600}
        run = go(go.config(stub.base_url, rows=10, poll=poll, limits=limits))
    assert (run.exit_code, run.statuses) == (1, {"failed": 10}), run.errors
    assert {line["error"]["type"] for line in run.results} == {"failed"}
