"""Evaluation of a model over the query and gallery lists of a config."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from shitu_cli.config.schema import Config, DatasetConfig, SplitConfig
from shitu_cli.data.dataset import RecDataset
from shitu_cli.data.lists import class_names
from shitu_cli.errors import Command, ConfigError, DataError
from shitu_cli.evaluation.identities import identities_of
from shitu_cli.evaluation.metrics import FeatureSet, check_features, rank
from shitu_cli.evaluation.rerank import expand_queries, reranked
from shitu_cli.evaluation.result import EvalResult
from shitu_cli.evaluation.similarity import Block, equal_bits
from shitu_cli.features.cache import FeatureCache
from shitu_cli.features.engine import Engine
from shitu_cli.features.list_features import ListFeatures, extract_list
from shitu_cli.features.unit_length import normalized
from shitu_cli.inputs import is_input, same_content
from shitu_cli.processes.sharing import Processes
from shitu_cli.reporting import Reporter

Extract = Callable[..., ListFeatures | None]


def evaluate_model(
    engine: Engine,
    config: Config,
    reporter: Reporter,
    *,
    cache: FeatureCache | None = None,
    processes: Processes = Processes(),
    flip: bool = False,
    expansion: int = 0,
    extract: Extract | None = None,
) -> EvalResult | None:
    """Compute the features of both lists and rank the gallery for each query; None on all but the first process.

    Args:
        engine: What computes the features.
        config: Names the query and gallery lists.
        reporter: Receives progress and warnings.
        cache: Keeps the features for the next time.
        processes: The processes that share the work.
        flip: Add the features of the mirrored images.
        expansion: Move each query towards this many of its nearest gallery images.
        extract: Returns the features of a list instead of computing them; it is called like `extract_list`.

    Raises ConfigError if the config has no lists to evaluate, DataError if no query can be answered.
    """
    compute, normalize = extract or extract_list, config.Global.feature_normalize
    lists = both_lists(
        config,
        lambda split, what: compute(
            engine, split, reporter, what, cache=cache, processes=processes, normalize=normalize, flip=flip
        ),
    )
    return None if lists is None else evaluate_lists(*lists, config, reporter, expansion=expansion)


def both_lists(
    config: Config, compute: Callable[[SplitConfig, str], ListFeatures | None]
) -> tuple[ListFeatures, ListFeatures] | None:
    """Return what `compute` returns for a split and its name, of query and gallery; None if it returns None.

    The same object twice if they are the same images. Errors are those of `splits_of`.
    """
    query_split, gallery_split = splits_of(config)
    query = compute(query_split, "query")
    same = same_images(query_split.dataset, gallery_split.dataset)
    gallery = query if same else compute(gallery_split, "gallery")
    return None if query is None or gallery is None else (query, gallery)


def splits_of(config: Config) -> tuple[SplitConfig, SplitConfig]:
    """Return the query and gallery splits of a config.

    Raises ConfigError if it has none, DataError if their lists do not exist.
    """
    query_split, gallery_split = config.DataLoader.query, config.DataLoader.gallery
    if query_split is None or gallery_split is None:
        raise ConfigError(
            "the config has no DataLoader.Eval.Query and Gallery to evaluate",
            hint=[Command("prepare", "./data", "--split", "open"), " makes them"],
        )
    for split in (query_split, gallery_split):
        path = Path(split.dataset.cls_label_path)
        if not path.is_file():
            raise DataError(
                f"nothing to evaluate on: no list at {path}",
                hint=[
                    "keep classes or images for evaluation: ",
                    Command("prepare", "./data", "--split", "open"),
                    " (or closed)",
                ],
            )
    return query_split, gallery_split


def distinct_splits(config: Config) -> list[SplitConfig]:
    """Return the splits whose features an evaluation computes: one where query and gallery are the same images."""
    query, gallery = splits_of(config)
    return [query] if same_images(query.dataset, gallery.dataset) else [query, gallery]


def same_images(query: DatasetConfig, gallery: DatasetConfig) -> bool:
    """Return whether both lists are one: by name, or byte for byte under two names."""
    alike = dataclasses.replace(query, cls_label_path=gallery.cls_label_path) == gallery
    if not alike or query == gallery:
        return alike
    texts = [part.cls_label_path for part in (query, gallery)]
    return all(map(is_input, texts)) and same_content(*texts)


def check_answers(query: RecDataset, gallery: RecDataset, *way_out: str | Command) -> None:
    """Check that a query can find an image of its class, before features are computed.

    Raises DataError otherwise, whose hint ends with `way_out`.
    """
    is_one_list = query.list_path == gallery.list_path
    labels, counts = np.unique(gallery.labels, return_counts=True)
    if not np.isin(query.labels, labels[(labels >= 0) & (counts > is_one_list)]).any():
        raise DataError(
            f"none of the {len(query):,} queries has an image of its label in the gallery",
            hint=[f"do {query.list_path} and {gallery.list_path} use the same labels?", *way_out],
        )


def evaluate_lists(
    query: ListFeatures,
    gallery: ListFeatures,
    config: Config,
    reporter: Reporter,
    *,
    expansion: int = 0,
) -> EvalResult:
    """Rank the gallery for each query with the features at hand.

    `expansion` moves each query towards this many of its nearest gallery images. Raises ConfigError if that or
    re-ranking is requested and features are not of unit length.
    """
    unit = config.Global.feature_normalize or config.Global.feature_binarize is not None
    if not unit and (expansion or config.Global.re_ranking):
        raise ConfigError(
            "re-ranking and query expansion need features of unit length, Global.feature_normalize is false",
            hint=Command("evaluate", "-o", "Global.feature_normalize=True"),
        )
    query_rows, gallery_rows = _readable(query), _readable(gallery)
    identities = identities_of(query, gallery)
    queries = _feature_set(query, query_rows, identities[0], config)
    candidates = _feature_set(gallery, gallery_rows, identities[1], config)
    check_features(queries, candidates)
    if expansion:
        moved = expand_queries(queries.features, candidates.features, count=expansion)
        queries = dataclasses.replace(queries, features=moved)
    block = _other_similarities(queries, candidates, config, reporter, is_expanded=bool(expansion))
    with reporter.progress("ranking", len(queries), "queries") as bar:
        ranking = rank(queries, candidates, topk=topk_of(config, 1, 5, 10), on_block=bar.advance, block=block)
    same = query is gallery
    query = _only(query, query_rows)
    gallery = query if same else _only(gallery, gallery_rows)
    unanswerable = int((~ranking.answerable).sum())
    if unanswerable == len(queries):
        raise DataError(
            f"none of the {len(queries):,} queries can be answered: the gallery has no image of its label but "
            "the query itself, or only those of its camera or sequence, which do not count",
            hint=f"look at {query.dataset.list_path} and {gallery.dataset.list_path}",
        )
    return EvalResult(
        metrics=ranking.metrics(),
        queries=len(queries),
        gallery=len(candidates),
        unanswerable=unanswerable,
        skipped=sorted({*query.skipped.values(), *gallery.skipped.values()}),
        ranking=ranking,
        query=query,
        gallery_features=gallery,
        names=class_names(query.dataset.list_path),
        sets=(queries, candidates),
        plain=not expansion and config.Global.ranks_by_cosine,
        block=block,
    )


def _other_similarities(
    query: FeatureSet, gallery: FeatureSet, config: Config, reporter: Reporter, *, is_expanded: bool
) -> Block | None:
    """Return what orders the gallery in place of the features' products; None if these do."""
    if config.Global.re_ranking:
        with reporter.progress("re-ranking", len(query) + len(gallery)) as bar:
            return reranked(query.features, gallery.features, on_block=bar.advance)
    if config.Global.feature_binarize and not is_expanded:  # expanded queries are no longer binary
        return equal_bits(query.features, gallery.features)
    return None


