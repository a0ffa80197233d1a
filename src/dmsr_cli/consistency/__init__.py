"""How far a result explains its input, and whether the damage is what the models know."""

from dmsr_cli.consistency.checking import WARNING, Consistency, check_consistency
from dmsr_cli.consistency.overlay import consistency_overlay
from dmsr_cli.consistency.redegradation import redegraded

__all__ = ["WARNING", "Consistency", "check_consistency", "consistency_overlay", "redegraded"]
