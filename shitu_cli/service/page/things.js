// What a detector found in the photo: a box and a button for each thing; the one that is chosen is the answer.
const DRAWING = "http://www.w3.org/2000/svg";
let things = []; // answers with boxes, the best first; a single one without a detector
let thing = null; // the one that is shown

function showThings(result, threshold) {
  things = result.objects ?? [result];
  const boxed = things.filter(isBoxed);
  $("things").hidden = things.length < 2;
  $("verdict").classList.toggle("several", things.length > 1);
  $("things").replaceChildren(...things.map((one) => {
    const button = element("button", {type: "button", textContent: one.answer.label ?? "unknown"});
    button.onclick = () => chooseThing(one, threshold);
    return button;
  }));
  $("boxes").replaceChildren(...boxed.map((one) => rectangle(one, threshold)));
  $("photo").onload = () => $("boxes").setAttribute("viewBox", `0 0 ${$("photo").naturalWidth} ${$("photo").naturalHeight}`);
  chooseThing(things[0], threshold);
}

// Whether an answer is about a part of the photo.
function isBoxed(one) {
  return Boolean(one.box) && one.box_score !== null;
}

function rectangle(one, threshold) {
  const [x1, y1, x2, y2] = one.box;
  const drawn = document.createElementNS(DRAWING, "rect");
  for (const [name, value] of Object.entries({x: x1, y: y1, width: x2 - x1, height: y2 - y1})) {
    drawn.setAttribute(name, value);
  }
  drawn.onclick = () => chooseThing(one, threshold);
  return drawn;
}

function chooseThing(one, threshold) {
  thing = one;
  const boxed = things.filter(isBoxed);
  [...$("things").children].forEach((button, number) => button.setAttribute("aria-pressed", things[number] === one));
  [...$("boxes").children].forEach((drawn, number) => drawn.classList.toggle("chosen", boxed[number] === one));
  showAnswer(one, threshold);
}
