// nano: one token at a time, through layers of two kinds.
//
//   D, Gated DeltaNet   S <- a S + k (b (v - (a S)'k))'   read as S'q; S [key, value] for every value head
//   A, gated attention  softmax over all tokens so far of q.k / sqrt(d), times their values, times a gate
//
// A token's record holds all that the next token needs: states, the last inputs of the convolutions, key and value.
// So going back to a token is dropping the records after it, and nothing is ever changed.

class Nano {
  constructor(config, weights, tokenizer) {
    Object.assign(this, {config, weights, tokenizer});
    const {rotary, base} = config, half = rotary / 2;
    this.turns = Array.from({length: half}, (_, i) => Math.fround(1 / Math.fround(base ** ((2 * i) / rotary))));
  }

  weight(layer, name) {
    return this.weights[`model.layers.${layer}.${name}.weight`] ?? this.weights[`model.layers.${layer}.${name}`];
  }
}

class Session {
  // silent(token, layer): whether the token writes nothing into that layer's states.
  constructor(nano, silent = () => false, records = []) {
    Object.assign(this, {nano, silent, records});
  }

  get length() {
    return this.records.length;
  }

  get last() {
    return this.records[this.length - 1];
  }

  get full() {
    return this.length >= this.nano.config.window;
  }

  back(count) {
    this.records.length = Math.min(count, this.length);
  }

  fork(count = this.length, silent = this.silent) {
    return new Session(this.nano, silent, this.records.slice(0, count));
  }

  // Reads one token; returns its record {id, logits, layers}.
  read(id) {
    const {config, weights} = this.nano, {hidden, eps} = config, embedding = weights['model.embed_tokens.weight'];
    let x = Float64Array.from(embedding.subarray(id * hidden, (id + 1) * hidden));
    const layers = config.kinds.map((kind, layer) => {
      const weight = name => this.nano.weight(layer, name);
      const input = rms(x, weight('input_layernorm'), eps);
      const made = kind === 'deltanet' ? this.remember(layer, input) : this.lookBack(layer, input);
      x = add(x, made.out);
      x = add(x, this.mlp(weight, rms(x, weight('post_attention_layernorm'), eps)));
      delete made.out;
      return made;
    });
    const logits = times(embedding, rms(x, weights['model.norm.weight'], eps), config.vocab);
    this.records.push({id, logits: Float32Array.from(logits), layers});
    return this.last;
  }

  mlp(weight, x) {
    const {inner, hidden} = this.nano.config, gate = times(weight('mlp.gate_proj'), x, inner);
    const up = times(weight('mlp.up_proj'), x, inner);
    return times(weight('mlp.down_proj'), gate.map((value, i) => silu(value) * up[i]), hidden);
  }

