// The report's page: draws the figures, and shows the ranking of the chosen rule, which Python computed.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const MOST_FOLLOWED = 5; // networks whose curves are drawn
const DASHES = ["none", "8 3", "3 2", "10 3 2 3", "1 3"]; // of the first, second ... of them
const NEAR = 24; // pixels from a point within which a press is meant for it
const byId = (id) => document.getElementById(id);
const finite = (value) => value !== null && Number.isFinite(value);
const rows = data.label.map((_, row) => row);
const colour = (row) => `var(--${data.answers[data.answer[row]][1]})`;
const values = (name) => (row) => data.mean[name]?.[row] ?? null;
const accuracy = values("accuracy");
const state = { order: [], place: new Map(), gap: 0 };

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

// ---- the details of a network, where it is pressed ----

function valueList(pairs) {
  return element("dl", { class: "values" }, ...pairs.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
}

function details(row) {
  const shown = Object.keys(data.text).filter((name) => data.text[name][row] !== "-");
  const comparison = [["against the best", data.in_words[row]], ["below the best", data.difference[row]], ["seeds", data.seeds[row].join(", ")], ["on the Pareto front", data.front[row] ? "yes" : "no"]];
  const parts = [valueList([...comparison, ...Object.entries(data.params[row])]), valueList(shown.map((name) => [data.words[name], data.text[name][row]]))];
  if (data.commands[row].length) {
    const text = data.commands[row].join("\n");
    const copy = element("button", { type: "button", class: "copy", onclick: () => copyText(text, copy) }, "Copy");
    parts.push(element("p", { class: "quiet" }, "To train it again, with the same data, recipe and seeds (add --data-root DIR if the data are not in ./data):"), element("pre", {}, text), copy);
  }
  return parts;
}

async function copyText(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch { // browsers may forbid this for a file opened from disk
    button.textContent = "Mark the text and copy it";
  }
}

function place(box, target, above) {
  const at = target.getBoundingClientRect(), up = above && at.top > box.offsetHeight + 16;
  box.style.left = `${Math.max(8, Math.min(at.left, document.documentElement.clientWidth - box.offsetWidth - 8)) + scrollX}px`;
  box.style.top = `${(up ? at.top - box.offsetHeight - 8 : at.bottom + 8) + scrollY}px`;
}

function openCard(row, point) {
  const card = byId("card"), close = element("button", { type: "button", onclick: () => card.hidePopover() }, "Close");
  card.replaceChildren(element("header", {}, element("h3", {}, data.label[row]), close), ...details(row));
  card.showPopover();
  place(card, point);
  close.focus();
  point.classList.add("open");
  card.ontoggle = ({ newState }) => {
    if (newState === "closed") point.classList.remove("open");
  };
}

function expand(button) {
  const line = button.closest("tr"), open = button.getAttribute("aria-expanded") === "true";
  button.setAttribute("aria-expanded", String(!open));
  if (open) line.nextElementSibling.remove();
  else line.after(element("tr", { role: "row", class: "expansion" }, element("td", { role: "cell", colspan: line.cells.length }, ...details(Number(button.dataset.row)))));
}

// ---- explanations on hover and focus ----

function explain(event) {
  const target = event.target.closest?.("[data-tip], .term"), tip = byId("tip");
  if (!target) return tip.hidePopover();
  tip.textContent = target.dataset.tip ?? byId(target.getAttribute("aria-describedby")).textContent;
  tip.showPopover();
  place(tip, target, true);
}

// ---- the choice of the finalists ----

// The ranking that Python computed for a rule, or for the largest gap up to the given one.
function choose(rule, gap) {
  const ranking = rule ? data.rankings[rule.ranking] : data.rankings.findLast((one) => one.from !== null && one.from <= gap);
  state.gap = !rule && data.thinned ? ranking.from : gap; // in a large study not every gap has a ranking
  state.order = ranking.order;
  state.place.clear();
  ranking.order.forEach((row, i) => state.place.set(row, ranking.tied.includes(i) ? state.place.get(ranking.order[i - 1]) : i + 1));
  for (const button of document.querySelectorAll("[data-rule]")) button.setAttribute("aria-pressed", String(button.dataset.rule === rule?.key));
  const slider = byId("gap"), exact = byId("gap-number");
  slider.value = state.gap;
  slider.setAttribute("aria-valuetext", `${state.gap.toFixed(4)}, ${state.order.length} networks`);
  if (document.activeElement !== exact) exact.value = Number(state.gap.toFixed(6));
  complain("");
  const who = rule ? rule.name : `at most ${state.gap.toFixed(4)} below the best`;
  byId("chosen").textContent = `${state.order.length} of ${data.compared} networks: ${who}. First choice: ${data.label[state.order[0]]}.`;
  byId("order").textContent = data.orders[ranking.by];
  showTable(ranking);
  draw(byId("front-figure"));
}

function showTable(ranking) {
  const others = rows.filter((row) => !state.place.has(row)).sort((a, b) => (accuracy(b) ?? -1) - (accuracy(a) ?? -1));
  const lines = [...state.order, ...others].flatMap((row) => {
    const line = byId(`network-${row}`), at = ranking.order.indexOf(row);
    line.classList.toggle("finalist", at >= 0);
    const shared = ranking.tied.includes(at) || ranking.tied.includes(at + 1);
    line.cells[0].textContent = at < 0 ? "" : `${state.place.get(row)}${shared ? " =" : ""}`;
    const next = line.nextElementSibling;
    return next?.classList.contains("expansion") ? [line, next] : [line];
  });
  byId("network-table").tBodies[0].replaceChildren(...lines);
}

// Shows why the exact gap is not valid, in the browser's words; clears the message if it is.
function complain(why) {
  const exact = byId("gap-number");
  if (why) exact.setAttribute("aria-invalid", "true");
  else exact.removeAttribute("aria-invalid");
  byId("gap-wrong").textContent = why && `${why} The finalists are still those at ${state.gap.toFixed(4)}.`;
}

// ---- figures ----

const drawings = { "front-figure": drawFront, "parallel-figure": drawParallel, "curves-figure": drawCurves, "profiles-figure": drawProfiles };

function draw(box, width = box?.clientWidth) {
  if (!width) return; // a folded part is drawn when it opens
  box.replaceChildren(...[drawings[box.id](Math.floor(width))].flat());
  box.dataset.width = width;
}

function drawFront(width) {
  const name = byId("x").value, x = values(name), [low, high] = data.range;
  const known = rows.filter((row) => finite(x(row)) && finite(accuracy(row))), shown = known.filter((row) => accuracy(row) >= low);
  const parts = Object.keys(data.answers).map((answer) => shown.filter((row) => data.answer[row] === answer));
  const outside = known.length - shown.length, first = state.order.filter((row) => shown.includes(row)).slice(0, 1);
  byId("below").textContent = outside ? `${outside} of ${known.length} networks lie below this range.` : "";
  const [left, right] = d3.extent(shown, x), side = first.length && x(first[0]) > (left + right) / 2 ? -1 : 1;
  const marks = [
    ...(finite(data.best) ? [
      Plot.rect([0], { y1: Math.max(low, data.best - data.margin), y2: data.best, fill: "var(--band)" }),
      Plot.ruleY(state.gap ? [data.best - state.gap] : [], { strokeDasharray: "3 3", strokeOpacity: 0.7 }),
    ] : []),
    Plot.ruleX(shown.filter((row) => finite(data.low[row])), { x, y1: (row) => Math.max(low, data.low[row]), y2: (row) => Math.min(high, data.high[row]), stroke: colour, strokeOpacity: 0.55 }),
    ...parts.map((part, i) => {
      const [symbol, key] = Object.values(data.answers)[i], line = symbol === "times";
      return Plot.dot(part, { x, y: accuracy, symbol, r: symbol === "star" ? 8 : 5.5, fill: line ? "none" : `var(--${key})`, ariaLabel: described,
        stroke: (row) => (data.front[row] && !line ? "var(--ink)" : `var(--${key})`), strokeWidth: 1.5 });
    }),
    Plot.text(first, { x, y: accuracy, text: ["first choice"], dx: 10 * side, dy: -14, textAnchor: side < 0 ? "end" : "start", fontWeight: 600, fontSize: 13, stroke: "var(--page)", strokeWidth: 4, fill: "currentColor" }),
  ];
  const svg = Plot.plot({ width, height: width < 600 ? 380 : 480, marginLeft: 56, marginBottom: 44, marginRight: 20, ariaLabel: null,
    x: { label: `${data.words[name]} →`, labelAnchor: "right", nice: true, grid: true, ticks: Math.max(3, Math.floor(width / 110)) },
    y: { label: `↑ ${data.words.accuracy}`, domain: [low, high], grid: true }, color: { type: "identity" }, marks });
  reachable(svg, parts.filter((part) => part.length));
  return svg;
}

const described = (row) => `${data.label[row]}: ${data.in_words[row] || "not compared"}, accuracy ${data.text.accuracy[row]}`;

// Makes the points of a picture buttons: one of them is a tab stop, arrow keys go from one to the next by their x.
function reachable(svg, parts) {
  const groups = [...svg.querySelectorAll('g[aria-label="dot"]')];
  const points = groups.flatMap((group, i) => [...group.children].map((node) => ({ node, row: parts[i][node.__data__] })));
  const box = ({ node }) => node.getBoundingClientRect(), middle = (one) => [box(one).left + box(one).width / 2, box(one).top + box(one).height / 2];
  for (const { node, row } of points) {
    node.setAttribute("role", "button");
    node.setAttribute("tabindex", row === state.order[0] ? "0" : "-1");
    node.dataset.tip = ["accuracy", "test_accuracy", byId("x").value].filter((name) => data.text[name]).reduce((text, name) => `${text}\n${data.words[name]}: ${data.text[name][row]}`, `${data.label[row]}\n${data.in_words[row]}`);
    node.dataset.row = row;
  }
  svg.addEventListener("keydown", (event) => {
    const along = [...points].sort((a, b) => middle(a)[0] - middle(b)[0]), at = along.findIndex(({ node }) => node === event.target);
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (at < 0 || !(step || event.key === "Enter" || event.key === " ")) return;
    event.preventDefault();
    if (step) along[(at + step + along.length) % along.length].node.focus();
    else openCard(along[at].row, along[at].node);
  });
  svg.addEventListener("click", (event) => {
    const far = (one) => Math.hypot(middle(one)[0] - event.clientX, middle(one)[1] - event.clientY);
    const nearest = d3.least(points, far);
    if (nearest && far(nearest) <= NEAR) openCard(nearest.row, nearest.node);
  });
}

function drawParallel(width) {
  const names = data.parallel.slice(0, Math.max(3, Math.floor(width / 90)));
  const scale = new Map(names.map((name) => {
    const ends = d3.extent(data.mean[name].filter(finite));
    return [name, d3.scaleLinear(data.directions[name] === "minimize" ? ends.reverse() : ends, [0, 1])];
  }));
  const points = rows.flatMap((row) => names.filter((name) => finite(values(name)(row))).map((name) => ({ row, name, height: scale.get(name)(values(name)(row)) })));
  const wide = (row) => (state.place.has(row) ? 2.5 : 0.8), ending = d3.format(",.4~r");
  const ends = [0, 1].flatMap((height) => names.map((name) => ({ name, height, text: ending(scale.get(name).invert(height)) })));
  return Plot.plot({ width, height: 420, marginBottom: 120, marginLeft: 60, marginRight: 60, marginTop: 30, x: { type: "point", domain: names, label: null, tickFormat: (name) => data.words[name], tickRotate: -35, tickSize: 0, tickPadding: 18 }, y: { axis: null, domain: [0, 1] },
    marks: [Plot.ruleX(names, { strokeOpacity: 0.3 }), Plot.line(points, { x: "name", y: "height", z: "row", stroke: ({ row }) => colour(row), strokeWidth: ({ row }) => wide(row), strokeOpacity: 0.8 }),
      ...[0, 1].map((height) => Plot.text(ends.filter((end) => end.height === height), { x: "name", y: "height", text: "text", dy: height ? -10 : 10, fontSize: 10 }))], color: { type: "identity" } });
}

function followed(known) {
  return [...new Set([...state.order, ...rows.filter((row) => data.front[row]), ...rows])].filter(known).slice(0, MOST_FOLLOWED);
}

function names(chosen) {
  return element("p", { class: "quiet" }, chosen.map((row, i) => `${i + 1}: ${data.label[row]}`).join(" · "));
}

function drawCurves(width) {
  const chosen = followed((row) => row in data.curves), layers = [...new Set(chosen.flatMap((row) => Object.keys(data.curves[row])))];
  const points = (layer, column) => chosen.flatMap((row, i) => {
    const line = data.curves[row][layer];
    return line ? line[0].map((epoch, at) => ({ i, row, epoch, cells: line[column][at] })).filter(({ cells }) => finite(cells)) : [];
  });
  return [names(chosen), ...layers.map((layer) => Plot.plot({ width, height: 210, marginLeft: 56, marginRight: 16 + 12 * chosen.length, color: { type: "identity" }, x: { label: "epoch →", tickFormat: "d", ticks: 6 }, y: { label: `↑ occupied cells of ${layer === "joint" ? "all layers together" : layer}`, zero: true, grid: true, ticks: 4 },
    marks: chosen.flatMap((row, i) => {
      const own = (column) => points(layer, column).filter((point) => point.i === i), common = { x: "epoch", y: "cells", stroke: colour(row), strokeWidth: 1.8 };
      return [Plot.line(own(1), { ...common, strokeDasharray: DASHES[i] }), Plot.line(own(2), { ...common, strokeOpacity: 0.4, strokeDasharray: DASHES[i] }),
        Plot.text(own(1).slice(-1), { x: "epoch", y: "cells", text: [String(i + 1)], dx: 8 + 12 * i, fontWeight: 600 })];
    }) }))];
}

function profileOf(row) {
  const kept = data.profiles[row], thetas = [50, 90, 100].map((share) => values(`connecting_theta_${share}`)(row));
  if (kept) return { curve: "step-after", points: d3.zip([...kept.theta, kept.neurons], [...kept.share, kept.share.at(-1)]) };
  return thetas.every(finite) ? { curve: "linear", points: d3.zip(thetas, [0.5, 0.9, 1]) } : null;
}

function drawProfiles(width) {
  const chosen = followed((row) => profileOf(row) !== null), profiles = chosen.map(profileOf);
  const reach = 1.15 * Math.max(1, ...profiles.map(({ points }) => points.find(([, share]) => share >= 1)?.[0] ?? points.at(-1)[0])); // nothing changes beyond
  return [names(chosen), Plot.plot({ width, height: 340, marginLeft: 56, marginRight: 30, x: { label: "theta (bits) →", domain: [0, reach] }, y: { label: "↑ largest component's share of the cells", domain: [0, 1.05], grid: true },
    marks: profiles.flatMap(({ curve, points }, i) => [Plot.line(points, { curve, clip: true, stroke: colour(chosen[i]), strokeWidth: 1.8, strokeDasharray: DASHES[i], marker: curve === "linear" }),
      Plot.text([points.find(([, share]) => share >= 1) ?? points.at(-1)], { text: [String(i + 1)], dx: 8 + 12 * i, dy: -8, fontWeight: 600 })]) })];
}

// ---- start ----

function start() {
  const exact = byId("gap-number");
  byId("x").value = data.x;
  if (exact) { // without it no network is feasible, and the page says so
    choose(data.rules[0], data.rules[0].gap);
    byId("gap").addEventListener("input", () => choose(null, byId("gap").valueAsNumber));
    exact.addEventListener("input", () => (exact.validity.valid ? choose(null, exact.valueAsNumber) : complain(exact.validationMessage)));
    for (const button of document.querySelectorAll("[data-rule]")) {
      const rule = data.rules.find(({ key }) => key === button.dataset.rule);
      button.addEventListener("click", () => choose(rule, rule.gap));
    }
  }
  byId("x").addEventListener("change", () => draw(byId("front-figure")));
  for (const button of document.querySelectorAll(".name")) button.addEventListener("click", () => expand(button));
  document.addEventListener("pointerover", explain);
  document.addEventListener("focusin", (event) => setTimeout(explain, 0, event)); // a popover that opens or closes moves the focus
  document.addEventListener("keydown", ({ key }) => key === "Escape" && byId("tip").hidePopover());
  const observer = new ResizeObserver((entries) => {
    for (const { target } of entries) if (target.clientWidth !== Number(target.dataset.width)) draw(target);
    document.body.dataset.drawn = "all";
  });
  for (const box of document.querySelectorAll(".plot")) observer.observe(box);
  const folded = (open) => document.querySelectorAll(open ? "details[data-shut]" : "details:not([open])");
  addEventListener("beforeprint", () => {
    for (const part of folded(false)) { part.open = true; part.dataset.shut = "1"; }
    for (const box of document.querySelectorAll(".plot")) draw(box, 680);
  });
  addEventListener("afterprint", () => { for (const part of folded(true)) { part.open = false; delete part.dataset.shut; } });
}
start();
