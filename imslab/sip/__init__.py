"""SIP as IMS uses it: messages, headers, URIs, stream framing, transactions. Octets in, octets out, no I/O."""
