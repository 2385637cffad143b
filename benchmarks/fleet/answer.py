"""What ships: the setting of the autoscaler in docker/kubernetes, as the simulation chose it.

`python -m benchmarks.fleet table` says whether it is still the cheapest one that holds the objective; a test holds the
manifests to it.
"""

from __future__ import annotations

from benchmarks.fleet.rules import Unfinished
from benchmarks.fleet.simulation import FleetPlan

RULE = Unfinished(0.8)
PLAN = FleetPlan(minimum=2, horses=1, grace=600.0, window=300.0, grow_factor=2.0, grow_pods=4)
