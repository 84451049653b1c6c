// Pictures of the explorer: maps on a canvas, bars and lines as SVG, rows as tables. Texts are set as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";
const TONES = ["#0072B2", "#D55E00", "#009E73", "#CC79A7"], DASHES = ["", "6 3", "2 3", "8 3 2 3"];
const SIGNED = { up: "#208078", down: "#bf6d1d" };

function h(tag, facts = {}, ...inside) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(facts)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "tone" || key === "size" || key === "width") node.style.setProperty(`--${key}`, value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value != null) node.setAttribute(key, value);
  }
  // On the element that has the focus itself, or keys of JupyterLab, such as x for cutting the cell, act behind it.
  if (node.matches("button, textarea, [tabindex]")) node.setAttribute("data-lm-suppress-shortcuts", "true");
  node.append(...inside.filter(each => each != null));
  return node;
}

function s(tag, facts, text) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(facts)) node.setAttribute(key, value);
  if (text != null) node.textContent = text;
  return node;
}

const short = value => value == null || Number.isNaN(value) ? "–"
  : value === 0 ? "0" : Math.abs(value) >= 1000 || Math.abs(value) < 0.001 ? value.toExponential(1)
  : String(+value.toPrecision(3));

function numbers(text) {
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return new Float32Array(bytes.buffer);
}

function shade(stops, share) {
  const at = Math.min(Math.max(share, 0), 1);
  let i = 1;
  while (i < stops.length - 1 && at > stops[i][0]) i++;
  const [[a, low], [b, high]] = [stops[i - 1], stops[i]], part = (at - a) / (b - a);
  return [1, 3, 5].map(k => {
    const [x, y] = [low, high].map(tone => parseInt(tone.slice(k, k + 2), 16));
    return Math.round(x + (y - x) * Math.min(Math.max(part, 0), 1));
  });
}

// A map: cells on a canvas; pointer and arrow keys read them, a click chooses a row where rows are tokens.
function drawMap(home, view, acts) {
  const [down, right] = view.shape, z = numbers(view.z), canvas = h("canvas", { tabindex: "0", role: "img" });
  const read = h("div", { class: "lk-read", "aria-live": "polite" }), span = view.high - view.low || 1;
  canvas.width = right; canvas.height = down;
  canvas.style.aspectRatio = `${right} / ${Math.min(down, right * 1.2)}`;
  canvas.style.maxHeight = "380px";
  const paint = canvas.getContext("2d"), cells = paint.createImageData(right, down);
  for (let i = 0; i < z.length; i++) {
    const tone = Number.isNaN(z[i]) ? [128, 128, 128, 40] : [...shade(view.stops, (z[i] - view.low) / span), 255];
    cells.data.set(tone, 4 * i);
  }
  paint.putImageData(cells, 0, 0);
  const top = z.reduce((most, value, i) => Math.abs(value) > Math.abs(z[most] || 0) ? i : most, 0);
  const place = i => [Math.floor(i / right), i % right];
  const name = (names, at, word) => names ? `${word} ${view.first + at} “${names[at]}”` : `${word} ${at}`;
  const say = (row, column) => `${name(view.rows, row, view.down)}, ${name(view.columns, column, view.right)}: `
    + `${view.symbol} = ${short(z[row * right + column])}`;
  canvas.setAttribute("aria-label", `${view.long || view.symbol}, ${down} rows by ${right} columns; largest at ${say(...place(top))}`);
  let at = place(top);
  const show = (row, column) => { at = [row, column]; read.textContent = say(row, column); };
  const under = event => {
    const box = canvas.getBoundingClientRect();
    const share = [(event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width];
    return [[share[0], down], [share[1], right]].map(([part, count]) => Math.min(Math.max(Math.floor(part * count), 0), count - 1));
  };
  canvas.addEventListener("pointermove", event => show(...under(event)));
  canvas.addEventListener("keydown", event => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (step) {
      show(Math.min(Math.max(at[0] + step[0], 0), down - 1), Math.min(Math.max(at[1] + step[1], 0), right - 1));
      event.preventDefault();
    } else if (event.key === "Enter" && view.pick) acts.pick({ [view.pick]: view.first + at[0] });
  });
  if (view.pick) {
    canvas.style.cursor = "pointer";
    canvas.addEventListener("click", event => acts.pick({ [view.pick]: view.first + under(event)[0] }));
  }
  const box = h("div", { class: "lk-map" }, canvas);
  if (view.row >= 0) box.append(h("i", { style: `top:${100 * view.row / down}%;height:${100 / down}%` }));
  const scale = h("canvas", { "aria-hidden": "true" });
  scale.width = 60; scale.height = 1;
  const bar = scale.getContext("2d");
  for (let i = 0; i < 60; i++) { bar.fillStyle = `rgb(${shade(view.stops, i / 59)})`; bar.fillRect(i, 0, 1, 1); }
  read.textContent = `largest: ${say(...place(top))}`;
  home.append(h("div", { class: "lk-axis" }, h("span", {}, `${view.down} ↓   ${view.right} →`),
    h("span", {}, `${view.symbol} ${view.units ? `[${view.units}] ` : ""}`, h("span", { class: "lk-scale" }, `${short(view.low)} `, scale, ` ${short(view.high)}`))), box, read);
}

