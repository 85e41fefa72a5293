"""/download's conditional and partial answers, and HEAD."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ranges import etag_of, is_unchanged, slice_of

if TYPE_CHECKING:
    from tests.gateway.jobs import Jobs
    from tests.support.service import Service

FORMATS = ["json", "md", "srt", "vtt", "txt"]
ETAG = '"abc"'


@pytest.mark.parametrize("fmt", FORMATS)
def test_every_format_has_an_etag_that_spares_the_next_download(
    served: Service, jobs: Jobs, fmt: str
) -> None:
    path = f"/download/{jobs.complete()}?fmt={fmt}"
    whole = served.http.get(path)
    assert (whole.status_code, whole.headers["etag"]) == (200, etag_of(whole.content))
    again = served.http.get(path, headers={"If-None-Match": f'"x", W/{whole.headers["etag"]}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", whole.headers["etag"])
    other = served.http.get(path, headers={"If-None-Match": '"x"'})
    assert (other.status_code, other.content) == (200, whole.content)


@pytest.mark.parametrize("fmt", FORMATS)
def test_head_tells_what_get_would_send(served: Service, jobs: Jobs, fmt: str) -> None:
    path = f"/download/{jobs.complete()}?fmt={fmt}"
    whole, head = served.http.get(path), served.http.head(path, headers={"Range": "bytes=0-1"})
    for name in ("etag", "content-length", "content-type", "content-disposition", "accept-ranges"):
        assert head.headers[name] == whole.headers[name]
    assert (head.status_code, head.content) == (200, b"")
    assert served.http.head("/download/nonsense").status_code == 404


def test_a_download_that_broke_off_goes_on(served: Service, jobs: Jobs) -> None:
    path = f"/download/{jobs.complete()}?fmt=md"
    whole = served.http.get(path)
    size = len(whole.content)
    headers = {"Range": "bytes=10-", "If-Range": whole.headers["etag"]}
    rest = served.http.get(path, headers=headers)
    assert (rest.status_code, rest.content) == (206, whole.content[10:])
    assert rest.headers["content-range"] == f"bytes 10-{size - 1}/{size}"
    assert rest.headers["etag"] == whole.headers["etag"]
    changed = served.http.get(path, headers={**headers, "If-Range": '"older"'})
    assert (changed.status_code, changed.content) == (200, whole.content)


def test_a_range_behind_the_end(served: Service, jobs: Jobs) -> None:
    path = f"/download/{jobs.complete()}"
    size = len(served.http.get(path).content)
    refused = served.http.get(path, headers={"Range": f"bytes={size}-"})
    assert (refused.status_code, refused.json()["code"]) == (416, "range_not_satisfiable")
    assert refused.headers["content-range"] == f"bytes */{size}"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", (206, 0, 1)),
        ("bytes=0-99", (206, 0, 10)),
        ("bytes=9-", (206, 9, 10)),
        ("bytes=-3", (206, 7, 10)),
        ("bytes=-99", (206, 0, 10)),
        ("Bytes= 2-4 ", (206, 2, 5)),
        ("bytes=10-", (416, 0, 0)),
        ("bytes=10-11", (416, 0, 0)),
        ("bytes=-0", (416, 0, 0)),
        *(
            (text, (200, 0, 10))
            for text in ("", "bytes=", "bytes=-", "bytes=5-2", "bytes=0-1,3-4", "lines=0-1")
        ),
        *(
            (text, (200, 0, 10))
            for text in ("bytes=a-b", "bytes=0-1;", "bytes=²-3", "0-1", "bytes=1-" + "9" * 99)
        ),
    ],
)
def test_ranges(header: str, expected: tuple[int, int, int]) -> None:
    found = slice_of(header, "", ETAG, 10)
    assert (found.status, found.begin, found.end) == expected


@given(st.binary(max_size=50), st.integers(0, 60), st.integers(0, 60))
def test_a_range_is_what_a_slice_is(content: bytes, first: int, last: int) -> None:
    found = slice_of(f"bytes={first}-{last}", "", ETAG, len(content))
    part = content[found.begin : found.end]
    if found.status == 206:
        assert part == content[first : last + 1]
        assert part
        assert found.content_range(len(content)) == f"bytes {first}-{first + len(part) - 1}/{len(content)}"
    else:
        assert (found.status == 416) == (first <= last and first >= len(content))


@pytest.mark.parametrize(
    ("header", "unchanged"),
    [("", False), (ETAG, True), ('W/"abc"', True), ("*", True), ('"x","abc"', True), ('"abcd"', False)],
)
def test_if_none_match(header: str, unchanged: bool) -> None:
    assert is_unchanged(header, ETAG) == unchanged
