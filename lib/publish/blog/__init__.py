"""Executed notebooks as a post in two parts."""
