"""moeprof measures what a Mixture-of-Experts decode step costs in seconds and joules."""

__version__ = "0.2.0"
