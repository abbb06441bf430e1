"""Input of all shapes for whatever reads from outside: `make fuzz`, and a short form of it as tests."""
