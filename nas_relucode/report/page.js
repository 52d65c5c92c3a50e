// The report's page: shows the ranking of the chosen tolerance, which Python computed, and draws the figures.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"];
const SYMBOLS = ["circle", "square", "diamond", "cross", "x", "triangle-up", "star"];
const DASHES = ["solid", "dash", "dashdot", "longdash", "solid", "dash", "dashdot"];
const GREY = "#9AA0A6";
const SIDES = [[1, -1, "top right"], [-1, -1, "top left"], [1, 1, "bottom right"], [-1, 1, "bottom left"],
  [1, 0, "middle right"], [-1, 0, "middle left"], [0, -1, "top center"], [0, 1, "bottom center"]]; // of a point, on which its mark may stand
const MOST_BARS = 40; // networks of one group beyond which error bars hide the points
const rows = data.label.map((_, row) => row);
const NO_RANKING = { order: [], tied: [] };
const state = { rule: null, tolerance: 0, order: [], place: {}, rank: {}, silent: {}, focus: null };
const byId = (id) => document.getElementById(id);
const finite = (value) => value !== null && Number.isFinite(value);
const plotConfig = { displayModeBar: false, responsive: true };

// ---- numbers and elements ----

function short(value, digits = 4) {
  if (!finite(value)) return "–";
  return String(Number(value.toPrecision(digits)));
}

function withSpread(mean, spread) {
  if (!finite(mean)) return "–";
  const size = Math.abs(mean);
  const digits = size >= 100 || (Number.isInteger(mean) && !finite(spread)) ? 0 : size >= 10 ? 2 : 4;
  return mean.toFixed(digits) + (finite(spread) ? ` ± ${spread.toFixed(digits)}` : "");
}

function shown(name, row) {
  const mean = data.mean[name][row];
  if (name === "parameters" && finite(mean)) return mean.toLocaleString("en");
  return name === "seconds" && finite(mean) ? mean.toFixed(1) : withSpread(mean, data.spread[name][row]);
}

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

// For texts that plotly draws, which interprets tags and entities. All other text goes into text nodes.
const escaped = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const spaced = (name) => name.replaceAll("_", " ");

function fillTable(id, headings, lines) {
  const table = byId(id);
  const head = element("tr", {}, ...headings.map((text) => element("th", { scope: "col" }, text)));
  const body = lines.map((cells) =>
    element("tr", {}, ...cells.map((cell, i) => element(i ? "td" : "th", i ? {} : { scope: "row" }, cell))));
  table.querySelector("thead").replaceChildren(head);
  table.querySelector("tbody").replaceChildren(...body);
}

// ---- the choice ----

// The ranking that Python computed for a preset, or for the largest tolerance up to the given one.
function rankingAt(preset, tolerance) {
  if (preset) return data.rankings[preset.ranking];
  return data.rankings.findLast((ranking) => ranking.from !== null && ranking.from <= tolerance) || NO_RANKING;
}

function choose(rule, tolerance) {
  const preset = data.rules.find((item) => item.key === rule);
  const ranking = rankingAt(preset, tolerance);
  state.rule = rule;
  state.tolerance = data.thinned && !preset ? ranking.from : tolerance; // in a large study not every tolerance has a ranking
  state.order = ranking.order;
  state.silent = ranking === NO_RANKING ? {} : data.silents[ranking.silent];
  state.place = {};
  state.rank = {};
  ranking.order.forEach((row, i) => {
    state.place[row] = i + 1;
    state.rank[row] = ranking.tied.includes(i) ? state.rank[ranking.order[i - 1]] : i + 1;
  });
  if (byId("tolerance")) { // without it no network is feasible, and the page says so
    showControls(preset);
    showEqual(preset);
    showIndices();
    showCommands();
  }
  showFront();
}

