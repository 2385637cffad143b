"""The comparison's work behind LitServe, in whose own environment it runs.

    python -m benchmarks.serving.litserve_server PORT

Two workers as LitServe names them, processes that decode, generate and encode one after the other: with one, as is its
default, the GPU would wait while a video is encoded. They share the one GPU by its lock.
"""

# LitServe looks at the annotations themselves, so they may not be put off.
import sys
from typing import Any

import litserve
from fastapi import Request, Response

from benchmarks.serving.work import JobInputs


class Inbetween(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.work = JobInputs.here()

    def decode_request(self, request: Request) -> Any:
        return self.work.decode([request[name].file.read() for name in ("start", "end")])

    def predict(self, pictures: Any) -> Any:
        return self.work.generate(pictures)

    def encode_response(self, frames: Any) -> Response:
        return Response(self.work.encode(frames), media_type="video/mp4")


if __name__ == "__main__":
    server = litserve.LitServer(Inbetween(), accelerator="cpu", workers_per_device=2, timeout=120)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
