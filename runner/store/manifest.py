"""Which run a directory belongs to: what it was made of, and whether that is still so."""

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
AFRESH: Final = "start afresh with --new"


class Manifest(msgspec.Struct, frozen=True):
    """The identity of a run: `manifest.json`. What is compared before a run is continued."""

    format: int
    run_id: str
    name: str
    created: float
    version: str
    rows: int
    input: str
    """Fingerprint of the input and of the templates."""
    settings: dict[str, str]
    """Fingerprints of what else requests are made of, by the name of the setting."""
    key_salt: str
    key: str
    """HMAC-SHA-256 of the API key under the salt: tells a changed key, tells nothing about it."""

    @classmethod
    def of(cls, config: RunConfig, survey: Survey, key: str) -> Manifest:
        """That of a run that begins now."""
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
    """Raises `RunDirError` naming what is not as it was when the run began; a `key` of None is not compared.

    Other input or settings would make other requests under the ids and idempotency keys of the old
    ones; another API key has none of the old one's protection against paying twice.
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
                f"undo the change to continue, or {AFRESH}",
            )
        )


def _earlier_config(run_dir: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load((run_dir / "config.yaml").read_bytes())
    except (OSError, yaml.YAMLError):
        return {}
    return config if isinstance(config, dict) else {}


def _differences(before: dict[str, Any], now: dict[str, Any], name: str) -> str:
    """` [request.model: 'a' → 'b']` for a section or a key in one; empty where nothing differs in it."""
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
    """What requests are made of, beside the input: the parts whose change makes them other requests."""
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
