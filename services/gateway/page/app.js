// From a chosen file to its result, through the API that /docs describes and nothing else.
// Times are milliseconds of media time, boxes fractions of the upright frame. Text reaches the page as text only.

const NEAR_MS = 60;  // a deciding frame's box is shown while the video is this near to it
const FRAMES_SHOWN = 8;
const RETRY_S = 3;  // unless the server says when
const MARGIN = 0.35;  // around a face in its thumbnail, as a share of its size

const $ = (id) => document.getElementById(id);
const video = $("video");
let run = new AbortController();  // all that is being done about one video; aborted as soon as it is about another
let boxes = [];  // of the deciding frames: {node, pts_ms}
let duration_ms = 1;

class Problem extends Error {
  constructor(said, retryAfterS = RETRY_S) {
    super(said.title);
    Object.assign(this, { detail: "", code: "", retryable: false, retryAfterS }, said);
  }
}

// --- the API ---------------------------------------------------------------------------------------------------------

async function ask(path, { method = "GET", signal }) {
  const response = await fetch(path, { method, signal }).catch((error) => { throw signal.aborted ? error : unreachable(); });
  if (!response.ok) throw problemOf(await response.text(), response.status, response.headers.get("Retry-After"));
  return response;
}

function upload(file, { signal, onProgress }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();  // fetch does not tell how much of a body has been sent
    const refused = () => problemOf(request.responseText, request.status, request.getResponseHeader("Retry-After"));
    signal.addEventListener("abort", () => request.abort());
    request.upload.onprogress = ({ loaded, total }) => onProgress(loaded, total);
    request.onabort = () => reject(signal.reason);
    request.onerror = () => reject(unreachable());
    request.onload = () => (request.status === 202 ? resolve(JSON.parse(request.responseText)) : reject(refused()));
    request.open("POST", "/v1/analyses");
    request.setRequestHeader("Content-Type", file.type.startsWith("video/") ? file.type : "application/octet-stream");
    request.send(file);
  });
}

function problemOf(body, status, retryAfter) {
  const retryAfterS = Number(retryAfter) || RETRY_S;
  try {
    return new Problem(JSON.parse(body), retryAfterS);
  } catch {  // whoever stands in front of the server answers in words of its own
    return new Problem({ title: `The server answered with status ${status}.`, retryable: status >= 500 }, retryAfterS);
  }
}

function unreachable() {
  return new Problem({ title: "The server does not answer.", code: "no-answer", retryable: true });
}

async function follow(path, signal) {
  for (;;) {
    const { job, waitS } = await look(path, signal);
    if (job) show(job);
    if (job && job.ended_ms !== null) return job;
    await pause(waitS, signal);
  }
}

async function look(path, signal) {
  try {
    const response = await ask(path, { signal });
    return { job: await response.json(), waitS: Number(response.headers.get("Retry-After")) || 1 };
  } catch (error) {
    if (!error.retryable) throw error;
    $("message").textContent = `${error.title} Trying again.`;
    return { waitS: error.retryAfterS };
  }
}

async function readResult(path, signal) {
  const whole = await readPage(path, signal);
  for (let page = whole; page.next_page_token;) {
    page = await readPage(`${path}?page_token=${encodeURIComponent(page.next_page_token)}`, signal);
    for (const track of page.tracks) join(whole.tracks, track);
  }
  return whole;
}

async function readPage(path, signal) {
  return (await ask(path, { signal })).json();
}

function join(tracks, part) {  // a track whose timeline goes on is repeated on the next page
  const known = tracks.find((track) => track.track_id === part.track_id);
  if (known) known.timeline.push(...part.timeline);
  else tracks.push(part);
}

// --- one video, from its file to its result --------------------------------------------------------------------------

async function analyse(file) {
  const signal = begin(file.name);
  video.src = URL.createObjectURL(file);
  await guarded(signal, async () => {
    show({ state: "uploading" });
    $("cancel").onclick = () => run.abort();
    const job = await upload(file, { signal, onProgress: (sent, all) => meter(sent / all, `${megabytes(sent)} of ${megabytes(all)} sent.`) });
    history.replaceState(null, "", `#${job.id}`);  // so that a reload finds it again
    await finish(job.links.analysis, signal);
  });
}

async function reopen() {
  const id = location.hash.slice(1);
  if (!id.startsWith("an_")) return;
  const signal = begin("Analysis");
  history.replaceState(null, "", `#${id}`);
  await guarded(signal, () => finish(`/v1/analyses/${encodeURIComponent(id)}`, signal));
}

async function finish(path, signal) {
  const job = await follow(path, signal);
  if (job.failure) throw new Problem({ ...job.failure, type: `/problems/${job.failure.code}` });
  if (job.links.results) showResult(await readResult(job.links.results, signal), job, signal);
}

