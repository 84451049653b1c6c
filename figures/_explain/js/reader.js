// A text and how far it was read: its tokens, one session over them, and the token that is looked at.

const BREATH = 24;  // milliseconds of work after which the page may answer
const pause = () => new Promise(go => setTimeout(go));

class Reader {
  constructor(nano, text, silent) {
    Object.assign(this, {nano, text: '', ids: [], at: -1, over: 0, busy: false, pace: 0, listeners: [], turn: 0});
    this.session = new Session(nano, silent);
    this.ready = this.set(text);
  }

  // Listeners are told when all is read, those that want it `always` while it is being read as well.
  on(listener, always = false) {
    this.listeners.push({listener, always});
    if (always || !this.busy) listener(this);
  }

  tell() {
    for (const {listener, always} of this.listeners) if (always || !this.busy) listener(this);
  }

  get record() {
    return this.session.records[this.at];
  }

  get logits() {
    return this.record?.logits;
  }

  // The chance that a token was given before it came.
  chance(token) {
    if (token < 1 || token >= this.session.length) return null;
    const {records} = this.session;
    return records[token].chance ??= softmax(records[token - 1].logits)[records[token].id];
  }

  name(token) {
    return quoted(this.nano, this.ids[token]);
  }

  set(text) {
    this.text = text;
    const ids = this.nano.tokenizer.encode(text);
    this.over = Math.max(0, ids.length - this.nano.config.window);
    return this.read(ids.slice(0, this.nano.config.window));
  }

  // What both texts begin with need not be read again: going back is dropping records.
  async read(ids, keep = true, at = ids.length - 1) {
    const turn = ++this.turn, {session} = this;
    let same = 0;
    while (keep && same < session.length && session.records[same].id === ids[same]) same++;
    session.back(same);
    Object.assign(this, {ids, at: session.length - 1, busy: session.length < ids.length});
    let begun = performance.now(), worked = 0;
    const count = ids.length - session.length;
    while (session.length < ids.length) {
      session.read(ids[session.length]);
      if (performance.now() - begun > BREATH) {
        worked += performance.now() - begun;
        this.tell();
        await pause();
        if (turn !== this.turn) return false;
        begun = performance.now();
      }
    }
    if (count > 0) this.pace = (worked + performance.now() - begun) / count;
    Object.assign(this, {busy: false, at: Math.min(at, ids.length - 1)});
    this.tell();
    return true;
  }

  // Everything once more, since what is silent has changed.
  again() {
    return this.read(this.ids, false, this.at);
  }

  go(token) {
    if (this.busy) return;
    this.at = Math.max(0, Math.min(token, this.ids.length - 1));
    this.tell();
  }

  // The likeliest token is added to the text.
  async grow() {
    if (this.busy || !this.ids.length || this.session.full) return false;
    const ids = [...this.ids, largest(this.session.last.logits)];
    this.text = this.nano.tokenizer.decode(ids);
    return this.read(ids);
  }
}
