"""A static checker of Bicep: reads it, infers kinds, and holds it to the published types as the compiler would."""
