// What the scripts of all pages share: making elements, numbers as text, and the record embedded in the page.
'use strict';
const $ = (id) => document.getElementById(id);

// An element with attributes, classes (`class`), event handlers (functions) and children (text or elements); svg() the
// same for SVG.
const el = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);
const svg = (name, attributes, ...children) => fill(document.createElementNS('http://www.w3.org/2000/svg', name), attributes, children);
function fill(e, attributes = {}, children = []) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    if (typeof value === 'function') e.addEventListener(key, value);
    else e.setAttribute(key, value === true ? '' : value);
  }
  e.append(...children.flat().filter((c) => c !== null && c !== undefined));
  return e;
}

const number = (x) => x.toLocaleString('en-US', {maximumFractionDigits: 0});
function amount(x, unit) {
  for (const [scale, prefix] of [[1e9, 'G'], [1e6, 'M'], [1e3, 'k']])
    if (Math.abs(x) >= scale) return (x / scale).toPrecision(3) + ' ' + prefix + unit;
  return number(x) + ' ' + unit;
}

// The record: base64 of gzip of JSON.
async function record() {
  const packed = Uint8Array.from(atob($('data').textContent.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'));
  return JSON.parse(await new Response(stream).text());
}

// Runs a page's start; where that fails, `place` says why.
const begin = (start, place) => start().catch((error) => {
  place.replaceChildren(el('p', {}, typeof DecompressionStream === 'undefined' ? 'This browser is too old for this page: it needs DecompressionStream (any browser since 2023).' : String(error)));
  throw error;
});
