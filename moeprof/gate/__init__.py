"""How the gates of MoE models turn logits into experts and weights, and where gates sit."""
