"""A session worked on by this process alone."""

from __future__ import annotations

from collections.abc import Callable

from runner.background.mode import Background
from runner.config import RunConfig
from runner.engine.task import Task, displayed, take_orders
from runner.errors import RunnerError
from runner.session.feed import AllBut, Feed
from runner.session.parts import Parts
from runner.session.session import Assignment, Middle, Run, run
from runner.source import Source
from runner.store import Recovery


async def work(task: Task) -> RunnerError | None:
    """Work until every row has its result, or something ends the session; return what did."""
    recovery = task.history.recovery
    needed = AllBut(task.rows, recovery.rows_to_skip())
    with displayed(task) as display:

        async def attend(run: Run[Middle]) -> None:
            take_orders(task, run.closing)
            run.feed.grant(needed)
            run.feed.all_granted = True
            await display.show_for_ever()

        return await run(
            Assignment(
                config=task.config,
                run_id=task.manifest.run_id,
                base_url=task.base_url,
                key=task.key,
                source=task.source,
                files=task.run_dir.files(),
                session=task.session,
                resumes=bool(task.history.session.continued),
                recovery=recovery,
                meter=task.history.meter,
                vitals=task.vitals,
                say=task.progress.say,
                ends_when_done=True,
                middle=_middle_of(task.config),
                attend=attend,
            )
        )


def _middle_of(config: RunConfig) -> Callable[[Parts, Source, Feed, Recovery], Middle]:
    """The mode of the run."""
    if config.target.mode == "batch":
        from runner.batch.mode import Batches

        return Batches
    return Background
