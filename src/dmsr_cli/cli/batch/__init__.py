"""How a batch goes: what is to be done, in which order, by whom, and what is told of it."""
