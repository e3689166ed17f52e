// The API that /docs describes, as far as the page needs it. Everything that goes wrong is a Problem, or the signal's own reason.

import { headers, otherKey } from "./key.js";

const RETRY_S = 3;  // unless the server says when

export class Problem extends Error {
  constructor(said, retryAfter) {
    super(said.title);
    Object.assign(this, said, { retryAfterS: Number(retryAfter) || RETRY_S });
  }
}

export async function ask(path, { method = "GET", signal, onTrouble, more }) {  // a question is repeated until it is answered, an order is not
  for (;;) {
    try {
      return await askOnce(path, method, signal, more);
    } catch (error) {
      if (method !== "GET" || !error.retryable) throw error;
      onTrouble(error);
      await pause(error.retryAfterS, signal);
    }
  }
}

async function askOnce(path, method, signal, more) {
  const sent = headers();
  const response = await fetch(path, { method, signal, headers: { ...sent, ...more } }).catch((error) => { throw signal.aborted ? error : unreachable(); });
  if (response.status === 401) {
    await otherKey(sent, signal);
    return askOnce(path, method, signal, more);
  }
  if (!response.ok) throw problemOf(await response.text(), response.status, response.headers.get("Retry-After"));
  return response;
}

export function send(method, path, { body, more, signal, onProgress }) {  // once; resolves with the request when it was answered with success
  const sent = headers();
  const again = () => otherKey(sent, signal).then(() => send(method, path, { body, more, signal, onProgress }));
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();  // fetch does not tell how much of a body has been sent
    signal.addEventListener("abort", () => request.abort());
    request.upload.onprogress = ({ loaded, total }) => onProgress?.(loaded, total);
    request.onabort = () => reject(signal.reason);
    request.onerror = () => reject(unreachable());
    request.onload = () => {
      if (request.status < 300) resolve(request);
      else if (request.status === 401) again().then(resolve, reject);
      else reject(problemOf(request.responseText, request.status, request.getResponseHeader("Retry-After")));
    };
    request.open(method, path);
    for (const [name, value] of Object.entries({ ...sent, ...more })) request.setRequestHeader(name, value);
    request.send(body);
  });
}

function problemOf(body, status, retryAfter) {
  try {
    return new Problem(JSON.parse(body), retryAfter);
  } catch {  // whoever stands in front of the server answers in words of its own
    return new Problem({ title: `The server answered with status ${status}.`, retryable: status >= 500 }, retryAfter);
  }
}

function unreachable() {
  return new Problem({ title: "The server does not answer.", retryable: true });
}

export async function poll(path, { signal, onJob, onTrouble }) {
  for (;;) {
    const response = await ask(path, { signal, onTrouble });
    const job = await response.json();
    await onJob(job);
    if (job.ended_ms !== null) return job;
    await pause(Number(response.headers.get("Retry-After")) || 1, signal);
  }
}

export async function readResult(path, { signal, onTrouble }) {
  const readPage = async (query) => (await ask(path + query, { signal, onTrouble })).json();
  const whole = await readPage("");
  for (let page = whole; page.next_page_token;) {
    page = await readPage(`?page_token=${encodeURIComponent(page.next_page_token)}`);
    for (const track of page.tracks) join(whole.tracks, track);
  }
  return whole;
}

function join(tracks, part) {  // a track whose timeline goes on is repeated on the next page
  const known = tracks.find((track) => track.track_id === part.track_id);
  if (known) known.timeline.push(...part.timeline);
  else tracks.push(part);
}

export function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}