function sentence(preset) {
  const how = preset ? `By ${preset.name} ` : "";
  const at = preset && preset.key === "mcnemar" ? "" : `${how ? "(" : "At "}a tolerance of ${state.tolerance.toFixed(4)}${how ? ") " : ", "}`;
  const first = state.order[0];
  if (data.compared === 1) return `${data.label[first]} is the only feasible network.`;
  return `${how}${at}${state.order.length} of ${data.compared} networks ${state.order.length === 1 ? "is" : "are"} equally accurate. First: ${data.label[first]}.`;
}

function showControls(preset) {
  const slider = byId("tolerance"), exact = byId("tolerance-number");
  slider.value = state.tolerance;
  slider.setAttribute("aria-valuetext", `${state.tolerance.toFixed(4)}, ${state.order.length} networks`);
  if (document.activeElement !== exact) exact.value = Number(state.tolerance.toFixed(6));
  for (const button of document.querySelectorAll("[data-rule]")) button.setAttribute("aria-pressed", String(button.dataset.rule === state.rule));
  byId("found").textContent = sentence(preset);
  complain("");
  const criteria = Object.keys(data.by);
  const deciding = criteria.filter((name) => !(name in state.silent)).map((name) => `${name} (${data.by[name]})`);
  const silent = criteria.filter((name) => name in state.silent).map((name) => `${name} (${state.silent[name]})`);
  const order = deciding.length ? `Their places follow their Pareto rank over ${deciding.join(", ")}, then accuracy` : "No index orders them: their places follow accuracy";
  byId("order").textContent = state.order.length < 2 ? "" : `${order}, then fewer parameters, then the trial's number.` +
    (silent.length ? ` These take no part: ${silent.join("; ")}.` : "");
}

// Shows under the field of the exact tolerance why its value is not valid; clears the message if it is.
function complain(why) {
  const exact = byId("tolerance-number");
  if (why) exact.setAttribute("aria-invalid", "true");
  else exact.removeAttribute("aria-invalid");
  byId("tolerance-wrong").textContent = why && `${why} Give a tolerance from 0 to 1. The ranking is still that at ${state.tolerance.toFixed(4)}.`;
}

function whyWrong(exact) {
  const value = Number(exact.value);
  if (exact.validity.badInput) return "This is not a number.";
  if (exact.value === "") return "There is no number.";
  if (value < 0) return `${exact.value} is below 0.`;
  return value > 1 ? `${exact.value} is above 1.` : "";
}

function showEqual(preset) {
  const tested = data.rules.find((rule) => rule.p);
  const ahead = preset && preset.key === "1se" && data.ahead.some((share) => share !== null);
  const names = ["test_accuracy", ...Object.keys(data.by).filter((name) => name !== "accuracy"), "parameters", "seconds"];
  const columns = [...new Set(names)].filter((name) => name in data.mean && data.mean[name].some((value) => value !== null));
  const heads = ["network", "place", ...(ahead ? ["ahead of the next"] : []), "accuracy", "behind the best", ...(tested ? [tested.column] : []), ...columns.map(spaced), "seeds"];
  const lines = state.order.map((row) => [
    element("button", { type: "button", class: "name", "data-row": row, "aria-pressed": String(row === state.focus), onclick: () => focusOn(row) }, data.label[row]),
    state.rank[row] === state.place[row] ? String(state.place[row]) : `${state.rank[row]} =`,
    ...(ahead ? [finite(data.ahead[row]) ? `${Math.round(100 * data.ahead[row])} %` : "–"] : []),
    shown("accuracy", row),
    data.difference[row].toFixed(4),
    ...(tested ? [finite(tested.p[row]) ? tested.p[row].toFixed(4) : "–"] : []),
    ...columns.map((name) => shown(name, row)),
    String(data.seeds[row]),
  ]);
  fillTable("equal-table", heads, lines);
}

