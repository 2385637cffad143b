"""From the rounds to what is told of them: medians of rounds, quantiles of all single times, a table in Markdown."""

from __future__ import annotations

import statistics
from typing import Any

Rounds = dict[str, dict[str, list[dict[str, Any]]]]


def quantile(values: list[float], share: float) -> float:
    """Give the one of the values in order at this share; the last one is the quantile 1."""
    return sorted(values)[round(share * (len(values) - 1))]


def figures(run: dict[str, Any], rounds: Rounds, durable: dict[str, str]) -> dict[str, Any]:
    """Collect the figures by shape and server; times in milliseconds."""
    found: dict[str, Any] = {"run": run, "durable": durable, "shapes": {}}
    for shape, by_server in rounds.items():
        found["shapes"][shape] = {name: _server(measured) for name, measured in by_server.items()}
    return found


def _server(measured: list[dict[str, Any]]) -> dict[str, Any]:
    def median(path: str, value: str) -> float:
        return round(statistics.median(float(one[path][value]) for one in measured), 4)

    def times(values: list[float]) -> dict[str, float]:
        return {f"p{share}_ms": round(1000 * quantile(values, share / 100), 2) for share in (50, 90, 99)}

    def load(path: str) -> dict[str, float] | None:
        if measured[0][path] is None:
            return None
        return {
            "per_second": median(path, "per_second"),
            **times([value for one in measured for value in one[path]["seconds"]]),
        }

    return {
        "overhead": times([value for one in measured for value in one["overhead"]]),
        "gaps": times([value for one in measured for value in one["gaps"]]),
        "polls": load("polls"),
        "results": {**(load("results") or {}), "cpu_seconds_each": median("results", "cpu_seconds_each")},
        "memory_mb": round(median("results", "memory") / 1e6),
        "submissions": load("submissions"),
        "load_before": [one["load_before"] for one in measured],
    }


def table(found: dict[str, Any]) -> str:
    """Write a table for each shape."""
    run, lines = found["run"], []
    plan = run["plan"]
    peers = ", ".join(f"{name} {version}" for name, version in run["peers"].items())
    lines += [
        f"{run['machine']}; {run['rounds']} rounds, medians of rounds, quantiles of all single times; "
        f"{1000 * plan['generation']:g} ms with the GPU, {plan['connections']} connections"
        + (f"; {peers}." if peers else ".")
    ]
    for shape, servers in found["shapes"].items():
        count, width, height = shape.split("x")
        lines += [
            "",
            f"A video of {count} frames of {width}×{height}:",
            "",
            "| | submissions/s | answer p50 / p99 | results/s | overhead p50 / p99 | GPU gap p50 / p99 "
            "| status polls/s | CPU per video | memory |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for name, one in servers.items():
            polls = f"{one['polls']['per_second']:.0f}" if one["polls"] else "–"
            lines.append(
                f"| {name} | {one['submissions']['per_second']:.1f} | {_both(one['submissions'])} "
                f"| {one['results']['per_second']:.1f} | {_both(one['overhead'])} | {_both(one['gaps'], 1)} | {polls} "
                f"| {1000 * one['results']['cpu_seconds_each']:.0f} ms | {one['memory_mb']} MB |"
            )
    loads = [load for servers in found["shapes"].values() for one in servers.values() for load in one["load_before"]]
    lines += ["", f"Load average of the machine as each measurement began: {min(loads)} to {max(loads)}."]
    return "\n".join(lines) + "\n"


def _both(times: dict[str, float], digits: int = 0) -> str:
    return f"{times['p50_ms']:.{digits}f} / {times['p99_ms']:.{digits}f} ms"
