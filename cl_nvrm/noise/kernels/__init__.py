"""Loops over all weights that make one pass over the memory, compiled by numba, on torch's own threads.

Without numba the same functions run on numpy arrays: the same numbers, bit for bit, more slowly.
"""
