"""Calls in Table Storage, and wake-up messages in Queue Storage."""
