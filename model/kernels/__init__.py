"""Loops that have to run event by event, compiled with numba where it is installed.

Each kernel is an ordinary function on numpy arrays: without numba the same text runs interpreted, slower and
with the same result. `groups` is for GPUs, by Triton, with plain torch twins in `model.grouped`. Nothing outside this
folder imports numba or Triton.
"""
