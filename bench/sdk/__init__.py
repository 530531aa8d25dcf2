"""The Microsoft Graph SDK as a contestant. `requirements.txt` lists all packages of its environment."""
