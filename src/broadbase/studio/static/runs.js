"use strict";
// The page of a run: shows it anew when the run has written something and somebody looks.
{
  const live = document.getElementById("live");
  const state = () => live.querySelector(".state").textContent;
  let due = false, busy = false;

  async function update() {
    due = busy || document.hidden;
    if (due) return;
    busy = true;
    const before = state();
    const response = await fetch(`${live.dataset.path}/live`).catch(() => null);
    if (response?.ok) studio.show(live, await response.text());
    if (state() !== before) studio.say(state());
    setTimeout(() => { busy = false; if (due) update(); }, 1000);
  }

  document.addEventListener("visibilitychange", () => { if (due) update(); });
  new EventSource(`${live.dataset.path}/events`).addEventListener("change", update);
}
