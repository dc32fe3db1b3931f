// A photo in, a verdict out, and the way to correct it.
let current = null; // the photo that is shown with its verdict
let asked = null; // the photo that was asked for last

function startRecognising() {
  const drop = $("drop");
  $("choose").onclick = () => { $("file").removeAttribute("capture"); $("file").click(); };
  $("file").onchange = () => { recognise($("file").files[0]); $("file").value = ""; };
  $("camera").onclick = async () => recognise(await shoot($("file")));
  addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
  addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    takeFiles(event.dataTransfer.files);
  });
  addEventListener("paste", (event) => {
    if ([...event.clipboardData.files].some((file) => TYPES.test(file.type))) takeFiles(event.clipboardData.files);
  });
  $("photo").onerror = () => { $("photo").hidden = true; }; // HEIC, which hardly a browser shows
  $("correct").onsubmit = (event) => { event.preventDefault(); correct(); };
  document.addEventListener("removed", () => { if (current && !$("recognise").hidden) recognise(current); });
}

// Photos that were dropped or pasted go to the section that is open.
function takeFiles(files) {
  const photos = [...files].filter((file) => !file.type || TYPES.test(file.type));
  if (!photos.length) {
    say("That is not a photo.", {bad: true});
  } else if (!$("gallery").hidden) {
    choosePhotos(photos);
  } else {
    selectTab("recognise");
    recognise(photos[0]);
  }
}

async function recognise(photo) {
  if (!photo) return;
  asked = photo;
  say("");
  $("drop").classList.add("busy");
  const form = new FormData();
  form.append("image", photo, photo.name || "photo.jpg");
  form.append("top", "12");
  const reply = await attempt(() => ask("search", {method: "POST", body: form}));
  if (asked !== photo) return; // another one has been chosen meanwhile
  $("drop").classList.remove("busy");
  current = reply ? photo : null;
  if (reply) showResult(photo, reply.results[0], reply.threshold);
  else $("answer").hidden = true; // the verdict of the photo before would pass for that of this one
}

function showResult(photo, result, threshold) {
  URL.revokeObjectURL($("photo").src);
  showThings(result, threshold);
  $("photo").hidden = false;
  $("photo").src = URL.createObjectURL(photo);
  $("answer").hidden = false;
  $("drop").classList.add("compact");
  $("name").focus({preventScroll: true});
  $("answer").scrollIntoView({block: "nearest"});
}

function showAnswer({answer, matches}, threshold) {
  const unknown = answer.label === null;
  $("verdict").classList.toggle("unknown", unknown);
  write("lead", unknown ? "" : threshold === null ? "This looks most like" : "This is");
  write("name", unknown ? "I do not know this" : answer.label);
  $("meter").hidden = answer.nearest === null;
  Object.assign($("meter"), {optimum: 1, high: threshold ?? 0, low: threshold ?? 0}); // below it: not green
  $("meter").value = Math.max(0, answer.score);
  write("why", reason(answer, threshold));
  write("correct-lead", unknown ? "This is" : "Wrong? This is");
  $("right-label").value = "";
  $("neighbours").replaceChildren(
    ...matches.map((match) => tile(match, match.score.toFixed(3), match.label === answer.label ? "same" : "")));
}

function reason(answer, threshold) {
  if (answer.nearest === null) return "There is nothing to compare it with yet.";
  const score = answer.score.toFixed(2);
  const bound = threshold === null ? "" : `; known from ${threshold.toFixed(2)} upwards`;
  if (answer.label === null) return `Nearest is “${answer.nearest}”, score ${score}${bound}.`;
  const verb = answer.agreeing === 1 ? "agrees" : "agree";
  return `Score ${score}${bound}. ${answer.agreeing} of the ${answer.voters} nearest images ${verb}.`;
}

// The photo, or the thing in it that is shown, gets its right label; where the index holds it already, so does it there.
function correct() {
  const photo = current, box = thing.box ?? null;  // with a detector, the whole image has a box too
  return attempt(async () => {
    await addPhotos($("right-label").value.trim(), [photo], {correct: true, ...(box && {box})});
    const text = $("status-text").textContent, undo = $("undo").onclick;
    await recognise(photo);
    say(text, {undo});
  }, $("correct").querySelector("button"));
}
