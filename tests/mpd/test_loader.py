"""A base is found by what its folder says it is, and what is not known is refused in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mpd
from mpd import loader
from mpd.base import ModelError
from mpd.svd import weights
from mpd.svd.model import Model


def index(folder: Path, content: object) -> Path:
    (folder / "model_index.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_the_class_of_a_folder_names_the_base(tiny_folder: Path) -> None:
    assert loader.class_name(str(tiny_folder)) == weights.PIPELINE
    model = mpd.load(tiny_folder, device="cpu")
    assert isinstance(model, Model)
    assert model.name == str(tiny_folder)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"_class_name": "WanPipeline"}, "is a 'WanPipeline', for which there is no base model here"),
        ({"_class_name": "Two\nLines"}, r"is a 'Two\nLines'"),
        ({"_class_name": ["pipeline", "Own"]}, "names no _class_name"),
        ({}, "names no _class_name"),
        (["StableVideoDiffusionPipeline"], "names no _class_name"),
    ],
)
def test_an_unknown_class_is_refused_in_one_line_that_names_the_known(
    tmp_path: Path, content: object, said: str
) -> None:
    with pytest.raises(ModelError) as refused:
        mpd.load(index(tmp_path, content))
    message = str(refused.value)
    assert said in message
    assert "known is a diffusers folder of StableVideoDiffusionPipeline" in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("source", "said"), [("nowhere/at/all", "no such folder, and not a hub id"), (".", "has no model_index.json")]
)
def test_a_source_without_an_index_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=said):
        mpd.load(source)


def test_an_index_that_is_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model_index\.json cannot be read"):
        mpd.load(index(tmp_path, "{"))


def test_what_is_refused_loads_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys, mpd\n"
        "try: mpd.load(sys.argv[1])\n"
        "except mpd.ModelError: print('torch' in sys.modules)\n"
    )  # fmt: skip
    command = [sys.executable, "-c", code, str(index(tmp_path, {"_class_name": "WanPipeline"}))]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"


def test_compiled_code_is_kept_where_asked(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        monkeypatch.setenv(name, "elsewhere")
    mpd.load(tiny_folder, device="cpu", compile_cache=tmp_path / "cache")
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "cache" / "inductor")
    assert os.environ["TRITON_CACHE_DIR"] == str(tmp_path / "cache" / "triton")
