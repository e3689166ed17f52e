// From a chosen file to its result: sends it, follows its analysis, and says how it is doing.

import { Problem, ask, poll, readResult } from "./api.js";
import { listen } from "./events.js";
import { newLive } from "./live.js";
import { $, clock, el } from "./nodes.js";
import { asked } from "./options.js";
import { showResult } from "./result.js";
import { upload } from "./sending.js";

let run = new AbortController();  // all that is being done about one video; aborted as soon as there is another

// --- one video, from its file to its result --------------------------------------------------------------------------

async function analyse(file) {
  const query = asked();
  if (!query) return;
  const signal = begin(file.name);
  $("video").src = URL.createObjectURL(file);
  await guarded(signal, async () => {
    show({ state: "uploading" });
    $("cancel").onclick = () => run.abort();
    const onProgress = (sent, all) => meter(sent / all, `${megabytes(sent)} of ${megabytes(all)} sent.`);
    const job = await upload(file, { query, signal, onProgress, onTrouble });
    history.replaceState(null, "", `#${job.id}`);  // so that a reload finds it again
    show(job);
    await finish(job.links.analysis, signal);
  });
}

async function reopen() {
  const { hash } = location;
  if (!hash.startsWith("#an_")) return;
  const signal = begin("Analysis");
  history.replaceState(null, "", hash);
  await guarded(signal, () => finish(`/v1/analyses/${encodeURIComponent(hash.slice(1))}`, signal));
}

async function finish(path, signal) {
  const live = newLive();
  const onJob = async (job) => {  // where events do not get through
    show(job);
    if (job.state === "running") await live.look(job.links.windows, { signal, onTrouble });
  };
  const job = await listen(path, { signal, onTrouble, onJob: show, onWindows: live.add }) ?? await poll(path, { signal, onTrouble, onJob });
  if (job.failure) throw new Problem({ ...job.failure, type: `/problems/${job.failure.code}` });
  if (!job.links.results) return;
  showResult(await readResult(job.links.results, { signal, onTrouble }), job, signal);
  $("live").hidden = true;
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
  forgetVideo();
  history.replaceState(null, "", location.pathname);
  for (const id of ["problem", "live", "result", "cancel", "delete"]) $(id).hidden = true;
  $("job").hidden = false;
  $("name").textContent = name;
  return run.signal;
}

function forgetVideo() {
  const video = $("video");
  URL.revokeObjectURL(video.src);
  video.removeAttribute("src");
  video.load();  // which makes it stop
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

const GOING = ["uploading", "queued", "running"];
const MESSAGES = {
  uploading: () => "Sending the video.",
  queued: () => "Waiting for its turn.",
  running: (job) => (job.cancel_requested ? "Stopping." : STAGES[job.progress.stage](job.progress)),
  succeeded: ({ timings }) => (timings ? `Done in ${clock(timings.total)}.` : "Done."),  // nobody knows of one that a lost Redis was told again
  failed: () => "There is no result.",
  canceled: () => "Stopped before there was a result.",
  deleted: () => "The video, the result and the record are gone from the server.",
};
const STAGES = {
  waiting: () => "Waiting for the model.",
  analysing: ({ frames_done: done, frames_total: total, seconds_left: left }) =>
    `Looking at the faces: frame ${done}${total ? ` of about ${total}` : ""}${left === null ? "" : `, about ${clock(1000 * left, 0)} left`}.`,
  classifying: () => "Judging what was seen.",
  done: () => "Writing the result.",
};

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

function onTrouble({ title }) {
  $("message").textContent = `${title} Trying again.`;
}

function meter(share, message) {
  if (Number.isFinite(share)) $("progress").value = 100 * share;
  else $("progress").removeAttribute("value");
  $("message").textContent = message;
}

function showProblem({ title, message, detail, code, type, retryable, request_id: request }) {
  if (GOING.includes($("state").dataset.state)) show({ state: "failed" });
  const lines = [
    detail && detail !== title && [detail],
    retryable && ["The same may succeed later."],
    code && ["Code: ", el("a", { href: type }, code)],
    request && [`Request: ${request}`],
  ];
  $("problem").replaceChildren(el("h2", {}, title ?? message), ...lines.filter(Boolean).map((line) => el("p", {}, ...line)));
  $("problem").hidden = false;
}

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

// --- what a person does ----------------------------------------------------------------------------------------------

$("file").onclick = () => { $("file").value = ""; };  // so that the same file may be chosen again
$("file").onchange = () => { if ($("file").files.length) analyse($("file").files[0]); };
document.ondragover = (event) => { event.preventDefault(); $("choose").classList.add("over"); };
document.ondragleave = () => $("choose").classList.remove("over");
document.ondrop = (event) => {
  event.preventDefault();
  $("choose").classList.remove("over");
  if (event.dataTransfer.files.length) analyse(event.dataTransfer.files[0]);
};
window.onhashchange = reopen;
reopen();
