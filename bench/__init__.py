"""The bench of Call Keeper, `make bench`: each contestant runs in its own process against one Graph on this machine."""
