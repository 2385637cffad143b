"""The Lua scripts of Redis, joined of the files that lend to one another."""

from __future__ import annotations

from importlib import resources

from service.jobs import metrics


def script(*names: str) -> str:
    """Join scripts into one, with what they count by before them. names: paths within `service`."""
    package = resources.files("service")
    return metrics.lua() + "".join(package.joinpath(name).read_text("utf-8") for name in ("jobs/counting.lua", *names))
