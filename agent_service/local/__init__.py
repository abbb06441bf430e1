"""Everything a laptop needs: an embedded mongod, a small real language model, the three base services."""
