// Chapter: where the heads of an A layer look.

// The head that looks furthest from the obvious: most weight, let through, on a token that is neither first nor itself.
const lively = (nano, record, at) => {
  let found = {most: -1, layer: layersOf(nano, 'attention')[0], head: 0};
  for (const layer of record ? layersOf(nano, 'attention') : []) {
    const {rows, gate} = record.layers[layer];
    rows.forEach((weights, head) => {
      const most = Math.max(0, ...weights.slice(1, at)) * gate[head];
      if (most > found.most) found = {most, layer, head};
    });
  }
  return found;
};

const lookedAt = (reader, layer, head) => reader.record?.layers[layer].rows?.[head];

// "looks back mostly at ..."
const aim = (reader, layer, head) => {
  const row = lookedAt(reader, layer, head), top = largest(row), back = reader.at - top;
  const where = back === 0 ? 'at that token itself' : `back at ${reader.name(top)}, ${counted(back, 'token')} earlier`;
  return `Standing at ${reader.name(reader.at)}, head ${head} of layer ${layer} looks mostly ${where} ` +
    `(${percent(row[top])}), and its gate lets ${percent(reader.record.layers[layer].gate[head])} through.`;
};

// All heads of a layer as small curves, to choose one from. `view` is shared: {layer, head}.
const lookView = (nano, reader, view, tell) => {
  const canvases = Array.from({length: nano.config.queryHeads}, () => el('canvas', {class: 'spark'}));
  const entries = canvases.map((canvas, head) => headEntry(canvas, head));
  const heads = choices('Head', entries, head => { view.head = head; tell(); }, {look: 'heads', chosen: view.head});
  const show = () => {
    if (!lookedAt(reader, view.layer, 0)) return;
    heads.choose(view.head);
    canvases.forEach((canvas, head) => {
      const row = lookedAt(reader, view.layer, head), all = reader.ids.map((_, token) => row[token] ?? 0);
      spark(canvas, all, largest(row), css('--attention-ink'));
    });
  };
  return {root: heads.root, show};
};

const lookChapter = (stage, nano, data, story) => {
  const view = lively(nano, story.record, story.at), said = sentence();
  const row = strip(story, {label: 'Tokens; the bar is how much the head looks at each', kind: 'attention',
    level: token => lookedAt(story, view.layer, view.head)?.[token] ?? null,
    note: token => (lookedAt(story, view.layer, view.head)?.[token] ?? 0) >= 0.05
      ? percent(lookedAt(story, view.layer, view.head)[token]) : ''});
  const tell = () => {
    if (unseen(stage)) return;
    row.show();
    heads.show();
    said.textContent = story.record ? aim(story, view.layer, view.head) : '';
  };
  const heads = lookView(nano, story, view, tell);
  const layers = layerStrip(nano, {kinds: ['attention'], chosen: view.layer, pick: layer => {
    view.layer = layer;
    tell();
  }});
  const find = action('Find a head that looks somewhere', () => {
    Object.assign(view, lively(nano, story.record, story.at));
    layers.choose(view.layer);
    tell();
  });
  story.on(tell);
  stage.append(layers.root, row.root, stepper(story), said, el('div', {class: 'buttons'}, find), heads.root,
    another(story, EXAMPLES));
};