function showIndices() {
  const most = state.order.slice(0, 12);
  const names = Object.keys(data.mean).filter((name) => data.mean[name].some((value) => value !== null));
  const table = byId("index-table");
  fillTable("index-table", ["index", ...most.map((row) => data.label[row])], names.map((name) => [name, ...most.map((row) => shown(name, row))]));
  [...table.querySelector("tbody").rows].forEach((line, i) => {
    const why = state.silent[names[i]];
    line.classList.toggle("silent", Boolean(why));
    if (why) line.cells[0].append(element("small", {}, ` ${why}`));
  });
}

function showCommands() {
  const box = byId("commands");
  if (!box) return;
  const commands = state.order.filter((row) => data.commands[row].length).map((row, i) => {
    const text = data.commands[row].join("\n");
    const copy = element("button", { type: "button", class: "copy", onclick: () => copyText(text, copy) }, "Copy");
    copy.setAttribute("aria-label", `Copy the commands of ${data.label[row]}`);
    const details = element("details", i ? {} : { open: "" }, element("summary", {}, `${state.place[row]}. ${data.label[row]}`), element("pre", { tabindex: "0" }, text), copy);
    return details;
  });
  box.replaceChildren(...commands);
}

async function copyText(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch { // browsers may forbid this for a file opened from disk
    button.textContent = "Mark the text and copy it";
  }
}

function focusOn(row) {
  state.focus = state.focus === row ? null : row;
  for (const button of document.querySelectorAll("[data-row]")) button.setAttribute("aria-pressed", String(Number(button.dataset.row) === state.focus));
  byId("focused").textContent = state.focus === null ? "" : `${data.label[row]} is marked in the figures.`;
  showFront();
  drawRest();
}

// ---- figures ----

function layout(extra) {
  const narrow = window.innerWidth < 600;
  return {
    template: null, paper_bgcolor: "white", plot_bgcolor: "white", autosize: true, hovermode: "closest",
    font: { family: "system-ui, sans-serif", size: narrow ? 11 : 12, color: "#1a1a1a" },
    margin: { t: 30, r: narrow ? 10 : 20, l: narrow ? 48 : 64, b: 50 },
    legend: { orientation: "h", x: 0, yref: "container", y: 0, yanchor: "bottom" },
    ...extra,
  };
}
const axis = (extra) => ({ gridcolor: "#e5e5e5", linecolor: "#999", zeroline: false, automargin: true, ...extra });
const titled = (text) => ({ text: escaped(spaced(text)) });

const hovers = [];
function hover(row) {
  if (!hovers[row]) {
    const names = Object.keys(data.mean).filter((name) => finite(data.mean[name][row]));
    const head = `<b>${escaped(data.label[row])}</b><br>head: ${escaped(data.head[row])}<br>learning rate: ${data.learning_rate[row]}<br>seeds: ${data.seeds[row]}`;
    hovers[row] = [head, ...names.map((name) => `${escaped(name)}: ${escaped(shown(name, row))}`)].join("<br>");
  }
  return hovers[row];
}

function marks() {
  const letters = "abcdefghijklmnopqrstuvwxyz";
  let next = 0;
  return rows.map((row) => {
    if (state.place[row]) return state.place[row] <= 30 ? String(state.place[row]) : "";
    return data.front[row] ? letters[next++] || "" : "";
  });
}

function groups() {
  const equal = new Set(state.order);
  return [
    ["equally accurate, on the front", rows.filter((row) => equal.has(row) && data.front[row]), COLOURS[0], "circle", 11],
    ["equally accurate", rows.filter((row) => equal.has(row) && !data.front[row]), COLOURS[1], "square", 11],
    ["on the front, less accurate", rows.filter((row) => !equal.has(row) && data.front[row]), COLOURS[0], "circle-open", 9],
    ["others", rows.filter((row) => !equal.has(row) && !data.front[row] && data.difference[row] !== null), GREY, "diamond", 7],
    ["not feasible", rows.filter((row) => data.difference[row] === null && !data.front[row]), GREY, "x-thin-open", 8],
  ];
}

