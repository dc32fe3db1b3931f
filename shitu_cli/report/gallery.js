// The gallery of labels: builds everything from the page's data, as text; nothing of it is ever read as markup.
(() => {
  const data = JSON.parse(document.getElementById('labels').textContent);
  const changes = new Map(Object.entries(data.earlier));  // path → the new label, '' to leave the image out
  let fields = [];  // what shows a change, of every card: one image may be in several pairs
  const at = id => document.getElementById(id);
  const make = (kind, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(kind), properties);
    element.append(...children);
    return element;
  };
  const names = new Intl.Collator(undefined, {numeric: true});
  const orders = {
    suspects: (a, b) => a.rank - b.rank || b.unlike - a.unlike,
    unlike: (a, b) => b.unlike - a.unlike,
    smallest: (a, b) => a.width * a.height - b.width * b.height,
    largest: (a, b) => b.width * b.height - a.width * a.height,
    classes: (a, b) => names.compare(a.label, b.label) || b.unlike - a.unlike,
  };

  function card(image) {
    const element = make('figure', {className: 'card'});
    const open = make('button', {type: 'button', className: 'open', title: 'Open large'});
    open.append(image.thumb ? make('img', {src: image.thumb, alt: image.shown}) : 'no image');
    open.onclick = () => enlarge(image);
    const text = make('figcaption', {}, make('b', {textContent: image.label}), make('span', {textContent: image.shown}),
      make('small', {textContent: `${image.width} x ${image.height}`}),
      ...image.why.map(reason => make('small', {className: 'why', textContent: reason})));
    element.append(open, text);
    if (image.path === null) {
      element.append(make('small', {textContent: 'not UTF-8: rename the file to correct it here'}));
      return element;
    }
    const out = make('input', {type: 'checkbox'});
    const label = make('input', {type: 'text', placeholder: 'another label'});
    label.setAttribute('list', 'classes');
    label.setAttribute('aria-label', `another label for ${image.shown}`);
    const update = () => {
      out.checked = changes.get(image.path) === '';
      label.value = changes.get(image.path) || '';
      mark();
    };
    const mark = () => {
      label.disabled = out.checked;
      element.classList.toggle('changed', changes.has(image.path));
    };
    const change = () => {
      const wanted = data.classes.includes(label.value) ? label.value : label.value.trim();
      if (out.checked) changes.set(image.path, '');
      else if (wanted && (wanted !== image.original || Object.hasOwn(data.earlier, image.path))) changes.set(image.path, wanted);
      else changes.delete(image.path);
      mark();
      fields.filter(field => field.path === image.path && field.out !== out).forEach(field => field.update());
      count();
    };
    const take = make('button', {type: 'button', textContent: `make it ${image.rather}`});
    take.onclick = () => {
      out.checked = false;
      label.value = image.rather;
      change();
    };
    out.onchange = change;
    label.oninput = change;
    update();
    fields.push({path: image.path, out, update});
    element.append(make('label', {}, out, ' leave out'), label, ...(image.rather ? [take] : []));
    return element;
  }

  function enlarge(image) {
    const frame = at('large'), whole = make('img', {alt: image.shown, src: image.source || image.thumb || ''});
    frame.replaceChildren(whole);
    whole.onload = () => {
      if (!image.box || whole.src.startsWith('data:')) return;
      const [x1, y1, x2, y2] = image.box, box = make('i');
      const share = (part, all) => `${100 * part / all}%`;
      Object.assign(box.style, {left: share(x1, image.width), top: share(y1, image.height),
        width: share(x2 - x1, image.width), height: share(y2 - y1, image.height)});
      frame.append(box);
    };
    whole.onerror = () => {  // the files are not beside the page, or the browser does not read their format
      if (image.thumb && whole.src !== image.thumb) whole.src = image.thumb;
      else frame.replaceChildren('no image');
    };
    at('about').textContent = `${image.label}: ${image.shown} (${image.width} x ${image.height})`;
    at('dialog').showModal();
  }

  function show() {
    const view = at('view').value, only = at('only').value;
    fields = [];
    const fits = image => !only || image.label === only;
    const pairs = data.pairs.map(pair => pair.map(at => data.images[at])).filter(pair => pair.some(fits));
    const beside = new Set(pairs.flat());  // shown side by side, not alone once more
    const single = data.images.filter(fits).filter(image => view !== 'suspects' || !beside.has(image));
    const parts = ['pairs', 'suspects'].includes(view)
      ? pairs.map(pair => make('div', {className: 'pair'}, ...pair.map(card))) : [];
    if (view !== 'pairs') parts.push(...single.sort(orders[view]).map(card));
    at('cards').replaceChildren(...(parts.length ? parts : ['none']));
  }

  function count() {
    const out = [...changes.values()].filter(label => label === '').length;
    at('count').textContent = `${out} left out, ${changes.size - out} relabelled`;
    at('save').disabled = !changes.size;
  }

  function save() {
    const cell = text => /[",;\t\r\n]|^\s|\s$/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
    const lines = [...changes].map(pair => pair.map(cell).join(',') + '\n');
    const address = URL.createObjectURL(new Blob(['path,label\n', ...lines], {type: 'text/csv;charset=utf-8'}));
    const link = make('a', {href: address, download: 'corrections.csv'});
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  }

  at('classes').append(...data.classes.map(name => make('option', {value: name})));
  const shown = [...new Set(data.images.map(image => image.label))].sort(names.compare);
  at('only').append(...shown.map(name => make('option', {value: name, textContent: name})));
  at('view').onchange = at('only').onchange = show;
  at('save').onclick = save;
  at('close').onclick = () => at('dialog').close();
  at('tools').hidden = false;
  show();
  count();
})();
