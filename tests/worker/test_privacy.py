"""Where a photograph was taken, by whom and with what never leaves with a video: only its pixels do."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pillow_heif
import pytest
import redis
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from mpd.output.formats import OUTPUT_FORMATS
from service.jobs.record import State
from service.jobs.store import Jobs
from service.settings import ServiceSettings
from tests.service.conftest import Api
from worker import tasks
from worker.task.lease import Lease

pillow_heif.register_heif_opener()

MARK = "52.5163N-Pariser-Platz"
SAVED_AS = {"jpeg": "JPEG", "png": "PNG", "webp": "WEBP", "avif": "AVIF", "heic": "HEIF"}


def tagged(name: str) -> bytes:
    """A photograph that tells its place in every way its format has, and lies on its side."""
    image = Image.linear_gradient("L").resize((64, 48)).convert("RGB")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.ImageDescription] = MARK
    exif[ExifTags.Base.Artist] = MARK
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (52.0, 30.0, 58.7), 29: MARK})
    options: dict[str, object] = {"exif": exif.tobytes()}
    if name in ("jpeg", "png", "webp", "avif", "heic"):
        options["xmp"] = f"<x:xmpmeta xmlns:x='adobe:ns:meta/'>{MARK}</x:xmpmeta>".encode()
    if name == "jpeg":
        options["comment"] = MARK.encode()
    if name == "png":
        text = PngInfo()
        text.add_text("Location", MARK)
        text.add_itxt("Place", MARK, zip=True)
        options["pnginfo"] = text
    buffer = io.BytesIO()
    image.save(buffer, SAVED_AS[name], **options)
    return buffer.getvalue()


@pytest.fixture
def api(redis_url: str, tmp_path: Path) -> Iterator[Api]:
    settings = ServiceSettings(_env_file=None, auth="off", redis_url=redis_url, storage_url=str(tmp_path))
    with Api(settings).running() as running:
        yield running


def test_no_output_of_any_format_has_metadata_of_a_keyframe(api: Api) -> None:
    images = [tagged(name) for name in SAVED_AS]
    assert all(MARK.encode() in data for data in images)
    options = {"method": "flow", "frames": 3, "formats": list(OUTPUT_FORMATS)}
    files = [("keyframes", data) for data in images]
    made = api.client.post("/inbetween", files=files, data={"options": json.dumps(options)})
    assert made.status_code == 202, made.text
    with redis.Redis.from_url(api.settings.redis_url) as connection:
        jobs = Jobs(connection, api.settings)
        job = jobs.start(made.json()["id"], 1, "test-1")
        with Lease(jobs, job.id, job.attempt) as lease:
            tasks.settle(job, jobs, lease)
        done = jobs.get(job.id)
        kept = {key: connection.dump(key) for key in connection.keys("*")}
    assert done is not None
    assert done.state is State.succeeded, done.error
    outputs = {key: api.storage.get(key) for key in api.storage.list(f"jobs/{job.id}/1")}
    assert len(outputs) > len(OUTPUT_FORMATS) + 9
    for key, data in outputs.items():
        assert MARK.encode() not in data, key
        for picture in pictures(key, data):
            assert not picture.getexif(), key
            assert not {"exif", "xmp", "comment", "icc_profile", "Location", "Place"} & set(picture.info), key
            upright = picture.size[0] < picture.size[1]
            assert upright or "frame-" not in key, "what the orientation said is in the pixels"
    assert not any(MARK.encode() in (value or b"") for value in kept.values()), "nor has any record or event"


def pictures(key: str, data: bytes) -> list[Image.Image]:
    """The still pictures in a file."""
    if key.endswith((".jpg", ".png", ".apng", ".gif", ".webp")):
        return [Image.open(io.BytesIO(data))]
    if key.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return [Image.open(io.BytesIO(archive.read(name))) for name in archive.namelist()]
    return []


def test_the_keyframe_itself_is_its_owners_file_unchanged(api: Api) -> None:
    """It is kept as it came, so that its hash holds and the job can be made again; it goes with the job."""
    data = tagged("jpeg")
    made = api.client.post("/inbetween", files={"start": data, "end": data}, data={"options": '{"method": "flow"}'})
    view = made.json()
    assert api.client.get(view["keyframes"][0]["url"]).content == data
    assert MARK not in made.text
    assert api.client.delete(f"/inbetween/{view['id']}").status_code == 204
    assert list(api.storage.list("jobs")) == []
    assert api.client.get(view["keyframes"][0]["url"]).status_code == 404
