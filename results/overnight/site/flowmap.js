// The flow maps of the checkerboard, X_{s,t}(x) = x + (t - s) v_{s,t}(x), as fewstep.networks.mlp computes them.
"use strict";

const SQRT3 = Math.sqrt(3);
// erf to 1.2e-7 (Numerical Recipes' erfc), which float32 does not tell from the exact one
const erf = (x) => {
  const z = Math.abs(x), t = 1 / (1 + z / 2);
  const series = [1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398, 1.48851587, -0.82215223, 0.17087277];
  const sum = series.reduceRight((total, own) => own + t * total, 0);
  const rest = t * Math.exp(-z * z - 1.26551223 + t * sum);
  return x < 0 ? rest - 1 : 1 - rest;
};
const ACTIVATIONS = {
  silu: (x) => x / (1 + Math.exp(-x)),
  gelu: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
};

const floats = (text) => {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0)), view = new DataView(bytes.buffer);
  return Float64Array.from({ length: bytes.length / 4 }, (_, k) => view.getFloat32(4 * k, true));
};

class FlowMap {
  constructor(network) {
    this.activation = ACTIVATIONS[network.activation];
    this.frequencies = network.frequencies;
    this.timeFrequencies = network.time_frequencies;
    this.layers = network.layers.map(([[rows, columns], weight, bias]) => ({ rows, columns, weight: floats(weight), bias: floats(bias) }));
    this.buffers = [this.layers[0].columns, ...this.layers.map((layer) => layer.rows)].map((size) => new Float64Array(size));
  }

  // v_{s,t} at (x, y)
  average(s, t, x, y) {
    const input = this.buffers[0], angles = [];
    for (const k of this.frequencies) angles.push(k * x, k * y);
    for (const k of this.timeFrequencies) angles.push(k * s, k * t);
    input.set([x * SQRT3, y * SQRT3, 2 * s - 1, 2 * t - 1]);
    angles.forEach((angle, k) => {
      input[4 + k] = Math.sin(Math.PI * angle);
      input[4 + angles.length + k] = Math.cos(Math.PI * angle);
    });
    this.layers.forEach(({ rows, columns, weight, bias }, depth) => {
      const from = this.buffers[depth], to = this.buffers[depth + 1], last = depth === this.layers.length - 1;
      for (let row = 0, at = 0; row < rows; row++) {
        let sum = bias[row];
        for (let column = 0; column < columns; column++) sum += weight[at++] * from[column];
        to[row] = last ? sum : this.activation(sum);
      }
    });
    return this.buffers[this.buffers.length - 1];
  }

  jump(s, t, x, y) {
    const v = this.average(s, t, x, y);
    return [x + (t - s) * v[0], y + (t - s) * v[1]];
  }

  // N Euler steps of the diagonal v_{t,t} from 0 to 1, as the path of N + 1 points
  euler(calls, x, y) {
    const path = [[x, y]];
    for (let k = 0; k < calls; k++) {
      const v = this.average(k / calls, k / calls, ...path[k]);
      path.push([path[k][0] + v[0] / calls, path[k][1] + v[1] / calls]);
    }
    return path;
  }
}

// KL(checkerboard || histogram of the points), as fewstep.metrics.kl, for bins that divide the squares evenly
const klToCheckerboard = (points, bins) => {
  if (bins % 4) throw new Error("the bins must divide the squares: a multiple of 4");
  const counts = new Float64Array(bins * bins), cell = (v) => (v === 1 ? bins - 1 : Math.floor(((v + 1) / 2) * bins));
  for (const [x, y] of points) if (Math.abs(x) <= 1 && Math.abs(y) <= 1) counts[cell(x) * bins + cell(y)]++;
  const area = (2 / bins) ** 2, density = 0.5, mass = [];
  for (let i = 0; i < bins; i++)
    for (let j = 0; j < bins; j++)
      if ((Math.floor((4 * i) / bins) + Math.floor((4 * j) / bins)) % 2 === 0) mass.push(counts[i * bins + j]);
  const total = points.length + mass.filter((count) => count === 0).length / 2;
  return mass.reduce((sum, count) => sum + area * density * Math.log((density * total * area) / (count || 0.5)), 0);
};

const fewstep = {
  student: new FlowMap(fewstepWeights.student), teacher: new FlowMap(fewstepWeights.teacher),
  scale: fewstepWeights.scale, kl: klToCheckerboard,
};
