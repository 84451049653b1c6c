"""A headless Chromium for the tests, and what it measures on a page: text outside its frame, text over other text."""

import os
import shutil

import pytest

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]
WAIT = 120_000
WIDTHS = (1400, 390)

DRAWN = "count => document.querySelectorAll('.js-plotly-plot .main-svg').length >= count"

ALL = "() => [...document.querySelectorAll('.plot')].every(plot => plot.querySelector('.main-svg'))"

# Corners of every text as it stands, turned ones too; letters fill about the middle half of a line's box.
MEASURE = """home => {
  const quads = plot => [...plot.querySelectorAll('svg text')].filter(seen).map(node => {
    const box = node.getBBox(), lines = node.querySelectorAll('tspan.line').length || 1, line = box.height / lines;
    const turn = node.getScreenCTM(), rim = Math.min(box.width / 4, 0.5);
    const ends = [[rim, 0.22 * line], [box.width - rim, 0.22 * line], [box.width - rim, box.height - 0.22 * line],
      [rim, box.height - 0.22 * line]];
    const corners = ends.map(([x, y]) => new DOMPoint(box.x + x, box.y + y).matrixTransform(turn));
    return {text: node.textContent, corners: corners.map(point => [point.x, point.y])};
  });
  const seen = node => {
    if (!node.textContent.trim() || node.closest('.hoverlayer, .modebar-container')) return false;
    if (node.textContent === '\\u2212' && !node.closest('.cbaxis')) return false;  // the sign of a cell
    const look = getComputedStyle(node), box = node.getBoundingClientRect();
    return look.visibility !== 'hidden' && look.display !== 'none' && +look.opacity > 0.01 && +look.fillOpacity > 0.01
      && !/rgba\\(.*, 0\\)/.test(look.fill) && box.width > 0 && box.height > 0;
  };
  const apart = (a, b) => [[a, b], [b, a]].some(([one, other]) => one.corners.some((from, i) => {
    const to = one.corners[(i + 1) % 4], [nx, ny] = [to[1] - from[1], from[0] - to[0]];
    const along = quad => quad.corners.map(([x, y]) => x * nx + y * ny);
    return Math.min(...along(other)) >= Math.max(...along(one)) || Math.max(...along(other)) <= Math.min(...along(one));
  }));
  const found = [];
  for (const plot of document.querySelectorAll(home + ' .js-plotly-plot')) {
    const frame = plot.getBoundingClientRect(), texts = quads(plot), name = plot.id;
    const out = ([x, y]) => x < frame.left - 1 || x > frame.right + 1 || y < frame.top - 1 || y > frame.bottom + 1;
    for (const one of texts) if (one.corners.some(out)) found.push(`${name}: outside its frame: ${one.text}`);
    texts.forEach((one, i) => texts.slice(i + 1).forEach(other => {
      if (!apart(one, other)) found.push(`${name}: over each other: ${one.text} | ${other.text}`);
    }));
  }
  for (const node of document.querySelectorAll('h1, h2, p, td, pre, figcaption, .js-plotly-plot')) {
    const box = node.getBoundingClientRect();
    if (node.closest('pre')) continue;  // scrolls by itself
    const cut = box.width && (box.left < -1 || box.right > innerWidth + 1);
    if (cut) found.push(`cut by the window: ${node.textContent}`);
    if (node.scrollWidth > node.clientWidth + 1 && !node.matches('.js-plotly-plot')) {
      found.push(`wider than its place: ${node.textContent}`);
    }
  }
  return found.map(line => line.slice(0, 200));
}"""

