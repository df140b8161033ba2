"use strict";
// Shared by all pages. HTML comes only from our own templates, which escape every value.
const studio = {
  say(words) { document.getElementById("status").textContent = words; },
  fail(words) { document.getElementById("error").textContent = words; },
  // Sends a form or JSON; returns the response. Where it fails, says why and throws.
  async post(path, body, signal) {
    studio.fail("");
    const headers = {"X-Broadbase-Token": document.querySelector("meta[name=token]").content};
    if (!(body instanceof FormData)) {
      headers["Content-Type"] = "application/json";
      body = JSON.stringify(body ?? {});
    }
    const response = await fetch(path, {method: "POST", headers, body, signal}).catch(() => null);
    if (response?.ok) return response;
    const words = await response?.json().then((answer) => answer.error.message).catch(() => null);
    if (!signal?.aborted)
      studio.fail(words ?? "The studio does not answer. Start it again: broadbase studio");
    throw new Error(words ?? "no answer");
  },

  // Sends as `post` and calls event(name, data) for each server-sent event of the answer.
  async stream(path, body, event, signal) {
    const response = await studio.post(path, body, signal);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let text = "", part; !(part = await reader.read()).done;) {
      const events = (text + part.value).split("\n\n");
      text = events.pop();
      for (const each of events) {
        const lines = each.split("\n").map((line) => line.match(/^(\w*): ?(.*)$/) ?? []);
        const field = (name) => lines.filter((l) => l[1] === name).map((l) => l[2]).join("\n");
        event(field("event") || "message", field("data"));
      }
    }
  },

  // Shows a fragment of HTML that the server rendered; open details and the focus stay.
  show(element, html) {
    const opened = [...element.querySelectorAll("details[open][id]")].map((each) => each.id);
    const focused = element.contains(document.activeElement) && document.activeElement.id;
    element.replaceChildren(...new DOMParser().parseFromString(html, "text/html").body.childNodes);
    for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
    if (focused) document.getElementById(focused)?.focus();
  },
};

// A form with data-target is sent by `post`; its answer is shown in the element of that id, or is
// JSON {"go": PATH}, where the browser goes.
document.addEventListener("submit", async (event) => {
  const form = event.target, target = document.getElementById(form.dataset.target);
  if (!target) return;
  event.preventDefault();
  const sent = studio.post(form.getAttribute("action"), new FormData(form, event.submitter));
  if (event.submitter) event.submitter.disabled = true;
  const response = await sent.catch(() => null);
  if (response?.headers.get("content-type").includes("json"))
    location.assign((await response.json()).go);
  else if (response) studio.show(target, await response.text());
  if (event.submitter) event.submitter.disabled = false;
});
