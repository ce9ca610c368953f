// The script of the page that `gradc recipe` writes: verdicts, charts of trials and the table of every run. Everything is
// put into the page as text nodes.

let data;                  // the record, see cli/recipe/page.cpp
const shown = new Map();   // trials whose curves are drawn, by id, with their colours
let order = {column: 'best', down: false};
let smoothing = 15;        // losses that a moving average covers
let logLoss = false;
let curve;                 // what the chart of epochs shows
const kColours = ['#2f6db3', '#d1761f', '#2f8f5b', '#b3261e', '#7b4fb5', '#8a6d1c', '#c2428c', '#1795a5'];
const kSearch = (t) => t.config.step >= 4;
const kWidth = 580, kHeight = 300, kLeft = 62, kRight = 14, kTop = 24, kBottom = 38;

const rate = (x) => x > 0 && x < 1e-4 ? (+x.toPrecision(4)).toExponential() : String(+x.toPrecision(4));
const percent = (name) => data.shares.includes(name);
const value = (name, x) => x === null || x === undefined ? '-' : percent(name) ? (100 * x).toFixed(2) + '%' : String(+x.toPrecision(4));
const decay = (t) => t.config.weight_decay === null ? 'file' : rate(t.config.weight_decay);
const lost = (t) => t.failed_update > 0;
const name = (t) => `lr ${rate(t.config.lr)}${kSearch(t) ? `, weight decay ${decay(t)}` : ''}`;
const better = (a, b) => data.objective.greater ? b - a : a - b;  // negative: a is better

function part(t, which) {
  const last = t.epochs[t.epochs.length - 1];
  return last && last.splits.find((p) => (p.split === 'train') === (which === 'train'));
}
const number_of = (p, metric) => !p ? null : metric === 'loss' ? p.loss : p.metrics[metric] ?? null;

// --- Charts

// Places of ticks: decades (with 2 and 5 where there are few) or round steps.
function ticks(low, high, log) {
  const list = [];
  if (log) {
    const few = Math.log10(high / low) < 2;
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); ++e)
      for (const m of few ? [1, 2, 5] : [1]) list.push(m * 10 ** e);
  } else {
    const rough = (high - low) / 5, base = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].find((m) => m * base >= rough) * base;
    for (let i = Math.ceil(low / step); i * step <= high + 1e-9 * step; ++i) list.push(+(i * step).toPrecision(12));
  }
  return list.filter((x) => x >= low * (log ? 0.9999 : 1) - 1e-12 && x <= high * (log ? 1.0001 : 1) + 1e-12);
}

// A drawing with two axes. x, y: {low, high, log, label, text}; returns {root, x(), y()}.
function axes(x, y, label) {
  const root = svg('svg', {viewBox: `0 0 ${kWidth} ${kHeight}`, role: 'img', 'aria-label': label});
  const scale = (a, from, to) => {
    const f = a.log ? Math.log : (v) => v, low = f(a.low), high = f(a.high);
    return (v) => from + (f(v) - low) / (high - low || 1) * (to - from);
  };
  const px = scale(x, kLeft, kWidth - kRight), py = scale(y, kHeight - kBottom, kTop);
  const text = (a, v) => a.text ? a.text(v) : String(+v.toPrecision(3));
  for (const v of y.at || ticks(y.low, y.high, y.log))
    root.append(svg('line', {class: 'grid', x1: kLeft, x2: kWidth - kRight, y1: py(v), y2: py(v)}),
                svg('text', {x: kLeft - 6, y: py(v) + 4, 'text-anchor': 'end'}, text(y, v)));
  for (const v of ticks(x.low, x.high, x.log))
    root.append(svg('line', {class: 'axis', x1: px(v), x2: px(v), y1: kHeight - kBottom, y2: kHeight - kBottom + 4}),
                svg('text', {x: px(v), y: kHeight - kBottom + 16, 'text-anchor': 'middle'}, text(x, v)));
  root.append(svg('line', {class: 'axis', x1: kLeft, x2: kWidth - kRight, y1: kHeight - kBottom, y2: kHeight - kBottom}),
              svg('text', {x: kWidth - kRight, y: kHeight - 6, 'text-anchor': 'end'}, x.label),
              svg('text', {x: 4, y: 12}, y.label || ''));
  return {root, x: px, y: py};
}

