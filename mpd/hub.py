"""Models on the Hugging Face hub: which of a repository's files are read, and what its card says of the licence.

`HF_HUB_CACHE` names the cache, `HF_HUB_OFFLINE=1` keeps to it, `HF_TOKEN` is for repositories that ask who comes. Loads
no torch.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

CONFIGS = {
    "unet": "config.json",
    "vae": "config.json",
    "image_encoder": "config.json",
    "scheduler": "scheduler_config.json",
    "feature_extractor": "preprocessor_config.json",
}
"""The parts of a model of SVD's architecture, a folder each, and the file with a part's configuration."""

WEIGHTS = ("unet", "vae", "image_encoder")
"""The parts that have weights."""

OWN_FILES = ("model_index.json", "README.md", "motion_bucket.json")
"""What is read of no part: the index, the card and the calibration, of which only the first has to be there."""


_MARKED = 65_536
"""Bytes of each end of a file that tell it from another of the same size."""


class HubError(Exception):
    """The hub, or its cache, does not give what is asked for. The message is one line."""


@dataclass(frozen=True)
class Licence:
    """What a model card's front matter says: the licence's name, its own where it has one, and where it is written."""

    name: str
    #: A URL, or the name of a file of the repository; None where the card gives none.
    link: str | None = None
    #: Whether it is none of the licences that the hub knows by name.
    own: bool = False


def is_id(source: str) -> bool:
    """Tell whether a text may be a repository on the hub: owner/name."""
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", source) is not None


def is_commit(revision: str) -> bool:
    """Tell whether a revision is a commit in full, which never changes."""
    return re.fullmatch(r"[0-9a-f]{40}", revision) is not None


def snapshot(source: str, revision: str | None, variant: str | None) -> Path:
    """Give the folder of `source` in the cache: only the files that are read, fetched where they are not there yet.

    Raises `HubError`.
    """
    from huggingface_hub import snapshot_download

    files = ["*.json", f"*.{variant}*.safetensors" if variant else "*.safetensors"]
    wanted = [*OWN_FILES, *(f"{part}/{file}" for part in CONFIGS for file in files)]
    unwanted = None if variant else ["*.fp16*"]
    try:
        folder = snapshot_download(source, revision=revision, allow_patterns=wanted, ignore_patterns=unwanted)
    except Exception as error:  # those of the hub's own HTTP client are among them
        raise HubError(first_line(error)) from error
    return Path(folder)


def file(source: str, revision: str | None, name: str) -> Path | None:
    """Give one file of a repository, fetched where it is not in the cache.

    None when the repository has none of that name. Raises `HubError`.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(source, name, revision=revision))
    except LocalEntryNotFoundError as error:  # an EntryNotFoundError too, but of a hub that cannot be asked
        raise HubError(first_line(error)) from error
    except EntryNotFoundError:
        return None
    except Exception as error:  # those of the hub's own HTTP client are among them
        raise HubError(first_line(error)) from error


def latest_commit(source: str) -> str:
    """Ask for the commit at the head of the repository's main branch. Raises `HubError`."""
    from huggingface_hub import HfApi

    try:
        commit = HfApi().model_info(source).sha
    except Exception as error:  # those of the hub's own HTTP client are among them
        raise HubError(first_line(error)) from error
    if commit is None:
        raise HubError("the hub names no commit")
    return commit


def licence(card: Path) -> Licence | None:
    """Read the licence that a model card names; None where there is no card or it names none."""
    found = _front_matter(card)
    name = found.get("license_name") or found.get("license")
    return Licence(name, found.get("license_link"), found.get("license") == "other") if name else None


def default_method(card: Path) -> str | None:
    """Give the method that a model card names as `inbetween_default_method`, for requests that name none."""
    return _front_matter(card).get("inbetween_default_method")


def own_schedule(card: Path) -> tuple[int, float] | None:
    """Give the steps and the noise level to begin from that a model card names, `inbetween_schedule: 15 from 40`.

    Raises ValueError where that is not what it says.
    """
    named = _front_matter(card).get("inbetween_schedule")
    if named is None:
        return None
    found = re.fullmatch(r"([1-9]\d*) from (\d+(?:\.\d+)?)", named)
    if found is None:
        raise ValueError(f"inbetween_schedule has to read like `15 from 40`, not {named!r}")
    return int(found[1]), float(found[2])


def mark(folder: Path) -> str:
    """Tell models in local folders apart: a digest of their files' names, sizes, and first and last bytes."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".safetensors", ".bin")):
        size = file.stat().st_size
        with file.open("rb") as content:
            head = content.read(_MARKED)
            content.seek(max(0, size - _MARKED))
            digest.update(f"{file.relative_to(folder)} {size} ".encode() + head + content.read(_MARKED))
    return digest.hexdigest()[:12]


def _front_matter(card: Path) -> dict[str, str]:
    """Read the plain `name: value` lines at the head of a model card; none where there is no card."""
    if not card.is_file():
        return {}
    front = card.read_text(errors="replace").partition("---\n")[2].partition("\n---")[0]
    return dict(re.findall(r"^(\w+):\s*(\S.*?)\s*$", front, re.MULTILINE))


def first_line(error: Exception) -> str:
    """Give the first line of an error's message; its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
