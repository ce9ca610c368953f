// The script of the page that `gradc dump --format html` writes: shows the record embedded in it. Everything is put
// into the page as text nodes; only the lines in view exist as elements.
// A list of lines of equal height, of which those in view are rendered. rows: anything; render(row, index) gives
// {class, parts, click}.
const kRow = 18;
class Lines {
  constructor(box) {
    this.box = box;
    this.all = el('div', {class: 'all'});
    this.box.replaceChildren(this.all);
    this.box.onscroll = () => { this.draw(); if (this.scrolled) this.scrolled(Math.floor(this.box.scrollTop / kRow)); };
    new ResizeObserver(() => this.draw()).observe(this.box);
    this.show([], () => ({parts: []}), 0);
  }
  show(rows, render, width) {
    this.rows = rows;
    this.renderRow = render;
    this.all.style.height = rows.length * kRow + 'px';
    this.all.style.width = width + 12 + 'ch';
    this.draw(true);
  }
  draw(force = false) {
    const first = Math.max(0, Math.floor(this.box.scrollTop / kRow) - 20);
    const last = Math.min(this.rows.length, first + Math.ceil((this.box.clientHeight || 600) / kRow) + 40);
    if (!force && first === this.first && last === this.last) return;
    [this.first, this.last] = [first, last];
    const fragment = document.createDocumentFragment();
    for (let i = first; i < last; ++i) {
      const r = this.renderRow(this.rows[i], i);
      fragment.append(el('div', {class: 'row ' + (r.class || '') + (r.click ? ' link' : ''), style: `top:${i * kRow}px`,
                                 'data-row': i, click: r.click}, r.parts));
    }
    this.all.replaceChildren(fragment);
  }
  reveal(i) {
    if (i < 0) return;
    const top = i * kRow;
    if (top < this.box.scrollTop || top > this.box.scrollTop + this.box.clientHeight - 2 * kRow)
      this.box.scrollTop = Math.max(0, top - this.box.clientHeight / 3);
    this.draw(true);
  }
}

// IR as coloured parts.
const kToken = /(%[\w.]+|%"[^"]*")|(@[\w.\-]+|@"[^"]*")|\b((?:f32|f64|i32|bool|i1|i8|i64)(?:x\d+)?(?:\[[^\]]*\])?)(?=$|[\s,)<;])|(\{[^}]*\}|kernel\(\d+\)|^#.*)/g;
function colored(line) {
  const parts = [];
  let at = 0;
  for (const m of line.matchAll(kToken)) {
    if (m.index > at) parts.push(line.slice(at, m.index));
    parts.push(el('span', {class: m[1] ? 'v' : m[2] ? 's' : m[3] ? 't' : 'd'}, m[0]));
    at = m.index + m[0].length;
  }
  parts.push(line.slice(at));
  return parts;
}

const widest = (lines) => lines.reduce((w, l) => Math.max(w, l.length), 0);

let data;                   // the record
let state = {tab: 'opt'};   // tab, fn (in view), op: {stage, fn, i}, line: {file, line}, kernel: {p, k}, allocation: {p, a}, pass, program, code
const stages = {};          // by tab: {functions: by name, rows: [{text, fn, i}]}
const kTabs = [['ast', 'Syntax'], ['ir', 'IR'], ['grad', 'Gradients'], ['opt', 'Optimised'], ['passes', 'Passes'],
               ['programs', 'Programs'], ['llvm', 'LLVM'], ['asm', 'Assembly'], ['memory', 'Shapes & memory']];
let sourceLines, stageLines;
let placesOf = [];          // by origin: {user, written, all, trail}: its line in the user's file; the line it is written on; that
                            // and the lines of the calls that led there, each once

function parseLocation(text) {
  const m = /^(.*?):(\d+)(?::(\d+))?$/.exec(text);
  return m ? {file: m[1], line: +m[2]} : null;
}

