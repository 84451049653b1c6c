"""Look and script of a page: figures drawn on either ground, and laid out anew where the screen is narrow.

`ARRANGE` is the part that lays them out; the print of a figure uses it as well (`labkit.draw.printed`).
"""

STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --paper: #ffffff; --line: #d0d7de; --quiet: #59636e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --paper: #14181d; --line: #3d444d; --quiet: #9198a1; }
}
body { background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; margin: 0 auto;
  max-width: 1080px; padding: 1rem; }
a { color: inherit; }
section { border-top: 1px solid var(--line); padding: 1rem 0; }
h1 a, h2 a { text-decoration: none; }
pre { font-size: 0.85rem; overflow-x: auto; }
.plot { min-height: 320px; width: 100%; }
.claim { font-size: 1.05rem; margin: 0.5rem 0 0; overflow-wrap: anywhere; }
.proof { color: var(--quiet); font-size: 0.8rem; margin: 0; overflow-wrap: anywhere; }
h1, h2 { line-height: 1.25; overflow-wrap: anywhere; }
h1 { font-size: min(2rem, 7.5vw); }
.facts, .source { color: var(--quiet); font-size: 0.9rem; }
main:target .words, main:target ~ footer { display: none; }
main:target section { border: 0; padding: 0; }
"""

ARRANGE = r"""
const read = id => JSON.parse(document.getElementById(id).textContent);
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const clear = 'rgba(0,0,0,0)', NARROW = 640, SIGN = 7.2, SIDE = 14;
const look = layout => ({
  paper_bgcolor: clear, plot_bgcolor: layout.plot_bgcolor || clear, font: {...layout.font, color: colour('--ink')},
  modebar: {...layout.modebar, bgcolor: clear, color: colour('--quiet'), activecolor: colour('--ink')}
});
const plainly = text => text.replace(/<br>/g, ' ').replace(/&[#\w]+;/g, 'x');
const wrapped = (text, most) => {
  const lines = [''];
  for (const word of text.replace(/<br>/g, ' ').split(' ')) {
    const now = lines[lines.length - 1];
    if (now && plainly(now + ' ' + word).length > most) lines.push(word);
    else lines[lines.length - 1] = now ? now + ' ' + word : word;
  }
  return lines.join('<br>');
};
const longest = texts => Math.max(0, ...texts.map(text => plainly(String(text)).length));

const shorter = (text, most) => text.length > most ? text.slice(0, most).replace(/&[#\w]*$/, '') + '…' : text;
const thin = (axis, room, length) => {
  if (!axis.tickvals) return;
  const step = Math.max(1, Math.ceil(axis.tickvals.length * room / length)), keep = (_, k) => k % step === 0;
  axis.ticktext = axis.ticktext.filter(keep);
  axis.tickvals = axis.tickvals.filter(keep);
};
const level = (bar, x, y, len, most) => ({...bar, orientation: 'h', x, y, len, lenmode: 'fraction', xanchor: 'center',
  yanchor: 'bottom', xref: 'paper', yref: 'paper', thickness: 9, nticks: 5,
  title: {...bar.title, text: wrapped(bar.title.text, most), side: 'top'}});

// The parts of a figure below each other, in one column or two, with the legend or the colour bar above.
const narrow = ({data, layout, frames}, width) => {
  const l = JSON.parse(JSON.stringify(layout)), how = l.meta && l.meta.arranged;
  if (!how) return {data, layout: l, frames};
  const n = how.places, name = (kind, i) => i ? kind + (i + 1) : kind;
  const heads = n > 1 ? (l.annotations || []).slice(0, n) : [];
  const columns = n > 1 && longest(heads.map(head => head.text)) <= 12 ? 2 : 1, rows = Math.ceil(n / columns);
  const [xs, ys] = ['xaxis', 'yaxis'].map(kind => Array.from({length: n}, (_, i) => l[name(kind, i)]));
  const joint = axes => axes.every((axis, i) => !i || axis.matches);
  const own = n > 1 && Boolean(l.coloraxis2), tied = {x: joint(xs), y: joint(ys)};
  for (const axis of ys) if (axis.ticktext) axis.ticktext = axis.ticktext.map(text => wrapped(text, SIDE));
  const high = 15 * Math.max(1, ...ys.flatMap(axis => axis.ticktext || []).map(text => text.split('<br>').length));
  const label = longest((ys[0].ticktext || ['00000']).flatMap(text => text.split('<br>')));
  const left = 30 + label * SIGN;
  const across = (width - left - 16 - (columns - 1) * 14) / columns;
  const most = Math.max(8, Math.floor(across / SIGN)), title = wrapped(
    (xs.find(axis => axis.title && axis.title.text) || {title: {text: ''}}).title.text, most);
  const side = (ys.find(axis => axis.title && axis.title.text) || {title: {text: ''}}).title.text;
  const texts = heads.map(head => wrapped(head.text, most));
  const lines = Math.max(0, ...texts.map(text => text.split('<br>').length));
  for (const axis of xs) if (axis.ticktext) axis.ticktext = axis.ticktext.map(text => shorter(text, 20));
  const names = longest(xs.flatMap(axis => axis.ticktext || []));
  const foot = 26 + (names > 4 ? 8 + 0.87 * SIGN * names : 16) + 17 * title.split('<br>').length;
  const bars = Object.keys(l).filter(key => /^coloraxis/.test(key)).map(key => l[key].colorbar);
  const lean = Math.floor(width / SIGN) - 8, said = bars.map(one => wrapped((one.title || {}).text || '', lean));
  const bar = 42 + 17 * Math.max(1, ...said.map(text => text.split('<br>').length));
  const head = 17 * lines + 8 + (own ? bar : 0), tall = how.tall || (n > 1 ? 240 : 320);
  const gap = head + (tied.x ? 10 : foot), whole = rows * tall + (rows - 1) * gap;
  // what stands above all: a legend, or the colour bar that all share
  const named = data.filter(trace => trace.showlegend !== false && trace.type !== 'heatmap' && trace.name);
  const uprights = (l.shapes || []).filter(shape => shape.showlegend);
  const shown = named.length > 1 || named.some(trace => trace.showlegend) ? [...named, ...uprights] : uprights;
  let legend = 0, used = 0;
  for (const entry of shown) {
    const room = 48 + SIGN * Math.min(plainly(entry.name).length, 34);
    if (!used || used + room > width - 20) { legend += 19 * wrapped(entry.name, 34).split('<br>').length; used = 0; }
    used += room;
  }
  const above = 18 + head + (legend ? legend + 16 : 0) + (l.coloraxis && !own ? bar : 0);
  const slider = l.sliders && l.sliders.length ? 110 : 0;
  l.margin = {l: left, r: 16, t: above, b: foot + slider, pad: 0};
  l.height = whole + above + foot + slider;
  const up = pixels => pixels / whole;
  for (let i = 0; i < n; i++) {
    const row = Math.floor(i / columns), col = i % columns;
    const from = col * (across + 14) / (columns * across + (columns - 1) * 14);
    const x = [from, from + across / (columns * across + (columns - 1) * 14)];
    const top = 1 - up(row * (tall + gap)), low = i + columns >= n, first = col === 0;
    const shown = {x: low || !tied.x, y: first || !tied.y}, middle = (x[0] + x[1]) / 2;
    const called = axis => (axis.title || {}).text || '';
    const below = tied.x ? title : wrapped(called(xs[i]), most), beside = tied.y ? side : called(ys[i]);
    thin(xs[i], names > 4 ? 17 : 12 + SIGN * names, across);
    thin(ys[i], high, tall);
    Object.assign(xs[i], {domain: x, showticklabels: shown.x, automargin: false, tickangle: names > 4 ? -60 : 0,
      title: {...xs[i].title, standoff: 8, text: shown.x ? below : ''}});
    Object.assign(ys[i], {domain: [top - up(tall), top], showticklabels: shown.y, automargin: false,
      title: {...ys[i].title, standoff: 4, text: shown.y ? wrapped(beside, Math.floor(tall / SIGN)) : ''}});
    if (heads[i]) Object.assign(heads[i], {text: texts[i], x: middle, y: top + up(own ? bar + 4 : 2),
      xanchor: 'center', yanchor: 'bottom', xref: 'paper', yref: 'paper'});
    const scale = own ? l[name('coloraxis', i)] : i ? null : l.coloraxis;
    if (scale) scale.colorbar = level(scale.colorbar, own ? middle : 0.5, own ? top + up(2) : 1 + up(head),
      own ? 0.9 * (x[1] - x[0]) : 0.9, lean);
  }
  l.legend = {...l.legend, orientation: 'h', x: 0, xanchor: 'left', xref: 'paper',
    y: 1 + up(head + 2), yanchor: 'bottom'};
  for (const slide of l.sliders || []) {
    const now = {...slide.currentvalue, font: {size: 12, color: colour('--ink')}};  // the labels below have no room
    const quiet = {size: 6, color: clear};
    Object.assign(slide, {len: 1, x: 0, pad: {...slide.pad, t: foot}, font: quiet, currentvalue: now});
    for (const step of slide.steps) step.label = shorter(step.label, 36);
  }
  for (const shape of l.shapes || []) if (shape.name) shape.name = wrapped(shape.name, 34);
  return {data: data.map(trace => trace.name ? {...trace, name: wrapped(trace.name, 34)} : trace), layout: l, frames};
};

// The prompt in shorter lines: `strip` is how many cells a line has.
const folded = (figure, width) => {
  const {strip} = figure.layout.meta.arranged, [cells, words] = figure.data, count = words.text.length;
  const wide = Math.max(2, Math.min(strip, Math.floor((width - 24) / 66))), rows = Math.ceil(count / wide);
  const again = parts => Array.from({length: rows}, (_, r) => Array.from({length: wide}, (_, c) => {
    const i = r * wide + c;
    return i < count ? parts[Math.floor(i / strip)][i % strip] : null;
  }));
  const at = Array.from({length: count}, (_, i) => i), l = {...figure.layout, height: 150 + 38 * rows};
  l.margin = {l: 8, r: 16, t: 76, b: 20};
  return {...figure, layout: l, data: [
    {...cells, z: again(cells.z), customdata: again(cells.customdata),
      colorbar: level(cells.colorbar, 0.5, 1, 0.9, 40)},
    {...words, x: at.map(i => i % wide), y: at.map(i => Math.floor(i / wide))}]};
};
"""

SCRIPT = (
    ARRANGE
    + r"""
const extra = {responsive: true, ...(location.hash === '#picture' ? {displayModeBar: false} : {})};
const draw = (plot, how) => {
  const figure = read(plot.id + '-json'), width = plot.clientWidth, config = {...read('config'), ...extra};
  const strip = ((figure.layout.meta || {}).arranged || {}).strip;
  const {data, layout, frames} = width >= NARROW ? figure : strip ? folded(figure, width) : narrow(figure, width);
  plot.drawn = width;
  plot.style.height = `${layout.height || 450}px`;
  Plotly[how](plot, {data, layout: {...layout, ...look(layout)}, frames, config});
};
for (const plot of document.querySelectorAll('.plot')) {
  draw(plot, 'newPlot');
  const dark = window.matchMedia('(prefers-color-scheme: dark)');
  dark.addEventListener('change', () => Plotly.relayout(plot, look(plot.layout)));
  window.addEventListener('resize', () => {
    const least = Math.min(plot.clientWidth, plot.drawn);
    if (plot.clientWidth !== plot.drawn && least < NARROW) draw(plot, 'react');
  });
}
"""
)
