"""Verification of the tokens that callers and Graph send."""
