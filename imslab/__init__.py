"""imslab: IMS registration, simulated box by box, and judged clause by clause."""

__version__ = "0.1.0"
