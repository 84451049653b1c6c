// Pictures of numbers: a table in colours, small lines, and curves over tokens.

const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// A colour of the scale for a number between -1 and 1, as [red, green, blue].
const toned = (stops, value) => {
  const place = Math.max(0, Math.min(1, (value + 1) / 2)), next = Math.max(1, stops.findIndex(([at]) => at >= place));
  const [[from, low], [to, high]] = [stops[next - 1], stops[next]], share = (place - from) / (to - from);
  return [1, 3, 5].map(i => {
    const [a, b] = [low, high].map(tone => parseInt(tone.slice(i, i + 2), 16));
    return a + share * (b - a);
  });
};

const painted = (canvas, values, start, rows, columns, most, stops) => {
  Object.assign(canvas, {width: columns, height: rows});
  const pen = canvas.getContext('2d'), image = pen.createImageData(columns, rows);
  for (let i = 0; i < rows * columns; i++) {
    image.data.set([...toned(stops, most ? values[start + i] / most : 0), 255], 4 * i);
  }
  pen.putImageData(image, 0, 0);
};

// A small curve of numbers between 0 and 1; the token at `at` is marked.
const spark = (canvas, values, at, colour) => {
  const wide = 88, high = 26, ratio = 2, pen = canvas.getContext('2d');
  Object.assign(canvas, {width: wide * ratio, height: high * ratio});
  pen.scale(ratio, ratio);
  const x = i => 3 + (wide - 6) * (values.length < 2 ? 0.5 : i / (values.length - 1));
  const y = value => high - 3 - (high - 6) * value;
  pen.strokeStyle = pen.fillStyle = colour;
  pen.lineWidth = 1.5;
  pen.beginPath();
  values.forEach((value, i) => i ? pen.lineTo(x(i), y(value)) : pen.moveTo(x(i), y(value)));
  pen.stroke();
  if (at in values) {
    pen.beginPath();
    pen.arc(x(at), y(values[at]), 2.6, 0, 7);
    pen.fill();
  }
};

const svg = (tag, facts, ...inside) => {
  const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(facts)) node.setAttribute(name, value);
  node.append(...inside);
  return node;
};

// Curves over tokens from 0 to `end`. curves: [{kind, name, at: token => number}]; `now` is the token that is marked.
const chart = ({curves, end, now, marked, label}) => {
  const narrow = innerWidth < 560, wide = narrow ? 350 : 640, high = 240, left = 8, foot = 30, top = 26;
  const most = Math.max(...curves.map(curve => curve.at(end))), x = token => left + (wide - 2 * left) * token / end;
  const y = number => high - foot - (high - foot - top) * number / most;
  const text = (words, place, anchor, kind = '') => svg('text', {...place, 'text-anchor': anchor, class: kind}, words);
  const root = svg('svg', {viewBox: `0 0 ${wide} ${high}`, role: 'img', 'aria-label': label, class: 'chart'});
  root.append(svg('line', {x1: left, x2: wide - left, y1: y(0), y2: y(0), class: 'axis'}));
  root.append(text('0 tokens', {x: left, y: high - 8}, 'start'));
  root.append(text(`${whole(end)} tokens`, {x: wide - left, y: high - 8}, 'end'));
  for (const {kind, name, at} of curves) {
    root.append(svg('line', {x1: x(0), y1: y(at(0)), x2: x(end), y2: y(at(end)), class: 'curve', 'data-kind': kind}));
    const over = kind === 'deltanet' ? {x: wide - left, y: y(at(end)) + 18} : {x: wide - left - 2, y: y(at(end)) - 8};
    root.append(text(name, over, 'end', 'name'));
  }
  if (marked > 0 && marked < end) {
    root.append(svg('line', {x1: x(marked), x2: x(marked), y1: y(0), y2: y(most), class: 'mark'}));
    const late = marked > end / 2, side = late ? -6 : 6;
    root.append(text(`token ${whole(marked)}`, {x: x(marked) + side, y: y(most) + 14}, late ? 'end' : 'start'));
  }
  for (const {kind, at} of curves) {
    root.append(svg('circle', {cx: x(now), cy: y(at(now)), r: 5, class: 'dot', 'data-kind': kind}));
  }
  return root;
};
