"""Sharing: recordings of runs, and their publication."""
