"""Benchmarks with alternating sides: `make bench` writes results/bench/*.json and docs/performance.md."""