const line = (points, attributes) =>
  svg('polyline', {points: points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(' '), ...attributes});

function span(values, log) {
  const list = values.filter((v) => Number.isFinite(v) && (!log || v > 0));
  let low = Math.min(...list), high = Math.max(...list);
  if (!list.length) return log ? [0.1, 1] : [0, 1];
  if (low === high) [low, high] = log ? [low / 2, high * 2] : [low - Math.abs(low || 1) / 10, high + Math.abs(high || 1) / 10];
  const room = log ? 0 : (high - low) / 25;
  return [low - room, high + room];
}

// The mean of a window of points around each; at both ends the window is cut off by what is not there, so that no mean is of
// fewer than half of its points.
function moving(points, window) {
  const sums = [0], reach = Math.floor(window / 2);
  for (const [, y] of points) sums.push(sums[sums.length - 1] + y);
  return points.map(([x], i) => {
    const begin = Math.max(0, i - reach), end = Math.min(points.length, i + reach + 1);
    return [x, (sums[end] - sums[begin]) / (end - begin)];
  });
}

// Points up to the next one that cannot be drawn, as lists: a line must not bridge what is missing.
function runs(points, drawn) {
  const list = [[]];
  for (const p of points) {
    if (drawn(p)) list[list.length - 1].push(p);
    else if (list[list.length - 1].length) list.push([]);
  }
  return list.filter((run) => run.length);
}

function cross(x, y, title) {
  return svg('g', {class: 'lost'}, svg('path', {d: `M${x - 4} ${y - 4}l8 8m0 -8l-8 8`}), svg('title', {}, title));
}

const legend = (entries) => el('div', {class: 'legend'}, entries.map(([text, colour]) =>
  el('span', {}, el('i', {style: `background:${colour}`}), text)));

// Losses by updates: a dot a loss, a line for their moving average. What lies outside the scale is cut off where one sees it:
// lines leave the frame, and a mark on its edge stands for each loss.
function drawLosses(box, caption, trials, window, log, colour, controls) {
  const drawn = ([, y]) => y !== null && (!log || y > 0);
  const all = trials.flatMap((t) => t.losses.filter(drawn));
  // A loss that explodes must not flatten the others: the scale ends at twice the first losses.
  const first = Math.max(...trials.map((t) => t.losses.length ? t.losses[0][1] : 0));
  const ys = all.map(([, y]) => y).filter((y) => y <= 2 * Math.abs(first) || !Number.isFinite(first));
  const [low, high] = span(ys, log);
  const c = axes({low: 0, high: Math.max(1, ...trials.flatMap((t) => t.losses.map(([x]) => x))), label: 'updates', text: number}, {low, high, log, label: 'training loss'}, caption);
  const frame = `frame-${box.id}`;
  c.root.append(svg('clipPath', {id: frame}, svg('rect', {x: kLeft, y: kTop, width: kWidth - kLeft - kRight, height: kHeight - kBottom - kTop})));
  const cut = {above: 0, below: 0, hidden: 0};
  for (const t of trials) {
    for (const [x, y] of t.losses) {
      if (y === null) continue;
      if (!drawn([x, y])) { ++cut.hidden; continue; }
      const above = y > high;
      if (above || y < low) {
        ++cut[above ? 'above' : 'below'];
        const [at, edge, tip] = [c.x(x), above ? kTop : kHeight - kBottom, above ? 5 : -5];
        c.root.append(svg('path', {class: 'cut', d: `M${(at - 3).toFixed(1)} ${edge + tip}h6l-3 ${-tip}z`, fill: colour(t)}, svg('title', {}, `${name(t)}: loss ${y.toPrecision(4)} in update ${x}, ${above ? 'above' : 'below'} the scale`)));
      } else c.root.append(svg('circle', {cx: c.x(x).toFixed(1), cy: c.y(y).toFixed(1), r: 1.4, fill: colour(t), opacity: 0.3}));
    }
    const means = svg('g', {'clip-path': `url(#${frame})`}, svg('title', {}, name(t)));
    // A line far outside the frame is drawn as far as ten frames: renderers lose their precision beyond.
    const far = (y) => Math.max(-10 * kHeight, Math.min(10 * kHeight, y));
    for (const run of runs(t.losses, drawn)) means.append(line(moving(run, window).map(([x, y]) => [c.x(x), far(c.y(y))]), {class: 'mean', stroke: colour(t)}));
    c.root.append(means);
    const ends = t.losses.filter(drawn);
    if (lost(t)) c.root.append(cross(c.x(Math.min(t.failed_update, ends.length ? ends[ends.length - 1][0] : 0)), kTop + 6, `${name(t)}: not finite in update ${t.failed_update}`));
  }
  const said = [cut.above && `${number(cut.above)} above`, cut.below && `${number(cut.below)} below`, cut.hidden && `${number(cut.hidden)} not positive`].filter((x) => x);
  box.replaceChildren(el('figcaption', {}, el('b', {}, caption), ...controls), c.root,
                      legend(trials.map((t) => [name(t) + (lost(t) ? ' (not finite)' : ''), colour(t)])),
                      ...(said.length ? [el('p', {class: 'outside'}, `Losses outside the scale: ${said.join(', ')}${cut.above || cut.below ? ' (marks on the edge)' : ''}.`)] : []));
}

