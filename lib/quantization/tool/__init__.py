"""`python -m lib quantize`: somebody's network in INT8, without its data."""
