// The tables: one metric at a time with its chart, a filter, and all that is known of a cell.
"use strict";

const $ = (id) => document.getElementById(id);
const stored = JSON.parse($("data").textContent);
const cell = (id) => Object.fromEntries(stored.columns.map((name, k) => [name, stored.texts[stored.rows[id][k]]]));
const make = (tag, words = {}, ...inside) => {
  const own = tag === "svg" || make.svg.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  Object.entries(words).forEach(([name, value]) => own.setAttribute(name, value));
  own.append(...inside);
  return own;
};
make.svg = new Set(["g", "line", "polyline", "text", "circle", "path", "rect"]);
const short = (value) => String(Number(value.toPrecision(4)));

// --- one metric at a time ---
function choose(section, metric) {
  for (const button of section.querySelectorAll(".metrics button")) button.setAttribute("aria-pressed", button.dataset.metric === metric);
  for (const part of section.querySelectorAll(".metric")) {
    part.hidden = part.dataset.metric !== metric;
    if (!part.hidden && !part.querySelector("svg")) chart(part);
  }
}

// --- quality against network calls, each line linked to its row ---
function chart(part) {
  const lines = [...part.querySelectorAll("tbody tr")].map((row) => ({
    row, name: row.dataset.method,
    points: [...row.querySelectorAll(".cell")].map((own) => ({ id: own.dataset.id, n: Number(own.dataset.calls), v: Number(own.dataset.value) })),
  }));
  const all = lines.flatMap((line) => line.points);
  const calls = [...new Set(all.map((p) => p.n))].sort((a, b) => a - b);
  if (calls.length < 2) return;
  const values = all.map((p) => p.v), low = Math.min(...values), high = Math.max(...values);
  const log = low > 0 && high / low > 8, scale = log ? Math.log : (v) => v;
  const W = Math.max(320, Math.min(640, part.clientWidth)), L = 56, T = 14, B = 40;
  const H = Math.max(260, 15 * lines.length + T + B), R = 22 + 6.6 * Math.max(...lines.map((line) => line.name.length));
  const x = (n) => L + ((W - L - R) * Math.log(n / calls[0])) / Math.log(calls[calls.length - 1] / calls[0]);
  const span = scale(high) - scale(low) || 1, y = (v) => H - B - ((H - T - B) * (scale(v) - scale(low))) / span;
  const svg = make("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${part.dataset.metric} against network calls, the numbers of the table below` });
  let last = -Infinity;
  for (const n of calls) {
    svg.append(make("line", { class: "grid", x1: x(n), x2: x(n), y1: T, y2: H - B }));
    if (x(n) - last > 22) svg.append(make("text", { x: x(n), y: H - B + 18, "text-anchor": "middle" }, n)), (last = x(n));
  }
  for (const v of log ? [low, Math.sqrt(low * high), high] : [low, (low + high) / 2, high])
    svg.append(make("text", { x: L - 8, y: y(v) + 4, "text-anchor": "end" }, String(Number(v.toPrecision(3)))));
  svg.append(make("text", { x: L, y: H - 5 }, log ? "network calls; both axes logarithmic" : "network calls"));
  // names at the right ends, pushed apart
  const names = lines.filter((l) => l.points.length).map((l) => ({ l, at: y(l.points[l.points.length - 1].v) })).sort((a, b) => a.at - b.at);
  const gap = 15;
  names.forEach((own, k) => { if (k) own.at = Math.max(own.at, names[k - 1].at + gap); });
  for (let k = names.length - 1, most = H - B; k >= 0; k--) { names[k].at = Math.min(names[k].at, most); most = names[k].at - gap; }
  for (const { l, at } of names) {
    const end = l.points[l.points.length - 1];
    const group = make("g", { class: "line", "data-method": l.name },
      make("polyline", { points: l.points.map((p) => `${x(p.n)},${y(p.v)}`).join(" ") }),
      ...l.points.map((p) => make("circle", { cx: x(p.n), cy: y(p.v), r: 3.5, "data-id": p.id })),
      make("path", { class: "lead", d: `M${x(end.n) + 5} ${y(end.v)}L${W - R + 8} ${at}` }),
      make("text", { x: W - R + 12, y: at + 4 }, l.name));
    group.addEventListener("pointerenter", () => mark(part, l.name));
    group.addEventListener("pointerleave", () => mark(part, null));
    group.addEventListener("click", (event) => show(event.target.dataset.id ?? end.id));
    l.row.addEventListener("pointerenter", () => mark(part, l.name));
    l.row.addEventListener("pointerleave", () => mark(part, null));
    l.row.addEventListener("focusin", () => mark(part, l.name));
    l.row.addEventListener("focusout", () => mark(part, null));
    svg.append(group);
  }
  part.querySelector(".chart").append(svg);
}

function mark(part, name) {
  part.classList.toggle("marking", name !== null);
  for (const own of part.querySelectorAll("[data-method]")) own.classList.toggle("marked", own.dataset.method === name);
}

// --- all that is known of a cell ---
let chosen = null;
function show(id) {
  const c = cell(id), button = $(`cell-${id}`), detail = $("detail");
  document.querySelectorAll(".cell[aria-current]").forEach((own) => own.removeAttribute("aria-current"));
  button.setAttribute("aria-current", "true");
  chosen = button;
  const apart = c.seeds.includes("training") ? "between training seeds" : "between sampling seeds";
  const rows = [
    ["value", String(c.value)],
    ["deviations", [c.sd === null ? null : `${short(c.sd)} ${apart}`, c.sd_sampling === null ? null : `${short(c.sd_sampling)} between sampling seeds of a training`].filter(Boolean).join("; ") || "none: one seed"],
    ["seeds", `${c.seeds}, ${c.samples.toLocaleString("en")} samples`],
    ["published", c.published === null ? c.status : `${short(c.published)}, ${c.status}; ours less theirs ${short(c.value - c.published)}`],
    ["published in", c.source],
    ["protocol", make("ul", {}, ...c.protocol.split("; ").map((own) => make("li", {}, own)))],
    ["settings", make("a", { href: `../settings/${c.parameters}.json` }, `${c.parameters}.json`)],
    ["notebook", make("a", { href: `notebooks/${c.notebook}.html` }, c.notebook)],
    ["commit", make("code", {}, c.revision)],
    ["machine", `${c.hardware}; ${c.software}`],
    ["again by", make("code", {}, button.closest("section").dataset.again)],
  ];
  const close = make("button", { type: "button", class: "close" }, "Close");
  close.addEventListener("click", hide);
  const list = make("dl", {});
  for (const [name, value] of rows) if (value !== null && value !== "") list.append(make("dt", {}, name), make("dd", {}, value));
  detail.replaceChildren(close, make("h2", {}, `${c.method}, N = ${c.nfe}`), make("p", { class: "note" }, `${c.metric} of ${c.table}`), list);
  detail.classList.add("open");
}

function hide() {
  $("detail").classList.remove("open");
  $("detail").replaceChildren(make("p", { class: "note" }, "No cell is selected."));
  chosen?.removeAttribute("aria-current");
  chosen?.focus();
}

// --- the filter: every word must be found in a row's table, metric or method ---
function filter() {
  const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const section of document.querySelectorAll("section.table")) {
    let first = null, open = null;
    for (const part of section.querySelectorAll(".metric")) {
      let here = 0;
      for (const row of part.querySelectorAll("tbody tr")) {
        const said = `${section.dataset.table} ${part.dataset.metric} ${row.dataset.method}`.toLowerCase();
        row.hidden = !words.every((word) => said.includes(word));
        here += row.hidden ? 0 : 1;
      }
      for (const line of part.querySelectorAll(".line")) line.classList.toggle("away", part.querySelector(`tr[data-method="${CSS.escape(line.dataset.method)}"]`).hidden);
      section.querySelector(`.metrics button[data-metric="${CSS.escape(part.dataset.metric)}"]`).hidden = !here;
      if (here) { first ??= part.dataset.metric; if (!part.hidden) open = part.dataset.metric; }
      count += here;
    }
    section.hidden = first === null;
    if (first !== null && open === null) choose(section, first);
  }
  $("found").textContent = words.length ? `${count} rows` : "";
}

for (const section of document.querySelectorAll("section.table")) {
  section.querySelector(".metrics").addEventListener("click", (event) => event.target.dataset.metric && choose(section, event.target.dataset.metric));
  choose(section, section.querySelector(".metric").dataset.metric);
}
document.addEventListener("click", (event) => { const own = event.target.closest?.(".cell"); if (own) show(own.dataset.id); });
document.addEventListener("keydown", (event) => { if (event.key === "Escape" && $("detail").classList.contains("open")) hide(); });
$("filter").addEventListener("input", filter);
$("published").addEventListener("change", () => document.body.classList.toggle("with-published", $("published").checked));
document.querySelector(".filter").addEventListener("submit", (event) => event.preventDefault());

// a link to a cell opens its metric and shows it
function linked() {
  const own = document.getElementById(location.hash.slice(1));
  if (!own?.classList.contains("cell")) return;
  choose(own.closest("section.table"), own.closest(".metric").dataset.metric);
  own.scrollIntoView({ block: "center" });
  show(own.dataset.id);
}
addEventListener("hashchange", linked);
linked();
