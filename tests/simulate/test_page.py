"""The page of a simulation in a real browser: light, dark, narrow, wide, with and without JavaScript."""

from __future__ import annotations

import re
import xml.dom.minidom
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from e2e.cluster import eventually
from playwright.sync_api import Browser

from trscaler_gen.render import render_figure, render_page
from trscaler_gen.simulate.picture import figure_of, page_of

from .browser import chromium, shown
from .samples import SAMPLES, four, hostile, many

WIDTHS = (400, 1400)
SCHEMES = ("light", "dark")
#: WCAG 2.2, 1.4.3: text of normal size; 1.4.11: what is drawn
LEAST_CONTRAST = 4.5
LEAST_OF_SHAPES = 3.0


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as one:
        yield one


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every sample's page and picture."""
    made = tmp_path_factory.mktemp("pages")
    for name, sample in SAMPLES.items():
        (made / f"{name}.html").write_bytes(render_page(page_of(sample())))
        (made / f"{name}.svg").write_bytes(render_figure(figure_of(sample())))
    return made


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", SAMPLES)
def test_nothing_is_cut_off_hard_to_read_or_fetched(
    browser: Browser, folder: Path, name: str, width: int, scheme: str
) -> None:
    path = folder / f"{name}.html"
    with shown(browser, path, width=width, color_scheme=scheme) as seen:
        assert seen.cut_off() == []
        ratio, where = seen.worst_contrast()
        assert ratio >= LEAST_CONTRAST, where
        assert seen.worst_contrast("shapes")[0] >= LEAST_OF_SHAPES
        assert seen.said == []
        assert seen.fetched == [path.as_uri()]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", SAMPLES)
def test_a_picture_alone_is_whole(browser: Browser, folder: Path, name: str, scheme: str) -> None:
    path = folder / f"{name}.svg"
    with shown(browser, path, width=1400, color_scheme=scheme) as seen:
        assert seen.cut_off() == []
        assert seen.worst_contrast()[0] >= LEAST_CONTRAST
        assert (seen.said, seen.fetched) == ([], [path.as_uri()])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_dark_is_dark(browser: Browser, folder: Path, scheme: str) -> None:
    with shown(browser, folder / "four.html", width=1400, color_scheme=scheme) as seen:
        ground = seen.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    brightness = sum(map(int, re.findall(r"\d+", ground)[:3]))
    assert (brightness > 700) if scheme == "light" else (brightness < 100)


# --- twins: the checks can fail --------------------------------------------------------------------


def altered(tmp_path: Path, old: str, new: str, content: bytes) -> Path:
    text = content.decode()
    assert old in text
    path = tmp_path / "altered.html"
    path.write_text(text.replace(old, new))
    return path


def test_an_overlong_word_is_broken_by_a_rule(browser: Browser, tmp_path: Path) -> None:
    content = render_page(page_of(replace(four(), traffic="x" * 300)))
    rule = "overflow-wrap: anywhere"
    for new, is_whole in ((rule, True), ("", False)):
        with shown(browser, altered(tmp_path, rule, new, content), width=400) as seen:
            assert (seen.cut_off() == []) == is_whole


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("svg { color: var(--ink); font: 12px", "svg { color: var(--ink); font: 19px", "outside its picture"),
        ("svg .quiet { fill: var(--quiet); font-size: 11px", "svg .quiet { font-size: 40px", "covered"),
        ("svg .quiet { fill: var(--quiet)", "svg .quiet { transform: translateY(-40px)", "on a bar"),
        (".lead { ", ".lead { overflow: hidden; white-space: nowrap; ", "hides a part"),
        ("main>", "main style='width: 500px'>", "outside the page"),
    ],
)
def test_what_is_cut_off_is_seen(browser: Browser, tmp_path: Path, old: str, new: str, fault: str) -> None:
    with shown(browser, altered(tmp_path, old, new, render_page(page_of(many()))), width=400) as seen:
        assert any(fault in one for one in seen.cut_off())


def test_pale_text_is_seen(browser: Browser, tmp_path: Path) -> None:
    path = altered(tmp_path, "--quiet: #59626b", "--quiet: #9aa4ae", render_page(page_of(four())))
    with shown(browser, path, width=1400, color_scheme="light") as seen:
        assert seen.worst_contrast()[0] < LEAST_CONTRAST


def test_a_request_is_seen(browser: Browser, tmp_path: Path) -> None:
    """Even then the page's own policy refuses it."""
    picture = "<img src='http://192.0.2.1/x.png'>"
    path = altered(tmp_path, "<main>", f"<main>{picture}", render_page(page_of(four())))
    with shown(browser, path, width=1400) as seen:
        assert any("Content Security Policy" in said for said in seen.said)


