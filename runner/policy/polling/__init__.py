"""When to poll a job next: three strategies, one of which learns.

Terms, here and in the modules below:

- *Lag*: seconds from when a job completes to the poll that notices it. A strategy pays with polls for lag.
- *Age*: seconds since a job was accepted.
- *Hazard* h(t): how fast jobs complete at age t, as a share of those still pending then, per second.
- *Exchange rate* c: seconds of lag that are worth one poll; strategies compare by c · polls + lag.

Times are Unix seconds. Names in `_s` are durations, ages among them.
"""

from __future__ import annotations

from runner.policy.polling.adaptive import Adaptive
from runner.policy.polling.choice import polling
from runner.policy.polling.strategy import Exponential, Fixed, Followed, Polling

__all__ = ["Adaptive", "Exponential", "Fixed", "Followed", "Polling", "polling"]
