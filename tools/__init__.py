"""Programs for maintainers: they check or generate files of this repository."""