function ring(x, y) {
  if (state.focus === null) return [];
  return [{ x: [x(state.focus)], y: [y(state.focus)], mode: "markers", name: escaped(data.label[state.focus]), hoverinfo: "skip",
    marker: { size: 20, color: "rgba(0,0,0,0)", line: { color: "black", width: 2 } } }];
}

// The approximate positions of the points of these rows, in pixels, to place their marks.
function placed(marked, x, range, width, height) {
  const spread = (row) => data.spread[x][row] || 0;
  const ends = rows.filter((row) => finite(data.mean[x][row])).flatMap((row) => [data.mean[x][row] - spread(row), data.mean[x][row] + spread(row)]);
  const low = Math.min(...ends), size = Math.max(...ends) - low || 1;
  return marked.filter((row) => finite(data.mean[x][row])).map((row) => ({
    row, left: (0.05 + (0.9 * (data.mean[x][row] - low)) / size) * width, top: ((range[1] - data.mean.accuracy[row]) / (range[1] - range[0])) * height,
  }));
}

// Row -> the side of its point on which its mark covers the least of the points and of earlier marks.
function markSides(points, mark) {
  const box = (left, top, half) => [left - half, top - 7, left + half, top + 7];
  const common = (a, b) => Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0])) * Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  const taken = points.map(({ left, top }) => box(left, top, 6));
  const sides = {};
  for (const { row, left, top } of points) {
    const half = 4 * mark[row].length;
    const boxes = SIDES.map(([right, down]) => box(left + right * (6 + half), top + down * 13, half));
    const hidden = boxes.map((own) => taken.reduce((sum, other) => sum + common(own, other), 0));
    const best = hidden.indexOf(Math.min(...hidden));
    taken.push(boxes[best]);
    sides[row] = SIDES[best][2];
  }
  return sides;
}

function showFront() {
  const box = byId("front-figure");
  if (!box) return;
  const x = byId("front-x").value, mark = marks(), best = data.best;
  const near = [...new Set([...state.order, ...rows.filter((row) => data.front[row])])];
  const visible = near.length ? near : rows.filter((row) => finite(data.mean.accuracy[row]));
  const ends = visible.flatMap((row) => [-1, 1].map((side) => data.mean.accuracy[row] + side * (data.spread.accuracy[row] || 0)));
  const low = Math.min(...ends), high = Math.max(...ends), room = Math.max(0.15 * (high - low), 0.003);
  const range = [Math.min(low, best === null ? low : best - state.tolerance) - room, high + room];
  const sides = markSides(placed(near.filter((row) => mark[row]), x, range, box.clientWidth - 84, 370), mark);
  const bars = (name, part) => ({ type: "data", visible: part.length <= MOST_BARS, array: part.map((row) => data.spread[name][row] || 0), thickness: 1, width: 2 });
  const traces = groups().filter(([, part]) => part.length).map(([name, part, color, symbol, size]) => ({
    x: part.map((row) => data.mean[x][row]), y: part.map((row) => data.mean.accuracy[row]),
    error_x: bars(x, part), error_y: bars("accuracy", part), mode: "markers+text", text: part.map((row) => mark[row]),
    textposition: part.map((row) => sides[row] || "top right"), customdata: part, name,
    hovertext: part.map(hover), hoverinfo: "text", marker: { color, symbol, size },
  }));
  const lines = [];
  if (best !== null && state.rule !== "mcnemar") {
    const at = best - state.tolerance;
    lines.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: at, y1: at, line: { dash: "dot", width: 1.5 } });
    const name = state.rule === "1se" ? "one standard error below the best" : `${state.tolerance.toFixed(4)} below the best`;
    traces.push({ x: [null], y: [null], mode: "lines", line: { dash: "dot", width: 1.5, color: "black" }, name, hoverinfo: "skip" }); // for the legend
  }
  Plotly.react(box, [...traces, ...ring((row) => data.mean[x][row], (row) => data.mean.accuracy[row])], layout({
    height: 500, xaxis: axis({ title: titled(`${x} (mean over seeds)`) }), yaxis: axis({ title: titled("validation accuracy"), range }), shapes: lines,
  }), plotConfig);
}

