"""The page that explains nano, as somebody meets it: by keyboard, on a phone, in the dark, with hostile text."""

import re
import shutil

import pytest
from browsing import PLAIN, WIDTHS, watched

import figures
from figures import _explain
from figures.__main__ import main
from labkit import attention, deltanet

ROOM = 300  # lines of a file
CHAPTERS = ("guess", "layers", "state", "gate", "look", "overwrite", "thinking", "play")
HOSTILE = [
    "<script>document.title = 'taken'</script>",
    "<img src=x onerror=\"document.title = 'taken'\">",
    "</textarea><b>bold</b>&amp;&lt;",
    "\u202ereversed\u202c \u200b\x07 \u2066x",
    "{{style}} ${alert(1)} <think> <|im_end|>",
]
FOCUS = """() => {
  const node = document.activeElement, look = getComputedStyle(node), box = node.getBoundingClientRect();
  return {role: node.getAttribute('role') ?? node.tagName, name: node.getAttribute('aria-label') ?? node.textContent,
    last: node.matches('.ways a.main'), ring: look.outlineStyle !== 'none' && parseFloat(look.outlineWidth) >= 2,
    seen: box.bottom > 0 && box.top < innerHeight && box.width > 0, heading: node.closest('section')?.id ?? ''};
}"""

MOVING = """() => [...document.querySelectorAll('*')].filter(
  node => getComputedStyle(node).transitionDuration !== '0s').length"""
INJECT = """() => {
  const script = document.createElement('script');
  script.textContent = 'window.ran = 1';
  document.body.append(script);
}"""


@pytest.fixture(scope="module")
def nano():
    import labkit

    return labkit.load("nano")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    made = tmp_path_factory.mktemp("explain") / "explain.html"
    _explain.write(made)
    return made


@pytest.fixture
def book(browser, path):
    """The page at its first chapter; it may not complain or ask for anything."""
    made = watched(browser)
    made.set_viewport_size({"width": 1280, "height": 900})
    made.goto(path.as_uri())
    made.wait_for_selector("#guess[data-ready]")
    yield made
    assert made.complaints == [] and {url.partition("#")[0] for url in made.asked} == {path.as_uri()}
    made.close()


def turn_to(book, name):
    book.evaluate("name => { location.hash = name; }", name)
    book.wait_for_selector(f"#{name}[data-ready]:not([hidden])")
    if name == "overwrite":  # every token was tried
        book.wait_for_selector("#overwrite .buttons .main[aria-disabled=false]")
    return book.locator(f"#{name}")


def typed(book, chapter, text):
    chapter.locator("textarea").fill(text)
    book.wait_for_function(
        "node => !/^Reading/.test(node.textContent)", arg=chapter.locator(".editor .note").element_handle()
    )


def said(chapter):
    return chapter.locator(".said[role=status]").last.text_content().replace("\u00a0", " ")


# by keyboard ----------------------------------------

KEYS = {"option": "ArrowLeft", "radio": "ArrowRight", "INPUT": "ArrowLeft", "img": "ArrowDown"}


@pytest.mark.browser
def test_every_chapter_is_gone_through_by_keyboard(book):
    met = {}
    for number, name in enumerate(CHAPTERS):
        assert book.locator(f"#{name} .stage > *").count() > 2
        roles = met.setdefault(name, [])
        while True:
            book.keyboard.press("Tab")
            now = book.evaluate(FOCUS)
            assert now["ring"] and now["seen"], now
            roles.append(now["role"])
            assert len(roles) < 60
            if now["last"] or (number == len(CHAPTERS) - 1 and now["role"] == "A" and "←" in now["name"]):
                break
            if now["role"] in KEYS:
                book.keyboard.press(KEYS[now["role"]])
                assert book.evaluate(FOCUS)["role"] == now["role"]
            elif now["role"] in ("BUTTON", "SUMMARY"):
                book.keyboard.press("Enter")
        if number + 1 < len(CHAPTERS):
            book.keyboard.press("Enter")
            following = CHAPTERS[number + 1]
            book.wait_for_selector(f"#{following}[data-ready]:not([hidden])")
            now = book.evaluate(FOCUS)
            assert (now["role"], now["heading"]) == ("H2", following)
            assert book.locator("#chapters [aria-current]").text_content().startswith(str(number + 2))
    assert {"TEXTAREA", "option", "INPUT", "BUTTON"} <= set(met["guess"])
    assert {"radio", "img", "SUMMARY"} <= set(met["state"])


