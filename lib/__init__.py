"""Helpers of the study: what the notebooks import."""
