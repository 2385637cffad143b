"""`mpd fetch`: a model's files from the hub, once, at a pinned commit, after its licence has been accepted.

What it leaves in the hub's cache (`HF_HUB_CACHE`) is read from there afterwards under `HF_HUB_OFFLINE=1`. Loads no
torch.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from mpd import hub

EXAMPLE = """\
example:
  mpd fetch stabilityai/stable-video-diffusion-img2vid-xt --variant fp16 --revision COMMIT
                                          shows the licence and asks whether you accept it
HF_HUB_CACHE says where to; HF_TOKEN is for models whose licence is accepted on the hub's own page first.
"""

NOT_OPEN = """\
This is a licence of the model's own and not one of the usual open ones: it may not allow every use, or not for nothing,
commercial use above all. Whether it allows yours is for you to read.
"""


class CannotFetch(Exception):
    """The message is one line."""


def parser(kind: type[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Make the parser of the arguments behind `mpd fetch`."""
    made = kind(
        prog="mpd fetch",
        description="Fetch a model's files from the Hugging Face hub, at one commit, once its licence is accepted.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("model", metavar="HUBID", help="owner/name")
    made.add_argument("--revision", metavar="COMMIT", help="the commit to fetch, in full: 40 hexadecimal digits")
    made.add_argument("--variant", metavar="NAME", help="of the weight files, such as fp16")
    made.add_argument("--accept-license", metavar="NAME", help="accept the licence of this name without being asked")
    return made


def run(options: argparse.Namespace) -> None:
    """Fetch a model's files from the hub once its licence is accepted. Raises `CannotFetch`."""
    # To be asked for the network is what this command is for. Read by huggingface_hub when it is imported.
    os.environ["HF_HUB_OFFLINE"] = "0"
    if not hub.is_id(options.model):
        raise CannotFetch(f"{options.model} is not a hub id (owner/name)")
    try:
        commit = _commit(options.model, options.revision)
        licence = _show_licence(options.model, commit)
        _accept(licence, options.accept_license)
        folder = hub.snapshot(options.model, commit, options.variant)
    except hub.HubError as error:
        hint = " (accept its licence on its page there, and set HF_TOKEN)" if _asks_who_comes(str(error)) else ""
        raise CannotFetch(f"{options.model}: the hub does not give it: {error}{hint}") from error
    missing = _missing(folder, options.variant)
    if missing:
        hint = "run it again if the hub broke off; else, is --variant right, and is it SVD's layout?"
        raise CannotFetch(f"{options.model} has no {', '.join(missing)}: {hint}")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"\nfetched {size / 1e9:.2f} GB to {folder}; what the engine needs to know:\n")
    print(f"MODEL={options.model}\nMODEL_REVISION={commit}")
    if options.variant:
        print(f"MODEL_VARIANT={options.variant}")
    print("HF_HUB_OFFLINE=1")


def _commit(model: str, revision: str | None) -> str:
    """Find the commit that was asked for; a branch or tag may be another model tomorrow."""
    if revision is not None and hub.is_commit(revision):
        return revision
    latest = hub.latest_commit(model)
    raise CannotFetch(f"give a commit in full: the main branch of {model} is now at --revision {latest}")


def _show_licence(model: str, commit: str) -> hub.Licence:
    """Print what the card says of the licence, and its text where the repository has it."""
    card = hub.file(model, commit, "README.md")
    found = hub.licence(card) if card is not None else None
    licence = found or hub.Licence("unknown")
    print(f"{model} at {commit}\nlicence: {licence.name}{f' ({licence.link})' if licence.link else ''}")
    if found is None:
        print("The model card names no licence. Without one you may not use it; ask its makers.")
    elif found.own:
        text = hub.file(model, commit, _file_of(licence.link)) if licence.link else None
        if text is not None:
            print(f"\n{text.read_text(errors='replace').strip()}")
        print(f"\n{NOT_OPEN}", end="")
    return licence


def _file_of(link: str) -> str:
    """Read a file's name off a link into the repository itself, which ends in it however it is written."""
    return link.rpartition("/")[2]


def _accept(licence: hub.Licence, accepted: str | None) -> None:
    if accepted is None and sys.stdin.isatty():
        accepted = input(f"Type {licence.name} to accept this licence: ").strip()
    if accepted is None:
        raise CannotFetch(f"to accept the licence, add --accept-license {licence.name}")
    if accepted != licence.name:
        raise CannotFetch(f"the licence is {licence.name}, which {accepted!r} does not accept; nothing was fetched")


def _missing(folder: Path, variant: str | None) -> list[str]:
    """List what `mpd.load` will look for and not find, as patterns of file names."""
    ending = f"*.{variant}*.safetensors" if variant else "*.safetensors"
    wanted = ["model_index.json", *(f"{part}/{name}" for part, name in hub.CONFIGS.items())]
    wanted += [f"{part}/{ending}" for part in hub.WEIGHTS]
    return [pattern for pattern in wanted if not any(folder.glob(pattern))]


def _asks_who_comes(message: str) -> bool:
    return message.startswith(("401", "403")) or "gated" in message.lower()