# Of a page without figures: texts outside the window or their block, over each other, and too faint on what lies below.
PLAIN = """least => {
  const found = [], texts = [], seen = node => node.checkVisibility({visibilityProperty: true, opacityProperty: true});
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walk.nextNode(); node; node = walk.nextNode()) {
    const home = node.parentElement;
    if (!node.data.trim() || !seen(home) || home.closest('script, style, noscript, .skip, textarea')) continue;
    let block = home;
    while (getComputedStyle(block).display === 'inline') block = block.parentElement;
    const range = document.createRange();
    range.selectNodeContents(node);
    let clip = null;
    for (let up = block; up; up = up.parentElement) {
      if (/auto|scroll/.test(getComputedStyle(up).overflowY) && up !== document.documentElement) clip = up;
    }
    const frame = clip && clip.getBoundingClientRect();
    for (const {left, top, right, bottom, width, height} of range.getClientRects()) {
      const box = [left, top + 0.22 * height, right, bottom - 0.22 * height];
      if (width && !(frame && (box[1] < frame.top || box[3] > frame.bottom))) texts.push({node, home, block, box});
    }
  }
  const say = (what, ...nodes) => {
    found.push(`${what}: ${nodes.map(node => node.data.trim()).join(' | ')}`.slice(0, 200));
  };
  for (const {node, block, box} of texts) {
    const frame = block.getBoundingClientRect(), wide = document.documentElement.clientWidth;
    if (box[0] < -1 || box[2] > wide + 1) say('cut by the window', node);
    if (box[0] < frame.left - 1 || box[2] > frame.right + 1 || box[1] < frame.top - 1 || box[3] > frame.bottom + 1) {
      if (!(block instanceof SVGElement)) say('outside its frame', node);
    }
  }
  texts.forEach((a, i) => texts.slice(i + 1).forEach(b => {
    const across = Math.min(a.box[2], b.box[2]) - Math.max(a.box[0], b.box[0]);
    const down = Math.min(a.box[3], b.box[3]) - Math.max(a.box[1], b.box[1]);
    if (a.node !== b.node && across > 1 && down > 1) say('over each other', a.node, b.node);
  }));
  if (document.documentElement.scrollWidth > innerWidth + 1) found.push('the page is wider than the window');
  const parts = colour => {
    const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const light = colour => {
    const [r, g, b] = colour.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const over = (top, low) => [0, 1, 2].map(i => top[3] * top[i] + (1 - top[3]) * low[i]);
  const ground = node => {
    if (!node) return [255, 255, 255];
    const own = parts(getComputedStyle(node).backgroundColor);
    return own[3] === 1 ? own : over(own, ground(node.parentElement));
  };
  for (const {node, home} of texts) {
    const low = ground(home), look = getComputedStyle(home), ink = home instanceof SVGElement ? look.fill : look.color;
    const [a, b] = [light(over(parts(ink), low)), light(low)].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < least) say(`contrast ${((a + 0.05) / (b + 0.05)).toFixed(2)}`, node);
  }
  return [...new Set(found)];
}"""


@pytest.fixture(scope="session")
def browser():
    """Chromium, driven by playwright. Without it the tests are skipped; under CI they fail."""
    from figures._shots import BROWSERS

    try:
        from playwright import sync_api
    except ImportError:
        without("playwright is not installed")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        without(f"no browser on the path: {', '.join(BROWSERS)}")
    with sync_api.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=path, args=FLAGS)
        yield started
        started.close()


def without(reason):
    """No browser: a skip here, a failure under CI."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no browser test: {reason}")


@pytest.fixture
def page(browser):
    """A fresh page that remembers every address it asked for and every complaint it made."""
    made = watched(browser)
    yield made
    made.close()


def watched(browser):
    """A new page that remembers, as `page`; whoever asked for it closes it."""
    made = browser.new_page(viewport={"width": 1280, "height": 1800})
    made.set_default_timeout(WAIT)
    made.asked, made.complaints = [], []
    made.on("request", lambda request: made.asked.append(request.url))
    made.on("websocket", lambda socket: made.asked.append(socket.url))
    made.on("pageerror", lambda error: made.complaints.append(str(error)))
    made.on("console", lambda note: made.complaints.append(note.text) if note.type == "error" else None)
    made.on("dialog", lambda dialog: (made.complaints.append(f"dialog {dialog.message}"), dialog.dismiss()))
    return made


def unreadable(page, path, width, *, home="body"):
    """What cannot be read on a page at this width, one line each: text outside its frame, over other text, or cut.

    Args:
        path: of the HTML file. home: selector of the part that is measured.
    """
    page.set_viewport_size({"width": width, "height": 1000})
    page.goto(path.as_uri())
    page.wait_for_function(ALL)
    page.wait_for_timeout(300)  # legends and margins settle
    return page.evaluate(MEASURE, home)
