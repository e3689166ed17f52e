// What may be asked for beside the video, as the fold on the page offers it.

import { $ } from "./nodes.js";

const form = $("options");

export function asked() {  // the query of a submission; null when a person has to look at it first
  const { from, to, face, enhance, consent, keep } = form.elements;
  to.setCustomValidity(to.value && Number(to.value) <= Number(from.value) ? "This must be later than the beginning." : "");
  if (!form.checkValidity()) {
    $("fold").open = true;
    form.reportValidity();
    return null;
  }
  const query = new URLSearchParams({ enhance: enhance.value, training_consent: consent.checked, keep_video: keep.checked });
  if (from.value) query.set("start_ms", milliseconds(from));
  if (to.value) query.set("end_ms", milliseconds(to));
  if (face.value) query.set("min_face", face.value);
  consent.checked = keep.checked = false;  // nobody's agreement is read into the next video
  return query;
}

const milliseconds = ({ value }) => Math.round(1000 * value);

form.onsubmit = (event) => event.preventDefault();
form.oninput = () => form.elements.to.setCustomValidity("");
