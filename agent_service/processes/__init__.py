"""What stops a process, and several worker processes under one that supervises them."""
