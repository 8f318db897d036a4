"""A small real MoE: trained from nothing, or grown out of a dense model."""
