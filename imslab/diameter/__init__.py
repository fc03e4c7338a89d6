"""Diameter (RFC 6733) and Cx (TS 29.229): AVPs, messages, commands, user profiles, and the peer state machine."""
