"""The protocol of everything that is fed with samples of a run."""

from __future__ import annotations

from typing import Protocol

from runner.measure.sample import Sample


class Output(Protocol):
    """Shows, writes or serves samples; `Sampler` calls it on the event loop, so it must not block."""

    @property
    def every_s(self) -> float:
        """Seconds between two samples."""

    def start(self) -> None:
        """Open what the samples go to. Raises `StorageError`."""

    def add(self, sample: Sample) -> None:
        """Take a sample. Raises `StorageError`; after that, only a last `add` and `stop` are called."""

    def stop(self) -> None:
        """Close what `start` opened; the sample before was the last."""
