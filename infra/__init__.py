"""The deployment: Bicep, and the small programs that go with it. Not deployed itself."""
