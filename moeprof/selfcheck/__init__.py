"""The method audited: every promise of a measurement against a truth that is known."""
