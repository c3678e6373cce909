"""Finds the proxy that the environment names for a URL."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from yarl import URL

from runner.errors import ConfigError, Problem


def proxy_for(url: str) -> URL | None:
    """Return the proxy of the environment for `url`, or None for a direct connection.

    The environment is read here, once: aiohttp's own `trust_env` reads it for each request, in a thread.
    Raises `ConfigError` for a proxy that does not speak HTTP.
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
        raise ConfigError(Problem(what, "the proxy of the environment", "use an http proxy, or set NO_PROXY"))
    return found
