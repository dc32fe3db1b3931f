// The tabs, and what happens when the page opens.
const TABS = ["recognise", "gallery", "map"];
const SHOW = {recognise: () => {}, gallery: showGallery, map: showMap};

function selectTab(name) {
  for (const other of TABS) {
    const isSelected = other === name;
    $(other).hidden = !isSelected;
    $(`tab-${other}`).setAttribute("aria-selected", isSelected);
    $(`tab-${other}`).tabIndex = isSelected ? 0 : -1;
  }
  SHOW[name]();
}

for (const [number, name] of TABS.entries()) {
  const tab = $(`tab-${name}`);
  tab.onclick = () => selectTab(name);
  tab.onkeydown = (event) => {
    const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
    if (!step) return;
    const other = TABS[(number + step + TABS.length) % TABS.length];
    selectTab(other);
    $(`tab-${other}`).focus();
  };
}
startRecognising();
startGallery();
startMap();
attempt(async () => {
  const stats = await ask("stats");
  for (const form of document.querySelectorAll(".changes")) form.hidden = stats.read_only;
  $("promise").hidden = !stats.threshold_meaning.length;
  $("promise").replaceChildren(
    ...stats.threshold_meaning.map((text) => element("li", {textContent: `${sentence(text)}.`})));
  await refreshLabels();
});
