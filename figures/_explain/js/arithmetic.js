// Sums and products of rows of numbers, in double precision; weights, states and what is kept are float32.

// matrix (rows lie one after the other) times x.
const times = (matrix, x, rows) => {
  const out = new Float64Array(rows), width = x.length;
  for (let row = 0, at = 0; row < rows; row++, at += width) {
    let a = 0, b = 0, c = 0, d = 0;
    for (let i = 0; i < width; i += 4) {
      a += matrix[at + i] * x[i];
      b += matrix[at + i + 1] * x[i + 1];
      c += matrix[at + i + 2] * x[i + 2];
      d += matrix[at + i + 3] * x[i + 3];
    }
    out[row] = a + b + (c + d);
  }
  return out;
};

const add = (x, y) => x.map((value, i) => value + y[i]);
const norm = x => Math.sqrt(x.reduce((sum, value) => sum + value * value, 0));
const sigmoid = x => 1 / (1 + Math.exp(-x));
const silu = x => x * sigmoid(x);
const softplus = x => x > 20 ? x : Math.log1p(Math.exp(x));

// x divided by its root mean square.
const evened = (x, eps) => {
  const scale = 1 / Math.sqrt(x.reduce((sum, value) => sum + value * value, 0) / x.length + eps);
  return x.map(value => value * scale);
};

// The family's norms keep their weights as differences from 1.
const rms = (x, weight, eps) => evened(x, eps).map((value, i) => value * (1 + weight[i]));

// x of length 1, but for what keeps a zero from being divided by.
const unit = x => {
  const scale = 1 / Math.sqrt(x.reduce((sum, value) => sum + value * value, 0) + 1e-6);
  return x.map(value => value * scale);
};

const softmax = x => {
  let most = -Infinity;
  for (const value of x) most = Math.max(most, value);
  const out = Float32Array.from(x, value => Math.exp(value - most));
  const sum = out.reduce((all, value) => all + value, 0);
  return out.map(value => value / sum);
};

const best = (values, count = 1) => {
  const order = Array.from(values.keys()).sort((a, b) => values[b] - values[a] || a - b);
  return order.slice(0, count);
};

const largest = values => {
  let at = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[at]) at = i;
  return at;
};
