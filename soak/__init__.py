"""The soak: the keeper and the relay in virtual time under random faults. See `python -m soak`."""