function prepare() {
  for (const name of ['ir', 'grad', 'opt']) {
    const stage = stages[name] = {functions: {}, rows: []};
    for (const f of data[name] || []) {
      stage.functions[f.name] = f;
      const lines = f.text.replace(/\n$/, '').split('\n');
      f.lines = lines;
      f.first = stage.rows.length;
      lines.forEach((text, at) => {
        const i = at >= 1 && at <= f.ops.length ? at : 0;
        stage.rows.push({text, fn: f.name, i});
      });
      stage.rows.push({text: '', fn: f.name, i: 0});
    }
    stage.width = widest(stage.rows.map((r) => r.text));
  }
  placesOf = data.origins.map((o) => {
    const trail = o.trail || [], lines = new Map();
    for (const text of [o.location, ...trail.map((c) => c.called_at)]) {
      const p = text && parseLocation(text);
      if (p) lines.set(p.file + ':' + p.line, p);
    }
    return {user: parseLocation(o.user_location), written: parseLocation(o.location), all: [...lines.values()], trail};
  });
  // Arithmetic by line, inclusive as a profiler's: an operation counts on its own line and on those of all calls that led to it.
  data.heat = {};
  data.total = 0;
  const step = stages.opt.functions.train_step || data.opt[0];
  for (const op of step ? step.ops : []) {
    const flop = op.flop * (/\[n[,\]]/.test(op.type) ? data.batch : 1);
    data.total += flop;
    for (const p of op.at.length ? placesOf[op.at[0]].all : []) {
      const key = p.file + ':' + p.line;
      data.heat[key] = (data.heat[key] || 0) + flop;
    }
  }
  data.users = {};  // by function of generated code: the kernels that it is the code of, [{p, k}]
  data.programs.forEach((p, n) => {
    for (const c of p.calls) {
      const users = data.users[c.code] = data.users[c.code] || [];
      if (!users.some((u) => u.p === n && u.k === c.kernel)) users.push({p: n, k: c.kernel});
    }
    for (const k of p.kernels) k.calls = [];
    p.calls.forEach((c, i) => p.kernels[c.kernel].calls.push(i));
    for (const a of p.allocations) a.first = a.last = -1;
    p.calls.forEach((c, i) => {
      for (const b of c.buffers) {
        const a = p.allocations[b];
        if (a.first < 0) a.first = i;
        a.last = i;
      }
    });
  });
}

const opAt = (s) => stages[s.stage].functions[s.fn].ops[s.i - 1];
const sameOrigin = (a, b) => a.some((x) => b.includes(x));
const onLine = (op, line) => op.at.some((o) => placesOf[o].all.some((p) => p.file === line.file && p.line === line.line));

// --- Following an operation through the passes

const tensorPasses = () => data.passes.filter((p) => p.lineage);
const firstPass = (stage) => stage === 'ir' ? 0 : stage === 'grad'
    ? tensorPasses().findIndex((p) => p.name === 'differentiate') + 1 : tensorPasses().length;

// Where operation i of fn at a stage ends: {fn, i} in the optimised IR, or {gone: pass, made: [...]}.
function follow(stage, fn, i) {
  const list = tensorPasses();
  const origins = stages[stage].functions[fn].ops[i - 1].at;
  for (let p = firstPass(stage); p < list.length; ++p) {
    if (list[p].name === 'differentiate' && fn === 'train') fn = 'train_step';
    const step = list[p].lineage[fn];
    if (!step) return {gone: list[p].name, made: []};
    const next = step.before.indexOf(i) + 1;
    if (next === 0) {
      const made = Object.entries(step.made).filter(([, m]) => sameOrigin(m.at, origins)).map(([, m]) => m.op);
      return {gone: list[p].name, made};
    }
    i = next;
  }
  return {fn, i};
}

// The pass that made an operation of a stage, and what it was in the IR as written if it was there.
function ancestry(stage, fn, i) {
  const list = tensorPasses();
  for (let p = firstPass(stage) - 1; p >= 0; --p) {
    const step = list[p].lineage[fn];
    if (!step) return {};
    const before = step.before[i - 1];
    if (!before) return {madeBy: list[p].name};
    if (list[p].name === 'differentiate' && fn === 'train_step') fn = 'train';
    i = before;
  }
  return stages.ir.functions[fn] ? {fn, i} : {};
}

// --- What is selected

function select(change, tab) {
  state = {program: state.program, pass: state.pass, fn: state.fn, ...change, tab: tab || state.tab};
  update();
}

function link(text, action) {
  return el('a', {href: '#', click: (e) => { e.preventDefault(); action(); }}, text);
}

function opLink(stage, fn, i) {
  const op = stages[stage].functions[fn].ops[i - 1];
  return el('li', {}, link(`%${i} ${op.op}`, () => select({op: {stage, fn, i}}, stage)), ' ',
            el('code', {class: 't'}, op.type), el('span', {class: 'dim'}, ` @${fn}`));
}

function limited(items, most = 24, tag = 'li') {
  return [...items.slice(0, most), items.length > most ? el(tag, {class: 'dim'}, `and ${items.length - most} more`) : null].filter((x) => x);
}

function originDetail(op) {
  const items = op.at.map((o) => {
    const origin = data.origins[o];
    const at = placesOf[o];
    const show = (p) => () => { $('file').value = p.file; showSource(p.file); select({...state, line: p}); };
    const known = (p) => p && data.sources.some((s) => s.name === p.file);
    const item = el('li', {class: 'origin'}, known(at.written) ? link(origin.location, show(at.written)) : origin.location);
    if (at.user && origin.user_location !== origin.location)
      item.append(' from ', known(at.user) ? link(origin.user_location, show(at.user)) : origin.user_location);
    if (at.trail.length)
      item.append(el('div', {class: 'dim'}, 'in ' + at.trail.map((c) => '`' + c.callee + '`' + (c.instance ? ` (${c.instance})` : '')).join(', in ')));
    return item;
  });
  return [el('h3', {}, 'Origin'), items.length ? el('ul', {id: 'origin'}, items) : el('p', {class: 'dim'}, 'The compiler made it; no line of the model file is its own.')];
}

