"""`inbetween-server`, whose launcher trusts its machine again after seconds and not minutes, as a trial has no more."""

from __future__ import annotations

import sys

from server.cli import main
from worker.process import fitness

if __name__ == "__main__":
    fitness.FIRST_PAUSE, fitness.LONGEST_PAUSE, fitness.LOOK_SECONDS = 2.0, 4.0, 1.0
    sys.exit(main())