async function cancel(job) {
  const { signal } = run;
  await guarded(signal, async () => show(await (await ask(job.links.cancel, { method: "POST", signal })).json()));
}

async function remove(job) {
  const signal = begin($("name").textContent);  // from here on nobody follows it
  await guarded(signal, async () => {
    await ask(job.links.analysis, { method: "DELETE", signal });
    show({ state: "deleted" });
  });
}

function begin(name) {
  run.abort();
  run = new AbortController();
  URL.revokeObjectURL(video.src);
  video.removeAttribute("src");
  history.replaceState(null, "", location.pathname);
  for (const id of ["problem", "result", "cancel", "delete"]) $(id).hidden = true;
  $("job").hidden = false;
  $("name").textContent = name;
  return run.signal;
}

async function guarded(signal, work) {
  try {
    await work();
  } catch (error) {
    if (signal !== run.signal) return;  // about a video that nobody looks at any more
    if (signal.aborted) show({ state: "canceled" });
    else showProblem(error);
  }
}

// --- how it is doing -------------------------------------------------------------------------------------------------

const MESSAGES = {
  uploading: () => "Sending the video.",
  queued: () => "Waiting for its turn.",
  running: (job) => (job.cancel_requested ? "Stopping." : STAGES[job.progress.stage](job.progress)),
  succeeded: (job) => `Done in ${clock(job.timings.total)}.`,
  failed: () => "There is no result.",
  canceled: () => "Stopped before there was a result.",
  deleted: () => "The video, the result and the record are gone from the server.",
};
const STAGES = {
  waiting: () => "Waiting for the model.",
  analysing: ({ frames_done: done, frames_total: total }) => `Looking at the faces: frame ${done}${total ? ` of about ${total}` : ""}.`,
  classifying: () => "Judging what was seen.",
  done: () => "Writing the result.",
};
const GOING = ["uploading", "queued", "running"];

function show(job) {
  const going = GOING.includes(job.state);
  $("state").textContent = $("state").dataset.state = job.state;
  $("progress").hidden = !going;
  meter(job.state === "running" ? job.progress.percent / 100 : NaN, MESSAGES[job.state](job));
  $("cancel").hidden = !going || Boolean(job.cancel_requested);
  $("delete").hidden = !job.links;
  $("cancel").onclick = () => cancel(job);
  $("delete").onclick = () => remove(job);
}

function meter(share, message) {
  if (Number.isFinite(share)) $("progress").value = 100 * share;
  else $("progress").removeAttribute("value");
  $("message").textContent = message;
}

function showProblem({ title, message, detail, code, type, retryable, request_id: request }) {
  if (GOING.includes($("state").dataset.state)) show({ state: "failed" });
  const name = code && (type ? el("a", { href: type }, code) : code);
  const lines = [detail !== title && detail, retryable && "The same may succeed later.", name && ["Code: ", name], request && `Request: ${request}`];
  $("problem").replaceChildren(el("h2", {}, title ?? message), ...lines.filter(Boolean).map((line) => el("p", {}, ...[line].flat())));
  $("problem").hidden = false;
}

// --- the result ------------------------------------------------------------------------------------------------------

function showResult(result, job, signal) {
  duration_ms = result.media.duration_ms || 1;
  const paint = painter(signal);
  $("facts").replaceChildren(...facts(result, job).flatMap(([term, text]) => [el("dt", {}, term), el("dd", {}, text)]));
  $("tracks").replaceChildren(...result.tracks.map((track) => trackCard(track, paint)));
  if (!result.tracks.length) $("tracks").append(el("p", { className: "card" }, "No face was found in this video."));
  boxes = result.tracks.flatMap((track) => track.explanation.frames.map((frame) => boxOf(track, frame)));
  $("boxes").replaceChildren(...boxes.map(({ node }) => node));
  $("disclosure").textContent = result.disclosure;
  $("result").hidden = false;
  watchable();
  mark();
}

function facts({ media, coverage, model, warnings }, { timings }) {
  const dropped = Object.entries(coverage.dropped).filter(([, count]) => count).map(([reason, count]) => `${count} ${words(reason)}`);
  return [
    ["Video", `${clock(media.duration_ms)}, ${media.width} × ${media.height}, ${media.codec}, ${media.frames_decoded} frames`],
    ["Frames", `${coverage.frames_sampled} looked at, ${coverage.frames_with_face} with a face, ${coverage.frames_used} used`],
    ["Faces", `${coverage.faces_found} found, ${coverage.faces_used} used`],
    ["Left out", dropped.join(", ") || "none"],
    ["Warnings", warnings.map(words).join(", ") || "none"],
    ["Model", `release ${model.release}, crops ${model.preprocess}`],
    ["Time", `${clock(timings.total)}: decoding ${clock(timings.decode)}, finding faces ${clock(timings.detect)}, `
      + `classifying ${clock(timings.infer)}; before that ${clock(timings.queue)} in the queue`],
  ];
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
  part(".timeline").prepend(...segments.map(segmentButton));
  part(".end").textContent = clock(duration_ms);
  part(".scores").append(...bars(scores, label));
  part(".regions").append(...bars(track.explanation.regions));
  part(".frames").append(...track.explanation.frames.slice(0, FRAMES_SHOWN).map((frame) => el("li", {}, frameButton(frame, paint))));
  part("summary").textContent = `Timeline in words (${segments.length})`;
  part(".segments").append(...segments.map((segment) => el("li", {}, said(segment))));
  return card;
}