function sourceOf(op) {
  for (const o of op.at) {
    const p = placesOf[o].user;
    const file = p && data.sources.find((s) => s.name === p.file);
    if (file) return el('pre', {id: 'origin-line'}, `${p.line} | ${file.text.split('\n')[p.line - 1] || ''}`);
  }
  return null;
}

// The function of a kernel's code, and what else runs it: equal kernels, of other programs too, are compiled once, under
// the name of the first.
function sharedCode(code, own) {
  const full = (u) => `${data.programs[u.p].name}.${data.programs[u.p].kernels[u.k].name}`;
  const others = data.users[code].filter((u) => full(u) !== code && (!own || u.p !== own.p || u.k !== own.k));
  const links = others.map((u) => link(full(u), () => select({kernel: u, program: u.p})));
  return [link(code, () => select({...state, code}, 'asm')), ...(links.length ? [', which is also the code of the equal kernels ', ...limited(links, 6, 'span').flatMap((l, n) => n ? [', ', l] : [l])] : [])];
}

function kernelDetail(p, k) {
  const program = data.programs[p], kernel = program.kernels[k];
  const calls = kernel.calls.map((c) => program.calls[c]);
  const sum = (key) => calls.reduce((s, c) => s + (c[key] || 0), 0);
  const code = calls.length ? calls[0].code : '';
  const assembly = data.asm[code] || '';
  const lines = assembly.split('\n');
  return [
    el('h3', {}, 'Kernel'),
    el('dl', {id: 'kernel'}, el('dt', {}, 'name'),
       el('dd', {}, link(kernel.name, () => select({kernel: {p, k}, program: p}, 'programs')), ` of ${program.name}`),
       el('dt', {}, 'computes'), el('dd', {}, kernel.summary),
       code ? [el('dt', {}, 'code'), el('dd', {id: 'code'}, sharedCode(code, {p, k}))] : [],
       el('dt', {}, 'called'), el('dd', {}, calls.map((c, n) => `${n ? '; ' : ''}call ${kernel.calls[n]}, split over ${c.split.over === 'panels' ? 'panels' + (c.split.extent > 1 ? ` in ${c.split.extent} parts` : '') : number(c.split.extent)}${c.barrier_before ? ', after a barrier' : ''}${c.guard_before ? ', if the loss is finite' : ''}`))),
    el('h3', {}, 'Cost'),
    el('dl', {id: 'cost'}, el('dt', {}, 'arithmetic'), el('dd', {}, amount(sum('flop'), 'FLOP')),
       el('dt', {}, 'moved'), el('dd', {}, amount(sum('bytes'), 'B')),
       el('dt', {}, 'per byte'), el('dd', {}, sum('bytes') ? (sum('flop') / sum('bytes')).toPrecision(3) + ' FLOP' : '-')),
    el('p', {class: 'dim'}, `estimates for a full batch of ${data.batch}`),
    el('h3', {}, 'Assembly'),
    assembly ? el('pre', {id: 'assembly'}, lines.slice(0, 400).join('\n') + (lines.length > 400 ? `\n… ${lines.length - 400} more lines` : '')) : el('p', {class: 'dim'}, 'none'),
    el('p', {}, link('all of it', () => select({...state, code}, 'asm')), ' · ', link('loop IR', () => select({kernel: {p, k}, program: p}, 'programs')), ' · ', link('LLVM', () => select({...state, code}, 'llvm'))),
  ];
}

// The kernels of an operation of the optimised IR: copies and parts of one kernel bear its number.
function kernelsOf(fn, op) {
  const p = data.programs.findIndex((x) => x.name === fn);
  if (p < 0 || op.kernel === undefined) return [];
  return data.programs[p].kernels.map((k, n) => [k, n]).filter(([k]) => k.group === op.kernel).map(([, n]) => [p, n])
      .sort((a, b) => data.programs[p].kernels[b[1]].calls.reduce((s, c) => s + data.programs[p].calls[c].flop, 0) -
                      data.programs[p].kernels[a[1]].calls.reduce((s, c) => s + data.programs[p].calls[c].flop, 0));
}

