"""Workers: claim contexts, have a base service do the work, and write how it ended."""
