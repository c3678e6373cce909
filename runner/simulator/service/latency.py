"""How long a job runs: the distributions of `simulator.latency`, each drawn by inverting its CDF."""

from __future__ import annotations

import math
from statistics import NormalDist

from runner.config.simulation import Bimodal, Constant, Exponential, Latency, Lognormal, Uniform
from runner.simulator.service.seeded import Draws

_NORMAL = NormalDist()
_FIRST, _SECOND = 0, 1


def latency_s(latency: Latency, draws: Draws) -> float:
    """Return the seconds that one job runs. Uses the numbers 0 and 1 of its draws."""
    match latency:
        case Constant():
            return latency.mean_s
        case Exponential():
            return -latency.mean_s * math.log(draws.unit(_FIRST))
        case Lognormal():
            return _lognormal(latency.mean_s, latency.sigma, draws.unit(_FIRST))
        case Uniform():
            return latency.min_s + (latency.max_s - latency.min_s) * draws.unit(_FIRST)
        case Bimodal():
            slow = draws.unit(_SECOND) < latency.slow_share
            return _lognormal(latency.slow_s if slow else latency.fast_s, latency.sigma, draws.unit(_FIRST))


def _lognormal(mean_s: float, sigma: float, unit: float) -> float:
    # The mean of exp(N(mu, sigma²)) is exp(mu + sigma²/2): the shift makes `mean_s` the mean, not the median.
    return mean_s * math.exp(sigma * _NORMAL.inv_cdf(unit) - sigma * sigma / 2)