function memoryDetail(fn, i) {
  const program = data.programs.find((p) => p.name === fn);
  const a = program ? program.allocations.findIndex((x) => x.name === '%' + i) : -1;
  if (a < 0) return [el('h3', {}, 'Memory'), el('p', {class: 'dim'}, 'none of its own: it stays in registers, or shares another value\u2019s')];
  const x = program.allocations[a];
  return [el('h3', {}, 'Memory'), el('p', {}, link(`${amount(x.bytes, 'B')} of ${x.space} at ${number(x.offset)}`, () => select({allocation: {p: data.programs.indexOf(program), a}, program: data.programs.indexOf(program)}, 'memory')), `, calls ${x.first} to ${x.last}`)];
}

function opDetail(s) {
  const op = opAt(s);
  const out = [el('h2', {}, `%${s.i} ${op.op}`), el('dl', {}, el('dt', {}, 'type'), el('dd', {}, el('code', {class: 't'}, op.type)),
                                                el('dt', {}, 'function'), el('dd', {}, '@' + s.fn)),
               ...originDetail(op), sourceOf(op)];
  let final = s.stage === 'opt' ? {fn: s.fn, i: s.i} : follow(s.stage, s.fn, s.i);
  if (s.stage !== 'ir') {
    const from = ancestry(s.stage, s.fn, s.i);
    out.push(el('h3', {}, 'Came from'), el('ul', {id: 'came-from'}, from.i ? opLink('ir', from.fn, from.i) : el('li', {}, from.madeBy ? `made by the pass ${from.madeBy}` : 'the IR as written')));
  }
  out.push(el('h3', {}, 'Became'));
  const became = el('ul', {id: 'became'});
  if (final.i && s.stage !== 'opt') became.append(opLink('opt', final.fn, final.i));
  if (final.gone)
    became.append(el('li', {}, `${final.made.length ? 'replaced' : 'merged or removed'} by the pass `, link(final.gone, () => select({pass: data.passes.findIndex((p) => p.name === final.gone)}, 'passes')), final.made.length ? `: ${final.made.join(', ')}` : ''));
  const related = [];
  for (const f of data.opt)
    f.ops.forEach((o, n) => { if (sameOrigin(o.at, op.at) && !(final.fn === f.name && final.i === n + 1)) related.push([f.name, n + 1]); });
  if (s.stage === 'opt' && !related.length) became.append(el('li', {}, 'kernel code, below'));
  out.push(became);
  if (related.length) out.push(el('p', {class: 'dim'}, 'of the same origin in the optimised IR:'), el('ul', {}, limited(related.map(([fn, n]) => opLink('opt', fn, n)))));
  if (!final.i && related.length) {
    const best = related.find(([fn]) => fn === 'train_step') || related[0];
    final = {fn: best[0], i: best[1]};
  }
  if (final.i) {
    const last = stages.opt.functions[final.fn].ops[final.i - 1];
    out.push(...memoryDetail(final.fn, final.i));
    const kernels = kernelsOf(final.fn, last);
    if (kernels.length) out.push(...kernelDetail(...kernels[0]));
    else out.push(el('h3', {}, 'Kernel'), el('p', {id: 'kernel', class: 'dim'}, 'none of its own: a view or a value computed where it is used'));
    if (kernels.length > 1) out.push(el('p', {class: 'dim'}, 'and these of the same number:'), el('ul', {}, kernels.slice(1).map(([p, k]) => el('li', {}, link(data.programs[p].kernels[k].name, () => select({kernel: {p, k}, program: p}, 'programs')), ' ' + data.programs[p].kernels[k].summary))));
  }
  return out;
}

function lineDetail(line) {
  const file = data.sources.find((s) => s.name === line.file);
  const out = [el('h2', {}, `${line.file}:${line.line}`), el('pre', {id: 'origin-line'}, file ? file.text.split('\n')[line.line - 1] : '')];
  for (const [stage, title] of [['ir', 'In the IR'], ['opt', 'Optimised']]) {
    const items = [];
    const first = inView(stages[stage]);
    for (const f of [...data[stage]].sort((a, b) => (b.name === first) - (a.name === first)))
      f.ops.forEach((op, n) => { if (onLine(op, line)) items.push(opLink(stage, f.name, n + 1)); });
    out.push(el('h3', {}, `${title} (${items.length})`), items.length ? el('ul', {}, limited(items, 40))
                                                                    : el('p', {class: 'dim'}, 'Nothing: this line neither computes a value nor calls what does.'));
  }
  return out;
}

function allocationDetail({p, a}) {
  const program = data.programs[p], x = program.allocations[a];
  const m = /^%(\d+)/.exec(x.name);
  const f = stages.opt.functions[program.name];
  return [el('h2', {}, x.name), el('dl', {}, el('dt', {}, 'program'), el('dd', {}, program.name), el('dt', {}, 'in'), el('dd', {}, `${x.space} at byte ${number(x.offset)}`),
            el('dt', {}, 'size'), el('dd', {}, `${number(x.elements)} × ${x.type}, ${amount(x.bytes, 'B')}`), el('dt', {}, 'alive'), el('dd', {}, x.first < 0 ? 'never' : `from call ${x.first} to call ${x.last}`)),
          m && f && f.ops[m[1] - 1] ? [el('h3', {}, 'Value'), el('ul', {}, opLink('opt', program.name, +m[1]))] : null].flat();
}

