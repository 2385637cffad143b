"""Be told when a video is done, and fetch it: a receiver of the service's webhooks.

    export INBETWEEN_WEBHOOK_SECRET=$(inbetween-server keys webhook-secret OWNER)
    python examples/webhook_receiver.py --folder videos --port 9000
    inbetween submit a.png b.png --webhook https://your.host/hooks/inbetween

Only what the service signed is believed. While you change to a new secret, name both, with a space between. The server
is INBETWEEN_URL, its key INBETWEEN_API_KEY.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import uvicorn
from fastapi import BackgroundTasks, FastAPI, HTTPException, Request

from inbetween import Client, WebhookInvalid, verify_webhook


def receiver(client: Client, secrets: list[str], folder: Path) -> FastAPI:
    """Make an application that saves the video of every job that it hears of."""
    app = FastAPI()

    def fetch(job_id: str) -> None:
        # An event may come more than once: the video that is there is enough.
        video = folder / f"{job_id}.mp4"
        if not video.exists():
            client.job(job_id).save(video)
            print(f"saved {video}", flush=True)

    @app.post("/hooks/inbetween", status_code=202)
    async def hook(request: Request, later: BackgroundTasks) -> dict[str, str]:
        try:
            event = verify_webhook(secrets, request.headers, await request.body())
        except WebhookInvalid as error:
            raise HTTPException(400, f"not a webhook of the service: {error}") from None
        if event.type == "inbetween.succeeded":
            # The service waits for the answer, not for the download.
            later.add_task(fetch, event.job_id)
        else:
            print(f"{event.job_id}: {event.type} {event.error or ''}", flush=True)
        return {"heard": event.id}

    return app


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("videos"), help="where videos go (default: videos)")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9000)
    asked = parser.parse_args()
    secrets = os.environ.get("INBETWEEN_WEBHOOK_SECRET", "").split()
    if not secrets:
        print("INBETWEEN_WEBHOOK_SECRET is not set", file=sys.stderr)
        return 2
    with Client() as client:
        uvicorn.run(receiver(client, secrets, asked.folder), host=asked.host, port=asked.port)
    return 0


if __name__ == "__main__":
    sys.exit(main())
