"""Hard lives of the keeper in virtual time: the proof that no lease lapses. Run as `python -m soak`."""
