// Chapter: the strip of layers, what each kind keeps, and how much that comes to.

// How many numbers a kind of layer keeps after so many tokens, all layers of the kind together.
const keptBy = (nano, kind, tokens) => {
  const {keyHeads, valueHeads, dk, dv, taps, kvHeads, headDim} = nano.config, count = layersOf(nano, kind).length;
  if (kind === 'attention') return count * 2 * kvHeads * headDim * tokens;
  return count * (valueHeads * dk * dv + (taps - 1) * (2 * keyHeads * dk + valueHeads * dv));
};

const about = (nano, layer) => {
  const {kinds, valueHeads, dk, dv, taps, queryHeads, kvHeads, headDim} = nano.config;
  if (kinds[layer] === 'attention') {
    return `Layer ${layer} is an A, gated attention. It keeps ${whole(2 * kvHeads * headDim)} numbers of every ` +
      `token, keys and values. Its ${queryHeads} heads look through all of them, at every token anew.`;
  }
  return `Layer ${layer} is a D, Gated DeltaNet. Its ${valueHeads} heads keep one table of ${dk} × ${dv} numbers ` +
    `each, and what the last ${taps - 1} tokens brought. That is all it knows of the text, however long it gets.`;
};

const layersChapter = (stage, nano, data, story) => {
  const told = el('p', {class: 'said', role: 'status'}), said = sentence(), place = el('div', {class: 'picture'});
  const every = [...new Set(nano.config.kinds)], {window} = nano.config;
  const show = layer => { told.textContent = about(nano, layer); };
  const layers = layerStrip(nano, {kinds: every, chosen: 0, pick: show, label: 'Layer to read about'});
  const kept = kind => tokens => keptBy(nano, kind, tokens);
  const crossing = Math.floor(kept('deltanet')(0) / kept('attention')(1)) + 1, most = Math.max(window, 2 * crossing);
  const draw = () => {
    if (unseen(stage)) return;
    const now = story.at + 1, [fixed, grown] = ['deltanet', 'attention'].map(kind => kept(kind)(now));
    place.replaceChildren(chart({end: most, now, marked: crossing, curves: [
      {kind: 'attention', name: `A: ${whole(kept('attention')(1))} numbers a token`, at: kept('attention')},
      {kind: 'deltanet', name: 'D: always the same', at: kept('deltanet')}],
    label: `Numbers kept over tokens: D layers ${whole(fixed)} at any length, A layers ` +
      `${whole(kept('attention')(1))} for each`}));
    said.textContent = `After the ${counted(now, 'token')} of your text the D layers hold ${whole(fixed)} numbers, ` +
      `the A layers ${whole(grown)}. From token ${whole(crossing)} on the A layers hold more.`;
  };
  story.on(draw);
  addEventListener('resize', draw);
  show(0);
  stage.append(layers.root, told, place, said);
};
