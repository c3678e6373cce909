"""A client as one writes it by hand, for ADDRESS and COUNT jobs: only aiohttp, on uvloop."""

import asyncio
import re
import sys

import aiohttp
import uvloop

CONCURRENCY = 200
JOB_ID = re.compile(rb'"id":"([^"]+)"')


async def main(address: str, count: int) -> None:
    """Submit `count` jobs, wait until the last has ended, and fetch each once."""
    headers = {"Authorization": "Bearer benchmark", "Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), headers=headers
    ) as session:
        jobs: list[str] = []
        rows = iter(range(count))

        async def submit() -> None:
            for i in rows:
                text = f"TASK {i}: What is a fun fact about the number {i}? " + "word " * 50
                body = f'{{"model":"m","input":"{text}","max_output_tokens":4000,"background":true}}'
                async with session.post(f"{address}/responses", data=body.encode()) as answer:
                    found = JOB_ID.search(await answer.read())
                    assert found
                    jobs.append(found[1].decode())

        async def poll() -> None:
            while jobs:
                async with session.get(f"{address}/responses/{jobs.pop()}") as answer:
                    assert b'"status":"completed"' in await answer.read()

        await asyncio.gather(*(submit() for _ in range(CONCURRENCY)))
        await asyncio.sleep(0.1)  # the last job ends
        await asyncio.gather(*(poll() for _ in range(CONCURRENCY)))


uvloop.run(main(sys.argv[1], int(sys.argv[2])))