@pytest.mark.browser
def test_arrow_keys_walk_over_tokens_and_home_and_end_reach_the_ends(book):
    chosen = lambda: book.locator("#guess .token[aria-selected=true] .word").all_text_contents()  # noqa: E731
    assert chosen() == ["·fox"]
    book.locator("#guess .token[aria-selected=true]").focus()
    for key, now in (
        ("ArrowLeft", "."),
        ("ArrowLeft", "·blue"),
        ("Home", "·fox"),
        ("ArrowRight", "·red"),
        ("End", "·fox"),
    ):
        book.keyboard.press(key)
        assert chosen() == [now]
        assert book.evaluate("() => document.activeElement.getAttribute('aria-selected')") == "true"


# to be read ----------------------------------------


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_every_chapter_can_be_read(book, width, scheme):
    """Text inside its frame, apart from other text, and of a contrast of 4.5 at least."""
    book.set_viewport_size({"width": width, "height": 900})
    book.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    for name in CHAPTERS:
        chapter = turn_to(book, name)
        if name == "overwrite":
            chapter.locator(".buttons .main").click()
            assert chapter.locator(".token.struck").count() == 1
        for summary in chapter.locator("summary").all():
            summary.click()
        assert book.evaluate(PLAIN, 4.5) == [], name
        assert book.evaluate(MOVING) == 0


@pytest.mark.browser
@pytest.mark.parametrize("width", WIDTHS)
def test_any_text_stays_in_its_frame(book, width):
    book.set_viewport_size({"width": width, "height": 900})
    chapter = turn_to(book, "play")
    for text in ("a" * 90, "unbelievably-long-words-" * 4 + "日本語" * 8, "\n\n \t" * 5, "👩‍👩‍👧‍👦" * 3, ""):
        typed(book, chapter, text)
        assert book.evaluate(PLAIN, 4.5) == [], text[:20]


SPOILED = {
    "cut by the window": "p.style.whiteSpace = 'nowrap'",
    "over each other": "p.style.marginTop = '-3em'",
    "contrast": "p.style.color = '#999'",
    "outside its frame": "p.style.height = '1em'; p.style.overflow = 'hidden'",
}


@pytest.mark.browser
@pytest.mark.parametrize("what", SPOILED)
def test_what_cannot_be_read_is_found(book, what):
    spoil = SPOILED[what]
    book.evaluate(f"() => {{ const p = document.querySelector('#guess p:nth-of-type(2)'); {spoil}; }}")
    assert any(line.startswith(what) for line in book.evaluate(PLAIN, 4.5))


# hostile text ----------------------------------------


@pytest.mark.browser
@pytest.mark.parametrize("name", ["guess", "overwrite", "play"])
def test_what_is_typed_is_shown_and_inert(book, name):
    chapter, title = turn_to(book, name), book.title()
    nodes = "() => document.querySelectorAll('script, img, style, iframe, textarea b').length"
    before = book.evaluate(nodes)
    for text in HOSTILE:
        typed(book, chapter, text)
        shown = "".join(chapter.locator(".token .word").all_text_contents())
        plain = re.sub(r"\\u\{(\w+)\}|\\x(\w\w)", lambda m: chr(int(m[1], 16)) if m[1] else "?", shown).replace(
            "·", " "
        )
        assert plain == text or "?" in plain
        assert (
            re.search("[\u202a-\u202e\u2066-\u2069\u200b\x00-\x1f]", chapter.text_content().replace("\n", "")) is None
        )
        assert book.evaluate(nodes) == before and book.title() == title


@pytest.mark.browser
def test_the_policy_lets_nothing_in_or_out(browser, path):
    book = watched(browser)
    book.goto(path.as_uri())
    book.wait_for_selector("#guess[data-ready]")
    refused = "url => fetch(url).then(() => 'went', () => 'refused')"
    assert book.evaluate(refused, "http://127.0.0.1:9/x") == "refused"
    book.evaluate(INJECT)
    assert book.evaluate("() => window.ran") is None and book.complaints
    book.close()


# what it says ----------------------------------------


@pytest.mark.browser
def test_the_likeliest_token_is_added_as_the_model_says(book, nano):
    text = " the fox is red. the whale is blue. the fox is"
    chapter = turn_to(book, "guess")
    typed(book, chapter, text)
    for _ in range(3):
        chapter.locator(".stepper .main").click()
    book.wait_for_function("() => document.querySelectorAll('#guess .token').length === 16")
    run = nano.generate(text, max_new_tokens=3)
    assert chapter.locator("textarea").input_value() == text + run.generated
    chances = nano.trace(text).logits[-1].softmax(-1)
    chapter.locator(".token").nth(12).click()
    word, more, share = re.search(r"“·(\w+)” the likeliest: (>?) ?([\d.]+) %", said(chapter)).groups()
    assert word == nano.tokenizer.decode(chances.argmax()).strip()
    assert float(share) == pytest.approx(100 * float(chances.max()), abs=0.6) and (not more or chances.max() > 0.999)


