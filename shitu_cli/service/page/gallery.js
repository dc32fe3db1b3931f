// What is in the index: new products, all products, the images of one.
const PAGE = 100;
let chosen = []; // photos of the new product
let open = null; // the label whose images are shown

function startGallery() {
  $("product-choose").onclick = () => { $("product-files").removeAttribute("capture"); $("product-files").click(); };
  $("product-files").onchange = () => { choosePhotos([...$("product-files").files]); $("product-files").value = ""; };
  $("product-camera").onclick = async () => {
    const photo = await shoot($("product-files"));
    if (photo) choosePhotos([photo]);
  };
  $("product").onsubmit = (event) => { event.preventDefault(); saveProduct(); };
  $("filter").oninput = () => { clearTimeout(startGallery.timer); startGallery.timer = setTimeout(listLabels, 200); };
  $("more-labels").onclick = () => listLabels($("labels").children.length);
  $("more-items").onclick = () => listItems($("item-grid").children.length);
  $("back").onclick = () => { open = null; showShelf(); $("filter").focus(); };
  $("remove-label").onclick = () => attempt(removeProduct, $("remove-label"));
  document.addEventListener("removed", () => { if (open !== null) listItems(); });
  document.addEventListener("labels", () => { if (!$("gallery").hidden && open === null) listLabels(); });
}

function choosePhotos(photos) {
  chosen.push(...photos);
  showChosen();
}

function showChosen() {
  $("product-photos").replaceChildren(...chosen.map((photo) => {
    const image = element("img", {alt: photo.name});
    image.src = URL.createObjectURL(photo);
    image.onload = () => URL.revokeObjectURL(image.src);
    const drop = element("button", {type: "button", className: "drop-photo", textContent: "×"});
    drop.setAttribute("aria-label", visible(`leave out ${photo.name}`));
    drop.onclick = () => { chosen = chosen.filter((other) => other !== photo); showChosen(); };
    return element("li", {}, image, drop);
  }));
  $("product-save").disabled = !chosen.length;
}

async function saveProduct() {
  await attempt(async () => {
    await addPhotos($("product-name").value.trim(), chosen);
    chosen = [];
    $("product-name").value = "";
  }, $("product-save"));
  showChosen();
}

function showGallery() {
  if (open === null) showShelf();
}

function showShelf() {
  $("items").hidden = true;
  $("shelf").hidden = false;
  listLabels();
}

async function listLabels(from = 0) {
  const offset = typeof from === "number" ? from : 0;
  const text = encodeURIComponent($("filter").value.trim());
  const page = await attempt(() => ask(`labels?limit=${PAGE}&offset=${offset}&text=${text}`));
  if (!page) return;
  const rows = page.labels.map(({label, count}) => {
    const button = element("button", {type: "button"}, element("span", {textContent: label || "(no label)"}),
      element("span", {textContent: counted(count, "image")}));
    button.onclick = () => openLabel(label);
    return element("li", {}, button);
  });
  if (offset) $("labels").append(...rows); else $("labels").replaceChildren(...rows);
  write("shelf-count", counted(page.count, "product"));
  $("more-labels").hidden = $("labels").children.length >= page.count;
}

async function openLabel(label) {
  open = label;
  $("shelf").hidden = true;
  $("items").hidden = false;
  write("items-title", label || "(no label)");
  await listItems();
  $("items-title").focus();
}

async function listItems(offset = 0) {
  const label = open;
  const page = await attempt(() => ask(`items?limit=${PAGE}&offset=${offset}&label=${encodeURIComponent(label)}`));
  if (!page || open !== label) return;
  if (!page.count) {
    open = null;
    showShelf();
    return;
  }
  const rows = page.items.map((item) => tile(item, `no. ${item.id}`));
  if (offset) $("item-grid").append(...rows); else $("item-grid").replaceChildren(...rows);
  $("more-items").hidden = $("item-grid").children.length >= page.count;
}

async function removeProduct() {
  const label = open;
  if (!await agreed(`Remove every image of “${label}”?`)) return;
  await removeItems({labels: [label]});
  open = null;
  showShelf();
}