function frame(home, high) {
  const wide = Math.max(home.clientWidth || home.parentElement?.clientWidth || 400, 120);
  const svg = s("svg", { width: wide, height: high, viewBox: `0 0 ${wide} ${high}`, role: "img" });
  home.append(svg);
  return [svg, wide];
}

function scaled(view, high) {
  const span = view.high - view.low || 1, pad = 8;
  return value => high - pad - (Math.min(Math.max(value, view.low), view.high) - view.low) / span * (high - 2 * pad);
}

function marks(svg, view, y, left, wide) {
  for (const value of [...new Set([view.low, 0, view.high])]) {
    if (value < view.low || value > view.high) continue;
    svg.append(s("line", { x1: left, x2: wide, y1: y(value), y2: y(value), stroke: "currentColor", "stroke-opacity": value ? 0.15 : 0.5 }));
    svg.append(s("text", { x: left - 4, y: y(value) + 4, "text-anchor": "end" }, short(value)));
  }
}

// One bar per token or head; a click goes there.
function drawBars(home, view, acts) {
  const values = numbers(view.values), high = 150, left = 44, [svg, wide] = frame(home, high), y = scaled(view, high);
  const step = (wide - left) / values.length, chosen = view.pick === "token" ? acts.token() - view.first : view.chosen;
  const word = view.pick === "token" ? "token" : "head", read = h("div", { class: "lk-read" });
  const say = i => `${word} ${view.first + i}${acts.text(view, i)}: ${view.symbol} = ${short(values[i])}`;
  marks(svg, view, y, left, wide);
  values.forEach((value, i) => {
    if (i === chosen) svg.append(s("rect", { x: left + i * step, y: 0, width: step, height: high, fill: "currentColor", "fill-opacity": 0.12 }));
    if (Number.isNaN(value)) return;
    const tone = view.kind === "signed" ? (value < 0 ? SIGNED.down : SIGNED.up) : acts.tone();
    svg.append(s("rect", { x: left + i * step + step * 0.1, width: Math.max(step * 0.8, 0.8), y: Math.min(y(value), y(0)),
      height: Math.max(Math.abs(y(value) - y(0)), 0.5), fill: tone }));
  });
  const top = values.reduce((most, value, i) => Math.abs(value) > Math.abs(values[most] || 0) ? i : most, 0);
  svg.setAttribute("aria-label", `${view.long || view.symbol} of ${values.length} ${word}s; largest of those seen: ${say(top)}`);
  pointed(svg, values.length, left, wide, i => { read.textContent = say(i); }, i => acts.pick({ [view.pick]: view.first + i }));
  read.textContent = view.most.length ? "" : `largest: ${say(top)}`;
  home.append(read);
  if (!view.most.length) return;
  home.append(h("div", { class: "lk-most", role: "group", "aria-label": "heaviest tokens" }, h("span", {}, "heaviest:"),
    ...view.most.map(each => h("button", { type: "button", title: "go to this token", onclick: () => acts.pick({ token: each.at }) },
      `${each.at} “${each.text}” ${short(each.value)}`))));
}

function pointed(svg, count, left, wide, say, go) {
  const at = event => {
    const box = svg.getBoundingClientRect(), x = (event.clientX - box.left) / box.width * wide - left;
    return Math.min(Math.max(Math.floor(x / (wide - left) * count), 0), count - 1);
  };
  svg.style.cursor = "pointer";
  svg.addEventListener("pointermove", event => say(at(event)));
  svg.addEventListener("click", event => go(at(event)));
}