function drawParallel(box) {
  const names = data.parallel.slice(0, window.innerWidth < 600 ? 5 : 9);
  const scale = Object.fromEntries(names.map((name) => {
    const values = data.mean[name].filter(finite);
    const ends = [Math.min(...values), Math.max(...values)];
    return [name, data.directions[name] === "minimize" ? ends.reverse() : ends];
  }));
  const height = (name, row) => (finite(data.mean[name][row]) ? (data.mean[name][row] - scale[name][0]) / (scale[name][1] - scale[name][0]) : null);
  const first = state.order.slice(0, 1), equal = state.order.slice(1), others = rows.filter((row) => !state.place[row]);
  const parts = [["others", others, GREY, 0.8, "dot", 0.7], ["equally accurate", equal, COLOURS[0], 1.5, "solid", 0.7], ["first", first, COLOURS[1], 3.5, "solid", 1]];
  if (state.focus !== null) parts.push([escaped(data.label[state.focus]), [state.focus], "#000000", 3, "dash", 1]);
  const traces = parts.filter(([, part]) => part.length).map(([name, part, color, width, dash, opacity]) => ({
    x: part.flatMap(() => [...names.map((_, i) => i), null]), y: part.flatMap((row) => [...names.map((n) => height(n, row)), null]),
    text: part.flatMap((row) => [...names.map((n) => `<b>${escaped(data.label[row])}</b><br>${escaped(n)}: ${escaped(shown(n, row))}`), ""]),
    hoverinfo: "text", mode: "lines+markers", line: { color, width, dash }, marker: { size: 4, color }, opacity, name,
  }));
  const ending = (value) => (Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : short(value));
  const note = (x, y, yanchor, value) => ({ x, y, yanchor, text: ending(value), showarrow: false, font: { size: 10 } });
  const notes = names.flatMap((name, i) => [note(i, 1.01, "bottom", scale[name][1]), note(i, -0.01, "top", scale[name][0])]);
  Plotly.react(box, traces, layout({
    height: 480, annotations: notes, legend: { orientation: "h", y: 1.18, x: 0 }, margin: { t: 60, r: 30, l: 30, b: 120 },
    shapes: names.map((_, i) => ({ type: "line", x0: i, x1: i, y0: 0, y1: 1, line: { color: "#555", width: 1 } })),
    xaxis: axis({ tickvals: names.map((_, i) => i), ticktext: names.map((name) => escaped(spaced(name))), tickangle: -35, showgrid: false, range: [-0.4, names.length - 0.6] }),
    yaxis: axis({ visible: false, range: [-0.1, 1.1] }),
  }), plotConfig);
}

function followed(known) {
  const front = rows.filter((row) => data.front[row] && !state.place[row]);
  const chosen = [...(state.focus === null ? [] : [state.focus]), ...state.order, ...front];
  return [...new Set(chosen)].filter(known).slice(0, COLOURS.length);
}

function drawCurves(box) {
  const chosen = followed((row) => row in data.curves);
  const layers = [...new Set(chosen.flatMap((row) => Object.keys(data.curves[row])))];
  const traces = [], axes = {}, notes = [], height = 230;
  layers.forEach((layer, i) => {
    const end = i ? i + 1 : "", share = 1 / layers.length;
    axes[`xaxis${end}`] = axis({ anchor: `y${end}`, title: i === layers.length - 1 ? titled("epoch") : undefined });
    axes[`yaxis${end}`] = axis({ domain: [1 - (i + 1) * share + 0.12 * share, 1 - i * share - 0.1 * share], rangemode: "tozero", title: titled("cells") });
    notes.push({ xref: "paper", yref: "paper", x: 0, y: 1 - i * share - 0.02 * share, xanchor: "left", yanchor: "top", showarrow: false, text: `<b>${escaped(layer)}</b>` });
    chosen.forEach((row, j) => {
      const line = data.curves[row][layer];
      if (!line) return;
      const common = { x: line[0], xaxis: `x${end}`, yaxis: `y${end}`, legendgroup: String(row), mode: "lines+markers", marker: { symbol: SYMBOLS[j], size: 6 } };
      traces.push({ ...common, y: line[1], name: escaped(data.label[row]), showlegend: i === 0, line: { color: COLOURS[j] } });
      if (line[2].some(finite)) traces.push({ ...common, y: line[2], name: `${escaped(data.label[row])}, with a correct sample`, showlegend: false, line: { color: COLOURS[j], dash: "dot" } });
    });
  });
  const total = height * layers.length + 120;
  Plotly.react(box, traces, layout({ ...axes, annotations: notes, height: total }), plotConfig);
}

