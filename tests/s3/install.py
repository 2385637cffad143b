"""Install the S3 server that the tests run against: OpenStack Swift, in a virtual environment of its own.

    python tests/s3/install.py

The environment is SWIFT_VENV, or `.venv-swift` in the root of the repository. Prints its Python. Does nothing when the
environment is there already, whichever Python made it, and any number may run at once. Swift stays out of our own
environment because eventlet patches the interpreter it runs in.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements.txt"


def install(folder: Path) -> Path:
    """The Python of a virtual environment at `folder` with Swift in it."""
    python = folder / "bin" / "python"
    done = folder / "installed"
    wanted = REQUIREMENTS.read_text()
    with REQUIREMENTS.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (done.is_file() and python.exists() and done.read_text() == wanted):
            venv.create(folder, clear=True, with_pip=True)
            pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, "--requirement", str(REQUIREMENTS)], check=True, stdout=sys.stderr)
            done.write_text(wanted)
    return python


if __name__ == "__main__":
    try:
        print(install(Path(os.environ.get("SWIFT_VENV") or HERE.parents[1] / ".venv-swift")))
    except subprocess.CalledProcessError as error:
        sys.exit(f"Swift could not be installed: pip ended with status {error.returncode}")
