"""Datasets written in the schemas of other projects."""
