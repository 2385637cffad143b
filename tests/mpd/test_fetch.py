"""`mpd fetch`, against a hub on loopback that speaks as much of the real one's HTTP as its client asks for."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

COMMAND = str(Path(sys.executable).with_name("mpd"))
COMMIT = "0123456789abcdef0123456789abcdef01234567"
CARD = "---\nlicense: other\nlicense_name: acme-community\nlicense_link: LICENSE.md\n---\n# Tiny\n"


class Hub:
    """One repository, `acme/tiny`, as the folder `files` has it, at one commit. asked: the paths of all requests."""

    def __init__(self, files: Path) -> None:
        hub = self
        self.asked: list[str] = []
        self.closed = False
        """Whether it wants to know who comes."""
        self.breaks_off = False
        """Whether it fails once the licence is read."""

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = unquote(self.path.partition("?")[0])
                hub.asked.append(path)
                if hub.closed:
                    return self._answer(401, {"X-Error-Code": "GatedRepo"}, b"")
                if path == "/api/models/acme/tiny":
                    return self._json({"id": "acme/tiny", "sha": COMMIT})
                if path == f"/api/models/acme/tiny/tree/{COMMIT}":
                    if hub.breaks_off:
                        return self._answer(400, {}, b"")
                    there = [found for found in sorted(files.rglob("*")) if found.is_file()]
                    names = {str(found.relative_to(files)): found.stat().st_size for found in there}
                    tree = [{"type": "file", "path": name, "size": size, "oid": "0"} for name, size in names.items()]
                    return self._json(tree)
                found = files / path.removeprefix(f"/acme/tiny/resolve/{COMMIT}/")
                if not found.is_file():
                    return self._answer(404, {"X-Error-Code": "EntryNotFound"}, b"")
                content = found.read_bytes()
                headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
                return self._answer(200, headers, content)

            do_HEAD = do_GET

            def _json(self, told: object) -> None:
                self._answer(200, {"Content-Type": "application/json"}, json.dumps(told).encode())

            def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever).start()


@pytest.fixture
def hub(tiny_folder: Path, tmp_path: Path) -> Iterator[Hub]:
    """With the weights of two variants and a licence of its own."""
    files = tmp_path / "repository"
    shutil.copytree(tiny_folder, files)
    for path in list(files.glob("*/*.safetensors")):
        shutil.copy(path, path.with_name(f"{path.stem}.fp16.safetensors"))
    (files / "README.md").write_text(CARD)
    (files / "LICENSE.md").write_text("ACME COMMUNITY LICENCE\nNot for everything.\n")
    (files / "tiny.safetensors").write_text("all of it once more, for other programs")
    hub = Hub(files)
    yield hub
    hub.server.shutdown()
    hub.server.server_close()


def run(hub: Hub, cache: Path, command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    """With the network to the stand-in alone."""
    named = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment = {**named, "HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(cache), "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=120
    )


def fetch(hub: Hub, cache: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return run(hub, cache, [COMMAND, "fetch", "acme/tiny", *arguments], **variables)


def fetched(cache: Path) -> list[str]:
    """What is in the cache of the repository's files."""
    snapshot = cache / "models--acme--tiny" / "snapshots" / COMMIT
    return sorted(str(path.relative_to(snapshot)) for path in snapshot.rglob("*") if path.is_file())


PINNED = ("--revision", COMMIT, "--variant", "fp16")
ACCEPTED = ("--accept-license", "acme-community")


