"""A static checker of Bicep files: it finds most of what Microsoft's compiler and linter refuse, without them."""