@pytest.mark.browser
def test_states_and_gates_are_told_as_the_lab_reads_them(book, nano):
    run = nano.trace(" fox red. whale blue. fox")
    sentence = said(turn_to(book, "state"))
    head, layer, size = re.search(r"head (\d+) in layer (\d+) has size ([\d.]+)", sentence).groups()
    ds = deltanet.memory(run, layer=int(layer), heads=int(head), tokens=None).isel(head=0)
    assert float(size) == pytest.approx(float(ds.state_norm[-1]), abs=0.006)
    sentence = said(turn_to(book, "gate"))
    head, layer, keep = re.search(r"head (\d+) of layer (\d+) keeps ([\d.]+) %", sentence).groups()
    ds = deltanet.memory(run, layer=int(layer), heads=int(head), tokens=None).isel(head=0)
    assert float(keep) == pytest.approx(100 * float(ds.keep[-1]), abs=0.6)
    low = int(ds.keep.values[1:].argmin()) + 1
    assert f"closes most at “{run.tokens[low]}”" in sentence
    sentence = said(turn_to(book, "look"))
    head, layer, word, back, share = re.search(
        r"head (\d+) of layer (\d+) looks mostly back at “·(\w+)”, (\d+) tokens? earlier \(([\d.]+) %\)", sentence
    ).groups()
    row = attention.pattern(run, layer=int(layer), heads=int(head), rows=-1).weight.values.ravel()
    assert len(run) - 1 - int(back) == row.argmax() and run.tokens[row.argmax()] == f" {word}"
    assert float(share) == pytest.approx(100 * row.max(), abs=0.6)


@pytest.mark.browser
@pytest.mark.parametrize("layer", [None, 4])
def test_an_overwritten_memory_answers_as_under_the_lab_s_edit(book, nano, layer):
    import contextlib

    text = " fox red. whale blue. fox green. crow black. fox"
    chapter = turn_to(book, "overwrite")
    assert chapter.locator("textarea").input_value() == text
    if layer is not None:
        chapter.get_by_role("radio", name=f"in layer {layer}").click()
        book.wait_for_selector("#overwrite .buttons .main[aria-disabled=false]")
    chapter.locator(".buttons .main").click()
    off = [i for i, node in enumerate(chapter.locator(".token").all()) if "struck" in node.get_attribute("class")]
    answer, left = int(nano.trace(text).logits[-1].argmax()), []
    layers = nano.spec.deltanet_layers if layer is None else [layer]
    for token in range(len(nano.trace(text))):
        with contextlib.ExitStack() as scope:
            for each in layers:
                scope.enter_context(nano.edit(deltanet.never_write(layer=each, tokens=[token])))
            left.append(nano.trace(text).logits[-1].softmax(-1))
    assert off == [min(range(len(left)), key=lambda token: float(left[token][answer]))]
    after = left[off[0]]
    sentence, words = said(chapter), [nano.tokenizer.decode(i).strip() for i in (answer, int(after.argmax()))]
    assert f"nano answers “·{words[0]}”" in sentence
    if words[0] == words[1]:
        assert "it still does" in sentence
    else:
        assert (
            f"it answers “·{words[1]}” ({100 * float(after.max()):.0f} %), which the text had said before." in sentence
        )
    assert (layer is None) == (words == ["green", "red"])
    chapter.get_by_role("button", name="Let all write").click()
    assert "switched off in" not in said(chapter)


@pytest.mark.browser
def test_a_button_that_can_do_nothing_says_so_and_does_nothing(book):
    chapter = turn_to(book, "overwrite")
    typed(book, chapter, " fox red." * 16)  # too long for every token to be tried
    button = chapter.locator(".buttons .main")
    assert button.get_attribute("aria-disabled") == "true"
    button.focus()
    book.keyboard.press("Enter")
    assert chapter.locator(".token").count() == 48 and chapter.locator(".token.struck").count() == 0
    assert book.evaluate(FOCUS)["name"] == "Switch off the one that matters most"


