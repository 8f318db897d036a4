"""Marginal-cost routing: an expert is used where it is worth the seconds and joules it adds."""
