"""The infrastructure, checked without Azure and without the Bicep compiler."""
