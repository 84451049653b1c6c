// Chapter: three gates, token by token.

const GATES = {
  keep: {kind: 'deltanet', name: 'What is kept', of: layer => layer.keep, did: 'keeps', object: 'of what it held'},
  write: {kind: 'deltanet', name: 'What is written', of: layer => layer.write, did: 'writes with',
    object: 'of full strength'},
  gate: {kind: 'attention', name: 'What is let through', of: layer => layer.gate, did: 'lets',
    object: 'of what it read through'},
};

// [head][token] of a gate in a layer.
const opened = (session, gate, layer) => {
  const of = GATES[gate].of, first = session.records[0];
  if (!first) return [];
  const heads = Array.from(of(first.layers[layer]).keys());
  return heads.map(head => session.records.map(record => of(record.layers[layer])[head]));
};

const lowest = (values, from) => {
  let at = Math.min(from, values.length - 1);
  for (let i = at; i < values.length; i++) if (values[i] < values[at]) at = i;
  return at;
};

// The layer and head in which a gate moves most over the text; the first token finds every state empty.
const livelyGate = (nano, session, gate) => {
  let found = {spread: -1, layer: layersOf(nano, GATES[gate].kind)[0], head: 0};
  for (const layer of layersOf(nano, GATES[gate].kind)) {
    opened(session, gate, layer).forEach((values, head) => {
      const rest = values.slice(1), spread = Math.max(...rest) - Math.min(...rest);
      if (spread > found.spread) found = {spread, layer, head};
    });
  }
  return found;
};

const gateChapter = (stage, nano, data, story) => {
  const view = {gate: 'keep', ...livelyGate(nano, story.session, 'keep')}, said = sentence(), heads = el('div', {});
  let values = [], layers, picker = null, shape = '';
  const place = el('div', {}), names = Object.keys(GATES);
  const pickGate = i => {
    Object.assign(view, {gate: names[i], ...livelyGate(nano, story.session, names[i])});
    layers = layerStrip(nano, {kinds: [GATES[view.gate].kind], chosen: view.layer, pick: layer => {
      view.layer = layer;
      view.head = 0;
      tell();
    }});
    place.replaceChildren(layers.root);
    row.root.dataset.kind = GATES[view.gate].kind;
    tell();
  };
  const gates = choices('Gate', names.map(name => ({name: GATES[name].name, kind: GATES[name].kind})), pickGate);
  const row = strip(story, {label: 'Tokens; the bar is how far the gate is open at each',
    level: token => values[view.head]?.[token] ?? null,
    note: token => token in (values[view.head] ?? []) ? percent(values[view.head][token]) : ''});
  const tell = () => {
    if (unseen(stage)) return;
    values = opened(story.session, view.gate, view.layer);
    if (shape !== `${view.gate} ${values.length}`) {
      shape = `${view.gate} ${values.length}`;
      const entries = values.map((_, head) => headEntry(el('canvas', {class: 'spark'}), head));
      picker = choices('Head', entries, head => { view.head = head; tell(); }, {look: 'heads', chosen: view.head});
      heads.replaceChildren(picker.root);
    }
    picker?.choose(view.head);
    const colour = css(`--${GATES[view.gate].kind}-ink`);
    picker?.nodes.forEach((node, head) => spark(node.firstChild, values[head], story.at, colour));
    row.show();
    const mine = values[view.head];
    if (!mine || !story.record) { said.textContent = ''; return; }
    const {did, object} = GATES[view.gate], low = lowest(mine, view.gate === 'keep' ? 1 : 0);
    const mean = mine.reduce((sum, value) => sum + value, 0) / mine.length;
    said.textContent = `At ${story.name(story.at)} head ${view.head} of layer ${view.layer} ${did} ` +
      `${percent(mine[story.at])} ${object}. It closes most at ${story.name(low)}, to ${percent(mine[low])}; ` +
      `its mean over the text is ${percent(mean)}.`;
  };
  story.on(tell);
  pickGate(0);
  stage.append(gates.root, place, row.root, stepper(story), said, heads, another(story, EXAMPLES));
};
