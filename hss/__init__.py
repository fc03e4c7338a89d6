"""The mini-HSS: subscribers, authentication centre and Cx, as a pure node."""
