"""Call Keeper on a laptop without Azure: the local stack, the demo, and a Functions host for tests. Not deployed."""