function merged(timeline) {  // neighbours that say the same become one; a gap, in which the face was not seen, is kept
  const segments = [];
  for (const { start_ms, end_ms, label, scores, frames } of timeline) {
    const last = segments.at(-1);
    if (last?.label !== label || last.end_ms < start_ms) segments.push({ start_ms, end_ms, label, frames, sum: scores[label] * frames });
    else Object.assign(last, { end_ms, frames: last.frames + frames, sum: last.sum + scores[label] * frames });
  }
  return segments;
}

function segmentButton(segment) {
  const button = el("button", { type: "button", title: said(segment), ariaLabel: said(segment), onclick: () => seek(segment.start_ms) }, segment.label);
  button.dataset.label = segment.label;
  return placed(button, { from: segment.start_ms / duration_ms, to: Math.min(1, segment.end_ms / duration_ms) });
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
  paint(canvas);
  const watch = () => { video.pause(); seek(frame.pts_ms); };
  return el("button", { type: "button", ariaLabel: `Deciding frame at ${at}, weight ${weight}`, onclick: watch }, canvas, el("span", {}, at), el("strong", {}, weight));
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
  source.currentTime = (ms + 1) / 1000;  // past the frame's own start, which was rounded to a millisecond
  await sought;
  await Promise.race([picture, pause(0.5, signal)]);
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
  video.currentTime = (ms + 1) / 1000;
  $("stage").scrollIntoView({ block: "nearest", behavior: "smooth" });
}

function mark() {
  const now_ms = video.currentTime * 1000;
  placed($("result"), { at: Math.min(1, now_ms / duration_ms) });
  for (const { node, pts_ms } of boxes) node.hidden = Math.abs(pts_ms - now_ms) > NEAR_MS;
}

function play() {
  mark();
  if (!video.paused) requestAnimationFrame(play);
}

function watchable() {
  const can = Boolean(video.src) && !video.error;
  $("result").classList.toggle("unwatched", !can);
  $("unwatchable").textContent = video.src ? "This browser cannot play the video; its result does not suffer."
    : "The video is not sent back, so it plays only where it was chosen.";
  for (const button of $("tracks").querySelectorAll("button")) button.disabled = !can;
}

// --- words and nodes -------------------------------------------------------------------------------------------------

function el(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

function placed(node, shares) {  // the style sheet knows what to do with these
  for (const [name, share] of Object.entries(shares)) node.style.setProperty(`--${name}`, share);
  return node;
}

function clock(ms, digits = 1) {
  const minutes = Math.floor(ms / 60_000);
  const seconds = ((ms % 60_000) / 1000).toFixed(digits);
  return minutes ? `${minutes}:${seconds.padStart(digits + 3, "0")}` : `${seconds} s`;
}

const span = ({ start_ms, end_ms }) => `${clock(start_ms)} to ${clock(end_ms)}`;
const said = (segment) => `${span(segment)}: ${segment.label} ${percent(segment.sum / segment.frames)}`;
const percent = (share) => `${Math.round(100 * share)} %`;
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
const words = (code) => code.replaceAll(/[_-]/g, " ");
const once = (target, type, signal) => new Promise((resolve) => target.addEventListener(type, resolve, { once: true, signal }));

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => reject(signal.reason));
  });
}

// --- what a person does ----------------------------------------------------------------------------------------------

$("file").onclick = () => { $("file").value = ""; };  // the same file may be chosen again
$("file").onchange = () => { if ($("file").files.length) analyse($("file").files[0]); };
document.ondragover = (event) => { event.preventDefault(); $("choose").classList.add("over"); };
document.ondragleave = () => $("choose").classList.remove("over");
document.ondrop = (event) => {
  event.preventDefault();
  $("choose").classList.remove("over");
  if (event.dataTransfer.files.length) analyse(event.dataTransfer.files[0]);
};
video.onplay = play;
video.onseeked = video.ontimeupdate = mark;
video.onerror = watchable;
video.onloadedmetadata = () => placed($("stage"), { ratio: video.videoWidth / video.videoHeight });
window.onhashchange = reopen;
reopen();
