"""API keys stay out of the config, and out of every error about it."""

from __future__ import annotations

import pytest

from runner.errors import RunnerError
from tests.config.reading import Problems, Read


def test_an_api_key_in_the_config_is_refused_and_not_repeated(
    problems: Problems,
) -> None:
    for text in ("${SAIL_API_KEY}", "sekret-123456", "Bearer sekret-123456"):
        (problem,) = problems(
            f"name: a\nrequest: {{metadata: {{k: '{text}'}}}}\n", environ={"SAIL_API_KEY": "sekret-123456"}
        )
        assert "sekret" not in str(problem)
        assert "target.api_key_env" in str(problem)


def test_an_api_key_is_found_under_any_variable_that_the_config_names(
    problems: Problems,
) -> None:
    found = problems(
        "name: a\ntarget: {api_key_env: MINE}\nrequest: {user: sekret-123456}\n",
        environ={"MINE": "sekret-123456"},
    )

    assert "MINE" in str(found[0])


@pytest.mark.parametrize("key", ['sek"ret-123456', "sek\\ret-123456", "sek/ret+123=456"])
def test_an_api_key_with_special_characters_is_found(read: Read, key: str) -> None:
    with pytest.raises(RunnerError, match="API key itself"):
        read("name: a\nrequest: {user: '${SAIL_API_KEY}'}\n", environ={"SAIL_API_KEY": key})


@pytest.mark.parametrize(
    "text",
    [
        "name: '${SAIL_API_KEY} !'",
        "name: a\nsource: {count: '${SAIL_API_KEY}'}",
        "name: a\nsubmit: sekret-123456",
        "name: a\nsekret-123456: 1",
    ],
)
def test_the_api_key_is_in_no_error_even_if_it_is_the_wrong_value(problems: Problems, text: str) -> None:
    found = problems(f"{text}\n", environ={"SAIL_API_KEY": "sekret-123456"})

    assert "sekret-123456" not in "\n".join(map(str, found))
