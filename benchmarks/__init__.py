"""Benchmarks: what the queue costs, in ratios of one run on one machine. See docs/benchmarks.md."""
