"""Numbers that `benchmarks/consistency.py --calibrate` measures for the bundled models."""

UNEXPLAINED_FLOOR = 1.9
"""What is usually left unexplained of a picture without noise: root mean square, 0-255 scale."""
UNEXPLAINED_SHARE = 0.27
"""How it grows with the estimated noise level."""
PEAKS_LIMIT = 9.0
"""Limits of the tests in `damage.py`, each for a very large picture."""
GRID_LIMIT = 0.064
DIRECTION_LIMIT = 0.96
