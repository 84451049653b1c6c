"""The explorer in a real JupyterLab: clicks, keys, a restart, an interrupt, in the dark; and how fast it is."""

import json
import pathlib
import statistics
import sys

import pytest
from serving import CELLS, IDLE, run_all, served
from test_browser import made, outside

import labkit as lk

pytestmark = pytest.mark.browser

TOKENS = 512
FACTS = " fox red. whale blue. crow green. lion gold. fox white. bear black. fox"
HOSTILE = "<script>document.title = 'hacked'</script><img src=x onerror=alert(1)> a & b </pre> \u202e fox"
LONG = f"""import labkit as lk
lab = lk.load()
ids = lab.encode({FACTS!r} * 40)[:{TOKENS}]
panel = lab.explore(lab.tokenizer.decode(ids), name="long")
panel"""
SMALL = f"import labkit as lk\nmine = lk.load()\nmine.explore({FACTS!r})"
SLOW = f"""import time, labkit as lk
lab = lk.load()
panel = lab.explore({FACTS!r}, name=None)
panel.explorer.told = lambda done, of: (time.sleep(0.3), panel._tell(done, of))
panel"""
LOOKS = f"import labkit as lk\nlk.load().explore({FACTS!r}, name=None)"
MARKUP = f"import labkit as lk\nlk.load().explore({HOSTILE!r}, name='markup')"
KINDS = f"""import sys
sys.path.append({str(pathlib.Path(__file__).parent)!r})
import siblings, tiny
tiny.make_lab(siblings.kimi()).explore([5, 6, 7, 8], name=None)"""
ALONE = """kinds = ["full_attention", "full_attention", "linear_attention"]
tiny.make_lab(tiny.model(num_hidden_layers=3, layer_types=kinds)).explore([5, 6, 7], name=None)"""
NOTEBOOKS = {
    "kinds": made([KINDS, ALONE]),
    "long": made([LONG]),
    "small": made([SMALL]),
    "slow": made([SLOW]),
    "markup": made([MARKUP]),
    "looks": made([LOOKS]),
}


@pytest.fixture(scope="module")
def lab_server(tmp_path_factory):
    with served(tmp_path_factory.mktemp("explore"), NOTEBOOKS) as place:
        yield place


@pytest.fixture
def opened(page, lab_server):
    """Opens a notebook, runs it, and waits for the first view; afterwards the page has asked nobody else."""
    address, token = lab_server

    def open_it(name):
        run_all(page, address, token, f"{name}.ipynb")
        page.wait_for_selector(".lk-explore [data-card=deltanet] :is(svg, canvas[tabindex])")
        return page.locator(".lk-explore")

    yield open_it
    assert outside(page, f"{address}/", address.replace("http", "ws") + "/") == []
    assert [text for text in page.complaints if "status of 404" not in text] == []


# From a click to what it shows, in the page's own clock.
TIMED = """([selector, index]) => new Promise(done => {
  const root = document.querySelector('.lk-explore'), before = root.dataset.number, start = performance.now();
  const seen = new MutationObserver(() => {
    if (root.dataset.number === before) return;
    seen.disconnect();
    requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - start)));
  });
  seen.observe(root, { attributes: true, attributeFilter: ['data-number'] });
  root.querySelectorAll(selector)[index].click();
})"""

CLICKS = [
    ("[data-group=layers] button", 4),
    ("[data-group=tokens] button", 30),
    ("[data-group=deltanet-heads] button", 3),
    ("[data-group=attention-heads] button", 9),
    ("[data-group=deltanet-views] button", 1),
    ("[data-group=deltanet-views] button", 2),
    ("[data-group=deltanet-views] button", 3),
    ("[data-group=attention-views] button", 1),
    ("[data-group=attention-views] button", 2),
    ("[data-group=stream-views] button", 1),
    ("[data-toggle]", 0),
    ("[data-group=shows] button", 2),
    ("[data-group=layers] button", 7),
    ("[data-group=tokens] button", 80),
    ("[data-group=stream-views] button", 0),
    ("[data-group=layers] button", 1),
]


