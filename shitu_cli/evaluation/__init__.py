"""Exact retrieval metrics over query and gallery features."""
