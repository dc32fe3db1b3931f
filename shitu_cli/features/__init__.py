"""Images to feature vectors: engines, the extractor, feature files, and the cache."""