def test_first_view_and_clicks_on_512_tokens(opened, page, capsys):
    panel = opened("long")
    assert panel.locator(".lk-name", has_text="of 512").count() == 1
    first = [page.evaluate(TIMED, [".lk-run", 0]) for _ in range(3)]
    times = {f"{selector} {index}": page.evaluate(TIMED, [selector, index]) for selector, index in CLICKS}
    assert panel.locator(".lk-problem").all_text_contents() == [""] * panel.locator(".lk-problem").count()
    median = statistics.median(times.values())
    slowest = max(times, key=times.get)
    with capsys.disabled():
        sys.stdout.write(
            f"\nexplorer, nano, {TOKENS} tokens: run to first view {min(first):.0f} to {max(first):.0f} ms, a click "
            f"{median:.0f} ms median of {len(times)}, most {times[slowest]:.0f} ms ({slowest})\n"
        )
    assert median < 10_000 and max(first) < 60_000  # hangs alone: machines differ


def settled(page):
    page.wait_for_function("() => !document.querySelector('.lk-explore[aria-busy]')")


def state(page):
    """What is chosen, as the page shows it."""
    return page.evaluate("""() => [...document.querySelectorAll('.lk-explore :is([aria-checked=true],'
      + '[aria-selected=true], [data-toggle][aria-pressed=true])')].filter(node => node.offsetWidth).map(node =>
      (node.closest('[data-group]')?.dataset.group ?? 'edit') + ' ' + node.textContent)""")


def test_clicks_keys_code_and_a_restart(opened, page):
    panel = opened("small")
    assert panel.locator("[data-group=layers] button").all_text_contents() == "D0 D1 D2 A3 D4 D5 D6 A7".split()
    panel.get_by_role("radio", name="layer 4, Gated DeltaNet").click()
    settled(page)
    # one stop of the tab key for a group, arrows inside
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    settled(page)
    assert "layers D6" in state(page)
    assert page.evaluate("() => document.activeElement.getAttribute('aria-label')") == "layer 6, Gated DeltaNet"
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.closest('[data-group]').dataset.group") == "tokens"
    for key in ("Home", "ArrowRight", "ArrowLeft", "ArrowLeft", "ArrowRight"):
        page.keyboard.press(key)
    settled(page)
    assert "tokens  red" in state(page)
    look = page.evaluate(
        "() => { const s = getComputedStyle(document.activeElement); return [s.outlineStyle, s.outlineWidth]; }"
    )
    assert look == ["solid", "2px"]
    assert page.evaluate("() => window.jupyterapp.shell.currentWidget.content.activeCellIndex") == 0
    for key in ("d", "d", "a", "x"):  # keys that would delete or add cells
        page.keyboard.press(key)
    assert len(page.evaluate(CELLS)) == 1
    panel.locator("[data-group=tokens] button").nth(18).click()
    panel.locator("[data-group=deltanet-views] button", has_text="its state").click()
    settled(page)
    panel.locator("[data-toggle]", has_text="head 0 never writes").first.click()
    settled(page)
    panel.get_by_role("radio", name="difference").click()
    settled(page)
    assert panel.locator(".lk-two > div").count() == 2
    card = panel.locator("[data-card=deltanet]")
    card.get_by_role("button", name="show me the code").click()
    code = card.locator("pre").text_content()
    assert "mine.edit(lk.deltanet.never_write(layer=6, heads=0))" in code
    space = {"mine": lk.load("nano")}
    exec(code, space)
    assert space["ds"].state.shape == (1, 24, 32)
    canvas = card.locator("canvas[tabindex]")
    canvas.focus()
    page.keyboard.press("ArrowDown")
    assert "channel of the key" in card.locator(".lk-read").text_content()
    before = state(page)
    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.restartKernel().then(() => true)")
    page.wait_for_function(IDLE)
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
    page.wait_for_selector(".lk-explore [data-card=deltanet] canvas[tabindex]")
    settled(page)
    assert state(page) == before
    assert {text.split()[0] for text in before} >= {"layers", "tokens", "shows", "edit", "deltanet-views"}


def test_a_run_is_interrupted_and_the_panel_goes_on(opened, page):
    """Twice: from the second click on, the kernel answers on a thread that no signal reaches."""
    panel = opened("slow")
    for prompt in (" bear black. crow", " fox red. whale blue"):
        panel.locator("textarea").fill(prompt)
        panel.get_by_role("button", name="Run", exact=True).click()
        page.wait_for_function("() => /layer [2-6] of 8/.test(document.querySelector('.lk-told').textContent)")
        page.evaluate("() => window.jupyterapp.commands.execute('notebook:interrupt-kernel')")
        page.wait_for_function("() => /Interrupted/.test(document.querySelector('.lk-problem').textContent)")
        assert "19 tokens" in panel.text_content()
        assert panel.locator("textarea").input_value() == prompt, "what was typed stays"
        panel.locator("[data-group=tokens] button").nth(5).click()
        page.wait_for_function(
            "() => document.querySelectorAll('[data-group=tokens] button')[5].ariaChecked === 'true'"
        )
        settled(page)
        assert panel.locator(".lk-problem").first.text_content() == ""


