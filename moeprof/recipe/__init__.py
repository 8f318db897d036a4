"""What the user asks for: a TOML recipe, read into frozen, validated objects."""
