// Chapter: one conversation as two prompts, with and without its earlier thinking, and what of the cache each can use.

const FATES = {used: 'used again', lost: 'keys and values would fit, states do not',
  again: 'read before, computed again', first: 'new'};
const PLACES = [{name: 'after every answer', think: false}, {name: 'also before every thinking', think: true}];

const shares = (a, b) => {
  let count = 0;
  while (count < Math.min(a.length, b.length) && a[count] === b[count]) count++;
  return count;
};

// Sequences behind which all states were saved, up to the last call but one.
const savedIn = (nano, calls, think) => calls.slice(0, -1).flatMap(({prompt, cached}) => {
  const opening = prompt.lastIndexOf(nano.tokenizer.id('<think>'));
  return think ? [prompt.slice(0, opening), cached] : [cached];
});

// What the last prompt finds: `same` tokens as cached, states saved after the first `restored` of them.
const found = (nano, calls, think) => {
  const {prompt, messages} = calls[calls.length - 1], {cached} = calls[calls.length - 2], same = shares(cached, prompt);
  const fits = savedIn(nano, calls, think).filter(saved => shares(saved, prompt) === saved.length);
  const restored = Math.max(0, ...fits.map(saved => saved.length)), end = nano.tokenizer.id('<|im_end|>');
  let asked = messages.indexOf(Math.max(...messages));  // the line feed behind the last answer was not read either
  while (prompt[asked - 1] !== end) asked--;
  const fate = prompt.map((_, token) => token < restored ? 'used' : token >= asked ? 'first'
    : token < same ? 'lost' : 'again');
  return {prompt, cached, same, restored, fate};
};

// What nano says next, {thought, answer}, each token the likeliest.
const spoken = (nano, session, most = 32) => {
  const ids = [], end = nano.tokenizer.id('<|im_end|>'), talk = session.fork();
  while (ids.length < most && !talk.full) {
    const id = largest(talk.last.logits);
    if (id === end) break;
    ids.push(id);
    talk.read(id);
  }
  const [thought, answer = ''] = nano.tokenizer.decode(ids).split('</think>').map(text => inert(text.trim()));
  return {thought, answer};
};

const apart = (a, b) => a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i])), 0);
const readAll = (session, ids) => { for (const id of ids) session.read(id); return session; };

// The prompt read cold, continued from saved states, and with keys and values cut but states left as they were.
const measured = (nano, {prompt, cached, same, restored}) => {
  const cold = readAll(new Session(nano), prompt), before = readAll(new Session(nano), cached);
  const warm = readAll(before.fork(restored), prompt.slice(restored));
  const facts = {...spoken(nano, cold), error: apart(cold.last.logits, warm.last.logits)};
  if (same === cached.length) return facts;
  const cut = before.fork(same), kinds = nano.config.kinds, end = before.last.layers;
  const mixed = cut.last.layers.map((layer, i) => kinds[i] === 'deltanet' ? end[i] : layer);
  cut.records[same - 1] = {...cut.last, layers: mixed};
  readAll(cut, prompt.slice(same));
  return {...facts, wrong: apart(cold.last.logits, cut.last.logits), said: spoken(nano, cut)};
};

// A prompt as small tokens, each with its fate; `gone` are thinking tokens of the other prompt, shown where they were.
const laid = (nano, {prompt, fate}, whole) => {
  const chip = (id, kind, words) => el('span', {class: `bit ${kind}`, title: words}, shown(nano, id));
  const all = whole.prompt, less = prompt.length < all.length, nodes = [];
  const gone = all.map((_, token) => less && whole.kinds[token] === 'think');
  let at = 0;
  all.forEach((id, token) => {
    if (gone[token]) nodes.push(chip(id, 'gone', 'dropped'));
    else if (at < prompt.length) nodes.push(chip(prompt[at], fate[at], FATES[fate[at++]]));
  });
  for (; at < prompt.length; at++) nodes.push(chip(prompt[at], fate[at], FATES[fate[at]]));
  return nodes;
};

const thinkingChapter = (stage, nano, data) => {
  const {kept, dropped, messages} = data.chat, ask = messages[messages.length - 1].content;
  const place = el('div', {class: 'prompts'}), legend = el('ul', {class: 'legend'}), known = {};
  for (const [fate, words] of [...Object.entries(FATES), ['gone', 'thinking that was dropped']]) {
    legend.append(el('li', {}, el('span', {class: `bit ${fate}`}, '·'), ` ${words}`));
  }
  const whole = kept.calls[kept.calls.length - 1];
  const block = (name, title, {calls, cause}, think) => {
    const facts = found(nano, calls, think), result = known[`${name} ${facts.restored}`] ??= measured(nano, facts);
    const {prompt, cached, same, restored} = facts, computed = prompt.length - restored, wanted = data.chat.value;
    const first = facts.fate.filter(fate => fate === 'first').length;
    const parts = same === cached.length ? 'It goes on where the last call ended.'
      : `It leaves what was cached at token ${same} of ${cached.length} (${cause}).`;
    const used = restored ? `States were saved after token ${restored}, so ${counted(restored, 'token')} are used again`
      : 'No states were saved at a place that still fits, so nothing is used again';
    const words = [`${parts} ${used}: ${computed} of ${counted(prompt.length, 'token')} are computed, ` +
      `${first === computed ? 'all' : first} of them for the first time.`];
    const right = result.answer.includes(wanted);
    words.push(`nano thinks “${result.thought}” and answers “${result.answer}”` +
      (right ? '' : ` The “${wanted}” of its dropped thought is nowhere in the text any more.`));
    if (restored) {
      words.push('The last logits are those of reading the whole prompt from its start' +
        (result.error ? `, but for ${small(result.error)}.` : ', to the last bit.'));
    }
    if (result.wrong !== undefined) {
      const alike = result.said.answer === result.answer;
      words.push(`To cut keys and values at token ${same} and leave the states as they were is no way out: ` +
        `logits are wrong by up to ${decimal(result.wrong)}, ` +
        (alike ? 'even if the answer is the same here.' : `and the answer becomes “${result.said.answer}”`));
    }
    return el('div', {class: 'prompt', 'data-name': name}, el('h3', {}, title),
      el('p', {class: 'bits'}, laid(nano, facts, whole)),
      words.map((text, i) => el('p', {class: i ? 'note' : 'said'}, text)));
  };
  const show = i => place.replaceChildren(block('kept', 'Thinking kept', kept, PLACES[i].think),
    block('dropped', 'Thinking dropped', dropped, PLACES[i].think));
  const places = choices('Where states are saved', PLACES, show);
  const talk = el('ol', {class: 'talk'}, messages.map(({role, content, reasoning_content: thought}) =>
    el('li', {'data-role': role}, el('b', {}, role), thought ? el('i', {}, `thinks: ${thought} `) : null, content)));
  show(0);
  stage.append(layerStrip(nano).root, talk,
    el('p', {}, `Now “${ask}” is sent, with the earlier thinking or without. States were saved`),
    places.root, legend, place);
};
