"""The Microsoft Graph SDK as a contestant: `requirements.txt` is all of its environment."""
