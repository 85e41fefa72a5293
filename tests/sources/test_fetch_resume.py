"""What broke off goes on where it ended, and never joins two versions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.sources.fetching import MIB, Fetching
from tests.sources.raw_server import RawServer, Request, answers, hangs, head, says, serves
from worker.errors import Interrupted, SourceIncomplete, SourceRefused, SourceUnavailable
from worker.sources.intake import digest
from worker.sources.resuming import KEEP_EVERY_BYTES, Part, read_note

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

CONTENT = os.urandom(3 * MIB)
OTHER = os.urandom(3 * MIB)
HALF = len(CONTENT) // 2


@pytest.fixture
def job(tmp_path: Path) -> Fetching:
    return Fetching(tmp_path)


def rest(
    first: int, *, last: int | None = None, total: object = len(CONTENT), body: bytes = CONTENT
) -> bytes:
    """A 206 that says what it is told to say."""
    last = len(CONTENT) - 1 if last is None else last
    sent = body[first : last + 1]
    headers = {"Content_Range": f"bytes {first}-{last}/{total}", "ETag": '"v1"'}
    return head(206, Content_Length=len(sent), **headers) + sent


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_broken_connection_goes_on_where_it_ended(job: Fetching, reset: bool) -> None:
    with RawServer([serves(CONTENT, at_most=HALF, reset=reset), serves(CONTENT)]) as server:
        job.run(server.url())
    assert job.target.read_bytes() == CONTENT
    assert job.names == {"input"}
    first, second = server.requests
    assert "range" not in first.headers
    assert 0 < second.first_byte <= HALF
    assert second.headers["if-range"] == '"v1"'


def test_a_recording_comes_in_many_pieces(job: Fetching) -> None:
    """Each brings something, so none counts as a try in vain."""
    with RawServer([serves(CONTENT[: 3 * MIB], at_most=MIB + 1)]) as server:
        job.limit(tries=2).run(server.url())
        assert server.connections == 3
    assert job.target.read_bytes() == CONTENT


def test_the_next_attempt_goes_on(job: Fetching) -> None:
    with RawServer([serves(CONTENT, at_most=HALF), says(b""), serves(CONTENT)]) as server:
        with pytest.raises(SourceUnavailable):
            job.limit(tries=2).run(server.url("/x?token=t0ken"))
        note = (job.folder / "input.part.json").read_text()
        assert json.loads(note)["kept_bytes"] == HALF
        assert "t0ken" not in note
        assert job.names == {"input.part", "input.part.json"}
        fetched = job.run(server.url("/x?token=t0ken"))
        assert server.requests[-1].first_byte == HALF
    assert fetched.resumed_bytes == HALF
    assert job.target.read_bytes() == CONTENT
    assert job.names == {"input"}
    assert job.reports[-1] == (len(CONTENT), len(CONTENT))


def test_the_attempt_after_a_kill_goes_on(job: Fetching) -> None:
    """Killed without warning, it goes on from what it last made durable."""
    content = os.urandom(KEEP_EVERY_BYTES + 4 * MIB)
    with RawServer([stops_short_of(content), serves(content)]) as server:
        code = (
            "import sys, os, signal; from pathlib import Path; "
            "from tests.sources.fetching import Fetching; "
            "job = Fetching(Path(sys.argv[1])).limit(max_bytes=10**9); "
            "part = Path(sys.argv[1]) / 'input.part'; "
            f"job.check = lambda: part.exists() and part.stat().st_size > {KEEP_EVERY_BYTES} "
            "and os.kill(os.getpid(), signal.SIGKILL); "
            "job.run(sys.argv[2])"
        )
        argv = [sys.executable, "-c", code, str(job.folder), server.url()]
        killed = subprocess.run(argv, check=False, timeout=60, capture_output=True, text=True)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert not job.target.exists()
        fetched = job.limit(max_bytes=10**9).run(server.url())
        assert server.requests[-1].first_byte == fetched.resumed_bytes >= KEEP_EVERY_BYTES
    assert job.target.read_bytes() == content


def test_another_source_begins_anew(job: Fetching) -> None:
    with RawServer([serves(CONTENT, at_most=HALF), serves(OTHER)]) as server:
        with pytest.raises(SourceIncomplete):
            job.limit(tries=1).run(server.url("/x?v=1"))
        job.run(server.url("/x?v=2"))
        assert "range" not in server.requests[-1].headers
    assert job.target.read_bytes() == OTHER


def test_another_version_begins_anew(job: Fetching) -> None:
    with RawServer([serves(CONTENT, at_most=HALF), serves(OTHER, etag='"v2"')]) as server:
        job.run(server.url())
        assert server.requests[-1].first_byte > 0
    assert job.target.read_bytes() == OTHER


@pytest.mark.parametrize(
    "validator", [{}, {"ETag": 'W/"v1"'}, {"ETag": "v1"}, {"Last_Modified": "yesterday"}]
)
def test_without_a_strong_validator_it_begins_anew(job: Fetching, validator: dict[str, str]) -> None:
    broken = says(head(200, Content_Length=len(CONTENT), **validator), CONTENT[:HALF])
    with RawServer([broken, answers(200, OTHER, **validator)]) as server:
        job.run(server.url())
        assert "range" not in server.requests[-1].headers
    assert job.target.read_bytes() == OTHER


def test_a_date_well_before_the_answer_validates_as_well(job: Fetching) -> None:
    modified = "Tue, 03 Mar 2020 10:00:00 GMT"
    dates = {"Last_Modified": modified, "Date": "Wed, 04 Mar 2020 10:00:00 GMT"}
    broken = says(head(200, Content_Length=len(CONTENT), **dates), CONTENT[:HALF])
    with RawServer([broken, serves(CONTENT, etag=modified)]) as server:
        job.run(server.url())
        assert server.requests[-1].headers["if-range"] == modified
        assert server.requests[-1].first_byte > 0
    assert job.target.read_bytes() == CONTENT


def test_what_trickles_in_is_made_durable_too(job: Fetching, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Part(job.target, "source")) as part:
        part.begin('"v1"', 10)
        part.write(b"abc")
        assert part.note.kept_bytes == 0
        monkeypatch.setattr("worker.sources.resuming.KEEP_EVERY_S", 0)
        part.write(b"de")
    kept = read_note(job.folder / "input.part.json")
    assert kept is not None
    assert kept.kept_bytes == 5


def stops_short_of(content: bytes) -> Callable[[Request, socket.socket], None]:
    """Send all but the last byte, then nothing."""
    return hangs(head(200, Content_Length=len(content), ETag='"v1"'), content[:-1])


LIES = {
    "from another byte": rest(HALF - 5),
    "from the start": rest(0),
    "of another length": rest(HALF, total=len(CONTENT) + 1),
    "without a length of its own": head(206, Content_Length=3, Content_Range="bytes 5-3/10") + b"abc",
    "without a range": head(206, Content_Length=len(CONTENT) - HALF, ETag='"v1"') + CONTENT[HALF:],
    "in parts": head(206, Content_Length=3, Content_Type="multipart/byteranges; boundary=x") + b"--x",
    "of another version": rest(HALF).replace(b'"v1"', b'"v2"'),
    "past the end": rest(HALF, total=len(CONTENT) - 1),
    "of a range that is none": head(416, Content_Length=0, Content_Range="bytes */5"),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_a_range_that_does_not_fit_is_not_joined(job: Fetching, lie: bytes) -> None:
    with RawServer([serves(CONTENT, at_most=HALF), says(lie), serves(OTHER, etag='"v3"')]) as server:
        job.run(server.url())
        assert "range" not in server.requests[-1].headers
    assert job.target.read_bytes() == OTHER


def test_a_range_that_ends_early_is_gone_on_from(job: Fetching) -> None:
    with RawServer(
        [serves(CONTENT, at_most=HALF), says(rest(HALF, last=HALF + 99)), serves(CONTENT)]
    ) as server:
        job.run(server.url())
        assert server.requests[-1].first_byte == HALF + 100
    assert job.target.read_bytes() == CONTENT


def test_a_range_of_unknown_total_counts_by_what_was_announced(job: Fetching) -> None:
    with RawServer([serves(CONTENT, at_most=HALF), says(rest(HALF, total="*"))]) as server:
        job.run(server.url())
    assert job.target.read_bytes() == CONTENT


def test_a_chunked_recording_learns_its_total_from_the_range(job: Fetching) -> None:
    chunk = f"{len(CONTENT):x}\r\n".encode() + CONTENT[:HALF]
    broken = says(head(200, Transfer_Encoding="chunked", ETag='"v1"') + chunk)
    with RawServer([broken, serves(CONTENT)]) as server:
        job.run(server.url())
        assert server.requests[-1].first_byte > 0
    assert job.target.read_bytes() == CONTENT


def test_more_than_was_announced_is_not_taken(job: Fetching) -> None:
    body = f"{HALF + 9:x}\r\n".encode() + CONTENT[: HALF + 9] + b"\r\n0\r\n\r\n"
    headers = {
        "Content_Range": f"bytes {HALF}-{len(CONTENT) - 1}/{len(CONTENT)}",
        "Transfer_Encoding": "chunked",
    }
    lie = says(head(206, **headers) + body)
    with RawServer([serves(CONTENT, at_most=HALF), lie, serves(OTHER)]) as server:
        job.run(server.url())
        assert "range" not in server.requests[-1].headers
    assert job.target.read_bytes() == OTHER


def test_a_short_body_is_never_the_whole(job: Fetching) -> None:
    with (
        RawServer([serves(CONTENT, at_most=HALF), says(head(500, Content_Length=0))]) as server,
        pytest.raises(SourceUnavailable),
    ):
        job.run(server.url())
    assert not job.target.exists()
    with (
        RawServer([says(head(200, Content_Length=10) + b"abc")]) as server,
        pytest.raises(SourceIncomplete, match="after 3 of 10 bytes"),
    ):
        job.run(server.url("/other"))
    assert not job.target.exists()


def test_a_refusal_in_the_middle_leaves_nothing(job: Fetching) -> None:
    with RawServer([serves(CONTENT, at_most=HALF), answers(403)]) as server, pytest.raises(SourceRefused):
        job.run(server.url())
    assert job.names == set()


def test_a_whole_part_asks_nobody(job: Fetching) -> None:
    """A crash came between the last byte and the file's name."""
    url = "http://talks.example/talk.wav"
    with closing(Part(job.target, digest(url))) as part:
        part.begin('"v1"', 5)
        part.write(b"whole")
        part.keep()
    assert job.run(url).size_bytes == 5
    assert job.target.read_bytes() == b"whole"
    assert job.names == {"input"}


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"source": 1}',
        b'{"source":"x","validator":"","total_bytes":"a"}',
        b"\xff",
    ],
)
def test_a_note_that_makes_no_sense_is_no_note(job: Fetching, note: bytes) -> None:
    (job.folder / "input.part.json").write_bytes(note)
    (job.folder / "input.part").write_bytes(b"rubbish")
    assert read_note(job.folder / "input.part.json") is None
    with RawServer([serves(CONTENT)]) as server:
        job.run(server.url())
        assert "range" not in server.requests[0].headers
    assert job.target.read_bytes() == CONTENT


