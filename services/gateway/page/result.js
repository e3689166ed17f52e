// A result as a person reads it: who was on screen, when, which expression, and why.
// Times are milliseconds of media time, boxes fractions of the upright frame.

import { headers } from "./key.js";
import { $, clock, el, percent, placed, words } from "./nodes.js";
import { merged, said, span, strip } from "./timeline.js";

const NEAR_MS = 60;  // a deciding frame's box is shown while the video is this near to it
const FRAMES_SHOWN = 8;
const MARGIN = 0.35;  // around a face in its thumbnail, as a share of its size
const PICTURE_MS = 500;  // the longest wait for a picture that was already there

const video = $("video");
let boxes = [];  // of the deciding frames: {node, pts_ms}
let duration_ms = 1;

export function showResult(result, job, signal) {
  duration_ms = result.media.duration_ms || 1;
  const paint = painter(signal);
  const nobody = el("p", { className: "card" }, "No face was found in this video.");
  $("facts").replaceChildren(...facts(result, job).flatMap(([term, ...said]) => [el("dt", {}, term), el("dd", {}, ...said)]));
  $("tracks").replaceChildren(...(result.tracks.length ? result.tracks.map((track) => trackCard(track, paint)) : [nobody]));
  boxes = result.tracks.flatMap((track) => track.explanation.frames.map((frame) => boxOf(track, frame)));
  $("boxes").replaceChildren(...boxes.map(({ node }) => node));
  $("disclosure").textContent = result.disclosure;
  $("result").hidden = false;
  checkVideo();
  mark();
}

function facts({ media, coverage, model, warnings, links }, { timings }) {
  const dropped = Object.entries(coverage.dropped).filter(([, count]) => count).map(([reason, count]) => `${count} ${words(reason)}`);
  return [
    ["Video", `${clock(media.duration_ms)}, ${media.width} × ${media.height}, ${media.codec}, ${media.frames_decoded} frames`],
    ["Frames", `${coverage.frames_sampled} looked at, ${coverage.frames_with_face} with a face, ${coverage.frames_used} used`],
    ["Faces", `${coverage.faces_found} found, ${coverage.faces_used} used`],
    ["Left out", dropped.join(", ") || "none"],
    ["Warnings", warnings.map(words).join(", ") || "none"],
    ["Model", `release ${model.release}, crops ${model.preprocess}, `, cardLink(links.model)],
    ["Time", `${clock(timings.queue)} in the queue, then ${clock(timings.total)}: decoding ${clock(timings.decode)}, `
      + `finding faces ${clock(timings.detect)}, classifying ${clock(timings.infer)}`],
  ];
}

function cardLink(model) {  // in a tab of its own: the chosen video would be gone from this one
  const link = el("a", { href: `${model}/card`, target: "_blank", rel: "noopener" }, "model card");
  link.onclick = (event) => {
    if (!headers().Authorization) return;
    event.preventDefault();  // a link carries no key
    openText(link.href);
  };
  return link;
}

async function openText(path) {
  const response = await fetch(path, { headers: headers() });
  window.open(URL.createObjectURL(new Blob([await response.text()], { type: "text/plain;charset=utf-8" })));
}

function trackCard(track, paint) {
  const card = $("track").content.cloneNode(true).firstElementChild;
  const part = (selector) => card.querySelector(selector);
  const { label, scores } = track.verdict;
  const segments = merged(track.timeline);
  part("h2").textContent = `Face ${track.track_id}`;
  part(".verdict").textContent = `${label} ${percent(scores[label])}`;
  part(".verdict").dataset.label = label;
  part(".when").textContent = `${span(track)}, ${track.frames} frames`;
  part(".timeline").ariaLabel = `Timeline of face ${track.track_id}`;
  part(".timeline").prepend(...strip(segments, duration_ms, seek));
  part(".end").textContent = clock(duration_ms);
  part(".scores").append(...bars(scores, label));
  part(".regions").append(...bars(track.explanation.regions));
  part(".frames").append(...track.explanation.frames.slice(0, FRAMES_SHOWN).map((frame) => el("li", {}, frameButton(frame, paint))));
  part("summary").textContent = `Timeline in words (${segments.length})`;
  part(".segments").append(...segments.map((segment) => el("li", {}, said(segment))));
  return card;
}

