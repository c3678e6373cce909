"""The `target` section: the service, and how requests reach it."""

from __future__ import annotations

import re
from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from runner.config.base import Seconds, Section

EMBEDDED: Final = "simulator"
"""`target.base_url: simulator` starts the simulator with the run and stops it with the run."""
_HOST: Final = re.compile(r"[0-9a-f:.%]*:[0-9a-f:.%]*|(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?")


class Target(Section):
    """Where requests go, and how."""

    base_url: str = "https://api.sailresearch.com/v1"
    """The API's root, to which `/responses` is appended; or `simulator`."""
    api_key_env: str = Field("SAIL_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """The name of the environment variable that holds the key; never the key."""
    mode: Literal["background", "batch"] = "background"
    """`background`: one POST a request, then polling. `batch`: many requests a POST, by the service's Batch
    API; see the section `batch`."""
    transport: Literal["aiohttp", "openai"] = "aiohttp"
    """`aiohttp`: direct, fastest. `openai`: the SDK on its aiohttp client."""
    timeout_s: Seconds = 30.0
    """One HTTP exchange, whole."""
    idempotency_header: str | None = Field("Idempotency-Key", pattern=r"^[A-Za-z0-9-]+$")
    """The header that makes a repeated POST safe; null for a service without one."""

    @field_validator("base_url")
    @classmethod
    def _address(cls, url: str) -> str:
        if url == EMBEDDED:
            return url
        try:
            address = urlsplit(url)
            port_is_good = address.port is None or address.port > 0
        except ValueError:
            port_is_good = False
        if not port_is_good or address.scheme not in ("http", "https") or not address.hostname:
            raise ValueError("must be an http:// or https:// address, or the word simulator")
        if not _HOST.fullmatch(address.hostname):
            raise ValueError(f"{address.hostname!r} is not a host name")
        if "@" in address.netloc:
            raise ValueError("must not hold a user name or password: name the key in target.api_key_env")
        if "?" in url or "#" in url:
            raise ValueError("must not hold a query or a fragment")
        return url.rstrip("/")
