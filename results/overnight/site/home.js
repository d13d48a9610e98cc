// The first page: noise points to drag, Euler's path beside one jump, and the KL of a cloud of samples.
"use strict";

const COUNT = 1024, BINS = 16, HANDLES = 6, EDGE = 1.5;
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

// the same noise on every visit, until another is asked for (mulberry32)
let seed = 7;
const uniform = () => {
  seed = (seed + 0x6d2b79f5) | 0;
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
};
const normal = () => fewstep.scale * Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
const draw = (count) => Array.from({ length: count }, () => [normal(), normal()]);

let noise = draw(COUNT);
const handles = [[-0.75, 0.5], [-0.4, -0.7], [0.05, 0.3], [0.35, -0.25], [0.6, 0.8], [0.85, -0.6]];
const calls = () => 2 ** Number($("calls").value), time = () => Number($("time").value);

// where a path of N Euler steps is at time t: on the straight line of its step
const along = (path, t) => {
  const n = path.length - 1, k = Math.min(Math.floor(t * n + 1e-9), n - 1), part = t * n - k;
  return { reached: path.slice(0, k + 1), point: [0, 1].map((d) => path[k][d] + part * (path[k + 1][d] - path[k][d])) };
};

const sides = {
  teacher: { path: (n, t, x, y) => { const { reached, point } = along(fewstep.teacher.euler(n, x, y), t); return [...reached, point]; } },
  student: { path: (n, t, x, y) => [[x, y], fewstep.student.jump(0, t, x, y)] },
};

for (const [name, side] of Object.entries(sides)) {
  const svg = $(`${name}-paths`);
  side.lines = handles.map(() => svg.appendChild(document.createElementNS(SVG, "polyline")));
  side.steps = handles.map(() => svg.appendChild(document.createElementNS(SVG, "path")));
  side.ends = handles.map(() => { const end = svg.appendChild(document.createElementNS(SVG, "circle")); end.setAttribute("class", "end"); end.setAttribute("r", 0.035); return end; });
  side.starts = handles.map((_, k) => {
    const start = svg.appendChild(document.createElementNS(SVG, "circle"));
    const words = { class: "start", r: 0.048, tabindex: 0, role: "button", "aria-label": `Noise point ${k + 1}, arrow keys move it` };
    Object.entries(words).forEach((word) => start.setAttribute(...word));
    start.addEventListener("pointerdown", (event) => { start.setPointerCapture(event.pointerId); event.preventDefault(); start.focus(); });
    start.addEventListener("pointermove", (event) => {
      if (!start.hasPointerCapture(event.pointerId)) return;
      const box = svg.getBoundingClientRect(), at = (v, from, size) => Math.max(-EDGE, Math.min(EDGE, ((v - from) / size) * 2 * EDGE - EDGE));
      move(k, at(event.clientX, box.left, box.width), -at(event.clientY, box.top, box.height));
    });
    start.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (!step) return;
      event.preventDefault();
      move(k, ...handles[k].map((v, d) => Math.max(-EDGE, Math.min(EDGE, v + 0.05 * step[d]))));
    });
    return start;
  });
}

const move = (k, x, y) => { handles[k] = [x, y]; drawPaths(k); };
const text = ([x, y]) => `${x.toFixed(4)},${(-y).toFixed(4)}`;

function drawPaths(only) {
  for (const side of Object.values(sides))
    handles.forEach(([x, y], k) => {
      if (only !== undefined && k !== only) return;
      const path = side.path(calls(), time(), x, y), end = path[path.length - 1];
      side.lines[k].setAttribute("points", path.map(text).join(" "));
      side.steps[k].setAttribute("d", path.slice(1, -1).map((p) => `M${text(p)}h0`).join(""));
      side.ends[k].setAttribute("cx", end[0]); side.ends[k].setAttribute("cy", -end[1]);
      side.starts[k].setAttribute("cx", x); side.starts[k].setAttribute("cy", -y);
    });
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);

function drawCloud(name, points) {
  const canvas = $(`${name}-cloud`), size = Math.round(canvas.clientWidth * devicePixelRatio);
  if (canvas.width !== size) canvas.width = canvas.height = size;
  const pen = canvas.getContext("2d"), place = (v) => ((v + EDGE) / (2 * EDGE)) * size;
  pen.clearRect(0, 0, size, size);
  pen.fillStyle = colour("--square");
  for (let i = 0; i < 4; i++) for (let j = 0; j < 4; j++) if ((i + j) % 2 === 0) pen.fillRect(place(i / 2 - 1), place(0.5 - j / 2), size / 6, size / 6);
  pen.fillStyle = colour("--dot");
  const dot = size / 180;
  for (const [x, y] of points) pen.fillRect(place(x) - dot / 2, place(-y) - dot / 2, dot, dot);
}

// the clouds in slices of ten milliseconds, so that the page stays awake; a later request ends an earlier one
let request = 0;
async function drawClouds() {
  const own = ++request, n = calls(), t = time();
  for (const name of Object.keys(sides)) $(`${name}-kl`).textContent = t === 1 ? "…" : "–";
  for (const [name, side] of Object.entries(sides).reverse()) {
    const points = [];
    let until = performance.now() + 10;
    for (const [x, y] of noise) {
      points.push(side.path(n, t, x, y).pop());
      if (performance.now() > until) {
        await new Promise((done) => setTimeout(done));
        if (own !== request) return;
        until = performance.now() + 10;
      }
    }
    side.points = points;
    drawCloud(name, points);
    if (t === 1) $(`${name}-kl`).textContent = fewstep.kl(points, BINS).toFixed(2);
  }
}

function update() {
  const n = calls(), said = `${n} ${n === 1 ? "call" : "calls"}`;
  $("calls-said").textContent = n; $("calls").setAttribute("aria-valuetext", n); $("teacher-calls").textContent = said;
  $("time-said").textContent = time().toFixed(2);
  drawPaths();
  drawClouds();
}

$("calls").addEventListener("input", update);
$("time").addEventListener("input", update);
$("again").addEventListener("click", () => { noise = draw(COUNT); drawClouds(); });
addEventListener("resize", () => Object.entries(sides).forEach(([name, side]) => side.points && drawCloud(name, side.points)));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => Object.entries(sides).forEach(([name, side]) => side.points && drawCloud(name, side.points)));
update();
