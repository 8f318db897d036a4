"""Routing traces that serving engines recorded."""
