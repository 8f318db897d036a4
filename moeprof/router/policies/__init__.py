"""The published rivals: routers that change which experts a token uses, each from its source."""
