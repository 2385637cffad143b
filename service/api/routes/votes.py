"""Blind votes: cast one, see how the methods stand, erase a study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import structlog
from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from service.api.routes.dependencies import ONE_JOB, READ, Here, Reader, Submitter, find, problems
from service.api.services import Services
from service.api.votes import TooMany, Vote
from service.jobs.record import Job, State
from service.jobs.strict import Strict
from service.validation import FieldFault, refused

STUDY = "first look"
_STUDY = r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$"
_MOST_VIDEOS = 10

log = structlog.get_logger(__name__)
router = APIRouter(tags=["votes"])

Study = Annotated[str | None, Query(pattern=_STUDY, description="Which study. Default: the first by name.")]
Videos = Annotated[list[str], Field(max_length=_MOST_VIDEOS)]


class VoteRequest(Strict):
    """One person's judgement of videos that differ in their method alone."""

    study: str = Field(default=STUDY, pattern=_STUDY, description="Votes are counted by study.")
    voter: str = Field(
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="Any name for the person. A further vote of theirs on the same videos replaces the one before.",
    )
    order: list[str] = Field(
        min_length=2, max_length=_MOST_VIDEOS, description="Ids of the jobs, the best video first; no ties."
    )
    artifacts: Videos = Field(default_factory=list, description="Ids of the jobs whose videos have artifacts.")
    unrealistic: Videos = Field(default_factory=list, description="Ids of those whose motion is unrealistic.")


class StandingView(BaseModel):
    """How a method stands. Shares are of its votes, from 0 to 1."""

    model_config = ConfigDict(from_attributes=True)

    method: str
    votes: int
    mean_rank: float = Field(description="1 is best.")
    first: float = Field(description="Share of votes that rank it first.")
    artifacts: float = Field(description="Share of votes that see artifacts.")
    unrealistic: float = Field(description="Share of votes that see unrealistic motion.")


class TallyView(BaseModel):
    """A study, best method first, and what other studies there are."""

    study: str
    studies: list[str]
    methods: list[StandingView]


@router.post(
    "/votes",
    operation_id="castVote",
    status_code=201,
    summary="Judge videos of several methods",
    responses=problems(*ONE_JOB, "invalid-request", "malformed-body", "body-too-large"),
)
def cast_vote(here: Here, key: Submitter, asked: VoteRequest) -> TallyView:
    """Count a ranking of videos: finished jobs with the same keyframes and seeds, each of another method.

    Whoever votes should not know which is which: the playground's page `/#rank=ID,ID` sees to that.
    """
    jobs = {job_id: find(here, key, job_id) for job_id in asked.order}
    _check(asked, jobs)
    methods = {job_id: job.options["method"] for job_id, job in jobs.items()}

    def named(ids: Sequence[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(methods[job_id] for job_id in ids))

    vote = Vote(asked.voter, tuple(jobs), named(asked.order), named(asked.artifacts), named(asked.unrealistic))
    try:
        here.votes.cast(key.owner, asked.study, vote)
    except TooMany as error:
        raise refused([FieldFault("study", str(error), "Choose another study, or erase one.")]) from None
    log.info("vote cast", owner=key.owner, methods=list(vote.order))
    return _tally(here, key.owner, asked.study)


@router.get(
    "/votes", operation_id="tallyVotes", summary="How the methods stand", responses=problems(*READ, "invalid-request")
)
def tally_votes(here: Here, key: Reader, study: Study = None) -> TallyView:
    """Tally the key's own votes by method, as in the user study of the paper.

    That is mean rank, first places, artifacts and unrealistic motion.
    """
    return _tally(here, key.owner, study)


@router.delete(
    "/votes",
    operation_id="eraseVotes",
    status_code=204,
    summary="Erase a study",
    responses=problems(*READ, "invalid-request"),
)
def erase_votes(
    here: Here, key: Submitter, study: Annotated[str, Query(pattern=_STUDY, description="Which study.")]
) -> Response:
    """Erase a study with all its votes."""
    here.votes.erase(key.owner, study)
    return Response(status_code=204)


def _tally(here: Services, owner: str, study: str | None) -> TallyView:
    studies = here.votes.studies(owner)
    chosen = study or next(iter(studies), STUDY)
    standings = here.votes.tally(owner, chosen)
    return TallyView(
        study=chosen, studies=studies, methods=[StandingView.model_validate(standing) for standing in standings]
    )


def _check(asked: VoteRequest, jobs: dict[str, Job]) -> None:
    """Raise `Problem` for videos that cannot be compared."""
    faults = []
    if len(jobs) != len(asked.order):
        faults.append(FieldFault("order", "A job stands here twice.", "Send each job once."))
    unfinished = [job.id for job in jobs.values() if job.state is not State.succeeded]
    if unfinished:
        faults.append(FieldFault("order", f"{unfinished[0]} has no video.", "Send jobs whose `state` is `succeeded`."))
    elif len({(*(keyframe["sha256"] for keyframe in job.keyframes),) for job in jobs.values()}) > 1:
        faults.append(FieldFault("order", "The videos have different keyframes.", "Send jobs of the same keyframes."))
    elif len({(*job.options["seeds"],) for job in jobs.values()}) > 1:
        faults.append(FieldFault("order", "The videos have different seeds.", "Send jobs of the same seeds."))
    elif len({job.options["method"] for job in jobs.values()}) < len(jobs):
        faults.append(FieldFault("order", "Two videos are of the same method.", "Send one job of each method."))
    for name, ids in (("artifacts", asked.artifacts), ("unrealistic", asked.unrealistic)):
        if not jobs.keys() >= set(ids):
            faults.append(FieldFault(name, "It names a job that `order` does not.", "Name jobs of `order` alone."))
    if faults:
        raise refused(faults)
