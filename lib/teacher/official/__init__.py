"""Reads NVIDIA's official network pickles; nothing in them is executed."""