function showDetail() {
  let parts;
  if (state.kernel) {
    const {p, k} = state.kernel, kernel = data.programs[p].kernels[k], f = stages.opt.functions[data.programs[p].name];
    const ops = f ? f.ops.map((op, n) => [op, n + 1]).filter(([op]) => op.kernel !== undefined && op.kernel === kernel.group) : [];
    parts = [el('h2', {}, kernel.name), ...kernelDetail(p, k), el('h3', {}, 'Operations'), el('ul', {}, limited(ops.map(([, n]) => opLink('opt', f.name, n)), 60))];
  } else if (state.allocation) parts = allocationDetail(state.allocation);
  else if (state.op) parts = opDetail(state.op);
  else if (state.line) parts = lineDetail(state.line);
  else parts = [el('p', {class: 'hint'}, 'Click an operation to see the line it comes from, what it became, its kernel, the assembly of that and its cost. Click a source line to see its operations. The bars beside source lines are their share of the training step\u2019s arithmetic; a line that calls a layer has all of that layer\u2019s.')];
  $('detail').replaceChildren(...parts.filter((x) => x));
}

// --- Panes

function showSource(name) {
  const file = data.sources.find((s) => s.name === name) || data.sources[0];
  const lines = file.text.replace(/\n$/, '').split('\n');
  const op = state.op && opAt(state.op);
  const marks = new Set();
  if (op) for (const o of op.at) for (const p of placesOf[o].all) if (p.file === file.name) marks.add(p.line);
  // The innermost line comes into view: calls further out may be anywhere.
  const own = op && op.at.map((o) => placesOf[o].all.find((p) => p.file === file.name)).find((p) => p);
  sourceLines.show(lines, (text, i) => {
    const heat = data.heat[`${file.name}:${i + 1}`] || 0;
    const line = {file: file.name, line: i + 1};
    const chosen = state.line && state.line.file === file.name && state.line.line === i + 1;
    return {class: chosen ? 'selected' : marks.has(i + 1) ? 'related' : '',
            parts: [el('span', {class: 'no'}, String(i + 1)), el('span', {class: 'heat', title: heat ? `${amount(heat, 'FLOP')}, ${(100 * heat / data.total).toPrecision(2)} % of the training step` : undefined}, heat ? el('i', {style: `width:${Math.max(3, 30 * heat / data.total)}px`}) : ''), text],
            click: () => select({line})};
  }, widest(lines) + 6);
  if (own) sourceLines.reveal(own.line - 1);
}

function textPane(text, coloring = colored) {
  const box = el('div', {class: 'lines', tabindex: '0'});
  $('stage-body').append(box);
  stageLines = new Lines(box);
  const lines = text.replace(/\n$/, '').split('\n');
  stageLines.show(lines, (line) => ({parts: ['  ', ...coloring(line)]}), widest(lines));
  return stageLines;
}

function chooser(label, names, chosen, change) {
  return el('label', {}, label + ' ', el('select', {'aria-label': label, change: (e) => change(e.target.value)},
                                         names.map((n, i) => el('option', {value: i, selected: i === chosen}, n))));
}

// The function of a stage that stands for the one in view: the training step is `train` until it is differentiated.
function inView(stage) {
  const has = (fn) => stage.functions[fn] && fn;
  return has(state.fn) || has('train_step') || has('train') || Object.keys(stage.functions)[0];
}

