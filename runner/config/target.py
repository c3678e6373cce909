"""The `target` section: the service, and how requests reach it."""

from __future__ import annotations

import re
from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from runner.config.base import HEADER, VARIABLE, Seconds, Section

EMBEDDED: Final = "simulator"
"""`target.base_url: simulator` starts the simulator with the run and stops it with the run."""
SHORTEST_SECRET: Final = 8
"""Characters from which on an API key counts as a secret.

Shorter keys are placeholders of local services, such as `EMPTY`, and may be ordinary words of a
config or an answer.
"""
_HOST: Final = re.compile(r"[0-9a-f:.%]*:[0-9a-f:.%]*|(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?")


class Target(Section):
    """Where requests are sent, and how."""

    base_url: str = "https://api.sailresearch.com/v1"
    """Root of the API, to which `/responses` is appended; or `simulator` for the embedded simulator."""
    api_key_env: str = Field("SAIL_API_KEY", pattern=VARIABLE)
    """Name of the environment variable that holds the API key; never the key itself."""
    mode: Literal["background", "batch"] = "background"
    """`background`: one POST per request, then polling. `batch`: many requests per POST, through the
    service's Batch API; see the section `batch`."""
    transport: Literal["aiohttp", "openai"] = "aiohttp"
    """`aiohttp`: direct, and fastest. `openai`: the OpenAI SDK on its aiohttp client."""
    timeout_s: Seconds = 30.0
    """Timeout of one whole HTTP exchange, in seconds."""
    idempotency_header: str | None = Field("Idempotency-Key", pattern=HEADER)
    """Header that makes it safe to repeat a POST; null if the service honours none."""

    @field_validator("base_url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        if url == EMBEDDED:
            return url
        try:
            parts = urlsplit(url)
            port_is_good = parts.port is None or parts.port > 0
        except ValueError:
            port_is_good = False
        if not port_is_good or parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an http:// or https:// URL, or the word simulator")
        if not _HOST.fullmatch(parts.hostname):
            raise ValueError(f"{parts.hostname!r} is not a host name")
        if "@" in parts.netloc:
            raise ValueError(
                "must not contain a user name or password; the key is read from target.api_key_env"
            )
        if "?" in url or "#" in url:
            raise ValueError("must not contain a query or a fragment")
        return url.rstrip("/")
