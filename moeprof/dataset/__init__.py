"""The dataset: Parquet files with a unit on every column, written so that no kill loses a point."""