def test_a_part_shorter_than_its_note_begins_anew(job: Fetching) -> None:
    with RawServer([serves(CONTENT, at_most=HALF), serves(CONTENT)]) as server:
        with pytest.raises(SourceIncomplete):
            job.limit(tries=1).run(server.url())
        os.truncate(job.folder / "input.part", HALF - 1)
        job.run(server.url())
        assert "range" not in server.requests[-1].headers
    assert job.target.read_bytes() == CONTENT


def test_bytes_beyond_the_note_are_written_over(job: Fetching) -> None:
    """A power cut may leave a length whose bytes never came to the disk."""
    with RawServer([serves(CONTENT, at_most=HALF), serves(CONTENT)]) as server:
        with pytest.raises(SourceIncomplete):
            job.limit(tries=1).run(server.url())
        with (job.folder / "input.part").open("ab") as file:
            file.write(bytes(len(CONTENT)))
        job.run(server.url())
    assert job.target.read_bytes() == CONTENT


def test_a_late_attempt_spoils_nothing_of_one_that_began_anew(job: Fetching) -> None:
    with closing(Part(job.target, "source")) as late, closing(Part(job.target, "source")) as fresh:
        late.begin('"v1"', 10)
        late.write(b"old")
        fresh.begin('"v2"', 3)
        fresh.write(b"new")
        late.write(b" rubbish")
        with pytest.raises(Interrupted, match="taken the job over"):
            late.keep()
        with pytest.raises(Interrupted, match="taken the job over"):
            late.finish()
        fresh.finish()
    assert job.target.read_bytes() == b"new"