function showOps(name) {
  const stage = stages[name];
  const names = Object.keys(stage.functions);
  if (!names.length) return;
  const box = el('div', {class: 'lines', id: 'ops', tabindex: '0'});
  const label = chooser('function', names, 0, (i) => { by_reader = false; box.scrollTop = stage.functions[names[i]].first * kRow; settle(names[i]); });
  const choice = label.querySelector('select');
  // What the chooser says: the function that was chosen or whose operation was brought into view; the one at the top once the
  // reader scrolls.
  let by_reader = false;
  for (const event of ['wheel', 'pointerdown', 'touchstart', 'keydown']) box.addEventListener(event, () => { by_reader = true; }, {passive: true});
  const settle = (fn) => { state.fn = fn; choice.value = names.indexOf(fn); };
  $('stage-bar').append(label, el('span', {}, `${number(stage.rows.filter((r) => r.i).length)} operations`));
  $('stage-body').append(box);
  stageLines = new Lines(box);
  const s = state.op, origins = s ? opAt(s).at : [];
  const final = s && s.stage !== name ? (name === 'opt' ? follow(s.stage, s.fn, s.i) : {}) : s || {};
  const kind = (row) => {
    if (!row.i) return '';
    if (final.i === row.i && final.fn === row.fn) return 'selected';
    const op = stage.functions[row.fn].ops[row.i - 1];
    if (state.line ? onLine(op, state.line) : s && sameOrigin(op.at, origins)) return 'related';
    return '';
  };
  const fn = inView(stage);
  // Values that several lines share (constants) are only then brought into view where there is nothing else.
  const own = (row) => state.line && row.i && onLine({at: stage.functions[row.fn].ops[row.i - 1].at.slice(0, 1)}, state.line);
  const wanted = [(row) => kind(row) === 'selected', (row) => row.fn === fn && own(row), (row) => row.fn === fn && kind(row), kind];
  const target = wanted.map((test) => stage.rows.findIndex(test)).find((row) => row >= 0) ?? -1;
  stageLines.show(stage.rows, (row) => ({
    class: kind(row), parts: ['  ', ...colored(row.text)],
    click: row.i ? () => select({op: {stage: name, fn: row.fn, i: row.i}}) : undefined,
  }), stage.width);
  box.addEventListener('keydown', (e) => {
    const step = {ArrowDown: 1, ArrowUp: -1}[e.key];
    if (!step) return;
    e.preventDefault();
    let at = target;
    do at += step; while (stage.rows[at] && !stage.rows[at].i);
    if (stage.rows[at]) { select({op: {stage: name, fn: stage.rows[at].fn, i: stage.rows[at].i}}); $('ops').focus(); }
  });
  if (target < 0) box.scrollTop = stage.functions[fn].first * kRow;
  stageLines.reveal(target);
  settle(target < 0 ? fn : stage.rows[target].fn);
  stageLines.scrolled = (top) => { if (by_reader && stage.rows[top]) settle(stage.rows[top].fn); };
}

function showPasses() {
  if (state.pass === undefined) state.pass = Math.max(0, data.passes.findIndex((p) => p.diff));
  const chosen = data.passes[state.pass];
  const rows = data.passes.map((p, i) => {
    const lines = (p.diff || '').split('\n');
    const count = (sign) => lines.filter((l) => l[0] === sign).length;
    return el('tr', {class: 'link' + (i === state.pass ? ' selected' : '') + (p.changed ? '' : ' off'), click: () => select({pass: i})},
              el('td', {}, el('code', {}, p.name)), el('td', {}, p.doc),
              el('td', {class: 'num'}, !p.enabled ? 'left out' : p.diff ? `+${count('+')} −${count('-')}` : p.changed ? 'changed' : 'unchanged'));
  });
  $('stage-bar').append(el('span', {}, `${data.passes.length} passes in their order; what each changed is below`));
  $('stage-body').append(el('div', {class: 'passes'}, el('table', {id: 'pass-list'}, el('tbody', {}, rows))));
  const text = chosen.diff || (chosen.note ? `# ${chosen.name} ${chosen.note}` : `# ${chosen.name} changed nothing`);
  const lines = text.replace(/\n$/, '').split('\n');
  const box = el('div', {class: 'lines', id: 'diff', tabindex: '0'});
  $('stage-body').append(box);
  stageLines = new Lines(box);
  stageLines.show(lines, (line) => {
    const kind = {'+': 'plus', '-': 'minus', '@': 'at'}[line[0]] || '';
    return {class: kind, parts: [line]};
  }, widest(lines));
}

function programChooser() {
  if (!data.programs[state.program]) state.program = Math.max(0, data.programs.findIndex((p) => p.name === 'train_step'));
  $('stage-bar').append(chooser('program', data.programs.map((p) => p.name), state.program, (i) => select({program: +i})));
  return data.programs[state.program];
}

function showPrograms() {
  const program = programChooser();
  const p = state.program;
  const barriers = program.calls.filter((c) => c.barrier_before || c.guard_before).length;
  $('stage-bar').append(el('span', {}, `${program.calls.length} calls, ${barriers} barriers, arena ${amount(program.arena_bytes, 'B')}`));
  const rows = program.calls.map((c, i) => {
    const k = program.kernels[c.kernel];
    const chosen = state.kernel && state.kernel.p === p && state.kernel.k === c.kernel;
    return el('tr', {class: 'link' + (chosen ? ' selected' : ''), click: () => select({kernel: {p, k: c.kernel}})},
              el('td', {class: 'num'}, i + (c.barrier_before ? ' ┃' : '')), el('td', {}, el('code', {}, k.name)), el('td', {}, k.summary),
              el('td', {class: 'num'}, amount(c.flop || 0, 'FLOP')), el('td', {class: 'num'}, amount(c.bytes || 0, 'B')));
  });
  const list = el('div', {class: 'passes'}, el('table', {id: 'calls'},
    el('thead', {}, el('tr', {}, el('th', {class: 'num', title: 'a bar: all threads meet before it'}, 'call'), el('th', {}, 'kernel'), el('th', {}, 'computes'), el('th', {class: 'num'}, 'arithmetic'), el('th', {class: 'num'}, 'moved'))), el('tbody', {}, rows)));
  $('stage-body').append(list);
  const chosen = state.kernel && state.kernel.p === p ? program.kernels[state.kernel.k] : null;
  textPane(chosen ? chosen.text : program.kernels.map((k) => k.text).join('\n'));
  const row = list.querySelector('tr.selected');
  if (row) list.scrollTop = Math.max(0, row.offsetTop - 80);
}

