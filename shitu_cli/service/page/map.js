// The gallery as a map: near points look alike to the model; colours tell products apart.
const SVG = "http://www.w3.org/2000/svg";
let points = [];
let here = -1;

function startMap() {
  $("plot").onkeydown = (event) => {
    const step = {ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
    if (step) { event.preventDefault(); goTo(nextPoint(...step)); }
    if (event.key === "Enter" && here >= 0) {
      event.preventDefault(); // the key would press the button that gets the focus
      openLarge({...points[here], path: ""}, "");
    }
  };
}

async function showMap() {
  write("map-note", "Drawing…");
  const drawn = await ask("map").catch((error) => ({problem: error.message}));
  if (drawn.problem) {
    write("map-note", sentence(drawn.problem));
    return;
  }
  points = drawn.points.map((point) => ({...point, x: 100 * point.x, y: -100 * point.y}));
  here = -1;
  const share = `${Math.round(100 * drawn.explained)} %`;
  const some = drawn.total > points.length ? `${points.length.toLocaleString("en")} of ${drawn.total.toLocaleString("en")}` : "all";
  write("map-note", `Near points look alike to the model. It shows ${some} images, `
    + `on the two main axes (${share} of what tells them apart).`);
  $("points").replaceChildren(...points.map(circle));
  $("confusions").hidden = !drawn.confusions.length;
  $("confusions").tBodies[0].replaceChildren(...drawn.confusions.map(({label, other, count}) => element("tr", {},
    element("td", {textContent: label}), element("td", {textContent: other}),
    element("td", {className: "n", textContent: count}))));
}

function circle(point, number) {
  const drawn = document.createElementNS(SVG, "circle");
  for (const [name, value] of Object.entries({cx: point.x, cy: point.y, r: points.length > 500 ? 1.1 : 2})) {
    drawn.setAttribute(name, value);
  }
  drawn.setAttribute("fill", colour(point.label));
  drawn.onpointerenter = () => goTo(number);
  drawn.onclick = () => openLarge({...point, path: ""}, "");
  return drawn;
}

// The same colour for the same label, each time; the golden angle keeps like names apart.
function colour(label) {
  let hash = 7;
  for (const character of label) hash = (hash * 31 + character.codePointAt(0)) >>> 0;
  return `hsl(${(hash * 137.508) % 360} ${55 + hash % 31}% ${45 + hash % 17}%)`;
}

function goTo(number) {
  if (number < 0) return;
  $("points").children[here]?.classList.remove("here");
  here = number;
  $("points").children[here].classList.add("here");
  write("map-here", points[here].label || "(no label)");
}

// The nearest point in the direction of an arrow key.
function nextPoint(dx, dy) {
  if (here < 0) return points.length ? 0 : -1;
  let best = here, least = Infinity;
  points.forEach((point, number) => {
    const x = point.x - points[here].x, y = point.y - points[here].y;
    const along = x * dx + y * dy, aside = Math.abs(x * dy) + Math.abs(y * dx);
    if (number !== here && along > 0 && along + 2 * aside < least) [best, least] = [number, along + 2 * aside];
  });
  return best;
}