@pytest.mark.parametrize("late_first", [True, False])
def test_two_attempts_at_one_part_end_in_one_file(job: Fetching, late_first: bool) -> None:
    with closing(Part(job.target, "source")) as late:
        late.begin('"v1"', 9)
        late.write(b"abc")
        late.keep()
        with closing(Part(job.target, "source")) as fresh:
            assert fresh.done_bytes == 3
            late.write(b"defghi")
            fresh.write(b"def")
            if late_first:
                late.finish()
            fresh.write(b"ghi")
            fresh.finish()
            if not late_first:
                late.finish()
    assert job.target.read_bytes() == b"abcdefghi"
    assert job.names == {"input"}


def test_a_cancelled_fetch_can_go_on(job: Fetching) -> None:
    class Stop(BaseException):
        pass

    def stop() -> None:
        note = read_note(job.folder / "input.part.json")
        if note and note.kept_bytes:
            raise Stop

    content = os.urandom(KEEP_EVERY_BYTES + MIB)
    job.check = stop
    with RawServer([stops_short_of(content), serves(content)]) as server:
        with pytest.raises(Stop):
            job.limit(max_bytes=10**9).run(server.url())
        assert not job.target.exists()
        job.check = lambda: None
        fetched = job.limit(max_bytes=10**9).run(server.url())
    assert fetched.resumed_bytes >= KEEP_EVERY_BYTES
    assert job.target.read_bytes() == content
