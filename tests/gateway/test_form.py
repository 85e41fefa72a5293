"""Multipart bodies, cut anywhere, whole or broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import InvalidRequest, NotMultipart
from gateway.form import RecordingForm, boundary_of, clean_name
from gateway.job_request import job_request
from gateway.recording import RecordingFile, _full_disk_told
from tests.gateway.jobs import wav
from worker.cache import Cache
from worker.errors import BadRequest, DiskFull, EmptyRecording, NotWav, ServiceError, TooLarge
from worker.jobs import Priority, new_task_id
from worker.jobs.options import JobOptions

LIMIT_BYTES = 1000
FILE = 'form-data; name="file"; filename="a.wav"'


def part(disposition: str, data: bytes) -> bytes:
    return b"--B\r\nContent-Disposition: " + disposition.encode() + b"\r\n\r\n" + data + b"\r\n"


def body(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--B--\r\n"


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path)


def form_in(cache: Cache) -> RecordingForm:
    return RecordingForm(b"B", RecordingFile(cache, cache.folder(new_task_id()), LIMIT_BYTES))


def files(cache: Cache) -> list[Path]:
    return [path for path in cache.root.rglob("*") if path.is_file()]


@pytest.mark.parametrize("magic", [b"RIFF", b"RF64", b"BW64"])
@pytest.mark.parametrize("cut", [1, 2, 7, 10_000])
def test_the_file_is_written_as_it_was_sent(cache: Cache, magic: bytes, cut: int) -> None:
    sent = magic + wav(600)[4:] + b"\r\n--\r\n--C"  # looks like a boundary for a while
    whole = body(part(FILE, sent))
    form = form_in(cache)
    for start in range(0, len(whole), cut):
        form.feed(whole[start : start + cut])
    form.finish()
    (path,) = files(cache)
    assert path.name == "input"
    assert path.read_bytes() == sent
    assert (form.file_name, form.recording.size_bytes) == ("a.wav", len(sent))


@pytest.mark.parametrize(
    ("sent", "error", "told"),
    [
        (body(), InvalidRequest, "'file' is missing"),
        (body(part('form-data; name="other"', b"x")), InvalidRequest, "unknown field 'other'"),
        (body(part(FILE, wav()), part(FILE, wav())), InvalidRequest, "once only"),
        (body(part(FILE, wav()), part('form-data; name="s3"', b"x")), InvalidRequest, "unknown field 's3'"),
        (body(part(FILE, wav()), part('form-data; name="priority"', b"soon")), InvalidRequest, "priority"),
        (body(part(FILE, wav()), part('form-data; name="language"', b"German")), InvalidRequest, "language"),
        (body(part(FILE, wav()), part('form-data; name="max_topics"', b"0")), InvalidRequest, "max_topics"),
        (body(part(FILE, wav()), part('form-data; name="max_topics"', b"101")), InvalidRequest, "max_topics"),
        (body(part(FILE, wav()), part('form-data; name="diarize"', b"maybe")), InvalidRequest, "diarize"),
        (body(part(FILE, wav()), part('form-data; name="topics"', b"2")), InvalidRequest, "topics"),
        (body(part(FILE, wav()), part('form-data; name="engine"', b"mine")), InvalidRequest, "none may be"),
        (body(part("form-data", b"x")), BadRequest, "names its field"),
        (body(part('attachment; name="file"', b"x")), BadRequest, "names its field"),
        (part(FILE, wav()), BadRequest, "closing boundary"),
        (b"", BadRequest, "closing boundary"),
        (b"not multipart at all", BadRequest, "malformed"),
        (b"--B\r\n\xff\xff: x\r\n\r\n", BadRequest, "malformed"),
        (body(part(FILE, b"")), EmptyRecording, "empty"),
        (body(part(FILE, b"RIFF")), NotWav, "RIFF"),
        (body(part(FILE, b"ID3" + bytes(100))), NotWav, "RIFF"),
        (body(part(FILE, b"RIFF\0\0\0\0AVI " + bytes(100))), NotWav, "RIFF"),
        (body(part(FILE, wav(LIMIT_BYTES + 1))), TooLarge, "1000 bytes"),
    ],
)
def test_what_is_refused(cache: Cache, sent: bytes, error: type[ServiceError], told: str) -> None:
    form = form_in(cache)

    def take() -> None:
        form.feed(sent)
        form.finish()

    with pytest.raises(error, match=told):
        take()
    form.recording.discard()
    assert not list(cache.jobs.iterdir() if cache.jobs.exists() else [])


def test_options_are_read_and_what_is_left_empty_counts_as_left_out(cache: Cache) -> None:
    texts = {
        "language": b"de",
        "max_topics": b" 3 ",
        "diarize": b"false",
        "topics": b"",
        "engine": b"whisper",
    }
    parts = [part(f'form-data; name="{name}"', text) for name, text in texts.items()]
    recording = RecordingFile(cache, cache.folder(new_task_id()), LIMIT_BYTES)
    form = RecordingForm(b"B", recording, ["simulated", "whisper"])
    form.feed(body(*parts, part(FILE, wav())))
    form.finish()
    asked = JobOptions(language="de", max_topics=3, diarize=False, engine="whisper")
    assert form.request.options == asked
    assert form.request.priority is Priority.NORMAL


def test_an_engine_that_is_not_offered_is_refused_with_those_that_are(cache: Cache) -> None:
    with pytest.raises(InvalidRequest, match="'mine'; offered: simulated, whisper"):
        job_request({"engine": "mine"}, ["simulated", "whisper"])


def test_a_wrong_upload_never_touches_the_disk(cache: Cache) -> None:
    with pytest.raises(NotWav):
        form_in(cache).feed(part(FILE, b"MZ" + bytes(100)))
    assert not files(cache)


@pytest.mark.parametrize(
    ("content_type", "error"),
    [
        ("", NotMultipart),
        ("audio/wav", NotMultipart),
        ("multipart/mixed; boundary=B", NotMultipart),
        ("multipart/form-data", BadRequest),
        ('multipart/form-data; boundary=""', BadRequest),
    ],
)
def test_a_content_type_without_a_boundary(content_type: str, error: type[ServiceError]) -> None:
    with pytest.raises(error):
        boundary_of(content_type)


def test_a_boundary_longer_than_the_standard_allows_is_malformed(cache: Cache) -> None:
    with pytest.raises(BadRequest):
        RecordingForm(b"B" * 300, RecordingFile(cache, cache.folder(new_task_id()), 1))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("会議 録音.wav", "会議 録音.wav"),
        ("../../etc/passwd", "passwd"),
        ("C:\\calls\\a.wav", "a.wav"),
        ("a\r\nX-Evil: 1.wav", "aX-Evil: 1.wav"),
        ("", ""),
        ("語" * 300, "語" * 255),
    ],
)
def test_the_name_kept(given: str, kept: str) -> None:
    assert clean_name(given) == kept


def test_a_full_disk_is_told_from_other_faults() -> None:
    with pytest.raises(DiskFull), _full_disk_told(), Path("/dev/full").open("wb", buffering=0) as full:
        full.write(b"x")
    with pytest.raises(FileNotFoundError), _full_disk_told():
        Path("/nowhere/at/all").read_bytes()


def test_no_room_above_the_reserve(tmp_path: Path) -> None:
    form = form_in(Cache(tmp_path, min_free_bytes=2**62))
    with pytest.raises(DiskFull):
        form.feed(part(FILE, wav()))
    assert not files(Cache(tmp_path))


def test_a_disk_that_fills_up_under_way(tmp_path: Path) -> None:
    class FillsUp(Cache):
        def require_space(self, extra_bytes: int = 0) -> None:
            Cache(self.root, 2**62 if files(self) else 0).require_space(extra_bytes)

    form = form_in(FillsUp(tmp_path))
    with pytest.raises(DiskFull):
        form.feed(part(FILE, wav()))
    form.recording.discard()
    assert not list((tmp_path / "jobs").iterdir())
