"""Side-by-side timings, each stored with its correctness: ``python -m benchmarks [names] [--out DIR]``."""
