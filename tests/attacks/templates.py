"""Chat templates that never end, grow, crash or look around, and damaged ones of the family."""

import copy
import functools
import random
import threading
import types

import labkit as lk
from labkit import nano, thinking
from labkit.thinking import templates
from tests.attacks import attack, tried

ASK = [{"role": "user", "content": "why?"}, {"role": "assistant", "content": "so"}, {"role": "user", "content": "and?"}]
FAST = (  # refused at once, or with their memory
    "{{ 'a' * 10**10 }}",
    "{{ 'a' * 10**1{n} }}",
    "{{ 10**(10**1{n}) }}",
    "{{ 'a'|center(10**{n}0) }}",
    "{{ '%1{n}000000000d' % 1 }}",
    "{{ '{:>1{n}00000000}'.format(1) }}",
    "{{ 'a'.ljust(10**1{n}) }}",
    "{{ lipsum(n=10**{n}, max=10**9) }}",
    "{{ (1).to_bytes(10**1{n}, 'big') }}",
    "{% for i in range(10**{n}00) %}a{% endfor %}",
    "{% set ns = namespace(x='a') %}{% for i in range(9{n}) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x='a') %}{% for i in range(9{n}) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(9{n}) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{% set ns = namespace(x=()) %}{% for i in range(99999) %}{% set ns.x = (ns.x,) %}{% endfor %}{{ {ns.x: {n}} }}",
    "{% macro m(n) %}{{ m(n + {n}) }}{% endmacro %}{{ m(0) }}",
    "{% for i in [[1]] recursive %}{{ loop([[{n}]]) }}{% endfor %}",
    "{{ ''.__class__.__mro__[{n}].__subclasses__() }}",
    "{{ messages.append({n}) }}",
    "{{ messages.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os.popen('touch {n}') }}",
    "{{ raise_exception('no {n}') }}",
    "{% include 'file{n}' %}",
    "{% import '/etc/passwd' as p{n} %}",
    "{{ {n} / 0 }}",
    "{{ x.y.z.{n} }}",
    "{% for %}{n}",
    "{{ " + "(" * 3000 + "{n}" + ")" * 3000 + " }}",
    "{{ " + "-" * 30_000 + "{n} }}",
    "{{ 1" + " + 1" * 30_000 + " }}{n}",
    "{% if 1 %}" * 300 + "{n}",
    "{n}" * 2_000_000,
)
SLOW = (  # ended by the clock
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}{n}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{{ i }}{% endfor %}{% endfor %}{n}",
    "{% macro a() %}{n}{% endmacro %}"
    + "{{ a() }}" * 0
    + "{% macro b(d) %}{% if d %}{{ b(d-1) }}{{ b(d-1) }}{% endif %}"
    "{% endmacro %}{{ b(60) }}",
    "{% set ns = namespace(x={n}3) %}{% for i in range(99) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "{% set ns = namespace(x=[]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x|length }}"
    "{{ ns.x|string|length + {n} }}",
    "{% set ns = namespace(x=()) %}{% for i in range(60) %}{% set ns.x = (ns.x, ns.x) %}{% endfor %}{{ {ns.x: {n}} }}",
)
RIGHT = {  # harmless, with the prompt that they give
    "{{ 'a' * 10**{n} }}": lambda n: "a" * 10**n,
    "{{ 10**10**{n} }}": lambda n: str((10**10) ** n),
    "{{ 'a' * {n}0 }}": lambda n: "a" * (10 * n),
    "{% for i in range({n}000) %}a{% endfor %}": lambda n: "a" * (1000 * n),
    "{% for m in messages %}{{ m.content|trim }}{{ {n} }}{% endfor %}": lambda n: "".join(
        m["content"] + str(n) for m in ASK
    ),
}


@functools.cache
def tokenizer():
    """nano's, for templates to be put into."""
    return copy.deepcopy(lk.load("nano").tokenizer)


def with_template(text):
    """A tokenizer with this template."""
    made = copy.copy(tokenizer())
    made.chat_template = text
    return made


def in_thread(call):
    """`call()` in another thread, where no signal arrives; its result, or what it raised."""
    kept = []

    def run():
        try:
            kept.append(("is", call()))
        except BaseException as error:
            kept.append(("raised", error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    (how, what), *_ = kept
    if how == "raised":
        raise what
    return what


@attack("templates: hostile", short=10, long=200)
def hostile(tries, seed, folder):
    """Templates that would take all time or memory; the clock is set to half a second."""
    usual, templates.SECONDS = templates.SECONDS, 0.5
    try:
        for i in range(tries):
            draw = random.Random(seed * 1_000_003 + i)
            n = draw.randrange(1, 9)
            kind = "slow" if i % 20 == 19 else "right" if i % 20 in (4, 11) else "fast"
            text = draw.choice({"slow": SLOW, "right": tuple(RIGHT), "fast": FAST}[kind])
            whole = text.replace("{n}", str(n))
            expected = RIGHT[text](n) if kind == "right" else None
            call = functools.partial(
                draw.choice((thinking.rendered, thinking.rendered, about)), ASK, with_template(whole)
            )
            what = f"try {i}: {whole[:200]}"
            yield tried(
                functools.partial(in_thread, call) if i % 3 else call, lambda r, e=expected: r == e, what, seconds=8
            )
    finally:
        templates.SECONDS = usual


def about(messages, tokenizer):
    """The variant is asked for first, as `thinking.spans` does; a template of none gives its prompt all the same."""
    try:
        thinking.variant_of(tokenizer)
    except lk.errors.InputError as error:
        if "follows none" not in str(error):
            raise
    return thinking.rendered(messages, tokenizer)


@attack("templates: damaged", short=60, long=800)
def damaged(tries, seed, folder):
    """The family's template with pieces cut, doubled and changed: the prompt is that of transformers, or none is."""
    family = (nano.FOLDER / "chat_template.jinja").read_text("utf-8")
    for i in range(tries):
        draw = random.Random(seed * 1_000_003 + i)
        text = family
        for _ in range(draw.choice((1, 1, 2))):
            at, long = draw.randrange(len(text)), draw.choice((1, 3, 30, 300))
            text = (
                text[:at]
                + draw.choice(("", text[at : at + long] * 2, draw.choice("{}%'\"|-+~ \n")))
                + text[at + long :]
            )
        changed = with_template(text)
        options = draw.choice(({}, {"preserve": True}, {"enable_thinking": False}))

        def right(prompt, changed=changed, options=types.MappingProxyType(options)):
            given = {"preserve_thinking": True} if "preserve" in options else dict(options)
            return prompt == changed.apply_chat_template(ASK, tokenize=False, add_generation_prompt=True, **given)

        call = functools.partial(thinking.rendered, ASK, changed, **options)
        yield tried(call, right, f"try {i}: {text[:3000]}")
