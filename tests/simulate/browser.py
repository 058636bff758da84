"""A page as a real browser shows it: what is cut off, covered, hard to read, or fetched from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"
#: a stall of the machine is no fault of the page
_PATIENCE_MS = 180_000

#: What is cut off or covered, in words: folded parts are unfolded before, what scrolls by itself is left out.
_CUT_OFF = """() => {
  document.querySelectorAll("details").forEach(one => one.open = true);
  const faults = [], root = document.documentElement, slack = 0.6;
  if (root.scrollWidth > root.clientWidth) faults.push(`page: ${root.scrollWidth} > ${root.clientWidth}`);
  const told = one => `${one.tagName} ${one.textContent.trim().slice(0, 30)}`;
  for (const one of document.body ? document.body.querySelectorAll("*") : []) {
    if (one.closest(".scroll table, .unseen, svg *")) continue;
    const box = one.getBoundingClientRect();
    if (box.left < -slack || box.right > root.clientWidth + slack)
      faults.push(`${told(one)}: outside the page`);
    const hides = getComputedStyle(one).overflowX != "visible" && !one.matches(".scroll");
    if (hides && one.scrollWidth > one.clientWidth) faults.push(`${told(one)}: hides a part`);
  }
  for (const svg of document.querySelectorAll("svg")) {
    const frame = svg.getBoundingClientRect(), texts = [...svg.querySelectorAll("text")];
    const boxes = texts.map(text => text.getBoundingClientRect());
    const bars = [...svg.querySelectorAll("rect")].map(bar => bar.getBoundingClientRect());
    const meet = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > slack
      && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4;
    texts.forEach((text, at) => {
      const box = boxes[at];
      if (box.left < frame.left - slack || box.right > frame.right + slack
          || box.top < frame.top - slack || box.bottom > frame.bottom + slack)
        faults.push(`${told(text)}: outside its picture`);
      if (boxes.some((other, index) => index > at && meet(box, other))) faults.push(`${told(text)}: covered`);
      if (bars.some(bar => meet(box, bar))) faults.push(`${told(text)}: on a bar`);
    });
  }
  return faults;
}"""

#: The lowest contrast with its background, and whose it is: of texts (WCAG 2.2, 1.4.3) or of what is drawn
#: (1.4.11) but for the grid, which only helps the eye.
_CONTRAST = """(kind) => {
  const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  const ground = one => {
    for (; one; one = one.parentElement) {
      const colour = numbers(getComputedStyle(one).backgroundColor);
      if (colour.length < 4 || colour[3] == 1) return colour;
    }
    throw new Error("no background");
  };
  let worst = [99, "nothing"];
  const speaks = one => !one.closest("title, desc, style")
    && [...one.childNodes].some(node => node.nodeType == 3 && node.data.trim());
  const texts = () => [...document.querySelectorAll("body *, svg text")].filter(speaks)
    .map(one => [one, getComputedStyle(one)[one.tagName == "text" ? "fill" : "color"]]);
  const shapes = () => [...document.querySelectorAll("svg rect, svg .mark, svg .axis, svg path")]
    .map(one => [one, getComputedStyle(one)[one.tagName == "rect" ? "fill" : "stroke"]]);
  for (const [one, colour] of kind == "texts" ? texts() : shapes()) {
    const [a, b] = [light(numbers(colour)), light(ground(one))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst[0]) worst = [ratio, `${one.tagName} ${one.textContent.slice(0, 30)}`];
  }
  return worst;
}"""


@dataclass
class Shown:
    """A page that is open, and what the browser said and fetched on the way."""

    page: Page
    said: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)

    def cut_off(self) -> list[str]:
        found: list[str] = self.page.evaluate(_CUT_OFF)
        return found

    def worst_contrast(self, kind: Literal["texts", "shapes"] = "texts") -> tuple[float, str]:
        ratio, where = self.page.evaluate(_CONTRAST, kind)
        return ratio, where


@contextmanager
def chromium() -> Iterator[Browser]:
    """The distribution's own Chromium; as root it runs without its sandbox or not at all."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], timeout=_PATIENCE_MS
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def shown(browser: Browser, path: Path, *, width: int, **context: Any) -> Iterator[Shown]:
    """Open a file in a window of this width."""
    window = browser.new_context(viewport={"width": width, "height": 900}, **context)
    window.set_default_timeout(_PATIENCE_MS)
    try:
        result = Shown(window.new_page())
        result.page.on("console", lambda message: result.said.append(message.text))
        result.page.on("pageerror", lambda error: result.said.append(str(error)))
        result.page.on("request", lambda request: result.fetched.append(request.url))
        result.page.goto(path.as_uri())
        yield result
    finally:
        window.close()
