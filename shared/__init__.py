"""The domain of Call Keeper. It knows nothing of Azure Functions."""
