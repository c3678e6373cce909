"""The three steps of the vendor's guide, against a service that offers these and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from tests.batch.conftest import Runs


def text(words):
    return [{"type": "message", "content": [{"type": "output_text", "text": words}]}]


def guide_lines():
    return [
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


OBJECTS = {
    "with a status": {"status": "completed"},
    "without a status": {},
    "with a status of null": {"status": None},
    "without an id": {"id": None},
    "with a usage": {"usage": {"input_tokens": 3, "output_tokens": 4}},
}


BOTH = [*((more, "aiohttp") for more in OBJECTS), ("without a status", "openai")]


@pytest.mark.parametrize(("more", "transport"), BOTH)
def test_the_three_steps_of_the_guide_bring_a_hundred_rows_home(
    stub_batches: Any, go: Runs, more: Any, transport: Any
) -> None:
    with stub_batches() as stub:
        stub.result = lambda batch_id, name: (
            200, {"id": f"resp_{name}", "output": text(f"fact {name}")} | OBJECTS[more],
        )  # fmt: skip
        lines = guide_lines()
        config = go.config(
            stub.base_url,
            source=go.lines(lines),
            target={"transport": transport},
            batch={"label": "my-batch-job", "max_requests": 100},
        )
        told = go(config)
    assert (told.exit_code, told.statuses) == (0, {"completed": 100}), told.errors
    (body,) = stub.posts
    assert body["endpoint"] == "/v1/responses"
    assert body["label"].startswith("my-batch-job-")
    assert [it["custom_id"] for it in body["requests"]] == [it["custom_id"] for it in lines]
    params = [{key: it["params"][key] for key in lines[0]["params"]} for it in body["requests"]]
    assert params == [it["params"] for it in lines]
    for line in told.results:
        assert line["custom_id"] == f"request-{line['row']}"
        assert line["response"]["body"]["output"] == text(f"fact {line['custom_id']}")
    assert told.summary["tokens"]["output"] == (400 if more == "with a usage" else 0)


def test_results_of_the_guide_are_cut_down_to_their_text_as_any_others_are(
    stub_batches: Any, go: Runs
) -> None:
    with stub_batches() as stub:
        stub.result = lambda batch_id, name: (200, {"id": name, "output": text(name)})
        told = go(go.config(stub.base_url, rows=10, sink={"store": "text"}))
    assert (told.exit_code, told.statuses) == (0, {"completed": 10}), told.errors
    for line in told.results:
        assert line["response"]["body"]["output"] == text(line["custom_id"])


def test_an_output_that_is_not_there_yet_is_waited_for(stub_batches: Any, go: Runs) -> None:
    asked = []

    def result(batch_id, name):
        asked.append(name)
        output = text(name) if asked.count(name) == 3 else None
        return 200, {"id": name, "output": output}

    with stub_batches() as stub:
        stub.result = result
        told = go(go.config(stub.base_url, rows=10))
    assert (told.exit_code, told.statuses) == (0, {"completed": 10}), told.errors
    assert len(asked) == 30


@pytest.mark.parametrize("said", ["COMPLETED", "FAILED"])
def test_an_error_without_a_status_is_a_failure(stub_batches: Any, go: Runs, said: str) -> None:
    with stub_batches() as stub:
        stub.look = lambda batch_id: stub.all_done(batch_id, said)
        stub.result = lambda batch_id, name: (200, {"id": name, "output": [], "error": {"message": "boom"}})
        told = go(go.config(stub.base_url, rows=10))
    assert (told.exit_code, told.statuses) == (1, {"failed": 10}), told.errors
    assert {line["error"]["message"] for line in told.results} == {"boom"}


@pytest.mark.parametrize("word", ["FAILED", "CANCELLED"])
@pytest.mark.parametrize("more", [{}, {"status": "in_progress"}])
def test_a_request_that_failed_is_not_asked_about_for_ever(
    stub_batches: Any, go: Runs, word: str, more: dict[str, Any]
) -> None:
    with stub_batches() as stub:
        stub.look = lambda batch_id: stub.all_done(batch_id, word)
        stub.result = lambda batch_id, name: (200, {"id": name, "output": None, **more})
        told = go(go.config(stub.base_url, rows=10, poll={"deadline_s": 3600}))
    assert (told.exit_code, told.statuses) == (1, {word.lower(): 10}), told.errors
    assert {line["error"]["type"] for line in told.results} == {word.lower()}
