"""Runs the network over pictures of any size: exact pieces, tiles, memory, second attempts."""
