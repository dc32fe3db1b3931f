"""An index in memory: faiss, or numpy for a small flat one, with the label and path of each vector."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from shitu_cli.config.arguments import whole_ids
from shitu_cli.index.faiss_kinds import check_signs, lists_for, new_index, without_vectors
from shitu_cli.index.flat import MOST_VALUES, FlatVectors
from shitu_cli.index.measured import noted
from shitu_cli.index.store import (
    BLOCK,
    BuildOptions,
    FeatureTable,
    IndexManifest,
    Item,
    Match,
    check_options,
    check_present,
    check_size,
    check_vectors,
    leaves_nothing,
    new_ids,
    query_vectors,
    rank_matches,
    unit_blocks,
)
from shitu_cli.index.tune import NEIGHBOURS, cheapest, probe_rows, probes_like
from shitu_cli.reporting import Reporter, SilentReporter, counted
from shitu_cli.runtime.threads import compute_threads

SMALL = 20_000  # vectors up to which one thread builds an hnsw graph
# Pairs of values that a search compares on each thread. Threads spin while they wait for each other: on a busy machine
# that takes ten milliseconds, longer than one thread needs for a whole small search.
PER_THREAD = 1 << 26
EFFORT = {"hnsw": "efSearch", "ivf": "nprobe"}  # the search parameter that tunes an approximate kind


class VectorIndex:
    """Vectors with ids, labels and paths. Features are float32 [N, D]; they are normalised here."""

    def __init__(self, manifest: IndexManifest, index: Any, labels: dict[int, str], paths: dict[int, str]) -> None:
        self.manifest = manifest
        # `index` is that of faiss, which maps ids, or FlatVectors, of which faiss makes one where it is needed.
        self._flat = index if isinstance(index, FlatVectors) else None
        self._faiss = index if self._flat is None else None
        self.labels, self.paths = labels, paths
        self._set_effort(manifest.search.get(EFFORT.get(manifest.kind, ""), 0))

    def __len__(self) -> int:
        return len(self.labels)

    def copy(self) -> VectorIndex:
        """Return an index of the same contents, to change while others search this one."""
        if self._faiss is None:
            return VectorIndex(self.manifest, self._flat, dict(self.labels), dict(self.paths))
        import faiss

        if self.manifest.kind == "binary":  # faiss clones none whose ids are mapped
            index = faiss.deserialize_index_binary(faiss.serialize_index_binary(self.faiss))
        else:
            index = faiss.clone_index(self.faiss)
        return VectorIndex(self.manifest, index, dict(self.labels), dict(self.paths))

    # --------------------------------------------------------------------------------------------- changing

    @classmethod
    def build(
        cls, table: FeatureTable, options: BuildOptions | None = None, reporter: Reporter | None = None
    ) -> VectorIndex:
        """Index all vectors; apart from the index, only a block of them is in memory at a time.

        Raises UsageError for an unknown kind, DataError if there are no vectors or one is not finite.
        """
        options = options or BuildOptions()
        check_options(options)
        features = table.validate().features
        manifest = options.manifest(int(features.shape[1]), count=0, next_id=0)
        vectors = cls(manifest, new_index(options.kind, features), {}, {})
        vectors.add(table, reporter)
        vectors.manifest = noted(vectors.manifest, options.measured)
        return vectors

    def add(self, table: FeatureTable, reporter: Reporter | None = None) -> int:
        """Add these vectors; return how many replaced one of the same path.

        Raises DataError, and then changes nothing, if they do not have the size of the index or one is not finite.
        """
        features, labels, paths = table.validate()
        check_size(features, self.manifest)
        reporter = reporter or SilentReporter()
        new_paths = {path for path in paths if path}
        old_ids = [n for n, path in self.paths.items() if path in new_paths]
        other_ids = np.asarray([n for n, path in self.paths.items() if path not in new_paths], np.int64)
        ids = new_ids(self.manifest.next_id or 0, len(labels))
        self._check(features, is_all=not len(other_ids))
        is_outgrown = self.manifest.kind == "ivf" and lists_for(len(other_ids) + len(ids)) > 2 * self.inner.nlist
        if is_outgrown or self._cannot_forget(old_ids):
            vectors = np.empty((len(other_ids) + len(ids), features.shape[1]), np.float32)
            self.vectors(other_ids, vectors[: len(other_ids)])
            vectors[len(other_ids) :] = features
            self._rebuild(vectors, np.concatenate([other_ids, ids]), reporter, is_outgrown=is_outgrown)
        else:
            self._forget(old_ids)
            self._insert(features, ids, reporter)
        self._complete(old_ids, ids, labels, paths)
        return len(old_ids)

    def remove(self, ids: Collection[int], reporter: Reporter | None = None) -> None:
        """Remove these ids; the others keep theirs. Kinds that cannot remove vectors are rebuilt.

        Raises UsageError if one of them is not there, or none would be left.
        """
        ids = set(whole_ids(ids))
        check_present(ids, self.labels)
        old_ids = [n for n in self.labels if n in ids]
        other_ids = np.asarray([n for n in self.labels if n not in ids], np.int64)
        if not len(other_ids):
            raise leaves_nothing()
        if self._cannot_forget(old_ids):
            self._rebuild(self.vectors(other_ids), other_ids, reporter or SilentReporter())
        else:
            self._forget(old_ids)
        self._complete(old_ids, other_ids[:0], (), ())

    def _complete(self, old_ids: Sequence[int], ids: np.ndarray, labels: Sequence[str], paths: Sequence[str]) -> None:
        """Update labels, paths and manifest after the vectors have changed, and tune the search to the new contents."""
        if len(old_ids) or len(ids):
            self._flat = None
        for n in old_ids:
            del self.labels[n], self.paths[n]
        self.labels.update(zip(ids.tolist(), labels, strict=True))
        self.paths.update(zip(ids.tolist(), paths, strict=True))
        after = (self.manifest.next_id or 0) + len(ids)
        self.manifest = replace(self.manifest, count=len(self), next_id=after)
        if self.manifest.kind in EFFORT:
            self._tune()

    def _check(self, features: np.ndarray, *, is_all: bool) -> None:
        """Raise DataError for vectors that cannot be added, before anything is changed; `is_all`: none beside them."""
        if self.manifest.kind == "binary" and is_all:
            check_signs(features)
        if len(self):  # a new index that fails is thrown away: its vectors are read only once
            check_vectors(features)

    def _cannot_forget(self, ids: Sequence[int]) -> bool:
        return bool(ids) and self.manifest.kind in EFFORT

    def _forget(self, ids: Sequence[int]) -> None:
        if ids:
            self.faiss.remove_ids(np.asarray(ids, np.int64))

    def _rebuild(self, features: np.ndarray, ids: np.ndarray, reporter: Reporter, *, is_outgrown: bool = False) -> None:
        """Replace all vectors by these; an ivf index keeps its centres until it has outgrown them."""
        kind = self.manifest.kind
        why = "has outgrown its lists" if is_outgrown else "cannot replace or remove vectors"
        reporter.info(f"an {kind} index {why}: all {counted(len(ids), 'vector')} are indexed again")
        if kind == "ivf" and not is_outgrown:
            self._faiss = without_vectors(self.inner)
        else:
            self._faiss = None  # its memory is needed for the new one
            self._faiss = new_index(kind, features)
        self._insert(features, ids, reporter)

    def _insert(self, features: np.ndarray, ids: np.ndarray, reporter: Reporter) -> None:
        import faiss

        # An hnsw graph depends on which thread adds first: small ones, fast to build anyway, are reproducible.
        is_small = self.manifest.kind == "hnsw" and self.faiss.ntotal + len(ids) <= SMALL
        faiss.omp_set_num_threads(1 if is_small else compute_threads())
        if self.manifest.kind == "ivf":
            self._insert_into_lists(features, ids, reporter)
            return
        self._make_room(len(ids))
        for start, block in unit_blocks(features, reporter, "indexing"):
            codes = np.packbits(block >= 0, axis=1) if self.manifest.kind == "binary" else block
            self.faiss.add_with_ids(codes, ids[start : start + BLOCK])

    def _make_room(self, count: int) -> None:
        """Reserve memory for `count` more vectors: faiss would double it as needed and hold two copies for a while."""
        import faiss

        codes = {"flat": lambda: self.inner, "hnsw": lambda: faiss.downcast_index(self.inner.storage)}
        if self.manifest.kind in codes:
            flat = codes[self.manifest.kind]()
            flat.codes.resize((flat.ntotal + count) * flat.code_size)
            flat.codes.resize(flat.ntotal * flat.code_size)

    def _insert_into_lists(self, features: np.ndarray, ids: np.ndarray, reporter: Reporter) -> None:
        """Insert into an ivf index; vectors are assigned to lists first, so that each list reserves what it needs."""
        import faiss

        inner, lists = self.inner, np.empty(len(ids), np.int64)
        for start, block in unit_blocks(features, reporter, "assigning"):
            lists[start : start + BLOCK] = inner.quantizer.search(block, 1)[1][:, 0]
        for number, more in enumerate(np.bincount(lists, minlength=inner.nlist).tolist()):
            size = inner.invlists.list_size(number)
            inner.invlists.resize(number, size + more)
            inner.invlists.resize(number, size)
        for start, block in unit_blocks(features, reporter, "indexing"):
            inner.add_core(len(block), faiss.swig_ptr(block), None, faiss.swig_ptr(lists[start : start + BLOCK]))
        # The rest of what add_with_ids does.
        faiss.copy_array_to_vector(np.concatenate([faiss.vector_to_array(self.faiss.id_map), ids]), self.faiss.id_map)
        self.faiss.ntotal = inner.ntotal
        self.faiss.construct_rev_map()

    # --------------------------------------------------------------------------------------------- asking

    @property
    def faiss(self) -> Any:
        """The index of faiss."""
        if self._flat is not None and self._faiss is None:
            self._faiss = self._flat.in_faiss()  # complete: another thread may copy or search it
        return self._faiss

    @property
    def inner(self) -> Any:
        """The faiss index inside the one that maps the ids."""
        import faiss

        return faiss.downcast_index(self.faiss.index)

    def vectors(self, ids: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Return the vectors float32 [N, D] of ids int64 [N], in `out` if given; binary has only signs."""
        if self.manifest.kind != "ivf":
            return self.faiss.reconstruct_batch(ids, out)
        import faiss

        self.inner.make_direct_map()
        vectors = self.faiss.reconstruct_batch(ids, out)
        self.inner.set_direct_map_type(faiss.DirectMap.NoMap)  # with it, other programs could not remove vectors
        return vectors

    def items(self) -> Iterator[Item]:
        """Yield all items in order of id."""
        return (Item(n, self.labels[n], self.paths[n]) for n in sorted(self.labels))

    def search(self, features: np.ndarray, top: int = 5, threshold: float | None = None) -> list[list[Match]]:
        """Return the best `top` matches of each vector [N, D], without those below `threshold`."""
        vectors, top = query_vectors(features, self.manifest, top, threshold), min(top, len(self))
        if not top:  # another program may have left an index empty
            return [[] for _ in vectors]
        flat = self._small()
        scores, ids = flat.nearest(vectors, top) if flat is not None else self._search_faiss(vectors, top)
        return [
            rank_matches(
                [Match(n, self.labels[n], self.paths[n], s) for n, s in zip(*row, strict=True) if n >= 0], threshold
            )
            for row in zip(ids.tolist(), scores.tolist(), strict=True)
        ]

    def _small(self) -> FlatVectors | None:
        """Return the vectors of an index that numpy compares, None for any other."""
        if self.manifest.kind != "flat" or len(self) * self.manifest.size > MOST_VALUES:
            return None
        self._flat = self._flat or FlatVectors.of(self.faiss)
        return self._flat if self._flat.is_finite else None

    def _search_faiss(self, vectors: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
        """Return scores [n, top] and ids [n, top] for unit vectors [n, D]; an id is -1 where fewer were found."""
        import faiss

        faiss.omp_set_num_threads(min(compute_threads(), 1 + self._comparisons(len(vectors)) // PER_THREAD))
        if self.manifest.kind != "binary":
            return self.faiss.search(vectors, top)
        distances, ids = self.faiss.search(np.packbits(vectors >= 0, axis=1), top)
        return 1 - distances / self.manifest.size, ids

    def _comparisons(self, queries: int) -> int:
        """Return about how many pairs of values a search compares."""
        kind, effort = self.manifest.kind, self.manifest.search.get(EFFORT.get(self.manifest.kind, ""), 0)
        candidates = {"hnsw": 32 * effort, "ivf": effort * len(self) // max(1, lists_for(len(self)))}
        return queries * min(candidates.get(kind, len(self)), len(self)) * self.manifest.size

    def _tune(self) -> None:
        """Choose the effort of an approximate kind by comparison with its exact search."""
        import faiss

        faiss.omp_set_num_threads(compute_threads())
        ids = np.fromiter(self.labels, np.int64, len(self.labels))
        probes = probes_like(self.vectors(ids[probe_rows(len(ids))]))
        top = min(NEIGHBOURS, len(ids))
        if self.manifest.kind == "hnsw":
            first, limit = 16, 4096
            exact = faiss.downcast_index(self.inner.storage)
            truth = faiss.vector_to_array(self.faiss.id_map)[exact.search(probes, top)[1]]
        else:
            first, limit = 1, int(self.inner.nlist)
            truth = self._answer(probes, top, limit)
        target = self.manifest.wanted_recall
        effort, recall = cheapest(lambda effort: self._answer(probes, top, effort), truth, target, first, limit)
        self._set_effort(effort)
        self.manifest = replace(self.manifest, search={EFFORT[self.manifest.kind]: effort}, recall=recall)

    def _answer(self, probes: np.ndarray, top: int, effort: int) -> np.ndarray:
        self._set_effort(effort)
        return self.faiss.search(probes, top)[1]

    def _set_effort(self, effort: int) -> None:
        if effort and self.manifest.kind == "hnsw":
            self.inner.hnsw.efSearch = effort
        elif effort and self.manifest.kind == "ivf":
            self.inner.nprobe = effort
