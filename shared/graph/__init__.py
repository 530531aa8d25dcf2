"""The client of Graph's calls API, its tokens, its rate limit and its errors."""
