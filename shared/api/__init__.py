"""What bots, operators and Graph's webhook ask for, independent of HTTP routing."""
