"use strict";
// The points come as they are computed; a picked or typed record shows what is near it.
const map = document.querySelector("[data-map]");
if (map) {
  const source = new EventSource(map.dataset.map);
  source.addEventListener("part", (event) => {
    const words = document.getElementById("search")?.value ?? "";
    studio.show(map, event.data);
    document.getElementById("search").value = words;
    search();
  });
  source.addEventListener("say", (event) => studio.say(event.data));
  source.addEventListener("done", (event) => { source.close(); studio.say(event.data); });
  source.addEventListener("failed", (event) => { source.close(); studio.fail(event.data); });
}

const near = document.getElementById("near-form");
async function pick(number) {
  const body = new FormData(near);
  body.set("number", number);
  const response = await studio.post(near.getAttribute("action"), body).catch(() => null);
  if (!response) return;
  const list = document.getElementById("near");
  studio.show(list, await response.text());
  list.focus();
}

// Rows of the table that hold what is searched for stay.
function search() {
  const field = document.getElementById("search");
  if (!field) return;
  const words = field.value.toLowerCase();
  let count = 0;
  for (const row of document.querySelectorAll("#rows tr")) {
    row.hidden = !row.textContent.toLowerCase().includes(words);
    count += !row.hidden;
  }
  document.getElementById("count").textContent = `${count} records`;
}

map?.addEventListener("input", (event) => { if (event.target.id === "search") search(); });
map?.addEventListener("click", (event) => {
  const record = event.target.closest("[data-number]");
  if (record) pick(record.dataset.number);
});