function showCode(texts) {
  const names = Object.keys(texts);
  // Nothing chosen: the entry of the training step, or of the one program that the page has.
  let chosen = names.indexOf(state.code);
  for (const p of ['train_step', ...data.programs.map((x) => x.name)]) if (chosen < 0) chosen = names.indexOf(p);
  chosen = Math.max(0, chosen);
  if (!state.code && state.kernel) {
    const p = data.programs[state.kernel.p], k = p.kernels[state.kernel.k];
    if (k.calls.length) chosen = Math.max(0, names.indexOf(p.calls[k.calls[0]].code));
  } else if (!state.code && state.op) {
    const s = state.op.stage === 'opt' ? state.op : follow(state.op.stage, state.op.fn, state.op.i);
    const kernels = s.i ? kernelsOf(s.fn, stages.opt.functions[s.fn].ops[s.i - 1]) : [];
    if (kernels.length) {
      const p = data.programs[kernels[0][0]];
      chosen = Math.max(0, names.indexOf(p.calls[p.kernels[kernels[0][1]].calls[0]].code));
    }
  }
  $('stage-bar').append(chooser('code of', names, chosen, (i) => select({...state, code: names[i]})), el('span', {}, `${number(texts[names[chosen]].split('\n').length)} lines`),
                        data.users[names[chosen]] ? el('span', {id: 'users'}, sharedCode(names[chosen])) : '');
  textPane(texts[names[chosen]], (line) => line.startsWith('#') ? [el('span', {class: 's'}, line)] : [line]);
}

function hue(text) {
  let h = 7;
  for (const c of text) h = (h * 31 + c.charCodeAt(0)) % 360;
  return h;
}

// The layer that a value belongs to, as its operation's origin tells: values of one layer have one colour.
function layerOf(program, name) {
  const m = /^%(\d+)/.exec(name);
  const f = stages.opt.functions[program.name];
  const op = m && f ? f.ops[m[1] - 1] : null;
  if (!op || !op.at.length) return name;
  const o = placesOf[op.at[0]];
  const instance = o.trail.map((c) => c.instance).find((x) => x);
  return instance || (o.user ? `${o.user.file}:${o.user.line}` : name);
}

