"""What a routing policy costs in quality."""
