"""Rules: one clause each, applied to any trace. Importing this package declares them all."""

from imslab.rules import challenge, esp, gm, protected, registered, renewal, secagree

__all__ = ["challenge", "esp", "gm", "protected", "registered", "renewal", "secagree"]
