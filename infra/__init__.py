"""The infrastructure in Bicep, and the commands that deploy it. Not deployed itself."""
