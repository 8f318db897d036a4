"""Routing traces: which experts every token of a real model chose, layer by layer."""
