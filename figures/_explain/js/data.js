// What the builder put into the page: sizes, prompts, vocabulary, and the weights as the bytes of float32 numbers.

const embedded = id => document.getElementById(id).textContent;

const bytesOf = text => {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
};

// {name: Float32Array}, views of one block of memory; rows of a matrix lie one after the other.
const weightsOf = (index, text) => {
  const block = new Float32Array(bytesOf(text).buffer), found = {};
  for (const [name, start, size] of index) found[name] = block.subarray(start, start + size);
  return found;
};

// "0-5,9" in base 36, each number counted from the last: the ranges of a set of code points, [[first, last], ...].
const rangesOf = text => {
  let at = 0;
  return text.split(',').filter(Boolean).map(part => part.split('-').map(number => at += parseInt(number, 36)))
    .map(ends => [ends[0], ends[ends.length - 1]]);
};

const within = (ranges, point) => {
  let low = 0, high = ranges.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ranges[middle][1] < point) low = middle + 1; else high = middle;
  }
  return low < ranges.length && ranges[low][0] <= point;
};
