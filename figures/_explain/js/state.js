// Chapter: the states of a D layer, token by token.

// One table in colours with a reading of the cell under the pointer or chosen by arrow keys.
const table = (nano, look) => {
  const {dk, dv} = nano.config, canvas = el('canvas', {tabindex: 0, role: 'img'});
  const cell = el('p', {class: 'note', role: 'status'});
  let values = new Float32Array(dk * dv), at = null;
  const tell = () => {
    cell.textContent = at ? `row ${at[0]}, column ${at[1]}: ${decimal(values[at[0] * dv + at[1]], 3)}`
      : 'Point at a cell, or use the arrow keys, to read it.';
  };
  const moved = event => {
    const box = canvas.getBoundingClientRect(), share = (value, size, count) => Math.floor(count * value / size);
    const row = share(event.clientY - box.top, box.height, dk), column = share(event.clientX - box.left, box.width, dv);
    at = [Math.max(0, Math.min(row, dk - 1)), Math.max(0, Math.min(column, dv - 1))];
    tell();
  };
  canvas.addEventListener('pointermove', moved);
  canvas.addEventListener('pointerdown', moved);
  canvas.addEventListener('keydown', event => {
    const step = {ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0]}[event.key];
    if (!step) return;
    event.preventDefault();
    at = at ? [Math.max(0, Math.min(at[0] + step[0], dk - 1)), Math.max(0, Math.min(at[1] + step[1], dv - 1))] : [0, 0];
    tell();
  });
  const show = (state, head, most, label) => {
    values = state.subarray(head * dk * dv, (head + 1) * dk * dv);
    painted(canvas, values, 0, dk, dv, most, look.signed);
    canvas.setAttribute('aria-label', label);
    tell();
  };
  const scale = el('div', {class: 'scale', 'aria-hidden': 'true'});
  const tones = look.signed.map(([at, tone]) => `${tone} ${100 * at}%`);
  scale.style.background = `linear-gradient(to right, ${tones.join(', ')})`;
  const ends = el('div', {class: 'ends'});
  return {root: el('div', {class: 'table'}, canvas, scale, ends, cell), ends, show};
};

// The states of all heads of a layer, small, and the chosen one large. `view` is shared: {layer, head}.
const stateView = (nano, look, reader, view, tell) => {
  const {valueHeads, dk, dv} = nano.config, big = table(nano, look);
  const minis = Array.from({length: valueHeads}, () => el('canvas', {}));
  const entries = minis.map((canvas, head) => headEntry(canvas, head));
  const heads = choices('Head', entries, head => { view.head = head; tell(); }, {look: 'heads', chosen: view.head});
  const sizes = () => reader.session.records.map(record => norm(record.layers[view.layer].state
    .subarray(view.head * dk * dv, (view.head + 1) * dk * dv)));
  // The largest number of a head's state over the whole text: its colours mean the same at every token.
  const topOf = head => {
    let top = 0;
    for (const {layers} of reader.session.records) {
      const {state} = layers[view.layer];
      for (let i = head * dk * dv; i < (head + 1) * dk * dv; i++) top = Math.max(top, Math.abs(state[i]));
    }
    return top;
  };
  const show = () => {
    if (!reader.record || nano.config.kinds[view.layer] !== 'deltanet') return;
    const {state} = reader.record.layers[view.layer];
    const tops = minis.map((_, head) => topOf(head)), most = tops[view.head];
    heads.choose(view.head);
    minis.forEach((canvas, head) => painted(canvas, state, head * dk * dv, dk, dv, tops[head], look.signed));
    big.ends.replaceChildren(...[-most, 0, most].map(value => el('span', {}, decimal(value))));
    big.show(state, view.head, most, `State of head ${view.head} in layer ${view.layer} after ` +
      `${reader.name(reader.at)}: ${dk} rows by ${dv} columns, size ${decimal(sizes()[reader.at])}`);
  };
  return {root: el('div', {class: 'states'}, heads.root, big.root), show, sizes};
};

// The head whose state fades least at any token of a text: there it can be seen to fill.
const steadiest = (nano, session) => {
  let found = {least: -1, layer: layersOf(nano, 'deltanet')[0], head: 0};
  for (const layer of layersOf(nano, 'deltanet')) {
    for (let head = 0; head < nano.config.valueHeads; head++) {
      const least = Math.min(...session.records.map(record => record.layers[layer].keep[head]));
      if (least > found.least) found = {least, layer, head};
    }
  }
  return found;
};

const stateChapter = (stage, nano, data, story) => {
  const view = steadiest(nano, story.session), said = sentence();
  const {dk, dv} = nano.config, start = () => view.head * dk * dv;
  const states = stateView(nano, data.look, story, view, () => tell());
  const layers = layerStrip(nano, {kinds: ['deltanet'], chosen: view.layer, pick: layer => {
    view.layer = layer;
    tell();
  }});
  let sizes = [];
  const row = strip(story, {label: 'Tokens; the bar is the size of the state after each', kind: 'deltanet',
    level: token => token < sizes.length ? sizes[token] / Math.max(...sizes, 1e-9) : null});
  const tell = () => {
    if (unseen(stage)) return;
    sizes = states.sizes();
    states.show();
    row.show();
    if (!story.record) { said.textContent = ''; return; }
    const part = token => story.session.records[token]?.layers[view.layer].state.subarray(start(), start() + dk * dv);
    const now = part(story.at), before = part(story.at - 1);
    const change = before ? now.map((value, i) => value - before[i]) : now;
    const most = largest(sizes.map((size, i) => Math.abs(size - (sizes[i - 1] ?? 0))));
    said.textContent = `After ${story.name(story.at)} the table of head ${view.head} in layer ${view.layer} has size ` +
      `${decimal(sizes[story.at])}; that token changed it by ${decimal(norm(change))}. Over the text its size moves ` +
      `most at ${story.name(most)}.`;
  };
  story.on(tell);
  stage.append(layers.root, row.root, stepper(story), said, states.root, another(story, EXAMPLES));
};