def test_a_model_is_fetched_once_its_licence_is_accepted_and_then_read_without_the_hub(
    hub: Hub, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    done = fetch(hub, cache, *PINNED, *ACCEPTED, HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    shown, told = done.stdout.split("what the engine needs to know:")
    assert "licence: acme-community (LICENSE.md)" in shown
    assert "ACME COMMUNITY LICENCE\nNot for everything." in shown
    assert "commercial use" in shown
    assert told.split() == [
        "MODEL=acme/tiny",
        f"MODEL_REVISION={COMMIT}",
        "MODEL_VARIANT=fp16",
        "HF_HUB_OFFLINE=1",
    ]
    weights = [name for name in fetched(cache) if name.endswith(".safetensors")]
    assert [name.partition("/")[0] for name in weights] == ["image_encoder", "unet", "vae"]
    assert all(name.endswith(".fp16.safetensors") for name in weights)

    hub.asked.clear()
    settings = dict(line.split("=", 1) for line in told.split())
    code = (
        "import mpd, os\n"
        "names = {'revision': 'MODEL_REVISION', 'variant': 'MODEL_VARIANT'}\n"
        "options = {name: os.environ[variable] for name, variable in names.items()}\n"
        "model = mpd.load(os.environ['MODEL'], device='cpu', **options)\n"
        "print(model.revision, model.license)\n"
    )
    for path in [cache, *cache.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)  # a volume that is mounted read-only
    loaded = run(hub, cache, [sys.executable, "-c", code], **settings)
    assert loaded.stdout.split() == [COMMIT, "acme-community"], loaded.stderr
    assert hub.asked == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (PINNED, "to accept the licence, add --accept-license acme-community"),
        ((*PINNED, "--accept-license", "yes"), "the licence is acme-community, which 'yes' does not accept"),
    ],
)
def test_nothing_is_fetched_without_the_licence_accepted(
    hub: Hub, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = fetch(hub, tmp_path / "cache", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "ACME COMMUNITY LICENCE" in done.stdout
    assert fetched(tmp_path / "cache") == ["LICENSE.md", "README.md"]


@pytest.mark.parametrize("revision", [(), ("--revision", "main"), ("--revision", COMMIT[:7])])
def test_a_commit_is_wanted_and_the_present_one_named(hub: Hub, tmp_path: Path, revision: tuple[str, ...]) -> None:
    done = fetch(hub, tmp_path / "cache", *revision, *ACCEPTED)
    assert done.returncode == 2
    assert done.stderr == (
        f"mpd: error: give a commit in full: the main branch of acme/tiny is now at --revision {COMMIT}\n"
    )
    assert fetched(tmp_path / "cache") == []


def test_a_card_without_a_licence_says_so(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "repository" / "README.md").write_text("# Tiny\n")
    done = fetch(hub, tmp_path / "cache", *PINNED)
    assert "names no licence" in done.stdout
    assert done.returncode == 2


def test_a_usual_licence_is_accepted_by_its_name(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "repository" / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Tiny\n")
    done = fetch(hub, tmp_path / "cache", *PINNED, "--accept-license", "apache-2.0")
    assert done.returncode == 0, done.stderr
    assert "commercial use" not in done.stdout


def test_weights_that_are_not_there_are_named(hub: Hub, tmp_path: Path) -> None:
    done = fetch(hub, tmp_path / "cache", "--revision", COMMIT, "--variant", "bf16", *ACCEPTED)
    assert done.returncode == 2
    assert "acme/tiny has no unet/*.bf16*.safetensors" in done.stderr


def test_a_hub_that_breaks_off_leaves_nothing_that_passes_for_a_model(hub: Hub, tmp_path: Path) -> None:
    """Its client takes a folder with the licence alone for the whole, where it cannot ask what else there is."""
    hub.breaks_off = True
    done = fetch(hub, tmp_path / "cache", *PINNED, *ACCEPTED)
    assert done.returncode == 2
    assert "acme/tiny has no model_index.json" in done.stderr
    assert "run it again" in done.stderr
    hub.breaks_off = False
    assert fetch(hub, tmp_path / "cache", *PINNED, *ACCEPTED).returncode == 0


def test_a_hub_that_asks_who_comes_is_one_line_with_what_to_do(hub: Hub, tmp_path: Path) -> None:
    hub.closed = True
    done = fetch(hub, tmp_path / "cache", *PINNED, *ACCEPTED)
    (line,) = done.stderr.splitlines()
    assert line.startswith("mpd: error: acme/tiny: the hub does not give it: 401")
    assert line.endswith("(accept its licence on its page there, and set HF_TOKEN)")
    assert done.returncode == 2


def test_fetching_loads_no_torch() -> None:
    script = "import sys, mpd.__main__, mpd.fetch, huggingface_hub; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
