"""The local home on a full disk: a real small one where we may mount it, else a limit on what may be written."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROGRAM = """
import json, resource, sys
from pathlib import Path
from service.storage import LocalStorage, StorageFull

folder, limit = Path(sys.argv[1]), int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
source = folder.parent / "source"
home = LocalStorage(folder, lambda: b"key")
home.put("jobs/a/old", b"old" * 1000, "video/mp4")
said = []
for key, data in (("jobs/a/new", b"x" * 400_000), ("jobs/a/old", b"x" * 400_000), ("jobs/a/file", source)):
    try:
        home.put(key, data, "image/png")
    except StorageFull as error:
        said.append(str(error))
found = {key: (len(home.get(key)), home.stat(key).content_type) for key in home.list("")}
left = [path.name for path in (folder / "tmp").iterdir()]
home.put("jobs/a/small", b"small", "image/png")
print(json.dumps({"said": said, "found": found, "left": left, "then": home.get("jobs/a/small").decode()}))
"""


@pytest.fixture(params=[pytest.param("disk", marks=pytest.mark.needs("to mount a file system")), "limit"])
def small(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Path, int]]:
    """A folder with room for a quarter of a megabyte, and the limit that makes it so; 0 where the disk itself is."""
    folder = tmp_path / "home"
    folder.mkdir()
    if request.param == "disk":
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(folder)], check=True)
        yield folder, 0
        subprocess.run(["umount", str(folder)], check=True)
    else:
        yield folder, 256_000


def test_what_has_no_room_is_refused_whole(small: tuple[Path, int]) -> None:
    folder, limit = small
    (folder.parent / "source").write_bytes(b"x" * 400_000)
    program = [sys.executable, "-c", PROGRAM, str(folder), str(limit)]
    answer = json.loads(subprocess.run(program, capture_output=True, text=True, check=True).stdout)
    reason = "File too large" if limit else "No space left on device"
    assert answer["said"] == [f"storage folder {folder}: {reason}"] * 3
    assert answer["found"] == {"jobs/a/old": [3000, "video/mp4"]}, "as it was, and nothing else"
    assert answer["left"] == []
    assert answer["then"] == "small"
