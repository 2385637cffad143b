"""What `import mpd` gives, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import mpd


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_the_names() -> None:
    assert set(mpd.__all__) == {
        "DEFAULT_METHOD",
        "METHODS",
        "Base",
        "Distillation",
        "KeyframeError",
        "Method",
        "ModelError",
        "Progress",
        "Settings",
        "SettingsError",
        "Take",
        "inbetween",
        "load",
        "register",
    }
    for name in mpd.__all__:
        assert getattr(mpd, name) is not None
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = mpd.nothing_of_the_kind


@pytest.mark.parametrize(
    "statement", ["import mpd", "import mpd; mpd.Settings, mpd.METHODS", "import mpd.methods", "import mpd.inbetween"]
)
def test_it_loads_no_torch(statement: str) -> None:
    heavy = "[name for name in ('torch', 'diffusers', 'transformers') if name in sys.modules]"
    assert run(f"import sys; {statement}; print({heavy})") == "[]\n"


def test_the_methods_alone_load_only_the_standard_library() -> None:
    code = "import sys, mpd.methods; print([name for name in ('numpy', 'PIL') if name in sys.modules])"
    assert run(code) == "[]\n"


@pytest.mark.parametrize(
    "statement",
    ["", "import mpd.inbetween", "from mpd.inbetween import generate", "from mpd import inbetween", "mpd.inbetween"],
)
def test_inbetween_is_the_function_however_it_was_imported(statement: str) -> None:
    assert run(f"import mpd; {statement or 'pass'}; print(mpd.inbetween.__name__, callable(mpd.inbetween))") == (
        "inbetween True\n"
    )
