// The tokens of a text in a row, each with a bar above it: the picture that most chapters share.

// Whether a node lies in a chapter that is not shown: what changed is drawn when it is.
const unseen = node => Boolean(node.closest('.chapter')?.hidden);

// level(token): height of the bar, 0 to 1, or null for none; note(token): a word below; pressed(token): whether marked.
// pick(token): what a click or Enter does; without it a token is looked at.
const strip = (reader, {label, level = () => null, note = () => '', pressed, pick, kind = '', bars = true} = {}) => {
  let nodes = [], shape = '', held = 0;
  const root = el('div', {class: `strip ${bars ? 'tall' : ''}`, 'data-kind': kind, role: 'listbox', 'aria-label': label,
    'aria-orientation': 'horizontal', onkeydown: event => {
      const at = nodes.indexOf(document.activeElement), to = at < 0 ? null : walked(nodes, at, event);
      if (to === null) return;
      if (!pick) reader.go(to);
      nodes[to].focus();
    }});
  const build = () => {
    const focused = nodes.indexOf(document.activeElement);
    nodes = reader.ids.map((id, token) => el('button', {type: 'button', role: 'option', class: 'token',
      onclick: () => pick ? pick(token) : reader.go(token),
      onfocus: () => { held = token; ordered(); }},
    bars ? el('span', {class: 'bar'}, el('i', {})) : null,
    el('span', {class: 'word'}, shown(reader.nano, id)), el('small', {})));
    root.replaceChildren(...(nodes.length ? nodes : [el('p', {class: 'note'}, 'Type something above.')]));
    if (focused >= 0) nodes[Math.min(focused, nodes.length - 1)]?.focus();
  };
  const ordered = () => {
    const first = Math.max(0, Math.min(pick ? held : reader.at, nodes.length - 1));
    nodes.forEach((node, token) => { node.tabIndex = token === first ? 0 : -1; });
  };
  const show = () => {
    if (unseen(root)) return;
    const now = reader.ids.join(' ');
    if (now !== shape) {
      shape = now;
      build();
    }
    nodes.forEach((node, token) => {
      const height = level(token), words = note(token), looked = token === reader.at;
      node.className = `token ${token > reader.at && !pick ? 'ahead' : ''} ${height === null ? 'bare' : ''}`;
      node.setAttribute('aria-selected', pressed ? pressed(token) : looked);
      node.classList.toggle('struck', Boolean(pressed?.(token)));
      if (bars) node.firstChild.firstChild.style.height = `${100 * Math.max(0, Math.min(1, height ?? 0))}%`;
      node.lastChild.textContent = words;
      node.setAttribute('aria-label', `${shown(reader.nano, reader.ids[token])}${words ? `, ${words}` : ''}`);
    });
    ordered();
  };
  reader.on(show);
  return {root, show};
};