function profileOf(row) {
  const kept = data.profiles[row];
  if (kept) return { x: [...kept.theta, kept.neurons], y: [...kept.share, kept.share[kept.share.length - 1]], shape: "hv", name: `${escaped(data.label[row])}, seed ${kept.seed}` };
  const names = ["connecting_theta_50", "connecting_theta_90", "connecting_theta_100"];
  if (!names.every((name) => data.mean[name] && finite(data.mean[name][row]))) return null;
  return { x: names.map((name) => data.mean[name][row]), y: [0.5, 0.9, 1], shape: "linear", name: escaped(data.label[row]) };
}

function drawProfiles(box) {
  const chosen = followed((row) => profileOf(row) !== null);
  const traces = chosen.map((row, j) => {
    const line = profileOf(row);
    return { x: line.x, y: line.y, name: line.name, mode: "lines+markers", line: { color: COLOURS[j], shape: line.shape, dash: DASHES[j] }, marker: { symbol: SYMBOLS[j], size: line.shape === "hv" ? 3 : 8 } };
  });
  const joined = traces.map(({ x, y }) => x[y.findIndex((share) => share >= 1)]).filter(finite); // nothing changes beyond
  const reach = joined.length === traces.length ? { range: [0, 1.15 * Math.max(1, ...joined)] } : { rangemode: "tozero" };
  Plotly.react(box, traces, layout({ height: 420, xaxis: axis({ title: titled("theta (bits)"), ...reach }), yaxis: axis({ title: titled("largest component's share of the cells"), range: [0, 1.05] }) }), plotConfig);
}

function drawCorrelations(box) {
  const names = data.correlations.names, matrix = data.correlations.matrix;
  const grey = names.map((name) => name in data.correlations.silent);
  const label = (name, i) => (grey[i] ? `<span style="color:${GREY}">${escaped(name)}</span>` : escaped(name));
  const text = matrix.map((line, i) => line.map((value, j) => {
    const why = data.correlations.silent[names[i]] || data.correlations.silent[names[j]];
    return `${escaped(names[i])}<br>${escaped(names[j])}<br>${value === null ? escaped(why || "fewer than three networks") : value.toFixed(3)}`;
  }));
  const size = Math.max(320, 16 * names.length + 190);
  box.style.minWidth = `${size}px`;
  const ticks = { tickvals: names.map((_, i) => i), ticktext: names.map(label), tickfont: { size: 10 }, showgrid: false, zeroline: false, automargin: true };
  Plotly.react(box, [{ type: "heatmap", z: matrix, text, hoverinfo: "text", zmin: -1, zmax: 1, xgap: 1, ygap: 1,
    colorscale: [[0, "#B2182B"], [0.5, "#F7F7F7"], [1, "#2166AC"]], colorbar: { title: { text: "Spearman" }, thickness: 12, len: 0.6 } }],
  layout({ height: size, plot_bgcolor: "#d5d7da", xaxis: { ...ticks, tickangle: -90 }, yaxis: { ...ticks, autorange: "reversed" }, margin: { t: 10, r: 10, l: 150, b: 150 } }), plotConfig);
  if (!box.dataset.clicks) {
    box.dataset.clicks = "1";
    box.on("plotly_click", ({ points }) => {
      byId("pair-x").value = names[points[0].x];
      byId("pair-y").value = names[points[0].y];
      drawPair(byId("pair-figure"));
    });
  }
}

