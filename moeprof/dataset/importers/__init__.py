"""Datasets that somebody else measured, brought into moeprof's schema."""
