// Chapter: a fact that is replaced, and what is answered when one token was not allowed to write.

const OVERWRITES = [' fox red. whale blue. fox green. crow black. fox', ' fox red. whale blue. fox green. fox',
  ' lion gold. bear pink. lion teal. wolf gray. lion'];
const MOST = 40;  // tokens up to which each of them is tried

// A session over the same tokens in which some of them write nothing; what came before them is not read again.
const silenced = (reader, tokens, layers) => {
  const first = Math.min(...tokens), silent = (token, layer) => tokens.has(token) && layers.has(layer);
  const session = reader.session.fork(first, silent);
  for (const id of reader.ids.slice(first)) session.read(id);
  return session;
};

// What is answered before and after, in words; nothing is said that these two rows of chances do not show.
const outcome = (reader, before, after, tokens, where) => {
  const {nano} = reader, [old, now] = [largest(before), largest(after)];
  const names = listed([...tokens].sort((a, b) => a - b).map(token => reader.name(token)));
  const begin = `With every token writing, nano answers ${quoted(nano, old)} (${percent(before[old])}).`;
  if (!tokens.size) return begin;
  const done = `With the write at ${names} switched off in ${where}`;
  if (old === now) return `${begin} ${done} it still does (${percent(after[old])}).`;
  const said = reader.ids.slice(0, Math.min(...tokens)).includes(now) ? ', which the text had said before' : '';
  return `${begin} ${done} it answers ${quoted(nano, now)} (${percent(after[now])})${said}.`;
};

const overwriteChapter = (stage, nano, data) => {
  const reader = new Reader(nano, OVERWRITES[0]), every = layersOf(nano, 'deltanet');
  const off = new Set(), said = sentence();
  const first = guesses(nano, 'Answer with every write', 3), second = guesses(nano, 'Answer with some switched off', 3);
  let layers = new Set(every), left = [], turn = 0, text = null;
  const where = () => layers.size === every.length ? `all ${every.length} D layers` : `layer ${[...layers]} alone`;
  const scope = choices('Where it is switched off',
    [{name: 'in all D layers'}, ...every.map(layer => ({name: `in layer ${layer}`}))],
    i => {
      layers = new Set(i ? [every[i - 1]] : every);
      show();
      tryEach();
    });
  const toggle = token => {
    if (off.has(token)) off.delete(token);
    else off.add(token);
    show();
  };
  const row = strip(reader, {label: 'Tokens; choose those that write nothing', kind: 'deltanet', pick: toggle,
    pressed: token => off.has(token), level: token => left[token] ?? null,
    note: token => token in left ? percent(left[token]) : ''});
  const show = () => {
    row.show();
    allow(most, left.length && left.length === reader.ids.length);
    allow(none, off.size);
    if (!reader.logits) {
      said.textContent = '';
      first.show(null);
      second.show(null);
      return;
    }
    const last = reader.session.last.logits, after = off.size ? silenced(reader, off, layers).last.logits : last;
    const marks = [largest(last), largest(after)];
    first.show(last, marks);
    second.show(after, marks);
    said.textContent = outcome(reader, softmax(last), softmax(after), off, where());
  };
  // The chance that is left to the answer when one token alone writes nothing, for each token in turn.
  const tryEach = async () => {
    const mine = ++turn;
    left = [];
    show();
    if (!reader.logits || reader.ids.length > MOST) return;
    const answer = largest(reader.session.last.logits);
    for (let token = 0; token < reader.ids.length; token++) {
      const chance = softmax(silenced(reader, new Set([token]), layers).last.logits)[answer];
      await pause();
      if (mine !== turn) return;
      left.push(chance);
      row.show();
    }
    show();
  };
  const most = action('Switch off the one that matters most', () => {
    off.clear();
    off.add(largest(left.map(chance => -chance)));
    show();
  }, {class: 'main'});
  const none = action('Let all write', () => {
    off.clear();
    show();
  });
  const beside = el('div', {}, el('h3', {}, 'With some switched off'), second.root);
  reader.on(() => {
    if (reader.text === text) show();
    else {
      text = reader.text;
      off.clear();
      tryEach();
    }
  });
  stage.append(layerStrip(nano).root, editor(reader, OVERWRITES), row.root,
    el('p', {class: 'note'}, 'The bar is the chance that is left to the answer when that token alone writes nothing ' +
      `(for texts of up to ${MOST} tokens).`),
    el('div', {class: 'buttons'}, most, none), scope.root, said,
    el('div', {class: 'pair'}, el('div', {}, el('h3', {}, 'With every write'), first.root), beside));
};