def test_hostile_tokens_are_inert(opened, page):
    panel = opened("markup")
    for card in ("deltanet", "attention", "stream"):
        for tab in panel.locator(f"[data-card={card}] [role=tab]").all():
            tab.click()
            settled(page)
    for button in panel.get_by_role("button", name="show me the code").all():
        button.click()
    assert page.title() != "hacked" and panel.locator("script, img").count() == 0
    assert "<script>" in panel.locator("textarea").input_value()
    shown = panel.locator(".lk-tokens").text_content()
    assert "<script>" in shown and "\u202e" not in shown


def test_cards_without_a_map_or_without_a_layer_say_so(opened, page):
    opened("kinds")
    page.wait_for_function("() => document.querySelectorAll('.lk-explore .lk-two table').length === 2")
    latent, alone = page.locator(".lk-explore").all()
    card = latent.locator("[data-card=attention]")
    assert card.locator("h4").text_content() == "Layer 2: latent attention"
    assert "no map to show" in card.text_content() and card.locator("svg rect").count() >= 6
    card.get_by_role("tab", name="over the tokens").click()
    page.wait_for_selector(".lk-explore [data-card=attention] svg path")
    card = alone.locator("[data-card=deltanet]")
    assert card.locator("h4").text_content() == "No layer: Gated DeltaNet"
    assert "This block has no Gated DeltaNet layer" in card.inner_text()
    assert card.locator(":is(button, canvas, svg):visible").count() == 0
    alone.get_by_role("radio", name="layer 2, Gated DeltaNet").click()
    card.get_by_role("tab", name="its state").wait_for()
    assert "This block has no attention layer" in alone.locator("[data-card=attention]").inner_text()
    assert latent.locator(".lk-problem").all_text_contents() == [""] * latent.locator(".lk-problem").count()


# Texts whose contrast with the ground behind them is below 4.5.
FAINT = """() => {
  const channels = colour => (colour.match(/[\\d.]+/g) ?? []).map(Number);
  const over = (top, under) => { const a = top[3] ?? 1; return [0, 1, 2].map(i => top[i] * a + under[i] * (1 - a)); };
  const light = rgb => rgb.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = node => {
    const stack = [];
    for (let at = node; at; at = at.parentElement) stack.unshift(channels(getComputedStyle(at).backgroundColor));
    return stack.filter(each => each.length >= 3).reduce((under, top) => over(top, under), [255, 255, 255]);
  };
  const found = [];
  for (const node of document.querySelectorAll('.lk-explore *')) {
    const own = [...node.childNodes].some(child => child.nodeType === 3 && child.textContent.trim());
    if (!own || !node.getClientRects().length || node.closest('button:disabled')) continue;
    const style = getComputedStyle(node), under = ground(node);
    const ink = over(channels(node instanceof SVGElement ? style.fill : style.color), under);
    const [a, b] = [light(ink), light(under)];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) found.push(`${contrast.toFixed(2)} ${node.className} ${node.textContent.slice(0, 30)}`);
  }
  return found;
}"""

WIDE = """() => [...document.querySelectorAll('.lk-explore, .lk-explore .lk-card, .lk-explore .lk-row')]
  .filter(node => node.scrollWidth > node.clientWidth + 1).map(node => node.className)"""


@pytest.mark.parametrize(("theme", "width"), [("Light", 1400), ("Dark", 700), ("Dark", 390)])
def test_texts_are_legible_and_whole(opened, page, theme, width):
    page.set_viewport_size({"width": width, "height": 1400})
    panel = opened("looks")
    page.evaluate(f"() => window.jupyterapp.commands.execute('apputils:change-theme', {{theme: 'JupyterLab {theme}'}})")
    page.wait_for_function(
        f"() => document.body.dataset.jpThemeLight === '{json.dumps(theme == 'Light')}'"
        f" && document.querySelector('.lk-explore').classList.contains('dark') === {json.dumps(theme == 'Dark')}"
    )
    page.evaluate("() => { window.found = [] }")
    for button in panel.get_by_role("button", name="show me the code").all():
        button.click()
    for tab in panel.locator("[data-card=deltanet] [role=tab], [data-card=attention] [role=tab]").all():
        tab.click()
        settled(page)
        assert (page.evaluate(FAINT), page.evaluate(WIDE)) == ([], [])
    page.evaluate("() => window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Light'})")