def _feature_set(part: ListFeatures, rows: np.ndarray, identity: np.ndarray, config: Config) -> FeatureSet:
    """Return the features at `rows` as they are ranked."""
    dataset = part.dataset
    features = part.features if len(rows) == len(part.features) else part.features[rows]
    ids = None if dataset.ids is None else dataset.ids[rows]
    return FeatureSet(_binarized(features, config), dataset.labels[rows], ids, identity[rows])


def _readable(part: ListFeatures) -> np.ndarray:
    """Return the rows int64 [n] of the images that could be read."""
    return np.setdiff1d(np.arange(len(part.dataset)), np.fromiter(part.skipped, np.int64, len(part.skipped)))


def _only(part: ListFeatures, rows: np.ndarray) -> ListFeatures:
    """Return the part without its skipped images, so that rankings and lists have the same positions."""
    if not part.skipped:
        return part
    dataset = part.dataset
    dataset.images = dataset.images.take(rows)
    dataset.labels, dataset.ids = dataset.images.labels, dataset.images.ids
    return ListFeatures(dataset, part.features[rows], part.skipped)


def _binarized(features: np.ndarray, config: Config) -> np.ndarray:
    """Return features as the config says: binary at unit length, so that their products are cosines, or unchanged."""
    if config.Global.feature_binarize == "sign":
        return normalized(np.where(features >= 0, np.float32(1), np.float32(-1)))
    if config.Global.feature_binarize == "round":
        return normalized(np.round(features) * 2 - 1)
    return features


def topk_of(config: Config, *always: int) -> tuple[int, ...]:
    """Return the k of the metrics that a config lists, and those that are `always` reported, in order."""
    ks = set(always)
    for metric in config.Metric:
        topk = getattr(metric, "topk", ())
        ks.update(int(k) for k in ([topk] if isinstance(topk, int) else topk))
    return tuple(sorted(ks))
