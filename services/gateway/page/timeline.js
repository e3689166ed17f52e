// A face's windows as one strip, and the same in words. Times are milliseconds of media time.

import { clock, el, percent, placed } from "./nodes.js";

export function merged(timeline) {  // neighbours that say the same become one; a gap, in which the face was not seen, is kept
  const segments = [];
  for (const { start_ms, end_ms, label, scores, frames } of timeline) {
    const last = segments.at(-1);
    if (last?.label !== label || last.end_ms < start_ms) segments.push({ start_ms, end_ms, label, frames, sum: scores[label] * frames });
    else Object.assign(last, { end_ms, frames: last.frames + frames, sum: last.sum + scores[label] * frames });
  }
  return segments;
}

export function strip(segments, duration_ms, onPick) {  // pieces that can be picked where there is something to pick them for
  return segments.map((segment) => {
    const says = { title: said(segment), ariaLabel: said(segment) };
    const piece = onPick
      ? el("button", { type: "button", onclick: () => onPick(segment.start_ms), ...says }, segment.label)
      : el("span", { role: "img", ...says }, segment.label);
    piece.dataset.label = segment.label;
    return placed(piece, { from: segment.start_ms / duration_ms, to: Math.min(1, segment.end_ms / duration_ms) });
  });
}

export const span = ({ start_ms, end_ms }) => `${clock(start_ms)} to ${clock(end_ms)}`;
export const said = (segment) => `${span(segment)}: ${segment.label} ${percent(segment.sum / segment.frames)}`;
