"use strict";
// The page Try: sends the form once for each base, and shows the answers as they come.
const [form, answers, file, drop, stop, remove, record] =
  "try answers file drop stop remove record".split(" ").map((id) => document.getElementById(id));
let control = null, recorder = null;

form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const names = new FormData(form).getAll("base");
  if (!names.length || names.length > 4) return studio.fail("Choose one to four bases.");
  control?.abort();
  const own = control = new AbortController();
  answers.replaceChildren();
  stop.hidden = false;
  studio.say(`Waiting for ${names.join(", ")}`);
  await Promise.all(names.map((name) => answer(name, own.signal)));
  if (own !== control) return;  // another was sent meanwhile
  stop.hidden = true;
  studio.say(own.signal.aborted ? "Stopped." : `${names.join(", ")}: done`);
});
stop?.addEventListener("click", () => control.abort());
async function answer(name, signal) {
  const article = answers.appendChild(document.createElement("article"));
  article.appendChild(document.createElement("h2")).textContent = name;
  const body = new FormData(form);
  body.set("base", name);
  await studio.stream("/try", body, (event, data) => {
    const values = JSON.parse(data);
    if (event === "token") token(article, values);
    if (event === "part") part(article, values);
    if (event === "problem")
      Object.assign(article.appendChild(document.createElement("p")),
        {className: "problem", role: "alert", textContent: values.words});
  }, signal).catch(() => null);
}
function part(article, {target, html}) {
  const nodes = new DOMParser().parseFromString(html, "text/html").body.childNodes;
  if (target) document.getElementById(target)?.replaceChildren(...nodes);
  else article.append(...nodes);
}

// Tokens are the options of a list: it has the focus, arrow keys choose, pointing chooses too.
function token(article, {lane, text, level, detail}) {
  const list = article.querySelectorAll(".tokens")[lane], id = `${list.id}-${list.childElementCount}`;
  if (!text) return;
  Object.assign(list, {role: "listbox", ariaLabel: "Tokens", tabIndex: 0});
  Object.assign(list.appendChild(document.createElement("span")),
    {role: "option", className: `p${level}`, textContent: text, ariaLabel: detail, id: `${id}t`});
}
function choose(option) {
  const list = option.parentElement;
  for (const other of list.children) {
    other.classList.toggle("active", other === option);
    other.ariaSelected = other === option;
  }
  list.setAttribute("aria-activedescendant", option.id);
  list.closest("section").querySelector(".detail").textContent = option.ariaLabel;
}
answers?.addEventListener("pointerover", (event) => {
  if (event.target.matches("[role=option]")) choose(event.target);
});
answers?.addEventListener("keydown", (event) => {
  if (!event.target.matches("[role=listbox]")) return;
  const active = event.target.querySelector(".active");
  const {firstElementChild: first, lastElementChild: last} = event.target;
  const next = {Home: first, End: last, ArrowLeft: active?.previousElementSibling ?? first,
    ArrowRight: active ? active.nextElementSibling : first}[event.key];
  if (next) { event.preventDefault(); choose(next); }
});
function give(files) {
  const transfer = new DataTransfer();
  if (files[0]) transfer.items.add(files[0]);
  file.files = transfer.files;
  remove.hidden = !files[0];
}
file?.addEventListener("change", () => { remove.hidden = !file.files[0]; });
remove?.addEventListener("click", () => { give([]); file.focus(); });
for (const name of ["dragover", "dragleave", "drop"])
  drop?.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", name === "dragover");
    if (name === "drop") give(event.dataTransfer.files);
  });

// A recording is sent as WAV of one channel, which every server can read.
if (record) record.hidden = !navigator.mediaDevices;
record?.addEventListener("click", async () => {
  if (recorder?.state === "recording") return recorder.stop();
  const stream = await navigator.mediaDevices.getUserMedia({audio: true}).catch(() => null);
  if (!stream) return studio.fail("The browser gives no microphone; allow it, or choose a file.");
  recorder = new MediaRecorder(stream);
  recorder.ondataavailable = async ({data}) => {
    stream.getTracks().forEach((track) => track.stop());
    record.textContent = "Record a sound";
    const sound = await new AudioContext().decodeAudioData(await data.arrayBuffer());
    give([new File([wav(sound.getChannelData(0), sound.sampleRate)], "recording.wav")]);
    studio.say(`Recorded ${sound.duration.toFixed(1)} seconds`);
  };
  recorder.start();
  record.textContent = "Stop recording";
});

function wav(samples, rate) {
  const header = new DataView(new ArrayBuffer(44)), size = 2 * samples.length;
  [[0, 0x52494646], [8, 0x57415645], [12, 0x666d7420], [36, 0x64617461]].forEach(
    ([at, word]) => header.setUint32(at, word));  // RIFF, WAVE, fmt, data
  [[4, size + 36], [16, 16], [20, 65537], [24, rate], [28, 2 * rate], [32, 0x100002], [40, size]]
    .forEach(([at, number]) => header.setUint32(at, number, true));
  return new Blob([header, Int16Array.from(samples, (x) => 32767 * Math.max(-1, Math.min(1, x)))]);
}
