// Chapter: everything at once, for any text.

const PLAYS = [...EXAMPLES, ' list fox crow bear end first', 'Return the'];

const playChapter = (stage, nano, data) => {
  const off = new Set(), reader = new Reader(nano, PLAYS[0], token => off.has(token)), {kinds} = nano.config;
  const view = {layer: layersOf(nano, 'attention')[0], head: 0}, said = sentence();
  const bars = guesses(nano, 'Likeliest next tokens');
  const weight = token => lookedAt(reader, view.layer, view.head)?.[token];
  const isState = () => kinds[view.layer] === 'deltanet', ready = token => token < reader.session.length;
  const pace = el('p', {class: 'note'});
  let sizes = [], running = false;
  const row = strip(reader, {label: 'Tokens', level: token => !ready(token) ? null
    : isState() ? sizes[token] / Math.max(...sizes, 1e-9) : weight(token) ?? null,
  note: token => off.has(token) ? 'silent' : !isState() && weight(token) >= 0.05 ? percent(weight(token)) : ''});
  const tell = () => {
    const state = isState();
    row.root.dataset.kind = kinds[view.layer];
    states.root.hidden = !state;
    looks.root.hidden = state;
    sizes = state ? states.sizes() : [];
    row.show();
    bars.show(reader.logits);
    for (const each of [silent, more]) allow(each, reader.record);
    silent.setAttribute('aria-pressed', off.has(reader.at));
    pace.textContent = reader.pace ? `Here nano takes ${decimal(reader.pace, 1)} milliseconds to read a token.` : '';
    more.textContent = running ? 'Stop' : 'Write on';
    if (!reader.record) { said.textContent = ''; return; }
    const {keep, write} = reader.record.layers[view.layer];
    if (state) states.show();
    else looks.show();
    said.textContent = state ? `At ${reader.name(reader.at)} head ${view.head} of layer ${view.layer} keeps ` +
      `${percent(keep[view.head])} of its state and writes with ${percent(write[view.head])} of full strength. ` +
      'The bars show the size of its state.' : `${aim(reader, view.layer, view.head)} The bars show where it looks.`;
  };
  const states = stateView(nano, data.look, reader, view, tell), looks = lookView(nano, reader, view, tell);
  const layers = layerStrip(nano, {kinds: [...new Set(kinds)], chosen: view.layer, pick: layer => {
    Object.assign(view, {layer, head: 0});
    tell();
  }});
  const silent = action('This token writes nothing', () => {
    if (off.has(reader.at)) off.delete(reader.at);
    else off.add(reader.at);
    reader.again();
  }, {'aria-pressed': 'false'});
  const more = action('Write on', async () => {
    running = !running;
    for (let count = 0; running && count < 32; count++) {
      if (!await reader.grow()) break;
      await pause();
    }
    running = false;
    tell();
  });
  let text = reader.text;
  reader.on(() => {
    if (!reader.text.startsWith(text) && off.size) off.clear();
    text = reader.text;
    tell();
  });
  stage.append(editor(reader, PLAYS), layers.root, row.root, stepper(reader, {grow: true}),
    el('div', {class: 'buttons'}, more, silent), said, looks.root, states.root,
    el('h3', {}, 'What comes next'), bars.root, pace);
};
