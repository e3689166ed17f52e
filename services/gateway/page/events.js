// An analysis as it happens: events over one connection, made again from where it broke. Null where events do not get through.

import { Problem, ask, pause } from "./api.js";

const FIRST_MS = 5_000;  // the record is sent at once: when it does not come, somebody in between keeps it
const SILENT_MS = 40_000;  // the server says something every 15 seconds: after this the connection is dead, and does not know it
const AGAIN_S = 1;

export async function listen(path, { signal, onJob, onWindows, onTrouble }) {  // the job at its end
  let job = null, last = "";
  for (;;) {
    const line = new AbortController();
    const both = AbortSignal.any([signal, line.signal]);
    const impatience = setTimeout(() => line.abort(), FIRST_MS);
    try {
      const response = await ask(`${path}/events`, { signal: both, onTrouble, more: last ? { "Last-Event-ID": last } : {} });
      for await (const { id, event, data } of eventsOf(response)) {
        clearTimeout(impatience);
        last = id || last;
        if (event === "analysis") await onJob(job = data);
        else if (event === "windows") onWindows(data.windows);
        else if (event === "end") return job;
        else if (event === "deleted") throw new Problem({ title: "The analysis has been removed from the server." });
      }
    } catch (error) {
      if (signal.aborted || error instanceof Problem) throw error;
    } finally {
      clearTimeout(impatience);
      line.abort();
    }
    if (!last) return null;
    onTrouble({ title: "The connection was lost." });
    await pause(AGAIN_S, signal);
  }
}

async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ;) {
    const { value, done } = await within(SILENT_MS, reader.read());
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s)));
      if (fields.event) yield { ...fields, data: JSON.parse(fields.data) };  // the rest are comments
    }
  }
}

async function within(ms, promise) {
  let timer;
  const silent = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error("silent")), ms); });
  return Promise.race([promise, silent]).finally(() => clearTimeout(timer));
}
