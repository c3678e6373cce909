"""The statuses that `runner run --retry` accepts."""

from __future__ import annotations

from runner.records import RESULT_STATUSES, ResultStatus


def statuses_of(text: str) -> tuple[ResultStatus, ...]:
    """Return the statuses in a list such as `failed,expired`, each once.

    Raises `ValueError` for a word that is none, and for `completed`: a retry of those would be paid twice.
    """
    retriable = {str(status): status for status in RESULT_STATUSES if status != "completed"}
    words = dict.fromkeys(word.strip() for word in text.split(","))
    for word in words:
        if word not in retriable:
            raise ValueError(f"{word!r} is none of {', '.join(retriable)}")
    return tuple(retriable[word] for word in words)
