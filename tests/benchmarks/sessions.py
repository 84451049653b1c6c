"""The reuse ledger: long sessions of an agent, in time and memory."""

from tests.benchmarks.tools import fresh, peak, seconds

SIZES = dict(calls=14, thinking=200, answer=120, result=400, question=40)


def long_session():
    """Replay of 230 calls and 20 million prompt tokens. Goal: under a minute and 2 GB; rendering and encoding count."""
    facts = fresh("sessions.replayed", 14, 3)
    return facts | {"under_a_minute": facts.pop("seconds") < 60}


def compared_session():
    """The same under two policies and eight schemes, with the cause of every divergence. Goal: under a minute, 2 GB."""
    facts = fresh("sessions.compared", 14, 3)
    return facts | {"under_a_minute": facts.pop("seconds") < 60}


def shared_tree():
    """Eight schemes kept in one tree / each in a tree of its own, calls rendered already. Goal: below a third."""
    return fresh("sessions.together", 14, 3)


def session_growth():
    """Time per prompt token of a session of 1,000 calls / of one of 230. Goal: linear in the tokens, about 1."""
    short, long = fresh("sessions.replayed", 14, 3), fresh("sessions.replayed", 65, 3)
    per = [facts["seconds"] / facts["prompt_tokens"] for facts in (short, long)]
    sizes = {name: [short[name], long[name]] for name in ("calls", "prompt_tokens", "peak_MiB")}
    return dict(ratio=per[1] / per[0]) | sizes


# ------------------------------------------------------------------------------- measured in processes of their own


def drawn(turns, seed):
    from labkit import reuse

    tokenizer = reuse.small_tokenizer()
    reuse.replay(reuse.drawn(0), tokenizer=tokenizer)
    return reuse, reuse.drawn(seed, turns=turns, **SIZES), tokenizer


def replayed(turns, seed):
    reuse, messages, tokenizer = drawn(turns, seed)
    ledgers, took = [], []
    call = lambda: ledgers.append(reuse.replay(messages, policy="preserve", tokenizer=tokenizer, progress=True))  # noqa: E731
    high = peak(lambda: took.append(seconds(call)))
    facts = dict(calls=ledgers[0].sizes["call"], prompt_tokens=int(ledgers[0].prompt.sum()))
    return facts | dict(seconds=took[0], peak_MiB=high / 2**20)


def compared(turns, seed):
    reuse, messages, tokenizer = drawn(turns, seed)
    took = []
    high = peak(lambda: took.append(seconds(lambda: reuse.compare(messages, tokenizer, progress=True))))
    return dict(seconds=took[0], peak_MiB=high / 2**20)


def together(turns, seed):
    reuse, messages, tokenizer = drawn(turns, seed)
    calls = list(reuse.calls(messages, tokenizer))
    schemes = ("live", "end", "prompt_end", "before_think", "last_user", "end+before_think", "branch", "every 784")

    def one_tree():
        ledgers = reuse.shared_by(*(reuse.Ledger(snapshots=scheme) for scheme in schemes))
        for call in calls:
            reuse.ledger.add(ledgers, call)

    def own_trees():
        for scheme in schemes:
            ledger = reuse.Ledger(snapshots=scheme)
            for call in calls:
                ledger.add(call)

    one_tree()
    rounds = [(seconds(one_tree), seconds(own_trees)) for _ in range(5)]
    ratios = sorted(one / own for one, own in rounds)
    return dict(ratio=ratios[2], lowest=ratios[0], highest=ratios[-1], calls=len(calls))


QUESTIONS = (long_session, compared_session, shared_tree, session_growth)