  // {out, keep, write, state, window}: numbers per value head, S of all, inputs of the convolution still in reach.
  remember(layer, x) {
    const {config} = this.nano, {keyHeads, valueHeads, dk, dv, taps, hidden, eps} = config;
    const weight = name => this.nano.weight(layer, `linear_attn.${name}`), before = this.last?.layers[layer];
    const width = keyHeads * dk, channels = 2 * width + valueHeads * dv;
    const mixed = times(weight('in_proj_qkv'), x, channels), z = times(weight('in_proj_z'), x, valueHeads * dv);
    const window = [...(before?.window ?? Array(taps - 1).fill(new Float32Array(channels))), mixed];
    const conv = weight('conv1d');
    const qkv = mixed.map((_, c) => silu(window.reduce((sum, input, tap) => sum + conv[c * taps + tap] * input[c], 0)));
    const b = times(weight('in_proj_b'), x, valueHeads), a = times(weight('in_proj_a'), x, valueHeads);
    const silent = this.silent(this.length, layer), rate = weight('A_log'), bias = weight('dt_bias');
    const write = b.map(value => silent ? 0 : sigmoid(value));
    const keep = a.map((value, h) => Math.exp(-Math.exp(rate[h]) * softplus(value + bias[h])));
    const state = new Float32Array(valueHeads * dk * dv), opened = new Float64Array(valueHeads * dv);
    for (let h = 0; h < valueHeads; h++) {
      const group = Math.floor(h / (valueHeads / keyHeads)), start = h * dk * dv;
      const q = unit(qkv.subarray(group * dk, (group + 1) * dk)).map(value => value / Math.sqrt(dk));
      const k = unit(qkv.subarray(width + group * dk, width + (group + 1) * dk));
      const v = qkv.subarray(2 * width + h * dv, 2 * width + (h + 1) * dv);
      const said = new Float64Array(dv), read = new Float64Array(dv);
      for (let i = 0, at = start; i < dk; i++) {
        for (let j = 0; j < dv; j++, at++) {
          state[at] = before ? before.state[at] * keep[h] : 0;
          said[j] += state[at] * k[i];
        }
      }
      for (let i = 0, at = start; i < dk; i++) {
        for (let j = 0; j < dv; j++, at++) {
          state[at] += k[i] * write[h] * (v[j] - said[j]);
          read[j] += state[at] * q[i];
        }
      }
      const even = evened(read, eps), scale = weight('norm');
      for (let j = 0; j < dv; j++) opened[h * dv + j] = even[j] * scale[j] * silu(z[h * dv + j]);
    }
    return {out: times(weight('out_proj'), opened, hidden), keep, write, state, window: window.slice(1)};
  }

  // {out, rows, gate, k, v}: for every query head the weights of all tokens so far, and how far its gate is open.
  lookBack(layer, x) {
    const {config} = this.nano, {queryHeads, kvHeads, headDim, hidden} = config;
    const weight = name => this.nano.weight(layer, `self_attn.${name}`);
    const asked = times(weight('q_proj'), x, 2 * queryHeads * headDim);
    const k = times(weight('k_proj'), x, kvHeads * headDim), v = times(weight('v_proj'), x, kvHeads * headDim);
    for (let h = 0; h < kvHeads; h++) this.turned(k.subarray(h * headDim, (h + 1) * headDim), weight('k_norm'));
    const past = [...this.records.map(record => record.layers[layer]), {k, v}];
    const opened = new Float64Array(queryHeads * headDim), gate = new Float32Array(queryHeads), rows = [];
    for (let h = 0; h < queryHeads; h++) {
      const q = asked.slice(2 * h * headDim, (2 * h + 1) * headDim), mixed = new Float64Array(headDim);
      const open = asked.subarray((2 * h + 1) * headDim, (2 * h + 2) * headDim).map(sigmoid);
      const from = Math.floor(h / (queryHeads / kvHeads)) * headDim;
      this.turned(q, weight('q_norm'));
      const row = softmax(past.map(({k: key}) => {
        let sum = 0;
        for (let i = 0; i < headDim; i++) sum += q[i] * key[from + i];
        return sum / Math.sqrt(headDim);
      }));
      past.forEach(({v: value}, j) => {
        for (let i = 0; i < headDim; i++) mixed[i] += row[j] * value[from + i];
      });
      for (let i = 0; i < headDim; i++) opened[h * headDim + i] = mixed[i] * open[i];
      gate[h] = open.reduce((sum, value) => sum + value, 0) / headDim;
      rows.push(row);
    }
    return {out: times(weight('o_proj'), opened, hidden), rows, gate, k, v};
  }

  // A query or key, in place: its norm, then its first channels turned by the token's position.
  turned(x, scale) {
    const {rotary, eps} = this.nano.config, half = rotary / 2;
    x.set(rms(x, scale, eps));
    this.nano.turns.forEach((turn, i) => {
      const angle = Math.fround(this.length * turn), [cos, sin] = [Math.cos(angle), Math.sin(angle)];
      [x[i], x[i + half]] = [x[i] * cos - x[i + half] * sin, x[i + half] * cos + x[i] * sin];
    });
  }
}
