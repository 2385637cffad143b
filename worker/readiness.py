"""Whether the worker on this machine can take a job of what its engine holds: what a container's probe asks.

It asks the engine itself, over the socket in ENGINE_DIR, and so nothing that another process might say wrongly of it.
Knows nothing of Redis: an outage of that is no reason to call a warm model cold.
"""

from __future__ import annotations

from multiprocessing.connection import Client

from service import machine
from service.settings import ServiceSettings
from worker.engine import held, protocol

ANSWER_SECONDS = 5.0
"""How long an engine may take to answer: it does so from a thread of its own, also while it samples."""


def fault(settings: ServiceSettings, patience: float = ANSWER_SECONDS) -> str | None:
    """Say why no job can be taken, in one line; None when one can.

    That is when the machine is well and the engine ready, where there is one. patience: seconds.
    """
    if (trouble := machine.trouble()) is not None:
        return f"the machine is not well: {trouble}"
    try:
        if not held.anything(settings):
            return None
    except held.HeldError as error:
        return str(error)
    if settings.engine_dir is None:
        return "ENGINE_DIR must be set, for the worker and for who asks: the engine's socket is there"
    try:
        with Client(protocol.socket_path(settings.engine_dir), family="AF_UNIX") as connection:
            protocol.send(connection, "status", {})
            if not connection.poll(patience):
                return f"the engine has not answered for {patience:g} seconds"
            state = protocol.receive(connection).values["state"]
    except ValueError as error:
        return str(error)
    except (OSError, EOFError) as error:
        return f"no engine answers in {settings.engine_dir} ({error or 'it hung up'})"
    return None if state == "ready" else f"the engine is {state}"
