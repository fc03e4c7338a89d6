"""The contract between nodes and carriers. Standard library only."""
