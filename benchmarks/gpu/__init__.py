"""What the layers cost on a GPU, and what they promise there: ``python -m benchmarks.gpu``."""
