"""The GPUs of a scene: what a decode step costs on each, at its own temperature and clock."""
