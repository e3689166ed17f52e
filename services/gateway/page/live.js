// What is judged so far, while the analysis runs: a strip per face that grows. The result takes its place.

import { ask } from "./api.js";
import { $, clock, el } from "./nodes.js";
import { merged, strip } from "./timeline.js";

const MOST_FACES = 32;  // strips on the page, those of the newest faces; the result has them all

export function newLive() {  // of one analysis
  const faces = new Map();  // track id: its windows
  let token = "";
  $("live").hidden = true;
  $("faces").replaceChildren();

  function add(windows) {
    for (const one of windows) faces.set(one.track_id, [...(faces.get(one.track_id) ?? []), one]);
    if (windows.length) show(faces);
  }

  async function look(path, { signal, onTrouble }) {  // for what was finished since the last look
    let found;
    do {
      const page = await (await ask(`${path}?page_token=${encodeURIComponent(token)}`, { signal, onTrouble })).json();
      found = page.windows;
      add(found);
      token = page.next_page_token ?? token;
    } while (found.length);
  }

  return { add, look };
}

function show(faces) {
  const known_ms = 1000 * ($("video").duration || 0);  // of the chosen file, if this browser plays it
  const duration_ms = Math.max(known_ms, ...[...faces.values()].map((windows) => Math.max(...windows.map((one) => one.end_ms))));
  $("faces").replaceChildren(...[...faces].slice(-MOST_FACES).map(([id, windows]) => faceRow(id, windows, duration_ms)));
  $("live-end").textContent = clock(duration_ms);
  $("live").hidden = false;
}

function faceRow(id, windows, duration_ms) {
  const segments = merged(windows.toSorted((one, other) => one.start_ms - other.start_ms));
  const timeline = el("div", { className: "timeline", role: "group", ariaLabel: `Timeline of face ${id} so far` });
  timeline.append(...strip(segments, duration_ms));
  return el("li", {}, el("span", {}, id), timeline);
}
