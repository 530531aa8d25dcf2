"""What a laptop needs to run Call Keeper without Azure. Not deployed."""