# --- for everybody ---------------------------------------------------------------------------------


def test_without_javascript_it_is_the_same(browser: Browser, folder: Path) -> None:
    pictures = []
    for enabled in (True, False):
        with shown(browser, folder / "four.html", width=1000, java_script_enabled=enabled) as seen:
            seen.page.get_by_text("Numbers").first.click()
            assert seen.page.get_by_role("cell", name="20.0 %").first.is_visible()
            pictures.append(seen.page.screenshot(full_page=True))
    assert pictures[0] == pictures[1]
    assert b"<script" not in (folder / "four.html").read_bytes()


def test_it_is_told_to_those_who_cannot_see(browser: Browser, folder: Path) -> None:
    with shown(browser, folder / "four.html", width=1400) as seen:
        page = seen.page
        assert page.evaluate("document.documentElement.lang") == "en"
        assert page.get_by_role("main").count() == page.get_by_role("banner").count() == 1
        levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1])")
        assert levels[0] == 1 and all(after - before <= 1 for before, after in pairwise(levels))
        charts = page.get_by_role("img")
        assert page.get_by_role("img", name="bytes, n2 down").count() == 1
        assert charts.count() == page.locator(".panels svg").count()
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map(one => one.id)")
        assert len(ids) == len(set(ids))
        wanted = page.evaluate(
            "[...document.querySelectorAll('[aria-labelledby]')]"
            ".flatMap(one => one.getAttribute('aria-labelledby').split(' '))"
        )
        assert set(wanted) <= set(ids)


def test_tables_hold_what_charts_show(browser: Browser, folder: Path) -> None:
    with shown(browser, folder / "four.html", width=1400) as seen:
        for section in seen.page.locator("section:has(.panels)").all():
            cells = " ".join(section.locator("td, th").all_text_contents())
            for text in section.locator(".panels text:not(.quiet):not(.heading)").all_text_contents():
                assert all(word in cells for word in re.findall(r"[\d.]+ %|down", text)), text


def test_the_keyboard_reaches_what_scrolls(browser: Browser, folder: Path) -> None:
    with shown(browser, folder / "many.html", width=400) as seen:
        seen.page.locator("summary").first.press("Enter")
        seen.page.keyboard.press("Tab")
        region = "document.activeElement"
        assert seen.page.evaluate(f"{region}.matches('.scroll[role=region][aria-label]')")
        assert seen.page.evaluate(f"{region}.scrollWidth > {region}.clientWidth")
        seen.page.keyboard.press("ArrowRight")
        # Not the page's own waiting: what the page forbids itself, it forbids that too.
        eventually(lambda: seen.page.evaluate(f"{region}.scrollLeft") > 0, "it has scrolled")
        assert seen.page.evaluate(f"getComputedStyle({region}).outlineStyle") == "solid"


def test_paper_shows_what_is_folded(browser: Browser, folder: Path) -> None:
    with shown(browser, folder / "many.html", width=1000, color_scheme="dark") as seen:
        cell = seen.page.locator(".numbers td").first
        assert not cell.is_visible()
        seen.page.emulate_media(media="print")
        assert cell.is_visible()
        ground = seen.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert ground == "rgb(255, 255, 255)"
        assert seen.worst_contrast()[0] >= LEAST_CONTRAST


@pytest.mark.parametrize("name", SAMPLES)
def test_pictures_are_well_formed(folder: Path, name: str) -> None:
    text = (folder / f"{name}.svg").read_text()
    root = xml.dom.minidom.parseString(text).documentElement
    assert root is not None and root.tagName == "svg"
    for tag in ("title", "desc"):
        found = root.getElementsByTagName(tag)
        assert found[0].firstChild is not None
    assert "prefers-color-scheme: dark" in text and "http" not in text.replace(
        "http://www.w3.org/2000/svg", ""
    )


def test_strangers_words_are_text(browser: Browser, folder: Path) -> None:
    with shown(browser, folder / "hostile.html", width=1000) as seen:
        assert seen.page.locator("script, iframe, main style").count() == 0
        assert "<script>alert(1)</script>" in seen.page.get_by_role("heading", level=1).inner_text()
    text = render_page(page_of(hostile())).decode()
    assert "\x1b" not in text and "\u202e" not in text and "49" not in text.split("<h1>")[1].split("</h1>")[0]


def test_same_input_same_bytes() -> None:
    assert render_page(page_of(many())) == render_page(page_of(many()))
