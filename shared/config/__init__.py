"""Settings from environment variables, the bots that they name, and Graph's clouds."""
