// A click on the head of a column sorts the table by it.
document.querySelectorAll('th[data-sort]').forEach(th => th.addEventListener('click', () => {
  const body = th.closest('table').tBodies[0], at = th.cellIndex, text = row => row.cells[at].textContent;
  const number = row => { const n = parseFloat(text(row).replace(/,/g, '')); return isNaN(n) ? -Infinity : n; };
  const names = new Intl.Collator(undefined, {numeric: true});
  const compare = th.classList.contains('n') ? (a, b) => number(a) - number(b) || 0
    : (a, b) => names.compare(text(a), text(b));
  const up = th.dataset.up = th.dataset.up === '1' ? '' : '1';
  [...body.rows].sort((a, b) => up ? compare(a, b) : compare(b, a)).forEach(row => body.append(row));
}));
