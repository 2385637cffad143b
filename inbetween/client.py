"""The client, waiting for each answer. `operations`, `following` and `downloads` tell what it does; here it is done."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, suppress
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, Unpack

import httpx

from inbetween import downloads, images
from inbetween.connection import Endpoint
from inbetween.errors import InbetweenError, WaitTimeout
from inbetween.following import follow
from inbetween.images import Image, Keyframe
from inbetween.operations import Operations
from inbetween.options import Format, Options
from inbetween.protocol import Action, Driver, Emit, Exchange, Open, Pause, Read, Send
from inbetween.records import Event, File, Record, State
from inbetween.retries import Retries

T = TypeVar("T")


class Client:
    """A server, spoken to from this thread; several threads may share one client.

    url, api_key: else from INBETWEEN_URL and INBETWEEN_API_KEY. timeout: seconds of silence that are an error.
    http: an `httpx.Client` of your own, for proxies or certificates; you close it.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 60.0,
        retries: Retries = Retries(),
        http: httpx.Client | None = None,
    ) -> None:
        self._server = Endpoint.named(url, api_key, timeout)
        self._operations = Operations(retries)
        self._own = http is None
        self._http = http or httpx.Client(**self._server.settings())

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client {self.url}>"

    @property
    def url(self) -> str:
        return self._server.url

    def close(self) -> None:
        if self._own:
            self._http.close()

    def inbetween(
        self,
        *keyframes: Image | Keyframe | tuple[Image, int | None],
        idempotency_key: str | None = None,
        **options: Unpack[Options],
    ) -> Job:
        """Ask for a video between keyframes, two or more: `client.inbetween("a.png", "b.png", method="flow")`.

        A keyframe is a path, a URL, bytes, an open file or a PIL image; with its frame on the timeline it is a pair,
        `("b.png", 12)`. Returns as soon as the job is safely in the server's queue. It is sent again where that is
        safe, and never makes two jobs; a key of your own, such as a row's id, extends that to your next run.
        """
        call = self._operations.submit(images.parts(keyframes), options, idempotency_key)
        return Job(self, self._run(call))

    def estimate(
        self, *keyframes: Image | Keyframe | tuple[Image, int | None], **options: Unpack[Options]
    ) -> dict[str, Any]:
        """Ask what `inbetween` with these arguments would cost, how long it would wait, and what would be refused."""
        return self._run(self._operations.estimate(images.parts(keyframes), options))

    def job(self, job_id: str) -> Job:
        """Fetch a job by its id."""
        return Job(self, self._run(self._operations.job(job_id)))

    def jobs(self, state: State | None = None, limit: int | None = None) -> Iterator[Job]:
        """Yield your jobs, newest first, fetched page by page as you go."""
        return (Job(self, data) for data in self._each(self._operations.listing(state, limit)))

    def methods(self) -> dict[str, Any]:
        """Fetch the methods, options with their bounds, formats, and the engines at work."""
        return self._run(self._operations.methods())

    def upload(self, image: Image) -> str:
        """Send an image ahead: what is returned stands for it in any number of requests, for about an hour."""
        (part,) = images.parts([image])
        return str(self._run(self._operations.upload(part)).source)

    def _run(self, exchange: Exchange[T]) -> T:
        driver = Driver(exchange)
        for _ in self._drive(driver):
            pass
        return driver.result

    def _each(self, exchange: Exchange[Any]) -> Generator[Any, None, None]:
        return self._drive(Driver(exchange))

    def _drive(self, driver: Driver[Any]) -> Generator[Any, None, None]:
        """Do what the exchange wants done, to its end, and yield what it gives."""
        stream = _Stream()
        try:
            while driver.step is not None:
                if isinstance(driver.step, Emit):
                    yield driver.step.value
                    driver.reply()
                    continue
                try:
                    answer = self._do(driver.step, stream)
                except httpx.RequestError as error:
                    driver.fail(error)
                else:
                    driver.reply(answer)
        finally:
            stream.close()
            driver.close()

    def _do(self, step: Action, stream: _Stream) -> Any:
        match step:
            case Send(request) | Open(request):
                opening = isinstance(step, Open)
                if opening:
                    stream.close()
                follow_redirects = request.method == "GET"
                sent = self._server.request(self._http, request)
                response = self._http.send(sent, stream=opening, follow_redirects=follow_redirects)
                if opening:
                    stream.open(response)
                return response
            case Read():
                return next(stream.pieces, b"")
            case Pause(seconds):
                time.sleep(seconds)
        return None