function drawRates() {
  const trials = data.trials.filter((t) => t.config.step === 3).sort((a, b) => b.config.lr - a.config.lr);
  if (!trials.length) return;
  const colours = new Map(trials.map((t, i) => [t, kColours[i % kColours.length]]));
  drawLosses($('rates'), 'Step 3: which rates make the loss fall', trials, 9, false, (t) => colours.get(t), []);
}

// Every searched pair of rate and decay, coloured by its result.
const kLow = [68, 1, 84], kMiddle = [33, 145, 140], kHigh = [253, 200, 40];
function shade(share) {
  const [a, b, s] = share < 0.5 ? [kLow, kMiddle, 2 * share] : [kMiddle, kHigh, 2 * share - 1];
  return `rgb(${a.map((v, i) => Math.round(v + s * (b[i] - v))).join(',')})`;
}

function drawPlane() {
  const trials = data.trials.filter(kSearch);
  if (!trials.length) return;
  const decays = [...new Set(trials.map((t) => t.config.weight_decay))].sort((a, b) => a - b);
  const [low, high] = span(trials.map((t) => t.config.lr), true);
  const c = axes({low: low / 1.15, high: high * 1.15, log: true, label: `learning rate of ${data.optimizer}`},
                 {low: -0.6, high: decays.length - 0.4, at: decays.map((d, i) => i), text: (i) => decays[i] === null ? 'file' : rate(decays[i]), label: 'weight decay'},
                 'Learning rate, weight decay and result of every trial');
  const results = trials.filter((t) => t.best).map((t) => t.best.value).sort((a, b) => better(a, b));
  // From the best to the median, in equal steps: one bad trial does not make all others look the same.
  const best = results[0], worst = results[Math.floor((results.length - 1) * 0.8)];
  for (const t of trials) {
    const x = c.x(t.config.lr), y = c.y(decays.indexOf(t.config.weight_decay));
    if (!t.best || lost(t)) { c.root.append(cross(x, y, `${name(t)}: not finite in update ${t.failed_update}`)); continue; }
    const share = best === worst ? 1 : Math.min(1, Math.max(0, (t.best.value - worst) / (best - worst)));
    c.root.append(svg('g', {class: 'trial', click: () => toggle(t)},
      svg('circle', {cx: x, cy: y, r: t.config.step === 4 ? 5 : 7, fill: shade(share), opacity: 0.9}),
      t.id === data.best ? svg('circle', {class: 'best', cx: x, cy: y, r: 11}) : null,
      svg('title', {}, `step ${t.config.step}, ${name(t)}: ${data.objective.metric} ${value(data.objective.metric, t.best.value)}, epoch ${t.best.epoch} of ${t.config.epochs}`)));
  }
  const m = data.objective.metric;
  $('plane').replaceChildren(el('figcaption', {}, el('b', {}, `Steps 4 to 7: ${m} on ${data.validation}`)), c.root,
    results.length ? legend([[`best ${value(m, best)} (ring)`, shade(1)], [value(m, (best + worst) / 2), shade(0.5)], [`${value(m, worst)} or worse`, shade(0)]]) : '',
    el('p', {}, 'Small dots: step 4; large: steps 5 and 7; crosses: the loss was not finite.'));
}

