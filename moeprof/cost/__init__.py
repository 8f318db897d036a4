"""What a step ought to cost: the roofline now, the fitted model built on it next."""
