// A file on its way to the server: a small one in one request, a large one in pieces by the tus protocol, so that a line that breaks, or a
// page that is loaded anew, costs a piece and not the whole.

import { ask, pause, send } from "./api.js";

const LARGE = 64 * 2 ** 20;
const PIECE = 16 * 2 ** 20;
const TUS = { "Tus-Resumable": "1.0.0" };

export function upload(file, how) {  // resolves with the analysis
  return file.size > LARGE ? inPieces(file, how) : atOnce(file, how);
}

async function atOnce(file, { query, signal, onProgress }) {
  const type = file.type.startsWith("video/") ? file.type : "application/octet-stream";
  const answer = await send("POST", `/v1/analyses?${query}`, { body: file, signal, onProgress, more: { "Content-Type": type } });
  return JSON.parse(answer.responseText);
}

async function inPieces(file, { query, signal, onProgress, onTrouble }) {
  const name = `mien-upload ${file.name} ${file.size} ${file.lastModified} ${query}`;  // this tab alone knows it
  const path = sessionStorage.getItem(name) ?? await begin(file, query, signal);
  sessionStorage.setItem(name, path);
  try {
    for (;;) {
      const { offset, analysis } = await (await ask(path, { signal, onTrouble, more: TUS })).json();
      if (analysis) return await (await ask(analysis, { signal, onTrouble })).json();
      await sendPiece(path, file, offset, { signal, onProgress }).catch((error) => wait(error, signal, onTrouble));
    }
  } catch (error) {
    if (signal.aborted) giveUp(path);
    throw error;
  } finally {  // but for a page that is left: its script just ends
    sessionStorage.removeItem(name);
  }
}

async function begin(file, query, signal) {
  const metadata = [...query].map(([option, value]) => `${option} ${btoa(value)}`).join();
  const answer = await send("POST", "/v1/uploads", { signal, more: { ...TUS, "Upload-Length": file.size, "Upload-Metadata": metadata } });
  return answer.getResponseHeader("Location");
}

function sendPiece(path, file, offset, { signal, onProgress }) {
  return send("PATCH", path, {
    body: file.slice(offset, offset + PIECE),
    signal,
    onProgress: (sent) => onProgress(offset + sent, file.size),
    more: { ...TUS, "Upload-Offset": offset, "Content-Type": "application/offset+octet-stream" },
  });
}

async function wait(error, signal, onTrouble) {
  if (!error.retryable) throw error;
  onTrouble(error);
  await pause(error.retryAfterS, signal);
}

async function giveUp(path, tries = 5) {  // as well as may be: what is left of it goes by itself after a day
  const { signal } = new AbortController();
  try {
    await send("DELETE", path, { signal, more: TUS });
  } catch ({ retryable, retryAfterS }) {  // the server is still busy with the piece that was broken off
    if (!retryable || tries === 1) return;
    await pause(retryAfterS, signal);
    await giveUp(path, tries - 1);
  }
}
