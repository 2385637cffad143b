"""The client for asyncio. All it does is told in `operations`, `following` and `downloads`; here it is done.

Files are read and written on the event loop's own thread, in pieces too small to be felt.
"""

from __future__ import annotations

import asyncio
import io
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, suppress
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


class AsyncClient:
    """A server, spoken to from one event loop; its arguments are those of `Client`."""

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 60.0,
        retries: Retries = Retries(),
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self._server = Endpoint.named(url, api_key, timeout)
        self._operations = Operations(retries)
        self._own = http is None
        self._http = http or httpx.AsyncClient(**self._server.settings())

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<AsyncClient {self.url}>"

    @property
    def url(self) -> str:
        return self._server.url

    async def close(self) -> None:
        if self._own:
            await self._http.aclose()

    async def inbetween(
        self,
        *keyframes: Image | Keyframe | tuple[Image, int | None],
        idempotency_key: str | None = None,
        **options: Unpack[Options],
    ) -> AsyncJob:
        """Ask for a video between keyframes as `Client.inbetween` does."""
        call = self._operations.submit(images.parts(keyframes), options, idempotency_key)
        return AsyncJob(self, await self._run(call))

    async def estimate(
        self, *keyframes: Image | Keyframe | tuple[Image, int | None], **options: Unpack[Options]
    ) -> dict[str, Any]:
        """Ask what a job would cost as `Client.estimate` does."""
        return await self._run(self._operations.estimate(images.parts(keyframes), options))

    async def job(self, job_id: str) -> AsyncJob:
        """Fetch a job by its id."""
        return AsyncJob(self, await self._run(self._operations.job(job_id)))

    async def jobs(self, state: State | None = None, limit: int | None = None) -> AsyncIterator[AsyncJob]:
        """Yield your jobs, newest first, fetched page by page as you go."""
        async with aclosing(self._each(self._operations.listing(state, limit))) as found:
            async for data in found:
                yield AsyncJob(self, data)

    async def methods(self) -> dict[str, Any]:
        """Fetch methods, options, formats and engines as `Client.methods` does."""
        return await self._run(self._operations.methods())

    async def upload(self, image: Image) -> str:
        """Send an image ahead as `Client.upload` does."""
        (part,) = images.parts([image])
        return str((await self._run(self._operations.upload(part))).source)

    async def _run(self, exchange: Exchange[T]) -> T:
        driver = Driver(exchange)
        async for _ in self._drive(driver):
            pass
        return driver.result

    def _each(self, exchange: Exchange[Any]) -> AsyncGenerator[Any, None]:
        return self._drive(Driver(exchange))

    async def _drive(self, driver: Driver[Any]) -> AsyncGenerator[Any, None]:
        """Do what the exchange wants done, to its end, and yield what it gives."""
        stream = _Stream()
        try:
            while driver.step is not None:
                if isinstance(driver.step, Emit):
                    yield driver.step.value
                    driver.reply()
                    continue
                try:
                    answer = await self._do(driver.step, stream)
                except httpx.RequestError as error:
                    driver.fail(error)
                else:
                    driver.reply(answer)
        finally:
            await stream.close()
            driver.close()

    async def _do(self, step: Action, stream: _Stream) -> Any:
        match step:
            case Send(request) | Open(request):
                opening = isinstance(step, Open)
                if opening:
                    await stream.close()
                follow_redirects = request.method == "GET"
                sent = self._server.request(self._http, request)
                response = await self._http.send(sent, stream=opening, follow_redirects=follow_redirects)
                if opening:
                    stream.open(response)
                return response
            case Read():
                return await anext(stream.pieces, b"")
            case Pause(seconds):
                await asyncio.sleep(seconds)
        return None


class _Stream:
    """The one response whose body is being read, if any."""

    pieces: AsyncIterator[bytes]

    def __init__(self) -> None:
        self._response: httpx.Response | None = None

    def open(self, response: httpx.Response) -> None:
        self._response, self.pieces = response, response.aiter_bytes()

    async def close(self) -> None:
        if self._response is not None:
            await self._response.aclose()
            self._response = None


