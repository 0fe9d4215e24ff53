"""Recommenders that Headrace is compared with, one file a peer, all tested by `benchmarks.prequential`."""