class _Stream:
    """The one response whose body is being read, if any."""

    def __init__(self) -> None:
        self._response: httpx.Response | None = None
        self.pieces: Iterator[bytes] = iter(())

    def open(self, response: httpx.Response) -> None:
        self._response, self.pieces = response, response.iter_bytes()

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None


class Job(Record):
    """A job on the server, as last heard of; `refresh`, `wait` and `events` bring it up to date."""

    def __init__(self, client: Client, data: Mapping[str, Any]) -> None:
        super().__init__(dict(data))
        self._client = client

    def refresh(self) -> Job:
        self.data = self._client._run(self._client._operations.job(self.id))
        return self

    def wait(
        self,
        progress: Callable[[Job], object] | None = None,
        *,
        timeout: float | None = None,
        check: bool = True,
        cancel_on_interrupt: bool = True,
    ) -> Job:
        """Return when the job is over. progress: called with this job whenever there is news of it.

        timeout: seconds, after which `WaitTimeout` is raised; the job goes on. check: raise `JobFailed` or
        `JobCanceled` for a job that ended so. Ctrl-C cancels the job, unless you say otherwise, and is raised again.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        try:
            if not self.over:
                with closing(self._client._each(follow(self._client._operations, self, deadline=deadline))) as news:
                    for _ in news:
                        if progress is not None:
                            progress(self)
        except KeyboardInterrupt:
            if cancel_on_interrupt:
                with suppress(InbetweenError):
                    self.data = self._client._run(Operations(Retries(most=0)).cancel(self.id))
            raise
        if not self.over:
            raise WaitTimeout(f"{self.id} is still {self.state} after {timeout:g} seconds")
        if check:
            self.check()
        return self

    def events(self, after: str | None = None) -> Iterator[Event]:
        """Yield each event as it happens, to the job's end: from its beginning, or after the event of that id.

        A broken stream is taken up where it was; where none gets through, the job is asked for instead.
        """
        return self._client._each(follow(self._client._operations, self, after))

    def cancel(self) -> Job:
        """Stop the job: at once in the queue, at its next step when it runs. A job that is over stays as it is."""
        self.data = self._client._run(self._client._operations.cancel(self.id))
        return self

    def delete(self) -> None:
        """Erase the job on the server, with its files."""
        self._client._run(self._client._operations.delete(self.id))

    def save(self, path: str | PathLike[str], take: int = 1, format: Format | None = None) -> Path:
        """Save the video of a take in the format that the path's suffix names.

        That is `.mp4` or another that `formats` asked for.

        The file is checked, and appears when it is whole. Raises `NoResult` for a format or take it does not have.
        """
        target = Path(path)
        return self._save(self.video(target.suffix, take, format), target)

    def save_all(self, folder: str | PathLike[str]) -> list[Path]:
        """Save every file of the result under its own name."""
        return [self._save(file, Path(folder, Path(file.name).name)) for file in self.found().files]

    def save_file(self, name: str, path: str | PathLike[str]) -> Path:
        """Save a file of the result by its name, such as `contact-sheet.jpg`; as whole as `save` leaves it."""
        return self._save(self.file(name), Path(path))

    def read(self, name: str) -> bytes:
        """Read a file of the result by its name, such as `metadata.json`."""
        return self._read(downloads.file, self.file(name))

    def poster(self) -> bytes:
        """Fetch a still to show before the video plays, as a JPEG."""
        return self.read("poster.jpg")

    def frame(self, number: int, take: int = 1) -> bytes:
        """Fetch one frame as a JPEG; numbers start at 0."""
        return self._read(downloads.frame, number, take)

    def frames(self, take: int = 1) -> Iterator[bytes]:
        """Yield every frame as a JPEG, in order."""
        return (self.frame(number, take) for number in range(self.found().frames))

    def _save(self, file: File, target: Path) -> Path:
        with downloads.whole_file(target) as into:
            self._client._run(downloads.file(self._client._operations, self.id, file, into))
        return target

    def _read(self, download: Callable[..., Exchange[None]], *wanted: Any) -> bytes:
        buffer = io.BytesIO()
        self._client._run(download(self._client._operations, self.id, *wanted, buffer))
        return buffer.getvalue()
