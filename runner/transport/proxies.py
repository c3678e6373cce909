"""Which proxy the environment names for an address."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from yarl import URL

from runner.errors import ConfigError, Problem


def proxy_for(url: str) -> URL | None:
    """The proxy of the environment, asked once: aiohttp's own `trust_env` asks each time, in a thread.

    Raises `ConfigError` for one that speaks another protocol.
    """
    address = urlsplit(url)
    proxies: Mapping[str, str] = getproxies()
    if not address.hostname or proxy_bypass(address.netloc):
        return None
    proxy = proxies.get(address.scheme) or proxies.get("all")
    if not proxy:
        return None
    found = URL(proxy if "://" in proxy else f"http://{proxy}")
    if found.scheme not in ("http", "https"):
        what = f"a {found.scheme} proxy cannot be used"
        raise ConfigError(Problem(what, "the environment's proxy", "name an http one, or set NO_PROXY"))
    return found