class AsyncJob(Record):
    """A job on the server, as last heard of; its methods are those of `Job`."""

    def __init__(self, client: AsyncClient, data: Mapping[str, Any]) -> None:
        super().__init__(dict(data))
        self._client = client

    async def refresh(self) -> AsyncJob:
        self.data = await self._client._run(self._client._operations.job(self.id))
        return self

    async def wait(
        self,
        progress: Callable[[AsyncJob], object] | None = None,
        *,
        timeout: float | None = None,
        check: bool = True,
        cancel_on_interrupt: bool = True,
    ) -> AsyncJob:
        """Return when the job is over, as `Job.wait` does.

        An interrupt is the cancellation of the task, of which Ctrl-C is one; so is `asyncio.timeout` around it: use
        `timeout` to stop waiting and let the job go on.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        try:
            if not self.over:
                async with aclosing(
                    self._client._each(follow(self._client._operations, self, deadline=deadline))
                ) as news:
                    async for _ in news:
                        if progress is not None:
                            progress(self)
        except asyncio.CancelledError:
            if cancel_on_interrupt:
                with suppress(InbetweenError):
                    self.data = await self._client._run(Operations(Retries(most=0)).cancel(self.id))
            raise
        if not self.over:
            raise WaitTimeout(f"{self.id} is still {self.state} after {timeout:g} seconds")
        if check:
            self.check()
        return self

    async def events(self, after: str | None = None) -> AsyncIterator[Event]:
        """Yield each event as `Job.events` does."""
        async with aclosing(self._client._each(follow(self._client._operations, self, after))) as news:
            async for event in news:
                yield event

    async def cancel(self) -> AsyncJob:
        """Stop the job as `Job.cancel` does."""
        self.data = await self._client._run(self._client._operations.cancel(self.id))
        return self

    async def delete(self) -> None:
        """Erase the job on the server as `Job.delete` does."""
        await self._client._run(self._client._operations.delete(self.id))

    async def save(self, path: str | PathLike[str], take: int = 1, format: Format | None = None) -> Path:
        """Save the video of a take as `Job.save` does."""
        target = Path(path)
        return await self._save(self.video(target.suffix, take, format), target)

    async def save_all(self, folder: str | PathLike[str]) -> list[Path]:
        """Save every file of the result under its own name."""
        return [await self._save(file, Path(folder, Path(file.name).name)) for file in self.found().files]

    async def save_file(self, name: str, path: str | PathLike[str]) -> Path:
        """Save a file of the result by its name, such as `contact-sheet.jpg`; as whole as `save` leaves it."""
        return await self._save(self.file(name), Path(path))

    async def read(self, name: str) -> bytes:
        """Read a file of the result by its name, such as `metadata.json`."""
        return await self._read(downloads.file, self.file(name))

    async def poster(self) -> bytes:
        """Fetch a still to show before the video plays, as a JPEG."""
        return await self.read("poster.jpg")

    async def frame(self, number: int, take: int = 1) -> bytes:
        """Fetch one frame as a JPEG; numbers start at 0."""
        return await self._read(downloads.frame, number, take)

    async def frames(self, take: int = 1) -> AsyncIterator[bytes]:
        """Yield every frame as a JPEG, in order."""
        for number in range(self.found().frames):
            yield await self.frame(number, take)

    async def _save(self, file: File, target: Path) -> Path:
        with downloads.whole_file(target) as into:
            await self._client._run(downloads.file(self._client._operations, self.id, file, into))
        return target

    async def _read(self, download: Callable[..., Exchange[None]], *wanted: Any) -> bytes:
        buffer = io.BytesIO()
        await self._client._run(download(self._client._operations, self.id, *wanted, buffer))
        return buffer.getvalue()