@pytest.mark.browser
def test_dropped_thinking_is_computed_again_as_the_library_counts_it(book, nano):
    from labkit import thinking
    from labkit.nano import chat

    chapter, messages = (
        turn_to(book, "thinking"),
        [
            chat.user("pick a colour for the fox."),
            chat.reply("the fox is red.", "noted."),
            chat.user("the whale is blue."),
            chat.reply("noted.", "noted."),
            chat.user("what colour is the fox?"),
        ],
    )
    for name, preserve in (("kept", True), ("dropped", False)):
        block = chapter.locator(f"[data-name={name}]")
        prompt = thinking.spans(messages, nano.tokenizer, preserve=preserve)
        assert block.locator(".bit:not(.gone)").count() == len(prompt.ids)
        assert nano.tokenizer.decode(prompt.ids).count("<think>") == (3 if preserve else 1)
        written = nano.generate(nano.tokenizer.decode(prompt.ids), max_new_tokens=24).generated
        thought, answer = (part.strip().removesuffix("<|im_end|>") for part in written.split("</think>"))
        assert f"nano thinks “{thought}” and answers “{answer}”" in block.text_content()
        before = thinking.spans(messages[:3], nano.tokenizer, preserve=preserve).ids
        cached = [*before, *nano.tokenizer("noted.\n</think>\n\nnoted.<|im_end|>")["input_ids"]]
        parted = thinking.divergence(cached, prompt, nano.tokenizer)
        used = parted.position if preserve else 0
        assert (parted.cause == "none") is preserve
        assert block.locator(".bit.used").count() == used and block.locator(".bit.lost").count() == (
            parted.position - used
        )
        assert f"{len(prompt.ids) - used} of {len(prompt.ids)} tokens are computed" in block.text_content()
    assert "red" in chapter.locator("[data-name=kept] .note").first.text_content()
    assert "nowhere in the text any more" in chapter.locator("[data-name=dropped]").text_content()
    chapter.get_by_role("radio", name="also before every thinking").click()
    block = chapter.locator("[data-name=dropped]")
    assert block.locator(".bit.used").count() == parted.position and block.locator(".bit.lost").count() == 0
    assert "of reading the whole prompt from its start, to the last bit" in block.text_content()
    assert "wrong by up to" in block.text_content()


@pytest.mark.browser
def test_a_long_text_is_read_up_to_the_window_and_can_be_left_in_the_middle(book, nano):
    chapter = turn_to(book, "play")
    chapter.locator("textarea").fill(" fox red." * 300)
    book.wait_for_function("() => /^Reading/.test(document.querySelector('#play .editor .note').textContent)")
    typed(book, chapter, " fox red." * 200)
    assert (
        f"the last {600 - nano.spec.window} tokens of this one are left out"
        in chapter.locator(".editor .note").text_content()
    )
    assert chapter.locator(".token").count() == nano.spec.window
    assert chapter.locator(".stepper .main").get_attribute("aria-disabled") == "true"
    typed(book, chapter, " fox red. fox")
    assert "“·fox”" in said(chapter) and chapter.locator(".token").count() == 4
    assert "milliseconds to read a token" in chapter.text_content()


# the builder ----------------------------------------


def test_the_page_is_written_when_what_it_is_made_of_changed(path, tmp_path, monkeypatch):
    before = path.read_bytes()
    assert not _explain.write(path)
    copy = tmp_path / "_explain"
    shutil.copytree(_explain.HERE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(_explain, "HERE", copy)
    assert not _explain.write(path)
    with open(copy / "style.css", "a", encoding="utf-8") as file:
        file.write("/* more */\n")
    assert _explain.write(path) and not _explain.write(path) and path.read_bytes() != before
    path.write_text("something else")
    assert _explain.write(path) and b"/* more */" in path.read_bytes()
    monkeypatch.undo()
    assert _explain.write(path) and path.read_bytes() == before


def test_the_command_writes_it_alone_and_says_so(tmp_path, capsys):
    def load():
        raise AssertionError("no model is needed")

    words = ["--only", "explain", "--out", str(tmp_path)]
    assert main(words, load=load) == 0
    assert re.search(r"^explain +[\d.]+ s   written$", capsys.readouterr().out)
    assert main(words, load=load) == 0
    assert "unchanged, not written" in capsys.readouterr().out
    assert [each.name for each in tmp_path.iterdir()] == ["explain.html"]


def test_the_gallery_leads_to_it_where_it_lies(tmp_path):
    from figures import _gallery

    for explained in (True, False):
        _gallery.write_gallery(tmp_path / "index.html", [], "facts", explained)
        text = (tmp_path / "index.html").read_text(encoding="utf-8")
        assert ('href="explain.html"' in text) is explained


def test_the_page_asks_for_nothing_and_its_files_stay_small(path):
    text = re.sub(r'(?s)<script type="text/plain" id="weights">.*?</script>', "", path.read_text(encoding="utf-8"))
    assert "default-src 'none'" in text and "unsafe" not in text and str(figures.HERE) not in text
    addresses = set(re.findall(r"https?://[^\s\"'<)]+", text))
    assert addresses == {"http://www.w3.org/2000/svg"}
    assert re.search(r"{{\w*}}|src=|@import|url\(", text) is None
    for file in _explain.HERE.rglob("*.*"):
        if file.suffix in (".py", ".js", ".css", ".html"):
            lines = file.read_text(encoding="utf-8").splitlines()
            assert len(lines) <= ROOM and max(map(len, lines)) <= 120, file
    assert set(_explain.SCRIPTS) == {file.stem for file in (_explain.HERE / "js").iterdir()}
