"""The identity of a run: what its requests are made of, and whether that has changed."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from runner import __version__
from runner.config import RunConfig
from runner.errors import Problem, RunDirError
from runner.source import Survey

FORMAT: Final = 1
START_OVER: Final = "start over with --new"
"""Hint for a run that cannot be continued."""


class Manifest(msgspec.Struct, frozen=True):
    """The content of `manifest.json`, which is compared before a run is continued."""

    format: int
    run_id: str
    name: str
    created: float
    version: str
    rows: int
    input: str
    """Fingerprint of the input and of the templates."""
    settings: dict[str, str]
    """Fingerprint of each setting that goes into requests, by its name."""
    key_salt: str
    key: str
    """HMAC-SHA-256 of the API key under the salt: shows that the key changed, and nothing about the key."""

    @classmethod
    def of(cls, config: RunConfig, survey: Survey, key: str) -> Manifest:
        """Return the manifest of a run that begins now."""
        salt = secrets.token_hex(16)
        return cls(
            format=FORMAT,
            run_id=secrets.token_hex(16),
            name=config.name,
            created=time.time(),
            version=__version__,
            rows=survey.rows,
            input=survey.fingerprint,
            settings=_settings(config),
            key_salt=salt,
            key=_salted(key, salt),
        )


def check_unchanged(
    manifest: Manifest, config: RunConfig, fingerprint: str, key: str | None, where: Path
) -> None:
    """Check that the run can be continued; a `key` of None is not compared.

    Raises `RunDirError` that names what has changed since the run began. Other input or settings would make
    other requests under the old ids and idempotency keys; under another API key, the service would not
    recognise the old idempotency keys and requests could be paid twice. `where` is the run directory.
    """
    before, now = _earlier_config(where), config.model_dump(mode="json")
    changed = []
    if manifest.input != fingerprint:
        changed.append("the input (source)" + _differences(before, now, "source"))
    for name, was in _settings(config).items():
        if manifest.settings.get(name) != was:
            changed.append(name + _differences(before, now, name))
    if key is not None and not hmac.compare_digest(manifest.key, _salted(key, manifest.key_salt)):
        changed.append(f"the API key ({config.target.api_key_env})")
    if changed:
        raise RunDirError(
            Problem(
                f"changed since this run began: {', '.join(changed)}",
                str(where),
                f"undo the change to continue, or {START_OVER}",
            )
        )


def _earlier_config(run_dir: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load((run_dir / "config.yaml").read_bytes())
    except (OSError, yaml.YAMLError):
        return {}
    return config if isinstance(config, dict) else {}


def _differences(before: dict[str, Any], now: dict[str, Any], name: str) -> str:
    """Return ` [request.model: 'a' → 'b']` for section or key `name`, or "" where nothing in it differs."""
    old: Any = before
    new: Any = now
    for key in name.split("."):
        old, new = old.get(key), new.get(key)
    found = list(_differing(old, new, name))
    return f" [{', '.join(found)}]" if found else ""


def _differing(old: Any, new: Any, path: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys((*old, *new)):
            yield from _differing(old.get(key), new.get(key), f"{path}.{key}")
    elif old != new:
        yield f"{path}: {_short(old)} → {_short(new)}"


def _short(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 40 else text[:39] + "…"


def _settings(config: RunConfig) -> dict[str, str]:
    """Return a fingerprint of each setting whose change would change the requests."""
    parts: dict[str, Any] = {
        "request": config.request,
        "target.base_url": config.target.base_url,
        "target.mode": config.target.mode,
        "target.idempotency_header": config.target.idempotency_header,
    }
    return {
        name: hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()[:16]
        for name, value in parts.items()
    }


def _salted(key: str, salt: str) -> str:
    return hmac.new(bytes.fromhex(salt), key.encode(), hashlib.sha256).hexdigest()
