// From text to token ids as nano's tokenizer does it: tags whole, NFC, words apart, bytes, then merges by rank.
// Which signs are letters, marks, numbers or blanks, and what NFC knows, is asked of the tokenizer when the page is
// built: browsers know other versions of Unicode than it does.

class Tokenizer {
  constructor({vocabulary, merges, added, classes, known}) {
    this.texts = [...vocabulary];
    this.ids = new Map(vocabulary.map((text, id) => [text, id]));
    this.ranks = new Map(merges.map((pair, rank) => [pair, rank]));
    this.added = new Map(added);
    for (const [text, id] of added) this.texts[id] = text;
    const tags = added.map(([text]) => text).sort((a, b) => b.length - a.length);
    this.tags = new RegExp(`(${tags.map(tag => tag.replace(/[|<>/]/g, '\\$&')).join('|')})`);
    const point = code => `\\u{${code.toString(16)}}`;
    const set = name => rangesOf(classes[name]).map(([from, to]) => `${point(from)}-${point(to)}`).join('');
    const [letter, mark, number, blank] = ['letter', 'mark', 'number', 'blank'].map(set);
    this.words = new RegExp([
      "'(?:[sS\\u017f]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])",
      `[^\\r\\n${letter}${number}]?[${letter}${mark}]+`,
      `[${number}]`,
      ` ?[^${blank}${letter}${mark}${number}]+[\\r\\n]*`,
      `[${blank}]*[\\r\\n]+`,
      `[${blank}]+(?![^${blank}])`,
      `[${blank}]+`,
    ].join('|'), 'gu');
    this.known = rangesOf(known);
    this.strange = new Map();
    this.letters = Tokenizer.alphabet();
    this.bytes = new Map([...this.letters].map((letter, byte) => [letter, byte]));
  }

  // The letter that stands for each byte in the vocabulary.
  static alphabet() {
    let free = 256;
    const shown = byte => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    return Array.from({length: 256}, (_, byte) => String.fromCharCode(shown(byte) ? byte : free++));
  }

  encode(text) {
    const whole = text.isWellFormed && !text.isWellFormed() ? text.toWellFormed() : text;
    return whole.split(this.tags).flatMap(part => {
      if (this.added.has(part)) return [this.added.get(part)];
      return [...this.normal(part).matchAll(this.words)].flatMap(([word]) => this.merged(word));
    });
  }

  // Whether the browser knows a sign to combine or to be composed that the tokenizer's older NFC takes as it is.
  isStrange(sign) {
    if (sign < '\u0300') return false;
    if (!this.strange.has(sign)) {
      const moves = [`a${sign}\u0334`, `a\u0301${sign}`].some(text => text.normalize('NFD') !== text);
      this.strange.set(sign, moves && !within(this.known, sign.codePointAt(0)));
    }
    return this.strange.get(sign);
  }

  normal(text) {
    if (/^[\0-\u02ff]*$/.test(text)) return text.normalize('NFC');
    const parts = [''];
    for (const sign of text) {
      if (this.isStrange(sign)) parts.push(sign, '');
      else parts[parts.length - 1] += sign;
    }
    const kept = sign => this.isStrange(sign) ? sign.normalize('NFD') : sign;
    return parts.map((part, i) => i % 2 ? part : Array.from(part.normalize('NFC'), kept).join('')).join('');
  }

  // Ids of one word: of all neighbours those are merged first that the training merged first.
  merged(word) {
    let parts = Array.from(new TextEncoder().encode(word), byte => this.letters[byte]);
    for (;;) {
      let best = Infinity;
      for (let i = 1; i < parts.length; i++) best = Math.min(best, this.rank(parts, i));
      if (best === Infinity) return parts.map(part => this.ids.get(part));
      const next = [];
      for (let i = 0; i < parts.length; i++) {
        const joins = i + 1 < parts.length && this.rank(parts, i + 1) === best;
        next.push(joins ? parts[i] + parts[++i] : parts[i]);
      }
      parts = next;
    }
  }

  rank(parts, i) {
    return this.ranks.get(`${parts[i - 1]} ${parts[i]}`) ?? Infinity;
  }

  id(text) {
    const letters = Array.from(new TextEncoder().encode(text), byte => this.letters[byte]);
    return this.added.get(text) ?? this.ids.get(letters.join(''));
  }

  // The bytes of a token, for text that goes over several tokens.
  raw(id) {
    const text = this.texts[id];
    if (this.added.has(text)) return new TextEncoder().encode(text);
    return Uint8Array.from(text, letter => this.bytes.get(letter));
  }

  decode(ids) {
    return new TextDecoder().decode(Uint8Array.from(ids.flatMap(id => [...this.raw(id)])));
  }
}
