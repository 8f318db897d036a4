"""What the runs of a scene show, and how sure it is."""
