"""`runner schema`: the JSON Schema of the config, for editors."""

from __future__ import annotations

import json
from typing import Final

from runner.commands.result import CommandResult
from runner.config import RunConfig

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def schema() -> CommandResult:
    """Return the JSON Schema of the config."""
    document = {"$schema": DIALECT, **RunConfig.model_json_schema()}
    return CommandResult(0, output=json.dumps(document, indent=2))