function drawPair(box) {
  const x = byId("pair-x").value, y = byId("pair-y").value, names = data.correlations.names;
  const value = data.correlations.matrix[names.indexOf(x)][names.indexOf(y)];
  const traces = groups().filter(([, part]) => part.length).map(([name, part, color, symbol]) => ({ x: part.map((row) => data.mean[x][row]), y: part.map((row) => data.mean[y][row]), mode: "markers", name,
    customdata: part, hovertext: part.map((row) => `<b>${escaped(data.label[row])}</b><br>${escaped(x)}: ${escaped(shown(x, row))}<br>${escaped(y)}: ${escaped(shown(y, row))}`), hoverinfo: "text",
    marker: { color, symbol, size: 8 } }));
  byId("pair-found").textContent = value === null ? "There is no rank correlation: one of the two is constant or undefined." : `Spearman's rank correlation: ${value.toFixed(3)}.`;
  Plotly.react(box, [...traces, ...ring((row) => data.mean[x][row], (row) => data.mean[y][row])], layout({ height: 420, xaxis: axis({ title: titled(x) }), yaxis: axis({ title: titled(y) }) }), plotConfig);
}

const rest = { "parallel-figure": drawParallel, "curves-figure": drawCurves, "profiles-figure": drawProfiles, "pair-figure": drawPair, "correlations-figure": drawCorrelations };
let waiting = 0;
function drawRest(after = 120) { // one figure at a time, so that the slider stays quick
  const turn = ++waiting, todo = Object.entries(rest).filter(([id]) => byId(id));
  const step = () => {
    if (turn !== waiting) return;
    const next = todo.shift();
    if (!next) { document.body.dataset.drawn = "all"; return; }
    const box = byId(next[0]);
    if (next[0] !== "correlations-figure" || !box.dataset.clicks) next[1](box);
    setTimeout(step, 0);
  };
  delete document.body.dataset.drawn;
  setTimeout(step, after);
}

function clicked(event) {
  const row = event.points[0].customdata;
  if (typeof row === "number") focusOn(row);
}

// ---- start ----

function start() {
  const slider = byId("tolerance"), exact = byId("tolerance-number");
  const move = (value) => { choose(null, value); drawRest(); };
  if (slider) {
    slider.addEventListener("input", () => move(Number(slider.value)));
    exact.addEventListener("input", () => {
      const why = whyWrong(exact);
      if (why) complain(why);
      else move(Number(exact.value));
    });
    for (const button of document.querySelectorAll("[data-rule]")) {
      button.addEventListener("click", () => {
        const rule = data.rules.find((item) => item.key === button.dataset.rule);
        choose(rule.key, rule.tolerance);
        drawRest();
      });
    }
  }
  const first = data.rules[0];
  choose(first ? first.key : null, first ? first.tolerance : 0);
  const front = byId("front-figure");
  if (front) {
    byId("front-x").addEventListener("change", showFront);
    front.on("plotly_click", clicked);
  }
  for (const id of ["pair-x", "pair-y"]) if (byId(id)) byId(id).addEventListener("change", () => drawPair(byId("pair-figure")));
  drawRest(0);
}

const printed = () => [...document.querySelectorAll(".js-plotly-plot")];
window.addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details:not([open])")) { details.open = true; details.dataset.shut = "1"; }
  for (const box of printed()) { box.dataset.width = box.style.minWidth; box.style.minWidth = "0"; Plotly.relayout(box, { width: 680 }); }
});
window.addEventListener("afterprint", () => {
  for (const details of document.querySelectorAll("details[data-shut]")) { details.open = false; delete details.dataset.shut; }
  for (const box of printed()) { box.style.minWidth = box.dataset.width || ""; Plotly.relayout(box, { width: null, autosize: true }); }
});
start();
