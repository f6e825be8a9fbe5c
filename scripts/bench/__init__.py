"""Benchmarks whose sides alternate on one machine: `make bench` writes results/bench/*.json and docs/performance.md."""
