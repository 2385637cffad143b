"""A run's rows: one per group, variant and seed, made by one process or several, kept as they come.

A run that is stopped goes on with what is missing. Knows nothing of what a row's figures mean.
"""

from __future__ import annotations

import json
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from tqdm import tqdm


class RunError(Exception):
    """A run cannot go on; the message says why."""


@dataclass(frozen=True)
class Task:
    """What one row is of."""

    #: A part of a table, such as the value of a dial; empty where there is none.
    group: str
    variant: str
    seed: int


@dataclass(frozen=True)
class Row:
    """What came of a task."""

    task: Task
    #: By measure, NaN where one does not apply.
    figures: dict[str, float]
    #: Eq. 11 by step.
    mismatch: list[float] = field(default_factory=list)


RowMaker = Callable[[Task], Row]
"""Picklable, so that other processes can do it."""


def collect(
    folder: Path, identity: dict[str, object], tasks: Sequence[Task], work: RowMaker, jobs: int, abreast: int = 1
) -> list[Row]:
    """Give the rows of `tasks`, in their order: those that `folder` has, and the missing ones, which are made and kept.

    abreast: so many tasks of one variant at once in each process, in threads; `work` must allow it.

    identity: all that the rows depend on; a folder with rows of another identity raises `RunError`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder / "run.json", identity)
    path = folder / "rows.jsonl"
    done = {row.task: row for row in read(path)}
    missing = [task for task in tasks if task not in done]
    with path.open("a") as log:
        for row in tqdm(_made(missing, work, jobs, abreast), total=len(missing), desc=folder.name, mininterval=5):
            log.write(json.dumps(asdict(row)) + "\n")
            log.flush()
            done[row.task] = row
    return [done[task] for task in tasks]


def read(path: Path) -> list[Row]:
    """Read rows; a line that a killed run left half written is left out, and its row will be made again."""
    if not path.exists():
        return []
    text = path.read_text()
    whole = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
    if not text.endswith("\n"):
        path.write_text("".join(whole))
    lines = [json.loads(line) for line in whole]
    return [Row(Task(**line["task"]), line["figures"], line["mismatch"]) for line in lines]


def _claim(path: Path, identity: dict[str, object]) -> None:
    if path.exists() and json.loads(path.read_text()) != identity:
        raise RunError(
            f"{path.parent} holds rows of another run ({path.read_text().strip()}); remove it or name another"
        )
    path.write_text(json.dumps(identity) + "\n")


def _made(tasks: Sequence[Task], work: RowMaker, jobs: int, abreast: int) -> Iterator[Row]:
    """Yield rows as they come. Torch has one thread: so many small tensors gain nothing by more."""
    groups = _groups(tasks, abreast)
    if jobs == 1:
        torch.set_num_threads(1)
        for group in groups:
            yield from _together(work, group)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for future in as_completed([pool.submit(_together, work, group) for group in groups]):
            yield from future.result()


def _together(work: RowMaker, group: Sequence[Task]) -> list[Row]:
    if len(group) == 1:
        return [work(group[0])]
    with ThreadPoolExecutor(len(group)) as threads:
        return list(threads.map(work, group))


def _groups(tasks: Sequence[Task], abreast: int) -> list[list[Task]]:
    """Group up to `abreast` tasks of one variant; the first ones of every variant before the second ones of any."""
    groups: dict[tuple[str, str, int], list[Task]] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for task in tasks:
        kind = task.group, task.variant
        groups.setdefault((*kind, counts[kind] // abreast), []).append(task)
        counts[kind] += 1
    return list(groups.values())