function showMemory() {
  const program = programChooser();
  const p = state.program;
  const values = program.allocations.map((a, i) => ({...a, i})).filter((a) => a.space === 'arena' && a.first >= 0);
  $('stage-bar').append(el('span', {}, `arena ${amount(program.arena_bytes, 'B')} for ${values.length} values; at least ${amount(program.least_arena_bytes, 'B')} are alive at once`));
  const width = Math.max(400, $('stage-body').clientWidth - 24), height = 280, left = 64, bottom = 24, calls = Math.max(1, program.calls.length), top = program.arena_bytes || 1;
  const x = (c) => left + (width - left) * c / calls, y = (b) => (height - bottom) * (1 - b / top) + 4;
  const picture = svg('svg', {id: 'timeline', viewBox: `0 0 ${width} ${height + 8}`, role: 'img', 'aria-label': 'which part of the arena holds which value, call by call'});
  const text = (attributes, value) => svg('text', {class: 'axis', ...attributes}, value);
  for (let i = 0; i <= 4; ++i) {
    const b = top * i / 4;
    picture.append(svg('line', {class: 'grid', x1: left, x2: width, y1: y(b), y2: y(b)}), text({x: left - 6, y: y(b) + 4, 'text-anchor': 'end'}, amount(b, 'B')));
  }
  for (let i = 0; i < calls; i += Math.ceil(calls / 10)) picture.append(text({x: x(i), y: height + 4}, 'call ' + i));
  program.calls.forEach((c, i) => { if (c.barrier_before && calls < 400) picture.append(svg('line', {class: 'barrier', x1: x(i), x2: x(i), y1: y(top), y2: y(0)})); });
  for (const a of values) {
    const layer = layerOf(program, a.name);
    picture.append(svg('rect', {class: 'a' + (state.allocation && state.allocation.p === p && state.allocation.a === a.i ? ' selected' : ''),
                           x: x(a.first), width: Math.max(1, x(a.last + 1) - x(a.first)), y: y(a.offset + a.bytes), height: Math.max(0.5, y(a.offset) - y(a.offset + a.bytes)),
                           fill: `hsl(${hue(layer)} 55% 58%)`, 'data-name': a.name, click: () => select({allocation: {p, a: a.i}})},
                  svg('title', {}, `${a.name} of ${layer}: ${amount(a.bytes, 'B')}, calls ${a.first} to ${a.last}`)));
  }
  picture.append(svg('line', {class: 'least', x1: left, x2: width, y1: y(program.least_arena_bytes), y2: y(program.least_arena_bytes)}));
  $('stage-body').append(el('div', {class: 'memory'}, picture, el('div', {class: 'dim'}, 'A block is a value: its height what it takes of the arena, its width the calls it lives for; values of one layer have one colour. Dotted: barriers. Dashed: the most that is alive between two barriers.')));
  const f = stages.opt.functions[program.name];
  const shape = (name) => { const m = /^%(\d+)$/.exec(name); return m && f && f.ops[m[1] - 1] ? f.ops[m[1] - 1] : null; };
  const symbol = (name) => data.symbols.find((s) => '@' + s.name === name);
  const rows = program.allocations.map((a, i) => ({a, i})).sort((u, v) => v.a.bytes - u.a.bytes).slice(0, 500).map(({a, i}) => {
    const op = shape(a.name), s = symbol(a.name);
    return el('tr', {class: 'link' + (state.allocation && state.allocation.p === p && state.allocation.a === i ? ' selected' : ''), click: () => select({allocation: {p, a: i}})},
              el('td', {}, el('code', {}, a.name), op ? ' ' + op.op : s ? ' ' + s.kind : ''), el('td', {}, el('code', {class: 't'}, op ? op.type : s ? s.type : `${a.type}[${a.elements}]`)),
              el('td', {}, a.space), el('td', {class: 'num'}, amount(a.bytes, 'B')), el('td', {class: 'num'}, a.first < 0 ? '-' : `${a.first} – ${a.last}`));
  });
  $('stage-body').append(el('div', {class: 'scroll'}, el('table', {id: 'values'},
    el('thead', {}, el('tr', {}, el('th', {}, 'value'), el('th', {}, 'shape'), el('th', {}, 'memory'), el('th', {class: 'num'}, 'size'), el('th', {class: 'num'}, 'calls'))), el('tbody', {}, rows))));
}

function update(keepHash) {
  for (const b of $('tabs').children) b.setAttribute('aria-selected', b.dataset.tab === state.tab);
  $('stage-bar').replaceChildren();
  $('stage-body').replaceChildren();
  if (state.tab === 'ast') textPane(data.ast, (l) => [l]);
  else if (state.tab === 'passes') showPasses();
  else if (state.tab === 'programs') showPrograms();
  else if (state.tab === 'llvm') showCode(data.llvm);
  else if (state.tab === 'asm') showCode(data.asm);
  else if (state.tab === 'memory') showMemory();
  else showOps(state.tab);
  const op = state.op && opAt(state.op);
  const at = op && op.at.map((o) => placesOf[o].user).find((p) => p && data.sources.some((s) => s.name === p.file));
  if (at) $('file').value = at.file;
  showSource($('file').value);
  showDetail();
  if (!keepHash) history.replaceState(null, '', '#' + encodeURIComponent(JSON.stringify(state)));
}

function fromHash() {
  try {
    const wanted = JSON.parse(decodeURIComponent(location.hash.slice(1)));
    if (!kTabs.some(([t]) => t === wanted.tab)) return;
    if (wanted.op && !opAt(wanted.op)) return;
    if (wanted.kernel && !data.programs[wanted.kernel.p].kernels[wanted.kernel.k]) return;
    if (wanted.allocation && !data.programs[wanted.allocation.p].allocations[wanted.allocation.a]) return;
    if (wanted.pass !== undefined && !data.passes[wanted.pass]) return;
    state = wanted;
  } catch (e) {
    // no state, or one of another page: begin at the beginning
  }
}

async function start() {
  data = await record();
  prepare();
  $('facts').textContent = `batch ${data.batch} · ${data.target} (${data.cpu}) · ${data.symbols.filter((s) => s.kind === 'parameter').length} parameters`;
  for (const [id, title] of kTabs)
    $('tabs').append(el('button', {role: 'tab', 'data-tab': id, click: () => select({...state, code: undefined}, id)}, title));
  for (const s of data.sources) $('file').append(el('option', {value: s.name}, s.name));
  $('file').onchange = (e) => showSource(e.target.value);
  sourceLines = new Lines($('source-lines'));
  fromHash();
  update(true);
}

window.ready = begin(start, $('detail'));
