"""Files of a session in virtual time are real, and never waited for: power cuts are tested with the store."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def unsynced() -> Iterator[None]:
    """Replace the calls that wait for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("fsync", "fdatasync"):
            patch.setattr(os, name, lambda fd: None)
        yield
