"""Processes that die with their parent, whatever kills it.

Linux only (`PR_SET_PDEATHSIG`). Knows nothing of what the processes do.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends.

    parent: process id of the expected parent; when it has already gone, this process ends here.
    """
    if _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def spawn(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
    log: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a command that dies with this process. Call it from the main thread of a process without other threads.

    environment: additions to our own. log: file that takes its output; without one it shares ours.
    The child gets its own process group, so that Ctrl-C reaches the parent alone.
    """
    parent = os.getpid()
    output = log.open("ab") if log is not None else None
    try:
        return subprocess.Popen(
            command,
            env={**os.environ, **(environment or {})},
            cwd=cwd,
            pass_fds=pass_fds,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output is not None else None,
            process_group=0,
            preexec_fn=lambda: die_with_parent(parent),
        )
    finally:
        if output is not None:
            output.close()


def reap_strangers(own: Collection[int]) -> None:
    """Collect what has ended and is our child only because its parent ended first.

    That happens to the first process of a container. own: our own children, whose ends are awaited elsewhere.
    """
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid in own:
            return
        os.waitpid(ended.si_pid, 0)


def bind_forks() -> None:
    """Make every process that this one forks from now on die with it (RQ's work-horses and its scheduler)."""
    parent = os.getpid()
    os.register_at_fork(after_in_child=lambda: die_with_parent(parent))