function bars(shares, top) {
  return Object.entries(shares).map(([name, share]) => {
    const row = el("li", { className: name === top ? "top" : "" }, el("span", {}, name), placed(el("i"), { share }), el("span", {}, percent(share)));
    row.dataset.label = name;
    return row;
  });
}

function frameButton(frame, paint) {
  const at = clock(frame.pts_ms, 2);
  const weight = percent(frame.weight);
  const canvas = el("canvas", { width: 160, height: 160, frame });
  const watch = () => { video.pause(); seek(frame.pts_ms); };
  paint(canvas);
  const says = `Deciding frame at ${at}, weight ${weight}`;
  return el("button", { type: "button", ariaLabel: says, onclick: watch }, canvas, el("span", {}, at), el("strong", {}, weight));
}

function boxOf(track, { pts_ms, weight, box: [left, top, right, bottom] }) {
  return { pts_ms, node: placed(el("div", {}, el("span", {}, `${track.track_id} ${percent(weight)}`)), { left, top, right, bottom }) };
}

// --- the video, which plays from the chosen file and is never sent back ----------------------------------------------

function painter(signal) {  // draws thumbnails one after the other, as they come into sight, from a video of its own
  const source = el("video", { src: video.src, muted: true, preload: "auto" });
  let queue = once(source, "loadeddata", signal);
  const eye = new IntersectionObserver((entries) => {
    for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
      eye.unobserve(target);
      queue = queue.then(() => shown(source, target.frame.pts_ms, signal)).then(() => draw(target, source));
    }
  });
  return (canvas) => eye.observe(canvas);
}

async function shown(source, ms, signal) {  // "seeked" alone may come before the picture does
  const picture = new Promise((resolve) => source.requestVideoFrameCallback?.(resolve));
  const sought = once(source, "seeked", signal);
  goTo(source, ms);
  await sought;
  await Promise.race([picture, new Promise((resolve) => setTimeout(resolve, PICTURE_MS))]);
}

function draw(canvas, from) {
  const [left, top, right, bottom] = canvas.frame.box;
  const { videoWidth: width, videoHeight: height } = from;
  const side = Math.max((right - left) * width, (bottom - top) * height) * (1 + 2 * MARGIN);
  const x = ((left + right) * width - side) / 2;
  const y = ((top + bottom) * height - side) / 2;
  canvas.getContext("2d").drawImage(from, x, y, side, side, 0, 0, canvas.width, canvas.height);
}

function seek(ms) {
  goTo(video, ms);
  $("stage").scrollIntoView({ block: "nearest" });
}

function goTo(player, ms) {
  player.currentTime = (ms + 1) / 1000;  // past the frame's own start, which was rounded to a millisecond
}

function mark() {
  const now_ms = video.currentTime * 1000;
  placed($("result"), { at: Math.min(1, now_ms / duration_ms) });
  for (const { node, pts_ms } of boxes) node.hidden = Math.abs(pts_ms - now_ms) > NEAR_MS;
}

function markWhilePlaying() {
  mark();
  if (!video.paused) requestAnimationFrame(markWhilePlaying);
}

function checkVideo() {
  const plays = Boolean(video.src) && !video.error;
  $("result").classList.toggle("unwatched", !plays);
  $("unwatchable").textContent = video.src
    ? "This browser cannot play the video; its result does not suffer."
    : "The video is not sent back, so it plays only where it was chosen.";
  for (const button of $("tracks").querySelectorAll("button")) button.disabled = !plays;
}

const once = (target, type, signal) => new Promise((resolve) => target.addEventListener(type, resolve, { once: true, signal }));

video.onplay = markWhilePlaying;
video.onseeked = video.ontimeupdate = mark;
video.onerror = checkVideo;
video.onloadedmetadata = () => placed($("stage"), { ratio: video.videoWidth / video.videoHeight });
