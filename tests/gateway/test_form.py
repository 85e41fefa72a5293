"""Multipart bodies, cut anywhere, whole or broken."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from gateway.bodies import BodyKind, JsonBody, RecordingBody, kind_of
from gateway.errors import InvalidRequest, S3NotConfigured, UnsupportedBody, WebhookNotConfigured
from gateway.form import RecordingForm, boundary_of, clean_name
from gateway.job_request import job_request
from gateway.outputs import NOWHERE, Outputs
from gateway.recording import RecordingFile, _full_disk_told
from tests.gateway.jobs import wav
from worker.cache import Cache
from worker.delivery.bucket import Bucket
from worker.errors import BadRequest, DiskFull, EmptyRecording, ServiceError, TooLarge
from worker.jobs import Priority, new_task_id
from worker.jobs.options import JobOptions
from worker.sources.addresses import AddressPolicy

LIMIT_BYTES = 1000
FILE = 'form-data; name="file"; filename="a.wav"'
URL = 'form-data; name="url"'


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


@pytest.mark.parametrize("kind", [b"RIFF", b"ID3\x04", b"\x00"])
@pytest.mark.parametrize("cut", [1, 2, 7, 10_000])
def test_the_file_is_written_as_it_was_sent(cache: Cache, kind: bytes, cut: int) -> None:
    sent = kind + wav(600)[4:] + b"\r\n--\r\n--C"  # looks like a boundary for a while
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
        (body(part(FILE, wav()), part(URL, b"http://a.example/")), InvalidRequest, "not both"),
        (body(part(URL, b"http://a.example/"), part(FILE, wav())), InvalidRequest, "not both"),
        (body(part(URL, b"x" * 2049)), InvalidRequest, "2048"),
        (body(part(URL, b"x" * 9000)), InvalidRequest, "'url' is too long"),
        (body(part(URL, b"")), InvalidRequest, "or give 'url'"),
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


OUTPUTS = Outputs(Bucket("b", "id", SecretStr("x"), prefix="p" * 400), AddressPolicy())


@pytest.mark.parametrize(
    ("field", "text", "outputs", "error", "told"),
    [
        ("s3_path", "a/b", NOWHERE, S3NotConfigured, "delivers to no bucket"),
        ("webhook_url", "https://a.org", NOWHERE, WebhookNotConfigured, "sends no webhooks"),
        ("s3_path", "../b", OUTPUTS, InvalidRequest, "'s3_path' must not contain the parts . or .."),
        ("s3_path", "x" * 600, OUTPUTS, InvalidRequest, "at most 512"),
        ("s3_path", "ä" * 300, OUTPUTS, InvalidRequest, "than 512 bytes"),
        ("webhook_url", "http://127.0.0.1/", OUTPUTS, InvalidRequest, "'webhook_url' names an address that"),
        ("webhook_url", "https://a.org/" + "x" * 9000, OUTPUTS, InvalidRequest, "too long"),
        ("language", "german", OUTPUTS, InvalidRequest, "'language'"),
    ],
)
def test_what_is_wrong_before_the_recording_is_told_before_it_is_taken(
    cache: Cache, field: str, text: str, outputs: Outputs, error: type[ServiceError], told: str
) -> None:
    recording = RecordingFile(cache, cache.folder(new_task_id()), LIMIT_BYTES)
    form = RecordingForm(b"B", recording, outputs=outputs)
    with pytest.raises(error, match=re.escape(told)):
        form.feed(part(f'form-data; name="{field}"', text.encode()) + part(FILE, wav()))
    assert not files(cache)


def test_outputs_are_judged_in_every_kind_of_body(cache: Cache) -> None:
    recording = RecordingFile(cache, cache.folder(new_task_id()), LIMIT_BYTES)
    with pytest.raises(S3NotConfigured) as refused:
        RecordingBody(recording, [], {"s3_path": "a"})
    assert refused.value.field_errors[0]["loc"] == ["query", "s3_path"]
    assert RecordingBody(recording, [], {"s3_path": "a"}, OUTPUTS).request.s3_path == "a"
    body = JsonBody([], {}, OUTPUTS)
    body.feed(b'{"url": "https://a.org/x", "webhook_url": "http://10.0.0.1/"}')
    with pytest.raises(InvalidRequest, match="'webhook_url' names an address"):
        body.finish()


def test_the_whole_key_counts(cache: Cache) -> None:
    OUTPUTS.check("x" * 512, "https://example.org/in?key=1")
    long = Outputs(Bucket("b", "id", SecretStr("x"), prefix="p" * 512), AddressPolicy())
    with pytest.raises(InvalidRequest, match="1024 bytes"):
        long.check("x" * 512, None)


def test_an_empty_upload_never_touches_the_disk(cache: Cache) -> None:
    form = form_in(cache)
    form.feed(body(part(FILE, b"")))
    with pytest.raises(EmptyRecording):
        form.finish()
    assert not files(cache)


@pytest.mark.parametrize("before", [True, False])
def test_a_file_field_that_was_left_empty_beside_a_url_counts_as_left_out(cache: Cache, before: bool) -> None:
    parts = [part('form-data; name="file"; filename=""', b""), part(URL, b" http://a.example/ ")]
    form = form_in(cache)
    form.feed(body(*(parts if before else reversed(parts))))
    form.finish()
    assert form.request.url == "http://a.example/"
    assert "a.example" not in repr(form.request)
    assert not files(cache)


def test_a_forms_own_field_goes_before_the_querys(cache: Cache) -> None:
    recording = RecordingFile(cache, cache.folder(new_task_id()), LIMIT_BYTES)
    form = RecordingForm(b"B", recording, query={"language": "de", "max_topics": "7"})
    form.feed(body(part('form-data; name="language"', b"fr"), part(FILE, wav())))
    form.finish()
    assert form.request.options == JobOptions(language="fr", max_topics=7)


@pytest.mark.parametrize("content_type", ["multipart/form-data", 'multipart/form-data; boundary=""'])
def test_a_content_type_without_a_boundary(content_type: str) -> None:
    with pytest.raises(BadRequest):
        boundary_of(content_type)


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("multipart/form-data; boundary=B", BodyKind.FORM),
        ("application/json", BodyKind.JSON),
        ("Application/JSON; charset=utf-8", BodyKind.JSON),
        ("audio/mpeg", BodyKind.RECORDING),
        ("Video/MP4", BodyKind.RECORDING),
        ("application/octet-stream", BodyKind.RECORDING),
    ],
)
def test_kinds_of_body_are_told_by_their_content_type(content_type: str, kind: BodyKind) -> None:
    assert kind_of(content_type) is kind


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "multipart/mixed; boundary=B", "application/x-www-form-urlencoded", "audio"],
)
def test_other_kinds_of_body_are_refused_with_those_that_are_taken(content_type: str) -> None:
    with pytest.raises(UnsupportedBody, match="multipart/form-data"):
        kind_of(content_type)


def test_a_recording_as_the_body_is_written_as_it_comes(cache: Cache) -> None:
    recording = RecordingFile(cache, cache.folder(new_task_id()), LIMIT_BYTES)
    taken = RecordingBody(recording, ["whisper"], {"engine": "whisper", "priority": "high"})
    for block in (b"ab", b"", b"cde"):
        taken.feed(block)
    taken.finish()
    (path,) = files(cache)
    assert path.read_bytes() == b"abcde"
    assert (taken.request.engine, taken.request.priority) == ("whisper", Priority.HIGH)
    with pytest.raises(TooLarge):
        taken.feed(bytes(LIMIT_BYTES))


def test_the_query_of_a_recording_is_judged_before_its_first_byte(cache: Cache) -> None:
    recording = RecordingFile(cache, cache.folder(new_task_id()), LIMIT_BYTES)
    with pytest.raises(InvalidRequest) as refusal:
        RecordingBody(recording, [], {"max_topics": "0"})
    assert refusal.value.field_errors[0]["loc"] == ["query", "max_topics"]


def json_body(text: bytes) -> JsonBody:
    taken = JsonBody(["whisper"], {"language": "de", "max_topics": "7"})
    for start in range(0, len(text), 1000):
        taken.feed(text[start : start + 1000])
    taken.finish()
    return taken


def test_json_gives_a_url_and_the_same_options() -> None:
    request = json_body(
        b'{"url": "https://a.example/x", "diarize": false, "max_topics": 3, "engine": "", "topics": null}'
    ).request
    assert request.url == "https://a.example/x"
    assert request.options == JobOptions(language="de", max_topics=3, diarize=False)


@pytest.mark.parametrize(
    ("text", "error", "told"),
    [
        (b"", BadRequest, "not JSON"),
        (b"{", BadRequest, "not JSON"),
        (b"\xff", BadRequest, "not JSON"),
        (b"[" * 60_000, BadRequest, "not JSON"),
        (b'"http://a.example/"', BadRequest, "JSON object"),
        (b"{}", InvalidRequest, "'url' is missing"),
        (b'{"url": ""}', InvalidRequest, "'url' is missing"),
        (b'{"url": 5}', InvalidRequest, "'url': Input should be a valid string"),
        (b'{"url": "x", "url": "y"}', InvalidRequest, "'url' may be given once only"),
        (b'{"url": "x", "diarize": "maybe"}', InvalidRequest, "diarize"),
        (b'{"url": "\\ud800"}', InvalidRequest, "'url'"),
        (b'{"file": "x"}', InvalidRequest, "unknown field 'file'"),
        (b'{"url": "x"}' + b" " * 65_536, TooLarge, "65536"),
    ],
)
def test_json_that_is_refused(text: bytes, error: type[ServiceError], told: str) -> None:
    with pytest.raises(error, match=told):
        json_body(text)


def test_every_unknown_field_is_named_and_none_breaks_the_answer() -> None:
    with pytest.raises(InvalidRequest) as refusal:
        json_body(b'{"url": "x", "speed": 2, "tongue": "de", "\\ud800": 1, "' + b"n" * 500 + b'": 1}')
    named = [error["loc"][1] for error in refusal.value.field_errors]
    assert named == ["speed", "tongue", "?", "n" * 64]
    refusal.value.message.encode()


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
    form.feed(part(FILE, wav()))
    with pytest.raises(DiskFull):
        form.flush()
    form.recording.discard()
    assert not list((tmp_path / "jobs").iterdir())
