// Parts that all chapters are made of. `el` places text as text.

const el = (tag, facts = {}, ...inside) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(facts)) {
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (value !== false && value !== undefined) node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...inside.flat().filter(each => each !== undefined && each !== null));
  return node;
};

// A button. One that can do nothing now says so and keeps the focus, which `disabled` would lose.
const action = (words, run, facts = {}) => {
  const click = event => event.currentTarget.getAttribute('aria-disabled') === 'true' || run();
  return el('button', {type: 'button', 'aria-disabled': 'false', ...facts, onclick: click}, words);
};
const allow = (button, yes) => button.setAttribute('aria-disabled', String(!yes));

let names = 0;
const fresh = word => `${word}-${++names}`;

// Arrow keys, Home and End among the children that can be chosen; one of them is in the order of Tab.
const walked = (nodes, at, event) => {
  const free = nodes.map((node, i) => node.disabled ? -1 : i).filter(i => i >= 0), place = free.indexOf(at);
  const to = {ArrowRight: place + 1, ArrowDown: place + 1, ArrowLeft: place - 1, ArrowUp: place - 1,
    Home: 0, End: free.length - 1}[event.key];
  if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return null;
  event.preventDefault();
  return free[Math.max(0, Math.min(to, free.length - 1))];
};

// One of several. entries: [{name, inside, off}]; `choose` shows another as chosen without telling anybody.
const choices = (label, entries, pick, {look = 'plain', chosen = 0} = {}) => {
  let now = chosen;
  const nodes = entries.map(({name, inside, off, kind}, i) => el('button', {
    type: 'button', role: 'radio', disabled: off, 'aria-label': name, 'data-kind': kind,
    onclick: () => { choose(i); pick(i); }}, inside ?? name));
  const choose = i => {
    now = i;
    nodes.forEach((node, j) => {
      node.setAttribute('aria-checked', j === i);
      node.tabIndex = j === i ? 0 : -1;
    });
  };
  const root = el('div', {class: `choices ${look}`, role: 'radiogroup', 'aria-label': label, onkeydown: event => {
    const to = walked(nodes, now, event);
    if (to !== null) { choose(to); nodes[to].focus(); pick(to); }
  }}, nodes);
  choose(now);
  return {root, nodes, choose};
};

// A head with a small picture of its own, to be chosen by it.
const headEntry = (canvas, head) => ({name: `Head ${head}`, inside: [canvas, el('small', {}, `head ${head}`)]});

// The layers in their order: the picture of the whole model, its legend, and the way to choose one.
const layerStrip = (nano, {kinds = [], chosen = -1, pick = () => {}, label = 'Layer'} = {}) => {
  const entries = nano.config.kinds.map((kind, layer) => ({
    name: `Layer ${layer}, ${kind === 'deltanet' ? 'D, Gated DeltaNet' : 'A, gated attention'}`, kind,
    off: !kinds.includes(kind), inside: [el('b', {}, COLOURS[kind]), el('small', {}, String(layer))]}));
  const made = choices(label, entries, pick, {look: 'layers', chosen});
  if (chosen < 0) {
    made.root.setAttribute('role', 'img');
    made.root.setAttribute('aria-label', `Layers ${nano.config.kinds.map(kind => COLOURS[kind]).join(' ')}`);
  }
  return made;
};

const editor = (reader, examples, label = 'Text') => {
  const id = fresh('text'), note = el('p', {class: 'note', role: 'status'});
  const box = el('textarea', {id, rows: 2, maxlength: 20000, spellcheck: 'false', autocapitalize: 'off',
    autocomplete: 'off', oninput: () => reader.set(box.value)});
  const buttons = examples.map(text => el('button', {type: 'button', class: 'example', onclick: () => {
    box.value = text;
    reader.set(text);
  }}, text.trim()));
  const tell = () => {
    if (document.activeElement !== box && box.value !== reader.text) box.value = reader.text;
    const {window} = reader.nano.config, done = reader.session.length;
    note.textContent = reader.busy ? `Reading token ${done} of ${reader.ids.length}`
      : reader.over ? `nano was trained on texts of ${window} tokens: the last ${counted(reader.over, 'token')} of ` +
        `this one ${reader.over === 1 ? 'is' : 'are'} left out.` : '';
  };
  reader.on(tell, true);
  const tried = buttons.length ? el('div', {class: 'examples'}, el('span', {}, 'Or try'), buttons) : null;
  return el('div', {class: 'editor'}, el('label', {for: id}, label), box, tried, note);
};

// The same, folded away.
const another = (reader, examples) => el('details', {class: 'another'}, el('summary', {}, 'Another text'),
  editor(reader, examples));

// Back, step, play, and a slider over the tokens. `grow`: at the end the likeliest token is added.
const stepper = (reader, {grow = false} = {}) => {
  let playing = null;
  const stop = () => { clearInterval(playing); playing = null; reader.tell(); };
  const step = async () => {
    if (reader.at < reader.ids.length - 1) reader.go(reader.at + 1);
    else if (!grow || playing || !await reader.grow()) stop();
  };
  const play = () => {
    if (playing) return stop();
    if (reader.at >= reader.ids.length - 1) reader.go(0);
    playing = setInterval(() => root.offsetParent ? step() : stop(), 700);
    reader.tell();
  };
  const back = action('← Back', () => reader.go(reader.at - 1));
  const next = action('Step →', step, {class: 'main'}), run = action('Play', play);
  const slide = el('input', {type: 'range', min: 0, 'aria-label': 'Token', oninput: () => reader.go(+slide.value)});
  const root = el('div', {class: 'stepper'}, back, next, run, slide);
  reader.on(() => {
    const count = reader.ids.length, end = reader.at >= count - 1;
    slide.max = Math.max(0, count - 1);
    slide.value = reader.at;
    const where = () => `${reader.at + 1} of ${count}, ${shown(reader.nano, reader.ids[reader.at])}`;
    slide.setAttribute('aria-valuetext', reader.at in reader.ids ? where() : '');
    allow(back, reader.at > 0);
    allow(next, count && (!end || (grow && !reader.session.full)));
    next.textContent = end && grow ? 'Add the likeliest' : 'Step →';
    allow(run, count > 1);
    run.textContent = playing ? 'Stop' : 'Play';
  });
  return root;
};

// The likeliest next tokens. marks: ids that are shown as well.
const guesses = (nano, label, count = 5) => {
  const root = el('div', {class: 'guesses', role: 'group', 'aria-label': label});
  const show = (logits, marks = []) => {
    if (!logits) return root.replaceChildren(el('p', {class: 'note'}, 'Nothing was read yet.'));
    const chances = softmax(logits), ids = best(chances, count);
    ids.push(...marks.filter(id => !ids.includes(id)));
    return root.replaceChildren(...ids.map((id, i) => {
      const bar = el('i', {});
      bar.style.width = `${100 * chances[id]}%`;
      return el('div', {class: i ? 'guess' : 'guess first'}, el('span', {class: 'word'}, shown(nano, id)),
        el('span', {class: 'rail'}, bar), el('span', {class: 'number'}, percent(chances[id])));
    }));
  };
  return {root, show};
};

const sentence = () => el('p', {class: 'said', role: 'status'});
