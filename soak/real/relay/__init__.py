"""Kills a host between a notification and its delivery, and checks what the bot behind the relay received."""
