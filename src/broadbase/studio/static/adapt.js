"use strict";
// A table that is dropped on a form with data-drop is sent as if it had been chosen.
for (const form of document.querySelectorAll("form[data-drop]")) {
  const input = form.querySelector("input[type=file]");
  for (const name of ["dragenter", "dragover", "dragleave", "drop"])
    form.addEventListener(name, (event) => {
      event.preventDefault();
      form.classList.toggle("over", name === "dragenter" || name === "dragover");
      if (name !== "drop" || !event.dataTransfer.files.length) return;
      input.files = event.dataTransfer.files;
      form.requestSubmit(form.querySelector("button"));
    });
}

// What a changed choice means is shown in the element that data-check names.
const choices = document.querySelector("form[data-check]");
choices?.addEventListener("change", async () => {
  studio.fail("");
  const query = new URLSearchParams(new FormData(choices));
  const response = await fetch(`${choices.dataset.url}?${query}`).catch(() => null);
  if (response?.ok)
    studio.show(document.getElementById(choices.dataset.check), await response.text());
});

// A job that runs is shown as it goes on.
const job = document.querySelector("[data-events]");
if (job) {
  const source = new EventSource(job.dataset.events);
  source.addEventListener("part", (event) => studio.show(job, event.data));
  source.addEventListener("say", (event) => studio.say(event.data));
  source.addEventListener("done", (event) => {
    source.close();
    studio.say(event.data);
  });
}
