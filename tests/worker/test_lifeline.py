"""The first process of a container inherits what its descendants leave, and collects it."""

from __future__ import annotations

import subprocess
import sys


def test_orphans_are_collected_and_own_children_are_not() -> None:
    code = """
import ctypes, os, time
import psutil
from worker.process.parent_death import reap_strangers

ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans become ours, as they do the first process'
parent = os.fork()
if parent == 0:
    if os.fork() == 0:
        os._exit(0)
    os._exit(0)
os.waitpid(parent, 0)
orphans = lambda: psutil.Process().children()
while [one.status() for one in orphans()] != [psutil.STATUS_ZOMBIE]:
    time.sleep(0.01)
reap_strangers([])
assert orphans() == []
own = os.fork()
if own == 0:
    os._exit(3)
os.waitid(os.P_PID, own, os.WEXITED | os.WNOWAIT)
reap_strangers([own])
assert os.waitstatus_to_exitcode(os.waitpid(own, 0)[1]) == 3
reap_strangers([])
"""
    subprocess.run([sys.executable, "-c", code], timeout=50, check=True)