function drawCurves() {
  const trials = [...shown.keys()].map((id) => data.trials.find((t) => t.id === id));
  const colour = (t) => shown.get(t.id);
  if (!trials.length) {
    for (const id of ['losses', 'epochs']) $(id).replaceChildren(el('p', {}, 'No run is chosen in the table below.'));
    return;
  }
  drawLosses($('losses'), 'Step 6: training loss, and its moving average', trials, smoothing, logLoss, colour, [
    el('label', {}, 'average over ', el('input', {type: 'range', min: 1, max: 101, step: 2, value: smoothing, 'aria-label': 'Losses in the moving average',
                                                 change: (e) => { smoothing = +e.target.value; drawCurves(); }})),
    el('label', {}, el('input', {type: 'checkbox', checked: logLoss, change: (e) => { logLoss = e.target.checked; drawCurves(); }}), ' logarithmic')]);
  const kinds = ['loss', ...new Set(trials.flatMap((t) => t.epochs.flatMap((e) => e.splits.flatMap((p) => Object.keys(p.metrics)))))];
  if (!kinds.includes(curve)) curve = kinds.includes(data.objective.metric) ? data.objective.metric : 'loss';
  const series = (t, train) => t.epochs.map((e) => [e.epoch, number_of(e.splits.find((p) => (p.split === 'train') === train), curve)]).filter(([, y]) => y !== null);
  const all = trials.flatMap((t) => [...series(t, true), ...series(t, false)]);
  const [low, high] = span(all.map(([, y]) => y));
  const c = axes({low: 0, high: Math.max(2, ...all.map(([x]) => x)), label: 'epochs'}, {low, high, text: (v) => value(curve, v)}, `${curve} by epochs`);
  for (const t of trials)
    for (const train of [true, false]) {
      const p = series(t, train).map(([x, y]) => [c.x(x), c.y(y)]);
      c.root.append(svg('g', {}, line(p, {class: train ? 'mean train' : 'mean', stroke: colour(t)}),
                        train ? null : p.map(([x, y]) => svg('circle', {cx: x, cy: y, r: 2.4, fill: colour(t)})),
                        svg('title', {}, `${name(t)}, ${train ? 'train' : data.validation}`)));
    }
  $('epochs').replaceChildren(
    el('figcaption', {}, el('b', {}, `Step 6: ${curve} by epochs`), el('label', {}, 'show ', el('select', {'aria-label': 'What the epochs show', change: (e) => { curve = e.target.value; drawCurves(); }},
      kinds.map((k) => el('option', {value: k, selected: k === curve}, k))))),
    c.root, legend(trials.map((t) => [name(t), colour(t)])),
    el('p', {}, `Whole lines: ${data.validation}; broken lines: train, as it was trained on.`));
}

// --- The table

const last = (which, metric) => (t) => number_of(part(t, which), metric);
function columns() {
  const m = data.objective.metric, list = [
    {key: 'step', title: 'step', of: (t) => t.config.step, text: (t) => String(t.config.step), num: true},
    {key: 'lr', title: 'lr', of: (t) => t.config.lr, text: (t) => rate(t.config.lr), num: true},
    {key: 'decay', title: 'weight decay', of: (t) => t.config.weight_decay, text: decay, num: true},
    {key: 'best', title: `best val ${m}`, of: (t) => t.best && t.best.value, text: (t) => lost(t) ? 'not finite' : t.best ? value(m, t.best.value) : '-', num: true, best: true},
    {key: 'epoch', title: 'in epoch', of: (t) => t.best && t.best.epoch, text: (t) => t.best ? `${t.best.epoch} of ${t.config.epochs}` : '-', num: true}];
  const add = (which, metric) => list.push({key: `${which} ${metric}`, title: `${which} ${metric}`, of: last(which, metric), text: (t) => value(metric, last(which, metric)(t)), num: true});
  if (m !== 'loss') add('train', m);
  add('val', 'loss');
  add('train', 'loss');
  list.push({key: 'seconds', title: 'seconds', of: (t) => t.seconds, text: (t) => t.seconds.toFixed(1), num: true},
            {key: 'remarks', title: 'what its curves show', of: (t) => t.remarks.length, text: (t) => t.remarks.join('; '), css: 'remarks'});
  return list;
}

