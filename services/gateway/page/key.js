// The API key, where the server wants one: a person gives it, this tab alone keeps it, and every request carries it.

import { $ } from "./nodes.js";

const NAME = "mien-api-key";
const form = $("key");
let giving = null;  // while a person is being asked, whoever else needs a key waits for the same one

export function headers() {
  const key = sessionStorage.getItem(NAME);
  return key ? { Authorization: `Bearer ${key}` } : {};
}

export async function otherKey({ Authorization: refused }, signal) {  // resolves once there is another key than the one that was refused
  if (headers().Authorization !== refused) return;
  giving ??= given(refused).finally(() => { giving = null; });
  await Promise.race([giving, aborted(signal)]);
}

function given(refused) {
  sessionStorage.removeItem(NAME);
  $("key-hint").textContent = refused ? "The server does not know this key, or it has ended." : "This server asks for an API key.";
  form.hidden = false;
  form.elements.key.focus();
  return new Promise((resolve) => {
    form.onsubmit = (event) => {
      event.preventDefault();
      sessionStorage.setItem(NAME, form.elements.key.value.trim());
      form.reset();
      form.hidden = true;
      resolve();
    };
  });
}

function aborted(signal) {
  return new Promise((_, reject) => { signal.addEventListener("abort", () => reject(signal.reason), { once: true }); });
}
