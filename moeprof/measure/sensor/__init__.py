"""What a power sensor or an energy counter is like, found out from its own readings."""
