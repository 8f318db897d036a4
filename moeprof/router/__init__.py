"""Routing policies: gate logits, with what is known of the GPUs, into experts and weights."""
