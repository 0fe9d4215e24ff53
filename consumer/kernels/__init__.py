"""Compiled kernels of the worker: bytes of the wire to columns and back. They know neither Kafka nor the model.

The rules are those of `model/kernels/`, whose `compiled` they share: each kernel has a plain twin that it is tested to
equal, and without numba the same text runs interpreted.
"""
