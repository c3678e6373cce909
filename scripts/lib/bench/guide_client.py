"""The baseline: the shape that the vendor's guide recommends, for ADDRESS and COUNT jobs.

The SDK on its aiohttp client, a gather over all requests behind a semaphore, then a gather over all polls
with a fixed second between them; everything stays in memory and nothing is written.
"""

import asyncio
import sys

from openai import AsyncOpenAI, DefaultAioHttpClient

CONCURRENCY = 200


async def main(address: str, count: int) -> None:
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
