"""Numbers that `benchmarks/consistency.py --calibrate` measures for the bundled models."""

UNEXPLAINED_FLOOR = 1.9
"""What is usually left unexplained of a picture without noise: root mean square, 0-255 scale."""
UNEXPLAINED_SHARE = 0.26
"""How it grows with the estimated noise level."""
PEAKS_LIMIT = 8.8
"""Limits of the tests in `damage.py`, each for a very large picture."""
GRID_LIMIT = 0.057
DIRECTION_LIMIT = 0.98
