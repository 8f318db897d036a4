"""The door to Transformers: models and texts from local folders."""
