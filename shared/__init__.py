"""The domain of Call Keeper. It knows nothing of Azure Functions."""

VERSION = "0.1.0"
