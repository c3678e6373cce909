"""Conversations of a transport with a scripted service, over real sockets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Literal, TypedDict, TypeVar, Unpack

import uvloop

from runner.config import RunConfig
from runner.transport import Transport, Upload, open_transport
from runner.transport.outcomes import AnyOutcome, RetrieveOutcome, SubmitOutcome
from runner.transport.wire import Wire
from tests.transport.scripted import Service, Step

API_KEY = "sk-secret/of+the=customer"
LONG_S = 20.0
"""Timeout of exchanges that are not about timeouts: never reached."""
SHORT_S = 0.15
"""Timeout of exchanges that must end by it."""

T = TypeVar("T")
Kind = TypeVar("Kind", bound=AnyOutcome)
Conversation = Callable[[Transport, Service], Awaitable[T]]
Verb = Literal["POST", "GET", "CANCEL", "CREATE", "BATCH", "RESULT", "LIST"]


class Options(TypedDict, total=False):
    """Settings of a transport, and where it connects to."""

    path: str
    """Path of the base URL; `/v1` by default."""
    base_url: str
    key: str
    concurrency: int
    timeout_s: float
    upload_s: float
    """Timeout of uploads."""
    idempotency_header: str | None
    wire: Wire


class Talk:
    """Runs a conversation of the transport `name` with a service that answers by the steps given."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, conversation: Conversation[T], *steps: Step, **options: Unpack[Options]) -> T:
        async def main() -> T:
            async with Service(steps or (Step(after="hang"),)) as service:
                transport = self.open(service.root, **options)
                try:
                    return await conversation(transport, service)
                finally:
                    await transport.close()

        return uvloop.run(main())

    def open(self, root: str = "", **options: Unpack[Options]) -> Transport:
        """Open a transport to the service at `root`, or at the option `base_url`."""
        concurrency = options.get("concurrency", 200)
        target: dict[str, object] = {"transport": self.name, "timeout_s": options.get("timeout_s", LONG_S)}
        if "idempotency_header" in options:
            target["idempotency_header"] = options["idempotency_header"]
        config = RunConfig.model_validate(
            {
                "name": "contract",
                "target": target,
                "submit": {"concurrency": concurrency},
                "poll": {"concurrency": concurrency},
                "batch": {"timeout_s": options.get("upload_s", LONG_S)},
            }
        )
        base_url = options.get("base_url") or root + options.get("path", "/v1")
        return open_transport(config, base_url, options.get("key", API_KEY), options.get("wire", Counter()))


async def exchange(transport: Transport, verb: Verb, upload: Callable[[bytes], Upload]) -> AnyOutcome:
    """Make one exchange of a kind."""
    match verb:
        case "POST" | "GET":
            return await post_or_get(transport, verb)
        case "CANCEL":
            return await transport.cancel("resp_1")
        case "CREATE":
            return await transport.create_batch(upload(b'{"requests":[]}'), "key-1")
        case "BATCH":
            return await transport.retrieve_batch("batch_1")
        case "RESULT":
            return await transport.batch_result("batch_1", "row-1")
        case "LIST":
            return await transport.list_batches(None, 25)


async def post_or_get(transport: Transport, verb: Verb) -> SubmitOutcome | RetrieveOutcome:
    """Submit a job, or retrieve the job `resp_1`."""
    if verb == "POST":
        return await transport.submit(b'{"model":"m","input":"hi"}', "key-1")
    return await transport.retrieve("resp_1")


class Ask:
    """Makes one exchange of a kind, which one step answers, and returns its outcome."""

    def __init__(self, talk: Talk, upload: Callable[[bytes], Upload]) -> None:
        self._talk = talk
        self._upload = upload

    def __call__(self, verb: Verb, step: Step | None = None, **options: Unpack[Options]) -> AnyOutcome:
        async def conversation(transport: Transport, service: Service) -> AnyOutcome:
            return await exchange(transport, verb, self._upload)

        return self._talk(conversation, *((step,) if step else ()), **options)

    def expect(
        self, kind: type[Kind], verb: Verb, step: Step | None = None, **options: Unpack[Options]
    ) -> Kind:
        """Make one exchange, and return its outcome, which must be of this kind."""
        outcome = self(verb, step, **options)
        assert isinstance(outcome, kind), outcome
        return outcome