function drawTable() {
  const list = columns(), by = list.find((c) => c.key === order.column);
  const which = $('which').value;
  const rows = data.trials.filter((t) => which === 'all' || (which === 'search' ? kSearch(t) : t.config.step === +which));
  rows.sort((a, b) => {
    const x = by.of(a), y = by.of(b), none = (v) => v === null || v === undefined;
    if (none(x) || none(y)) return none(x) - none(y) || a.config.step - b.config.step;
    const sign = by.best ? (b.id === data.best) - (a.id === data.best) || better(x, y) : x - y;
    return (order.down ? -sign : sign) || a.config.lr - b.config.lr;
  });
  const heading = (c) => el('th', {class: c.num ? 'num' : undefined, scope: 'col', 'aria-sort': order.column === c.key ? (order.down ? 'descending' : 'ascending') : undefined},
    el('button', {type: 'button', click: () => { order = {column: c.key, down: order.column === c.key && !order.down}; drawTable(); }}, c.title));
  $('runs').replaceChildren(
    el('thead', {}, el('tr', {}, el('th', {}), list.map(heading))),
    el('tbody', {}, rows.map((t) => el('tr', {class: 'run' + (t.id === data.best ? ' best' : ''), tabindex: 0, 'data-id': t.id, click: () => toggle(t),
      keydown: (e) => { if (e.key === 'Enter' || e.key === ' ') { e.preventDefault(); toggle(t); } }},
      el('td', {}, el('i', {style: shown.has(t.id) ? `background:${shown.get(t.id)}` : ''})),
      list.map((c) => el('td', {class: c.css || (c.num ? 'num' : undefined)}, c.text(t)))))));
}

function choose(t) {
  const used = new Set(shown.values());
  shown.set(t.id, kColours.find((c) => !used.has(c)) || '#808080');
}

function toggle(t) {
  if (!shown.delete(t.id)) choose(t);
  drawCurves();
  drawTable();
}

function drawSteps() {
  $('steps').replaceChildren(...data.verdicts.map((v) => el('div', {class: 'step'}, el('span', {class: 'dim'}, String(v.step)), el('b', {}, v.title),
    el('span', {class: 'chip ' + v.status}, v.status), el('span', {}, v.text), v.hints.length ? el('ul', {}, v.hints.map((h) => el('li', {}, h))) : null)));
  if (!data.verdicts.length) $('steps').append(el('p', {class: 'dim'}, 'No step was completed.'));
}

async function start() {
  data = await record();
  const settings = Object.entries(data.settings).map(([k, v]) => ` · ${k}=${v}`).join('');
  $('facts').textContent = `${data.optimizer}(lr=${rate(data.lr)}) in the file · seed ${data.seed}${settings} · ${data.trials.length} runs · gradc ${data.gradc}`;
  const steps = [...new Set(data.trials.map((t) => t.config.step))];
  $('which').append(el('option', {value: 'all'}, 'all runs'), steps.some((s) => s >= 4) ? el('option', {value: 'search'}, 'steps 4 to 7') : '',
                    ...steps.map((s) => el('option', {value: s}, `step ${s}: ${data.titles[s - 1]}`)));
  if (steps.some((s) => s >= 4)) $('which').value = 'search';
  $('which').onchange = drawTable;
  const found = data.trials.filter((t) => kSearch(t) && t.best && !lost(t)).sort((a, b) => (b.id === data.best) - (a.id === data.best) || better(a.best.value, b.best.value));
  const others = data.trials.filter((t) => t.config.step === 2);
  for (const t of (found.length ? found : others).slice(0, 5)) choose(t);
  drawSteps();
  drawRates();
  drawPlane();
  drawCurves();
  drawTable();
}

window.ready = begin(start, $('main'));
