"""The soak: the keeper in virtual time under random faults, to prove that no lease lapses. See `python -m soak`."""
