"""A client in the shape that the vendor's guide recommends, for ADDRESS and COUNT jobs: the baseline.

It uses the SDK on its aiohttp client, gathers all requests behind a semaphore, and then gathers all polls,
with one second between the polls of a job. Everything stays in memory, and nothing is written.
"""

import asyncio
import sys

from openai import AsyncOpenAI, DefaultAioHttpClient

CONCURRENCY = 200


async def main(address: str, count: int) -> None:
    """Submit `count` jobs and poll each until it has completed."""
    semaphore = asyncio.Semaphore(CONCURRENCY)
    async with AsyncOpenAI(
        base_url=address, api_key="benchmark", http_client=DefaultAioHttpClient()
    ) as client:

        async def submit(i: int) -> str:
            text = f"TASK {i}: What is a fun fact about the number {i}? " + "word " * 50
            async with semaphore:
                job = await client.responses.create(
                    model="m",
                    input=[{"role": "user", "content": text}],
                    max_output_tokens=4000,
                    background=True,
                )
            return job.id

        async def poll(job_id: str) -> object:
            while True:
                async with semaphore:
                    job = await client.responses.retrieve(job_id)
                if job.status == "completed":
                    return job
                await asyncio.sleep(1)

        jobs = await asyncio.gather(*(submit(i) for i in range(count)))
        done = await asyncio.gather(*(poll(job) for job in jobs))
        assert len(done) == count


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
