// Chapter: one conversation as two prompts, with and without its earlier thinking, and what of the cache each can use.

const FATES = {used: 'used again', lost: 'keys and values would fit, states do not', again: 'read before, computed again', first: 'new'};
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
  const fits = savedIn(nano, calls, think).filter(saved => shares(saved, prompt) === saved.length).map(saved => saved.length);
  const restored = Math.max(0, ...fits), asked = Math.max(...messages);
  const fate = prompt.map((_, token) => token < restored ? 'used' : messages[token] === asked || messages[token] < 0 ? 'first'
    : token < same ? 'lost' : 'again');
  return {prompt, cached, same, restored, fate};
};

const spoken = (nano, session, most = 24) => {
  const ids = [], end = nano.tokenizer.id('<|im_end|>'), talk = session.fork();
  for (let id = largest(talk.last.logits); id !== end && ids.length < most && !talk.full; id = largest(talk.read(id).logits)) ids.push(id);
  return inert(nano.tokenizer.decode(ids));
};

const apart = (a, b) => a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i])), 0);
const readAll = (session, ids) => { for (const id of ids) session.read(id); return session; };

// The prompt read cold, continued from saved states, and with keys and values cut but states left as they were.
const measured = (nano, {prompt, cached, same, restored}) => {
  const cold = readAll(new Session(nano), prompt), before = readAll(new Session(nano), cached);
  const warm = readAll(before.fork(restored), prompt.slice(restored));
  const facts = {answer: spoken(nano, cold), error: apart(cold.last.logits, warm.last.logits)};
  if (same === cached.length) return facts;
  const cut = before.fork(same), kinds = nano.config.kinds, end = before.last.layers;
  cut.records[same - 1] = {...cut.last, layers: cut.last.layers.map((layer, i) => kinds[i] === 'deltanet' ? end[i] : layer)};
  readAll(cut, prompt.slice(same));
  return {...facts, wrong: apart(cold.last.logits, cut.last.logits), said: spoken(nano, cut)};
};

// A prompt as small tokens, each with its fate; `gone` are thinking tokens of the other prompt, shown where they were.
const laid = (nano, {prompt, fate}, whole) => {
  const nodes = [];
  let at = 0;
  const chip = (id, kind, words) => el('span', {class: `bit ${kind}`, title: words}, shown(nano, id));
  for (const id of whole) {
    if (at < prompt.length && id === prompt[at]) nodes.push(chip(id, fate[at], FATES[fate[at++]]));
    else nodes.push(chip(id, 'gone', 'dropped'));
  }
  return nodes;
};

const thinkingChapter = (stage, nano, data) => {
  const {kept, dropped, messages} = data.chat, ask = messages[messages.length - 1].content;
  const place = el('div', {class: 'prompts'}), legend = el('ul', {class: 'legend'}), known = {};
  for (const [fate, words] of [...Object.entries(FATES), ['gone', 'thinking that was dropped']]) {
    legend.append(el('li', {}, el('span', {class: `bit ${fate}`}, '·'), ` ${words}`));
  }
  const whole = kept.calls[kept.calls.length - 1].prompt;
  const block = (name, title, {calls, cause}, think) => {
    const facts = found(nano, calls, think), key = `${name} ${facts.restored}`, result = known[key] ??= measured(nano, facts);
    const {prompt, cached, same, restored} = facts, computed = prompt.length - restored, wanted = data.chat.value;
    const first = facts.fate.filter(fate => fate === 'first').length;
    const parts = same === cached.length ? 'It goes on where the last call ended.'
      : `It leaves what was cached at token ${same} of ${cached.length} (${cause}).`;
    const used = restored ? `States were saved after token ${restored}, so ${counted(restored, 'token')} are used again`
      : 'No states were saved at a place that still fits, so nothing is used again';
    const words = [`${parts} ${used}: ${counted(computed, 'token')} of ${prompt.length} are computed, ${first} of them new.`];
    const right = result.answer.includes(wanted);
    words.push(`nano goes on: “${result.answer}” ${right ? `It knows the ${wanted}.` : `The ${wanted} that it had thought of is gone.`}`);
    words.push(`Read from the start, the last logits differ by at most ${small(result.error)}.`);
    if (result.wrong !== undefined) {
      words.push(`Cutting keys and values at token ${same} and leaving the states as they were is wrong by ${decimal(result.wrong)}` +
        (result.said === result.answer ? ', and the answer is the same by luck.' : `: it answers “${result.said}”`));
    }
    return el('div', {class: 'prompt', 'data-name': name}, el('h3', {}, title), el('p', {class: 'bits'}, laid(nano, facts, whole)),
      words.map((text, i) => el('p', {class: i ? 'note' : 'said'}, text)));
  };
  const show = i => place.replaceChildren(block('kept', 'Thinking kept', kept, PLACES[i].think),
    block('dropped', 'Thinking dropped', dropped, PLACES[i].think));
  const places = choices('Where states are saved', PLACES, show);
  const talk = el('ol', {class: 'talk'}, messages.map(({role, content, reasoning_content: thought}) => el('li', {'data-role': role},
    el('b', {}, role), thought ? el('i', {}, `thinks: ${thought} `) : null, content)));
  show(0);
  stage.append(layerStrip(nano).root, talk, el('p', {}, `The last question, “${ask}”, can be sent with the earlier thinking or without. `,
    'States are saved'), places.root, legend, place);
};
