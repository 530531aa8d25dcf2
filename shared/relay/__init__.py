"""The relay: what Graph notified and what became of a call, delivered to bots."""
