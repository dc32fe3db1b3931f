// What all sections use. Text of users and files only ever goes through textContent, never through markup, and through
// visible(): a label of a stranger's index may hide characters, or turn the text behind it round.
const $ = (id) => document.getElementById(id);
const HIDDEN = new RegExp(/* hidden */, "gu");
const TYPES = /^image\//;
let key = sessionStorage.getItem("shitu-key") || "";

// Text as reporting.visible of the program gives it: hidden characters become escapes.
const visible = (text) => text.replace(HIDDEN, (sign) => {
  const code = sign.codePointAt(0).toString(16);
  return code.length > 2 ? `\\u${code.padStart(4, "0")}` : `\\x${code.padStart(2, "0")}`;
});
const shown = (value) => typeof value === "string" ? visible(value) : value;

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [property, value] of Object.entries(properties)) made[property] = shown(value);
  made.append(...children.map(shown));
  return made;
}

function write(id, text) {
  $(id).textContent = visible(text);
}

function say(text, {bad = false, undo = null} = {}) {
  write("status-text", text);
  $("status").className = text ? `shown${bad ? " bad" : ""}` : "";
  $("undo").hidden = !undo;
  $("undo").onclick = undo;
  clearTimeout(say.timer);
  if (text && !bad) say.timer = setTimeout(() => say(""), 9000);
}

// One question to the server: its JSON, or an Error with words for a person.
async function ask(address, options = {}) {
  const response = await send(address, options);
  const body = await response.json().catch(() => null);
  if (response.ok) return body;
  const {message, details = [], hint} = body?.error ?? {message: `the server answers ${response.status}`};
  throw new Error([message, ...details, hint].filter(Boolean).join(". "));
}

async function send(address, options) {
  let response;
  try {
    response = await fetch(address, {...options, headers: {...options.headers, ...(key && {"X-API-Key": key})}});
  } catch {
    throw new Error("the server cannot be reached");
  }
  if (response.status !== 401) return response;
  await unlock();
  return send(address, options);
}

let unlocking = null;
function unlock() {
  unlocking ??= new Promise((resolve) => {
    $("unlock").oncancel = (event) => event.preventDefault();
    $("unlock-form").onsubmit = () => {
      key = $("key").value.trim();
      sessionStorage.setItem("shitu-key", key);
      unlocking = null;
      resolve();
    };
    $("unlock").showModal();
  });
  return unlocking;
}

// What a button starts: it cannot be started twice, and its error is shown.
async function attempt(work, button = null) {
  if (button) button.disabled = true;
  try {
    return await work();
  } catch (error) {
    say(sentence(error.message), {bad: true});
  } finally {
    if (button) button.disabled = false;
  }
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

// An <img> of an item; with a key the browser cannot fetch it by itself.
function picture(id, size, alt) {
  const image = element("img", {alt, loading: "lazy", decoding: "async"});
  show(image, id, size);
  return image;
}

async function show(image, id, size) {
  const address = `items/${id}/image?size=${size}`;
  if (!key) {
    image.src = address;
    return;
  }
  const response = await send(address, {});
  if (!response.ok) return;
  const local = URL.createObjectURL(await response.blob());
  image.onload = () => URL.revokeObjectURL(local);
  image.src = local;
}

function tile(item, text, className = "") {
  const name = item.label || "(no label)";
  const button = element("button", {type: "button", className: `tile ${className}`}, picture(item.id, 256, ""),
    element("b", {textContent: name}), text);
  button.setAttribute("aria-label", visible(`${name}, ${text}: show large`));
  button.onclick = () => openLarge(item, text);
  return element("li", {}, button);
}

function openLarge(item, text) {
  write("large-title", item.label || "(no label)");
  write("large-text", [text, item.path].filter(Boolean).join(" · "));
  $("large-image").removeAttribute("src");
  $("large-image").alt = visible(item.label);
  show($("large-image"), item.id, 1024);
  $("large-close").onclick = () => $("large").close();
  $("large-remove").onclick = () => attempt(async () => {
    if (!await agreed(`Remove this image of “${item.label}”?`)) return;
    await removeItems({ids: [item.id]});
    $("large").close();
    document.dispatchEvent(new CustomEvent("removed", {detail: item.id}));
  }, $("large-remove"));
  $("large").showModal();
}

function agreed(question) {
  write("asking-text", question);
  $("asking").returnValue = "no";
  return new Promise((resolve) => {
    $("asking").onclose = () => resolve($("asking").returnValue === "yes");
    $("asking").showModal();
  });
}

async function removeItems(what) {
  const reply = await ask("remove", {
    method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(what),
  });
  say(`Removed ${counted(reply.removed.length, "image")}.`);
  refreshLabels();
}

async function addPhotos(label, photos, options = {}) {
  const form = new FormData();
  form.append("label", label);
  for (const [name, value] of Object.entries(options)) form.append(name, value);
  for (const photo of photos) form.append("image", photo, photo.name || "photo.jpg");
  const reply = await ask("add", {method: "POST", body: form});
  refreshLabels();
  const ids = reply.added.map((item) => item.id), former = new Set(reply.removed.map((item) => item.label));
  let undo = () => attempt(() => removeItems({ids}), $("undo"));
  if (former.size) undo = () => attempt(() => addPhotos([...former][0], photos, options), $("undo"));
  if (reply.replaced || former.size > 1) undo = null; // nobody knows what was there before
  const instead = former.size ? `, instead of “${[...former].join("”, “")}”` : "";
  say(`Saved ${counted(ids.length, "photo")} as “${label}”${instead}.`, {undo});
  return reply;
}

const counted = (count, thing) => `${count.toLocaleString("en")} ${thing}${count === 1 ? "" : "s"}`;

async function refreshLabels() {
  const {labels} = await ask("labels?limit=1000");
  const proposals = labels.filter(({label}) => visible(label) === label); // the server takes no others
  $("known-labels").replaceChildren(...proposals.map(({label}) => element("option", {value: label})));
  document.dispatchEvent(new CustomEvent("labels"));
}

// A photo from the camera as a File; where a page may not use it (no https), the phone's own camera or a file.
async function shoot(input) {
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({video: {facingMode: "environment", width: {ideal: 1920}}});
  } catch {
    input.setAttribute("capture", "environment");
    input.click();
    return null;
  }
  $("video").srcObject = stream;
  $("shooting").showModal();
  const file = await new Promise((resolve) => {
    $("shoot").onclick = () => takeFrame().then(resolve);
    $("shoot-cancel").onclick = () => resolve(null);
    $("shooting").onclose = () => resolve(null);
  });
  stream.getTracks().forEach((track) => track.stop());
  $("shooting").close();
  return file;
}

async function takeFrame() {
  const {videoWidth: width, videoHeight: height} = $("video");
  const canvas = element("canvas", {width, height});
  canvas.getContext("2d").drawImage($("video"), 0, 0);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
  return new File([blob], `photo-${Date.now()}.jpg`, {type: "image/jpeg"});
}
