"""What routers are shown step by step: gate logits recorded, of a live model, or generated."""
