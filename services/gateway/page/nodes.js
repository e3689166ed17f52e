// Nodes, and the words in them. Text reaches the page as text only.

export const $ = (id) => document.getElementById(id);

export function el(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

export function placed(node, shares) {  // the style sheet knows what to do with them
  for (const [name, share] of Object.entries(shares)) node.style.setProperty(`--${name}`, share);
  return node;
}

export function clock(ms, digits = 1) {
  const step_ms = 10 ** (3 - digits);
  const rounded_ms = Math.round(ms / step_ms) * step_ms;  // first, so that no minute has sixty seconds
  const minutes = Math.floor(rounded_ms / 60_000);
  const seconds = ((rounded_ms % 60_000) / 1000).toFixed(digits);
  return minutes ? `${minutes}:${seconds.padStart(digits ? digits + 3 : 2, "0")}` : `${seconds}\u00a0s`;
}

export const percent = (share) => `${Math.round(100 * share)}\u00a0%`;
export const words = (code) => code.replaceAll(/[_-]/g, " ");
