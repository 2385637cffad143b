"""A docstring begins with one imperative sentence that stands alone, short enough to be read at a glance.

ruff's D401 knows the mood of many first words, and no fragments such as "What is left." or "Whether it is.".
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ["mpd", "service", "worker", "server", "inbetween", "trials", "benchmarks"]
MOST_WORDS = 25
WORD = re.compile(r"[A-Z][A-Za-z-]+")
FRAGMENT = re.compile(
    r"A|All|Also|An|And|Any|As|At|Before|Both|By|Each|Either|Every|False|For|From|Gone|How|"
    r"If|In|Into|It|Its|Nothing|None|No|Not|Of|On|Once|One|Only|Or|Other|Same|So|Some|Than|"
    r"That|The|Their|There|These|They|This|Those|To|True|Until|Was|We|What|When|Where|Whether|"
    r"Which|Who|Whose|Why|With|Without|You"
)
THIRD_PERSON = re.compile(
    r"Adds|Answers|Asks|Begins|Builds|Calls|Checks|Closes|Computes|Counts|Creates|Does|Ends|Finds|"
    r"Gets|Gives|Has|Holds|Is|Keeps|Lets|Loads|Looks|Makes|Opens|Puts|Raises|Reads|Removes|"
    r"Returns|Runs|Says|Sends|Sets|Shows|Sleeps|Starts|Stops|Stores|Takes|Tells|Turns|Uses|Waits|"
    r"Writes|Yields"
)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_docstring_begins_with_one_short_imperative_sentence(folder: str) -> None:
    found = list(_docstrings(ROOT / folder))
    assert found
    faults = [f"{where}: {fault}" for where, text in found if (fault := _fault(text))]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("Return the bytes of a file.", None),
        ("GET a file, at most\n`most` bytes of it. Raises `TooLarge`.\n\nmost: bytes.", None),
        ("Return the bytes of a file", "no period"),
        ("Return the bytes of a file\n\nRaises `TooLarge`.", "no period"),
        ("Return " + "word " * 23 + "word.", None),
        ("Return " + "word " * 24 + "word.", "26 words"),
        ("What the file has.", "What"),
        ("Returns the bytes of a file.", "Returns"),
        ("`need` bytes.", "`need`"),
        ("running → failed.", "running"),
        ("503 while it does not.", "503"),
        ("", "no period"),
    ],
)
def test_the_check_finds_what_is_no_such_sentence(text: str, fault: str | None) -> None:
    found = _fault(text)
    assert found == fault or (fault and found and fault in found)


def _fault(docstring: str) -> str | None:
    paragraph = " ".join(docstring.split("\n\n")[0].split())
    end = re.search(r"\.(?= |$)", paragraph)
    if end is None:
        return "its first sentence has no period"
    words = paragraph[: end.start()].split()
    if len(words) > MOST_WORDS:
        return f"its first sentence has {len(words)} words, more than {MOST_WORDS}"
    first = words[0].rstrip(",:;") if words else ""
    if not WORD.fullmatch(first) or FRAGMENT.fullmatch(first) or THIRD_PERSON.fullmatch(first):
        return f"{first} begins no imperative sentence"
    return None


def _docstrings(folder: Path) -> Iterator[tuple[str, str]]:
    """Give the docstrings of all functions below a folder but of properties, which are nouns."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _is_property(node):
                continue
            text = ast.get_docstring(node)
            if text is not None:
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", text


def _is_property(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    names = [ast.unparse(decorator).split("(")[0].split(".")[-1] for decorator in node.decorator_list]
    return bool({"property", "cached_property", "computed_field"} & set(names))
