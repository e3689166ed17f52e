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

async function inPieces(file, how) {
  const name = `mien-upload ${file.name} ${file.size} ${file.lastModified} ${how.query}`;  // this tab alone knows it
  const remembered = sessionStorage.getItem(name);
  try {
    if (remembered) return await goOn(name, remembered, file, how);
  } catch (error) {
    if (![404, 410].includes(error.status)) throw error;  // else it is past its time, or was deleted elsewhere
  }
  return goOn(name, await begin(file, how), file, how);
}

async function goOn(name, path, file, { signal, onProgress, onTrouble }) {
  const forget = () => sessionStorage.getItem(name) === path && sessionStorage.removeItem(name);
  sessionStorage.setItem(name, path);
  signal.addEventListener("abort", forget, { once: true });  // at once: the same file may be chosen again
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
    forget();
  }
}

async function begin(file, { query, signal }) {
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

async function giveUp(path) {  // as well as may be: what is left of it goes by itself after a day
  const upload = await remove(path);
  const analysis = upload?.getResponseHeader("Mien-Analysis");  // the last piece may have arrived all the same
  if (analysis) await remove(analysis);
}

async function remove(path, tries = 5) {
  const { signal } = new AbortController();
  try {
    return await send("DELETE", path, { signal, more: TUS });
  } catch ({ retryable, retryAfterS }) {  // the server is still busy with the piece that was broken off
    if (!retryable || tries === 1) return undefined;
    await pause(retryAfterS, signal);
    return remove(path, tries - 1);
  }
}