// A line per quantity over the tokens that are seen.
function drawLines(home, view, acts) {
  const lines = view.lines.map(line => ({ ...line, values: numbers(line.values) })), count = lines[0].values.length;
  const high = 150, left = 44, [svg, wide] = frame(home, high), y = scaled(view, high), step = (wide - left) / count;
  const x = i => left + (i + 0.5) * step, chosen = acts.token() - view.first, read = h("div", { class: "lk-read" });
  marks(svg, view, y, left, wide);
  if (chosen >= 0 && chosen < count) {
    svg.append(s("rect", { x: left + chosen * step, y: 0, width: Math.max(step, 1), height: high, fill: "currentColor", "fill-opacity": 0.12 }));
  }
  lines.forEach((line, n) => {
    const path = [...line.values].map((value, i) => `${i ? "L" : "M"}${x(i).toFixed(1)} ${y(value).toFixed(1)}`).join("");
    svg.append(s("path", { d: path, fill: "none", stroke: TONES[n % 4], "stroke-width": 1.8, "stroke-dasharray": DASHES[n % 4] }));
    if (count === 1) svg.append(s("circle", { cx: x(0), cy: y(line.values[0]), r: 3, fill: TONES[n % 4] }));
  });
  const say = i => `token ${view.first + i}${acts.text(view, i)}: `
    + lines.map(line => `${line.symbol} = ${short(line.values[i])}`).join(", ");
  svg.setAttribute("aria-label", lines.map(line => line.long || line.name).join("; ") + (chosen >= 0 && chosen < count ? `; at ${say(chosen)}` : ""));
  pointed(svg, count, left, wide, i => { read.textContent = say(i); }, i => acts.pick({ token: view.first + i }));
  if (chosen >= 0 && chosen < count) read.textContent = say(chosen);
  const legend = h("div", { class: "lk-row" });
  lines.forEach((line, n) => {
    const sample = s("svg", { width: 26, height: 8, "aria-hidden": "true" });
    sample.style.width = "26px";
    sample.append(s("line", { x1: 0, x2: 26, y1: 4, y2: 4, stroke: TONES[n % 4], "stroke-width": 2, "stroke-dasharray": DASHES[n % 4] }));
    legend.append(h("span", { title: line.long }, sample, ` ${line.name} ${line.symbol}`));
  });
  home.append(read, legend);
}

const tag = row => h("span", { class: `lk-tag ${row.kind}` }, `${row.layer} ${row.kind === "attention" ? "A" : "D"}`);
const share = (value, most) => h("span", { class: "lk-share", style: `width:${Math.round(56 * Math.abs(value) / (most || 1))}px` });

function table(heads, rows) {
  return h("div", { class: "lk-scroll", tabindex: "0" }, h("table", { class: "lk-rows" },
    h("thead", {}, h("tr", {}, ...heads.map(head => h("th", { scope: "col", title: head }, head)))),
    h("tbody", {}, ...rows.map(cells => h("tr", {}, ...cells.map(cell => h("td", {}, cell)))))));
}

function drawSaid(home, view) {
  const said = view.rows[0].said, most = Math.max(...view.rows.map(row => Math.abs(row.chance)));
  const first = row => row.said.map(each => `${each.text} ${short(each.chance)}`).join("   ");
  home.append(table(["layer", `p of “${view.answer}”`, ...(said ? ["likeliest after this layer"] : [])], view.rows.map(row => [
    tag(row), h("span", {}, share(row.chance, said ? 1 : most), short(row.chance)),
    ...(said ? [h("span", { title: first(row) }, first(row))] : [])])));
}

function drawBranches(home, view) {
  const cell = value => {
    const bar = share(value, view.high);
    bar.classList.add(value < 0 ? "down" : "up");
    return h("span", {}, bar, short(value));
  };
  const end = view.logit == null ? "" : `; with ${short(view.embedding)} of the embedding they sum to the logit, ${short(view.logit)}`;
  home.append(table(["layer", "mixer", "MLP"], view.rows.map(row => [tag(row), cell(row.mixer), cell(row.mlp)])),
    h("div", { class: "lk-read" }, `logit of “${view.answer}”${end}`));
}

function drawLikeliest(home, view, acts) {
  home.append(table([view.show === "after" ? "with the edits" : "next token", "p"], view.rows.map(row => [
    h("button", { type: "button", "aria-pressed": String(row.id === acts.answer()), title: "follow this token in the card of the stream",
      onclick: () => acts.pick({ answer: row.id }) }, row.text),
    h("span", {}, share(row.chance, 1), short(row.chance))])));
}

const DRAWN = { map: drawMap, bars: drawBars, lines: drawLines, said: drawSaid, branches: drawBranches, likeliest: drawLikeliest };
