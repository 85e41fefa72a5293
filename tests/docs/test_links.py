"""Every relative link of every page leads somewhere, and every anchor to a heading."""

from __future__ import annotations

import posixpath

import pytest

from tests.docs.pages import ROOT, all_pages, anchors, links

PAGES = all_pages()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    broken = []
    for link in links(page):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page
        if not (ROOT / target).exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen, ahead = set(), ["README.md"]
    while ahead:
        page = ahead.pop()
        seen.add(page)
        targets = {link.partition("#")[0] for link in links(page)}
        joined = {posixpath.normpath(posixpath.join(posixpath.dirname(page), target)) for target in targets}
        ahead += [found for found in joined if found in PAGES and found not in seen]
    # A folder's link shows its pages.
    folders = {page for page in PAGES if page.startswith(("docs/adr/", "loadtest/results/"))}
    assert set(PAGES) == seen | folders
