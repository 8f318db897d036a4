"""The sweep: a recipe's points in a drift-proof order, measured one by one, none lost."""
