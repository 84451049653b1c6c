// Tokens and numbers as text. What somebody typed is only ever placed as text, never as markup.

// Signs that turn, hide or control what stands around them are spelt out.
const HIDDEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0]/gu;
const SIGNS = {'\n': '⏎', '\t': '⇥', '\r': '␍'};
const inert = text => text.replace(/[\n\t\r]/g, sign => SIGNS[sign])
  .replace(HIDDEN, sign => `\\u{${sign.codePointAt(0).toString(16)}}`);

// A token as it is shown: a dot for the blank before a word, bytes that are no whole sign as numbers.
const shown = (nano, id) => {
  const bytes = nano.tokenizer.raw(id);
  let text;
  try {
    text = new TextDecoder('utf-8', {fatal: true, ignoreBOM: true}).decode(bytes);
  } catch {
    return Array.from(bytes, byte => `\\x${byte.toString(16).padStart(2, '0')}`).join('');
  }
  return inert(text).replace(/ /g, '·');
};

const quoted = (nano, id) => `“${shown(nano, id)}”`;
const whole = number => Math.round(number).toLocaleString('en');
// The blank before the sign does not break; what is not all and not nothing is not shown as such.
const percent = share => {
  const fine = share < 0.0995 || share > 0.9949;
  if (share > 0 && share < 0.0005) return '< 0.1\u00a0%';
  if (share < 1 && share >= 0.9995) return '> 99.9\u00a0%';
  return `${share === 0 || share === 1 ? 100 * share : (100 * share).toFixed(fine ? 1 : 0)}\u00a0%`;
};
const decimal = (number, places = 2) => number.toFixed(places).replace('-', '−');
const small = number => number === 0 ? '0' : number.toExponential(1).replace('-', '−');
const counted = (count, word) => `${whole(count)} ${word}${count === 1 ? '' : 's'}`;
const listed = words => words.length < 2 ? words.join('')
  : `${words.slice(0, -1).join(', ')} and ${words[words.length - 1]}`;
const COLOURS = {deltanet: 'D', attention: 'A'};
const layersOf = (nano, kind) => nano.config.kinds.flatMap((each, layer) => each === kind ? [layer] : []);
