"""Tests of the infrastructure, without Azure. The Bicep compiler is used if it is installed."""
